//! Frames of clients that were damaged, or made to be read wrongly: accepted or refused, never a panic; and what is told of one that is
//! refused repeats no token.

use proptest::prelude::*;
use proptest::sample::Index;

use super::client::{ClientFrame, parse};

const TOKEN: &str = "a.very-secret.token";

/// Frames that are accepted.
fn frames() -> Vec<String> {
    vec![
        format!(
            r#"{{"type":"hello","client_id":"web-7","token":"{TOKEN}","after":"00000001-00000000016b3748-ffffffff","access":"0123456789abcdef","own_changes":"include","snapshot":true,"snapshot_from":{{"id":"x","n":7}},"subscriptions":[{{"id":"s1","table":"public.orders","columns":["id","total"],"where":"region = 'eu' and (total > 10 or note like 'a%')","old":true,"big_numbers":"string"}},{{"id":"s2","table":"*"}}]}}"#
        ),
        r#"{"type":"subscribe","subscriptions":[{"id":"s3","table":"\"A b\".\"c\"\"d\"","where":"id in (1, 2.5, -3) and at >= date '2026-01-01'"}]}"#.to_owned(),
        r#"{"type":"unsubscribe","ids":["s1","s2"]}"#.to_owned(),
        r#"{"type":"ack","cursor":"0/16B3748"}"#.to_owned(),
        format!(r#"{{"type":"auth","token":"{TOKEN}"}}"#),
        r#"{"type":"ping","n":18446744073709551615}"#.to_owned(),
    ]
}

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
type Damage = (Index, usize, usize);

fn damaged(text: &str, damages: &[Damage]) -> String {
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
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_damaged_frame_is_accepted_or_refused_without_its_token(
        which in 0..6usize,
        damages in prop::collection::vec((any::<Index>(), 0..12usize, 0..PIECES.len()), 1..5),
    ) {
        let text = damaged(&frames()[which], &damages);
        // Of one that is accepted the damage may have made the token a part of something else.
        if let Err(refusal) = parse(&text, 10) {
            prop_assert!(!refusal.message.contains(TOKEN), "{:?}", refusal);
        }
    }

    /// Two frames that were cut and joined anywhere, as somebody does who sends what he has overheard.
    #[test]
    fn spliced_frames_are_never_a_panic(one in 0..6usize, other in 0..6usize, cut: Index, from: Index) {
        let (one, other) = (&frames()[one], &frames()[other]);
        let head = &one[..one.floor_char_boundary(cut.index(one.len() + 1))];
        let tail = &other[other.floor_char_boundary(from.index(other.len() + 1))..];
        let _ = parse(&format!("{head}{tail}"), 10);
    }
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
