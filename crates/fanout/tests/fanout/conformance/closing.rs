//! Sections 5.5.1 and 7: how a connection ends.

use super::*;

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, [&code.to_be_bytes()[..], reason].concat())
}

/// An answer has the code that was sent; to one that may not be sent it is 1002.
#[tokio::test(flavor = "multi_thread")]
async fn a_close_is_answered_and_nothing_comes_after() {
    let mut cases = vec![
        case("without a code", &[frame(FIN | CLOSE, "")], "close, end"),
        case("half a code", &[frame(FIN | CLOSE, [0x03])], REFUSED),
        case("a reason", &[close(1000, "grüße".as_bytes())], "close 1000 grüße, end"),
        case("the longest reason", &[close(1000, &[b'r'; 123])], "close 1000 r*123, end"),
        case("a reason too long", &[close(1000, &[b'r'; 124])], REFUSED),
        case("a reason that is no UTF-8", &[close(1000, &[0xff])], REFUSED),
        case("a reason that breaks off", &[close(1000, &[0xe2, 0x82])], REFUSED),
        case("data after it", &[close(1000, b""), frame(WHOLE_TEXT, ASKS)], "close 1000, end"),
        case("a ping after it", &[close(1001, b""), frame(FIN | PING, "a")], "close 1001, end"),
        case("once more", &[close(1000, b""), close(1001, b"")], "close 1000, end"),
        case("behind other frames", &[frame(WHOLE_TEXT, ASKS), close(1000, b"")], "n=1, close 1000, end"),
        case("behind a ping", &[frame(FIN | PING, "a"), close(1000, b"")], "pong a, close 1000, end"),
    ];
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999] {
        cases.push(case(format!("code {code}"), &[close(code, b"")], format!("close {code}, end")));
    }
    // 1014 is one that proxies have for themselves; from a client it says nothing.
    for code in [0, 1, 999, 1004, 1005, 1006, 1014, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        let refused = "close 1002 Protocol violation, end";
        cases.push(case(format!("code {code}"), &[close(code, b"")], refused));
    }
    check("closes", cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_without_a_close_is_gone() {
    let world = World::new("cut_off").await;
    let text = frame(WHOLE_TEXT, ASKS);
    for (name, last_words) in [
        ("between frames", &[][..]),
        ("in a header", &text[..1]),
        ("in a mask", &text[..4]),
        ("in a frame", &text[..12]),
        ("in a message", &frame(TEXT, "{")),
    ] {
        // It says that it will send no more, and reads on.
        let mut half = arrived(world.address(), "half").await;
        half.stream.write_all(last_words).await.unwrap();
        half.stream.shutdown().await.unwrap();
        assert_eq!(observed(&mut half).await, "end", "{name}: half closed");
        let mut cut = arrived(world.address(), "cut").await;
        cut.stream.write_all(last_words).await.unwrap();
        cut.stream.get_ref().set_zero_linger().unwrap();
        drop(cut);
        world.wait_sessions(0, "live").await;
    }
}

/// What a client sends between our close and its own is nobody's, however much it is; and it sees why it was closed.
#[tokio::test(flavor = "multi_thread")]
async fn our_close_reaches_who_is_still_sending() {
    let world = World::new("still_sending").await;
    for (name, refused) in [
        ("what cannot be read", frame(FIN | 0x3, "")),
        ("what is too large", header(WHOLE_TEXT, MASKED, Form::SixtyFour, 10 << 20)),
        ("what is read and not accepted", frame(WHOLE_TEXT, "[]")),
    ] {
        let mut raw = arrived(world.address(), "sending").await;
        raw.stream.write_all(&refused).await.unwrap();
        let more = frame(FIN | PONG, "and more").repeat(100);
        for _ in 0..20 {
            raw.stream.write_all(&more).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let seen = observed(&mut raw).await;
        assert!([REFUSED, TOO_LARGE].contains(&seen.as_str()), "{name}: {seen}");
    }
}
