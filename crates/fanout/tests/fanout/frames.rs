//! What travels below the protocol: WebSocket frames as no library of a client would send them, byte by byte.

use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::raw::*;
use crate::support::*;

const RSV1: u8 = 0x40;

fn hello() -> String {
    json!({"type": "hello", "client_id": "raw-größe", "snapshot": false, "subscriptions": [{"id": "s1", "table": "public.t"}]})
        .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_may_come_in_fragments_with_pings_between_them() {
    let mut world = World::new("fragments").await;
    let mut raw = Raw::connect(world.address(), "").await.unwrap();
    assert!(raw.answer.starts_with("http/1.1 101"), "{}", raw.answer);
    // Cut inside of a character, too.
    let hello = hello();
    let bytes = hello.as_bytes();
    let cut = hello.find('ö').unwrap() + 1;
    raw.send(TEXT, &bytes[..3]).await;
    raw.send(FIN | PING, b"between").await;
    raw.send(CONTINUATION, &bytes[3..cut]).await;
    raw.send(CONTINUATION, b"").await;
    raw.send(FIN | CONTINUATION, &bytes[cut..]).await;
    assert_eq!(raw.next_frame().await, (FIN | PONG, b"between".to_vec()));
    raw.next_of_type("live").await;
    // Byte by byte is as good.
    for byte in frame(FIN | TEXT, MASKED, br#"{"type":"ping","n":3}"#) {
        raw.stream.write_all(&[byte]).await.unwrap();
        raw.stream.flush().await.unwrap();
    }
    assert_eq!(raw.next_of_type("pong").await["n"], 3);
    world.commit_inserts(1..2).await;
    assert_eq!(ids(&raw.next_of_type("tx").await), [1]);
    // A close is answered, and what comes after it is nobody's.
    raw.send(FIN | CLOSE, &1000u16.to_be_bytes()).await;
    assert_eq!(raw.closed().await.0, 1000);
    world.wait_sessions(0, "live").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_the_websocket_protocol_is_closed_and_said_so() {
    let world = World::new("malformed").await;
    let mut other = world.live("other").await;
    let long = [b'x'; 126];
    let large = vec![b' '; 65_000];
    for (what, frames, code) in [
        ("text that is not UTF-8", vec![frame(FIN | TEXT, MASKED, b"{\"type\":\"\xff\xfe\"}")], 4400),
        ("half a character at the end", vec![frame(TEXT, MASKED, b"{\xc3"), frame(FIN, MASKED, b"(")], 4400),
        ("a control frame that is too long", vec![frame(FIN | PING, MASKED, &long)], 4400),
        ("a control frame in fragments", vec![frame(PING, MASKED, b"a"), frame(FIN, MASKED, b"b")], 4400),
        ("a reserved bit, as compression has it", vec![frame(FIN | RSV1 | TEXT, MASKED, b"{}")], 4400),
        ("a reserved opcode", vec![frame(FIN | 0x3, MASKED, b"{}")], 4400),
        ("a frame without a mask", vec![frame(FIN | TEXT, 0, b"{}")], 4400),
        ("the rest of nothing", vec![frame(FIN | CONTINUATION, MASKED, b"{}")], 4400),
        ("a message in a message", vec![frame(TEXT, MASKED, b"{"), frame(FIN | TEXT, MASKED, b"{}")], 4400),
        ("binary", vec![frame(FIN | 0x2, MASKED, b"{}")], 4400),
        ("fragments without end", vec![frame(TEXT, MASKED, &large)], 0),
    ] {
        let mut raw = Raw::connect(world.address(), "").await.unwrap();
        raw.send(FIN | TEXT, hello().as_bytes()).await;
        raw.next_of_type("live").await;
        for frame in &frames {
            raw.stream.write_all(frame).await.unwrap();
        }
        if code == 0 {
            // More than is read of one message, and the service reads on to the bound only.
            let more = frame(CONTINUATION, MASKED, &large);
            for _ in 0..4 {
                let _ = raw.stream.write_all(&more).await;
            }
            assert_eq!(raw.closed().await.0, 4413, "{what}");
            continue;
        }
        assert_eq!(raw.next_of_type("error").await["code"], "WD-FRAME-INVALID", "{what}");
        assert_eq!(raw.closed().await.0, code, "{what}");
    }
    other.send(&json!({"type": "ping", "n": 1})).await;
    assert_eq!(other.next_of_type("pong", PATIENCE).await["n"], 1, "nobody else is hurt");
}

#[tokio::test(flavor = "multi_thread")]
async fn compression_is_not_negotiated() {
    let world = World::new("deflate").await;
    let mut raw = Raw::connect(
        world.address(),
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
    )
    .await
    .unwrap();
    assert!(raw.answer.starts_with("http/1.1 101"), "{}", raw.answer);
    assert!(!raw.answer.contains("sec-websocket-extensions"), "{}", raw.answer);
    raw.send(FIN | TEXT, hello().as_bytes()).await;
    raw.next_of_type("live").await;
}
