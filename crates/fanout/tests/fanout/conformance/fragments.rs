//! Section 5.4: messages in fragments.

use super::*;

fn bytes_apart(first: u8, text: &str, last: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = vec![frame(first, "")];
    frames.extend(text.bytes().map(|byte| frame(CONTINUATION, [byte])));
    frames.push(frame(LAST, last));
    frames
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_the_same_in_however_many_fragments() {
    let (head, tail) = ASKS.split_at(9);
    let one_frame = [frame(TEXT, head), frame(FIN | PING, "a"), frame(LAST, tail)];
    let padding = " ".repeat(60_000);
    let cases = vec![
        goes_on("in two", &[frame(TEXT, head), frame(LAST, tail)], &[ANSWERED]),
        goes_on("the first is empty", &[frame(TEXT, ""), frame(LAST, ASKS)], &[ANSWERED]),
        goes_on("the last is empty", &[frame(TEXT, ASKS), frame(LAST, "")], &[ANSWERED]),
        goes_on("a byte in each", &bytes_apart(TEXT, ASKS, b""), &[ANSWERED]),
        goes_on("sixty thousand of a byte", &bytes_apart(TEXT, &padding, ASKS.as_bytes()), &[ANSWERED]),
        goes_on("a ping between", &one_frame, &["pong a", ANSWERED]),
        goes_on(
            "many control frames between",
            &[
                frame(FIN | PING, "0"),
                frame(TEXT, head),
                frame(FIN | PONG, "x"),
                frame(FIN | PING, "1"),
                frame(CONTINUATION, ""),
                frame(FIN | PING, "2"),
                frame(LAST, tail),
                frame(FIN | PING, "3"),
            ],
            &["pong 0", "pong 1", "pong 2", ANSWERED, "pong 3"],
        ),
        goes_on(
            "one message after the other",
            &[frame(TEXT, head), frame(LAST, tail), frame(TEXT, head), frame(LAST, tail)],
            &[ANSWERED, ANSWERED],
        ),
        case(
            "a close between ends it",
            &[frame(TEXT, head), frame(FIN | CLOSE, [0x03, 0xe8])],
            "close 1000, end",
        ),
    ];
    check("fragments_well", cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fragments_that_belong_to_no_message_are_refused() {
    let cases = vec![
        case("the end of nothing", &[frame(LAST, ASKS)], REFUSED),
        case("the middle of nothing", &[frame(CONTINUATION, ASKS)], REFUSED),
        case("an empty end of nothing", &[frame(LAST, "")], REFUSED),
        case("after a whole message", &[frame(FIN | PING, ""), frame(LAST, "")], format!("pong , {REFUSED}")),
        case("a text in a text", &[frame(TEXT, "{"), frame(WHOLE_TEXT, ASKS)], REFUSED),
        case("a text begun in a text", &[frame(TEXT, "{"), frame(TEXT, "}")], REFUSED),
        case("binary in a text", &[frame(TEXT, "{"), frame(FIN | BINARY, "}")], REFUSED),
        case("a text in binary", &[frame(BINARY, "{"), frame(WHOLE_TEXT, "}")], REFUSED),
        case(
            "an empty message in fragments",
            &[frame(TEXT, ""), frame(CONTINUATION, ""), frame(LAST, "")],
            REFUSED,
        ),
    ];
    check("fragments_ill", cases).await;
}
