//! What the protocol allows and nobody needs, without end.

use super::*;

const TOO_MANY: &str = "error WD-TOO-MANY-FRAMES, close 4429 WD-TOO-MANY-FRAMES, end";

#[tokio::test(flavor = "multi_thread")]
async fn fragments_that_hold_nothing_do_not_go_on_for_ever() {
    let world = World::new("empty_fragments").await;
    let empty = frame(CONTINUATION, "").repeat(20_000);
    for (name, between) in [("nothing else", Vec::new()), ("pings between", frame(FIN | PING, ""))] {
        let mut raw = arrived(world.address(), name).await;
        raw.stream.write_all(&frame(TEXT, "")).await.unwrap();
        for _ in 0..8 {
            raw.stream.write_all(&empty).await.unwrap();
            raw.stream.write_all(&between).await.unwrap();
        }
        let seen = observed(&mut raw).await.replace("pong , ", "");
        assert_eq!(seen, TOO_LARGE, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn control_frames_without_end_are_too_many() {
    let world = World::new("many_pings").await;
    for (name, kind, payload) in
        [("pings", PING, &b""[..]), ("long pings", PING, &[b'p'; 125]), ("pongs", PONG, b"")]
    {
        let mut raw = arrived(world.address(), name).await;
        raw.stream.write_all(&frame(FIN | kind, payload).repeat(5_000)).await.unwrap();
        let seen = observed(&mut raw).await;
        let answers = seen.matches("pong").count();
        assert!(answers <= 1_000, "{name}: {answers} answers");
        assert!(seen.ends_with(TOO_MANY), "{name}: {seen}");
    }
    // As many as anybody needs are answered.
    let pings = [frame(FIN | PING, "a").repeat(500), frame(WHOLE_TEXT, STILL)].concat();
    let mut raw = arrived(world.address(), "some").await;
    raw.stream.write_all(&pings).await.unwrap();
    let seen = observed(&mut raw).await;
    assert!(seen.starts_with("pong a, ") && seen.ends_with(GOES_ON), "{seen}");
}

/// With a NUL in it nothing can be stored of a client, nor of those whose acknowledgements are stored together with its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_id_that_cannot_be_stored_is_refused_and_hurts_no_other() {
    let mut world = World::new("nul_ids").await;
    let positions = world.commit_inserts(1..3).await;
    for (name, id) in [("NUL", "a\0b"), ("of a terminal", "\u{1b}[2J"), ("a line", "a\nb")] {
        let mut raw = Raw::connect(world.address(), "").await.unwrap();
        let hello = json!({"type": "hello", "client_id": id, "snapshot": false, "subscriptions": []});
        raw.stream.write_all(&frame(WHOLE_TEXT, hello.to_string())).await.unwrap();
        assert_eq!(observed(&mut raw).await, REFUSED, "{name}");
    }
    let mut client = world.live("other").await;
    client.send(&json!({"type": "ack", "cursor": positions[0].to_string()})).await;
    assert_eq!(client.next_of_type("acked", PATIENCE).await["cursor"], positions[0].to_string());
}
