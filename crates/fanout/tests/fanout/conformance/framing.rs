//! Section 5.2: the bits of a frame, and its length. Section 5.1: the mask.

use super::*;

/// Bytes that a frame may have, and what is still read to be told that it is too large.
const FRAME_BYTES_MAX: usize = 65_536;
const READ_BYTES_MAX: usize = 4 * FRAME_BYTES_MAX;

/// `ASKS` in so many bytes: spaces mean nothing.
fn padded(length: usize) -> String {
    format!("{ASKS}{}", " ".repeat(length - ASKS.len()))
}

#[tokio::test(flavor = "multi_thread")]
async fn lengths_are_read_in_each_of_the_three_forms() {
    let told = |form| frame_in(form, WHOLE_TEXT, ASKS.as_bytes());
    let mut cases = vec![
        goes_on("in seven bits", &[told(Form::Seven)], &[ANSWERED]),
        // The shortest form must be used (section 5.2); nobody is misled by another one, and the RFC does not say what its
        // reader does: it is read.
        goes_on("in more bits than needed", &[told(Form::Sixteen)], &[ANSWERED]),
        goes_on("in many more bits than needed", &[told(Form::SixtyFour)], &[ANSWERED]),
    ];
    for length in [125, 126, 127, 65_535, FRAME_BYTES_MAX] {
        cases.push(goes_on(format!("{length} bytes"), &[frame(WHOLE_TEXT, padded(length))], &[ANSWERED]));
    }
    check("lengths", cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_and_said_so() {
    let begun = |length: u64| header(WHOLE_TEXT, MASKED, Form::SixtyFour, length);
    let announced = |length: u64| [begun(length), MASK.to_vec()].concat();
    let halves = [padded(FRAME_BYTES_MAX).into_bytes(), vec![b' '; FRAME_BYTES_MAX]];
    let mut cases = vec![
        case("one byte too many", &[frame(WHOLE_TEXT, padded(FRAME_BYTES_MAX + 1))], TOO_LARGE),
        case("the most that is read", &[frame(WHOLE_TEXT, padded(READ_BYTES_MAX))], TOO_LARGE),
        case("one byte more than is read", &[frame(WHOLE_TEXT, padded(READ_BYTES_MAX + 1))], TOO_LARGE),
        case("a megabyte", &[frame(WHOLE_TEXT, padded(1 << 20))], TOO_LARGE),
        case("together", &[frame(TEXT, &halves[0]), frame(LAST, &halves[1])], TOO_LARGE),
    ];
    // Before any of it has come.
    for length in [READ_BYTES_MAX as u64 + 1, 1 << 32, (1 << 63) - 1] {
        cases.push(case(format!("{length} bytes are announced"), &[announced(length)], TOO_LARGE));
    }
    // The highest bit must be 0 (section 5.2): more than anybody has.
    for length in [1 << 63, u64::MAX, (1 << 63) | 5] {
        cases.push(case(format!("{length:#x} bytes are announced"), &[announced(length)], TOO_LARGE));
    }
    let rest = vec![b'x'; 100_000];
    cases.push(case("the rest comes nevertheless", &[announced(u64::MAX), rest], TOO_LARGE));
    check("lengths_max", cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_frame_may_not_say_of_itself_is_refused() {
    let unmasked = |first: u8, payload: &str| {
        [header(first, 0, Form::of(payload.len()), payload.len() as u64), payload.as_bytes().to_vec()]
            .concat()
    };
    let mut cases = vec![
        case("a text without a mask", &[unmasked(WHOLE_TEXT, ASKS)], REFUSED),
        case("nothing without a mask", &[unmasked(WHOLE_TEXT, "")], REFUSED),
        case("a ping without a mask", &[unmasked(FIN | PING, "")], REFUSED),
        case("a close without a mask", &[unmasked(FIN | CLOSE, "\u{3}\u{68}")], REFUSED),
        case(
            "a mask of zeros",
            &[header(WHOLE_TEXT, MASKED, Form::Seven, 21), vec![0; 4], ASKS.into(), frame(WHOLE_TEXT, STILL)],
            format!("{ANSWERED}, {GOES_ON}"),
        ),
    ];
    for bits in [0x40, 0x20, 0x10, 0x70] {
        for (what, first) in [("a text", WHOLE_TEXT), ("a ping", FIN | PING), ("a close", FIN | CLOSE)] {
            let name = format!("reserved bits {bits:#x} of {what}");
            cases.push(case(name, &[frame(first | bits, "")], REFUSED));
        }
    }
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        let (name, whole) = (format!("opcode {opcode:#x}"), frame(FIN | opcode, ""));
        cases.push(case(name, &[whole], REFUSED));
        cases.push(case(format!("opcode {opcode:#x}, begun"), &[frame(opcode, "x")], REFUSED));
    }
    check("bits", cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_frames_are_refused() {
    let cases = vec![
        case("JSON in it", &[frame(FIN | BINARY, ASKS)], REFUSED),
        case("empty", &[frame(FIN | BINARY, "")], REFUSED),
        case("in fragments", &[frame(BINARY, "{"), frame(LAST, "}")], REFUSED),
        case("too large", &[frame(FIN | BINARY, vec![0; READ_BYTES_MAX + 1])], TOO_LARGE),
    ];
    check("binary", cases).await;
}
