//! Sections 5.2 and 5.4: how bytes are cut on the way means nothing; and the frames that the service itself sends.

use super::*;

/// Whatever TCP makes of it: each byte by itself, and all in one.
#[tokio::test(flavor = "multi_thread")]
async fn frames_are_the_same_in_however_many_packets() {
    let world = World::new("packets").await;
    let (head, tail) = ASKS.split_at(9);
    let long = format!("{ASKS}{}", " ".repeat(300));
    let sends = [
        frame(FIN | PING, "a"),
        frame(TEXT, head),
        frame(FIN | PING, "b"),
        frame(LAST, tail),
        frame(WHOLE_TEXT, long),
        frame(WHOLE_TEXT, STILL),
    ]
    .concat();
    let expected = format!("pong a, pong b, {ANSWERED}, {ANSWERED}, {GOES_ON}");
    for bytes in [1, 2, 3, 7, sends.len()] {
        let mut raw = arrived(world.address(), &format!("by {bytes}")).await;
        for piece in sends.chunks(bytes) {
            raw.stream.write_all(piece).await.unwrap();
            raw.stream.flush().await.unwrap();
        }
        assert_eq!(observed(&mut raw).await, expected, "{bytes} bytes at a time");
    }
}

/// Section 5.1: a server does not mask. Section 5.2: no reserved bit without an extension, and the shortest form of a length.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_service_sends_is_as_it_should_be() {
    let mut world = World::new("sent").await;
    let offer =
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-webkit-deflate-frame\r\n";
    let mut raw = Raw::connect(world.address(), offer).await.unwrap();
    assert!(raw.answer.starts_with("http/1.1 101 "), "{}", raw.answer);
    assert!(!raw.answer.contains("sec-websocket-extensions"), "no extension was agreed on: {}", raw.answer);
    let hello =
        json!({"type": "hello", "client_id": "sent", "subscriptions": [{"id": "s1", "table": "public.t"}]});
    raw.stream.write_all(&frame(WHOLE_TEXT, hello.to_string())).await.unwrap();
    // Answers of each length.
    for payload in [vec![], vec![b'p'; 125]] {
        raw.stream.write_all(&frame(FIN | PING, payload)).await.unwrap();
    }
    let close = frame(FIN | CLOSE, 1000_u16.to_be_bytes());
    raw.stream.write_all(&[frame(WHOLE_TEXT, STILL), close].concat()).await.unwrap();
    world.commit_inserts(1..3).await;
    let (mut kinds, mut closed) = (Vec::new(), false);
    while let Ok(first) = raw.stream.read_u8().await {
        let second = raw.stream.read_u8().await.unwrap();
        assert!(!closed, "nothing comes behind a close");
        assert_eq!(first & 0x70, 0, "no reserved bit: {first:#x}");
        assert_eq!(first & FIN, FIN, "nothing is in fragments: {first:#x}");
        assert_eq!(second & MASKED, 0, "no mask");
        let length = match second {
            126 => u64::from(raw.stream.read_u16().await.unwrap()),
            127 => raw.stream.read_u64().await.unwrap(),
            short => u64::from(short),
        };
        let shortest = match Form::of(usize::try_from(length).unwrap()) {
            Form::Seven => second < 126,
            Form::Sixteen => second == 126,
            Form::SixtyFour => second == 127,
        };
        assert!(shortest, "{length} bytes are told as {second}");
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        raw.stream.read_exact(&mut payload).await.unwrap();
        assert!(first != WHOLE_TEXT || std::str::from_utf8(&payload).is_ok());
        closed = first == FIN | CLOSE;
        kinds.push(first);
    }
    for kind in [WHOLE_TEXT, FIN | PONG, FIN | CLOSE] {
        assert!(kinds.contains(&kind), "{kind:#x} in {kinds:x?}");
    }
}
