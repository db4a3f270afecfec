//! Section 8.1: text is UTF-8, over the whole message and not over each fragment.

use super::*;

/// A frame of our own protocol with this in a field that nobody knows.
fn with(bytes: &[u8]) -> Vec<u8> {
    [br#"{"type":"ping","n":1,"x":""#, bytes, br#""}"#].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn characters_may_be_cut_anywhere() {
    let mut cases = Vec::new();
    for (name, text) in [
        ("two bytes", "ö"),
        ("three bytes", "€"),
        ("four bytes", "🦀"),
        ("the last before surrogates", "\u{d7ff}"),
        ("the first after surrogates", "\u{e000}"),
        ("the last of all", "\u{10ffff}"),
        ("no character, and no mistake", "\u{fffe}\u{ffff}"),
        ("a byte order mark within", "\u{feff}"),
    ] {
        let whole = with(text.as_bytes());
        cases.push(goes_on(name, &[frame(WHOLE_TEXT, &whole)], &[ANSWERED]));
        let begins = with(b"").len() - 2;
        for cut in begins..begins + text.len() {
            let (head, tail) = whole.split_at(cut);
            let pieces =
                [frame(TEXT, head), frame(FIN | PING, ""), frame(CONTINUATION, ""), frame(LAST, tail)];
            cases.push(goes_on(format!("{name}, cut at {}", cut - begins), &pieces, &["pong ", ANSWERED]));
        }
    }
    check("utf8_well", cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_utf8_is_refused() {
    let mut cases = Vec::new();
    for (name, bytes) in [
        ("a byte that never occurs", &[0xff][..]),
        ("another one", &[0xfe]),
        ("a lone continuation", &[0x80]),
        ("an end that is missing", &[0xe2, 0x82]),
        ("a slash in two bytes", &[0xc0, 0xaf]),
        ("a slash in three bytes", &[0xe0, 0x80, 0xaf]),
        ("a slash in four bytes", &[0xf0, 0x80, 0x80, 0xaf]),
        ("a NUL in two bytes", &[0xc0, 0x80]),
        ("the first surrogate", &[0xed, 0xa0, 0x80]),
        ("the last surrogate", &[0xed, 0xbf, 0xbf]),
        ("a pair of surrogates", &[0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80]),
        ("beyond the last character", &[0xf4, 0x90, 0x80, 0x80]),
        ("five bytes", &[0xf8, 0x88, 0x80, 0x80, 0x80]),
        ("six bytes", &[0xfc, 0x84, 0x80, 0x80, 0x80, 0x80]),
    ] {
        let whole = with(bytes);
        cases.push(case(name, &[frame(WHOLE_TEXT, &whole)], REFUSED));
        for cut in 1..bytes.len() {
            let (head, tail) = whole.split_at(with(b"").len() - 2 + cut);
            let pieces = [frame(TEXT, head), frame(LAST, tail)];
            cases.push(case(format!("{name}, cut at {cut}"), &pieces, REFUSED));
        }
        // The rest of the message need not come.
        let begun = [frame(TEXT, with(bytes)), frame(CONTINUATION, "x")];
        cases.push(case(format!("{name}, in a message that goes on"), &begun, REFUSED));
    }
    cases.push(case("cut off at the end", &[frame(TEXT, "{\u{20}"), frame(LAST, [0xe2, 0x82])], REFUSED));
    cases.push(case(
        "cut off, and nothing more",
        &[frame(TEXT, [b'{', 0xe2, 0x82]), frame(LAST, "")],
        REFUSED,
    ));
    cases.push(case("cut by another character", &[frame(TEXT, [b'{', 0xc3]), frame(LAST, "(")], REFUSED));
    cases.push(case(
        "no text of ours: a byte order mark",
        &[frame(WHOLE_TEXT, format!("\u{feff}{ASKS}"))],
        REFUSED,
    ));
    cases.push(case("no text of ours: nothing", &[frame(WHOLE_TEXT, "")], REFUSED));
    check("utf8_ill", cases).await;
}
