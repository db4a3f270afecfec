//! Section 5.5: pings, pongs, and what they may have in them.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_is_answered_with_what_it_holds() {
    let long = [b'p'; 125];
    let cases = vec![
        goes_on("nothing", &[frame(FIN | PING, "")], &["pong "]),
        goes_on("some text", &[frame(FIN | PING, "are you there")], &["pong are you there"]),
        goes_on("what is no text", &[frame(FIN | PING, [0xff, 0x00])], &["pong \u{fffd}\0"]),
        goes_on("as much as there may be", &[frame(FIN | PING, long)], &["pong p*125"]),
        goes_on(
            "its length in more bits than needed",
            &[frame_in(Form::Sixteen, FIN | PING, b"a")],
            &["pong a"],
        ),
        goes_on(
            "several, in their order",
            &[
                frame(FIN | PING, "1"),
                frame(FIN | PING, "2"),
                frame(WHOLE_TEXT, ASKS),
                frame(FIN | PING, "3"),
            ],
            &["pong 1", "pong 2", ANSWERED, "pong 3"],
        ),
    ];
    check("pings", cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pong_that_nobody_asked_for_is_not_answered() {
    let cases = vec![
        goes_on("empty", &[frame(FIN | PONG, "")], &[]),
        goes_on("as much as there may be", &[frame(FIN | PONG, [b'p'; 125])], &[]),
        goes_on(
            "several",
            &[frame(FIN | PONG, "1"), frame(FIN | PONG, "2"), frame(WHOLE_TEXT, ASKS)],
            &[ANSWERED],
        ),
    ];
    check("pongs", cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn control_frames_that_are_long_or_in_fragments_are_refused() {
    let mut cases = Vec::new();
    for (what, kind) in [("ping", PING), ("pong", PONG), ("close", CLOSE)] {
        for length in [126, 127, 65_536] {
            let payload = [&[0x03, 0xe8][..], &vec![b'x'; length - 2]].concat();
            cases.push(case(format!("a {what} of {length} bytes"), &[frame(FIN | kind, payload)], REFUSED));
        }
        let begun = [frame(kind, ""), frame(LAST, "")];
        cases.push(case(format!("a {what} in fragments"), &begun, REFUSED));
        let within = [frame(TEXT, "{"), frame(kind, "")];
        cases.push(case(format!("a {what} in fragments within a message"), &within, REFUSED));
    }
    check("controls", cases).await;
}
