//! Frames of clients that were damaged, or made to be read wrongly: accepted or refused, never a panic; and what is told of one that is
//! refused repeats no token.

use proptest::prelude::*;
use proptest::sample::Index;

use super::client::{ClientFrame, parse};
use crate::fuzzing::{self, TOKEN, frames};

/// What is put in place of a piece.
const PIECES: [&str; 24] = [
    "",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "-1",
    "1e400",
    "0.1",
    "99999999999999999999999",
    "\u{0}",
    "é",
    "\"type\":\"ping\",",
    "'",
    "((((((((",
    "not not not ",
    "[[[[[[[[[[[[[[[[",
];

/// Puts something over some bytes at a place.
pub(crate) type Damage = (Index, usize, usize);

/// Some of it.
pub(crate) fn damages() -> impl Strategy<Value = Vec<Damage>> {
    prop::collection::vec((any::<Index>(), 0..12usize, 0..PIECES.len()), 1..5)
}

pub(crate) fn damaged(text: &str, damages: &[Damage]) -> String {
    damages.iter().fold(text.to_owned(), |text, (at, over, piece)| {
        let begin = text.floor_char_boundary(at.index(text.len() + 1));
        let end = text.floor_char_boundary((begin + over).min(text.len())).max(begin);
        format!("{}{}{}", &text[..begin], PIECES[*piece], &text[end..])
    })
}

#[test]
fn the_frames_are_accepted_as_they_are() {
    for text in frames() {
        let frame = parse(&text, 10);
        assert!(matches!(&frame, Ok(frame) if *frame != ClientFrame::Unknown), "{text}: {frame:?}");
        assert!(!format!("{frame:?}").contains(TOKEN), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(2_000), ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_frame_is_accepted_or_refused_without_its_token(
        which in 0..6usize,
        damages in damages(),
    ) {
        fuzzing::frame(damaged(&frames()[which], &damages).as_bytes());
    }

    /// Two frames that were cut and joined anywhere, as somebody does who sends what he has overheard.
    #[test]
    fn spliced_frames_are_never_a_panic(one in 0..6usize, other in 0..6usize, cut: Index, from: Index) {
        let (one, other) = (&frames()[one], &frames()[other]);
        let head = &one[..one.floor_char_boundary(cut.index(one.len() + 1))];
        let tail = &other[other.floor_char_boundary(from.index(other.len() + 1))..];
        fuzzing::frame(format!("{head}{tail}").as_bytes());
    }
}

/// So many, and as many times more as `PROPTEST_CASES` is above what it is where nobody sets it.
pub(crate) fn cases(usual: u32) -> u32 {
    (usual * ProptestConfig::default().cases / 256).max(1)
}

/// As large as a frame may be, and made of what is dear: none takes longer than reading it.
#[test]
fn frames_made_to_be_slow_are_not() {
    const BYTES: usize = 64 * 1024;
    let hello = |what: &str| format!(r#"{{"type":"hello","client_id":"c","subscriptions":[{what}]}}"#);
    let filter = |text: String| hello(&format!(r#"{{"id":"s","table":"t","where":"{text}"}}"#));
    let subscription = r#"{"id":"s","table":"t"},"#;
    let begun = std::time::Instant::now();
    for text in [
        "[".repeat(BYTES),
        r#"{"a":"#.repeat(BYTES / 5),
        format!(r#"{{"type":"{}"}}"#, "\\u0061".repeat(BYTES / 6)),
        hello(&subscription.repeat(BYTES / subscription.len())),
        filter("(".repeat(BYTES)),
        filter("not ".repeat(BYTES / 4)),
        filter("a = 1 or ".repeat(BYTES / 9)),
        filter(format!("a in ({}1)", "1, ".repeat(BYTES / 3))),
        filter(format!("a = {}", "9".repeat(BYTES))),
        filter(format!("a like '{}'", "%_".repeat(BYTES / 2))),
        format!(r#"{{"type":"unsubscribe","ids":[{}"x"]}}"#, r#""","#.repeat(BYTES / 3)),
    ] {
        let _ = parse(&text, 100);
    }
    // What is quadratic takes far longer.
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
}
