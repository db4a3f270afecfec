//! Writing JSON straight into a buffer: escaped strings, checked numbers.
//!
//! No parsing into values: text goes in, text comes out. What jsonb makes of it is the business of [`jsonb`](crate::jsonb).

/// Writes `text` as a JSON string, escaping only what must be. The caller knows that it is UTF-8.
pub(crate) fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text;
    loop {
        let plain = plain_prefix(rest);
        out.extend_from_slice(&rest[..plain]);
        let Some(&special) = rest.get(plain) else { break };
        match special {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                out.extend_from_slice(b"\\u00");
                write_hex_byte(control, out);
            }
        }
        rest = &rest[plain + 1..];
    }
    out.push(b'"');
}

/// Two hexadecimal digits, lower case.
pub(crate) fn write_hex_byte(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(DIGITS[usize::from(byte >> 4)]);
    out.push(DIGITS[usize::from(byte & 15)]);
}

/// Writes bytes that are no text as a JSON string, `\x` and two hexadecimal digits for each: as bytea prints.
pub(crate) fn write_hex_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"\\\\x");
    for byte in bytes {
        write_hex_byte(*byte, out);
    }
    out.push(b'"');
}

/// How many bytes at the start need no escape. Eight at a time: this is where most of the time of a row goes.
fn plain_prefix(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        if word_has_special(u64::from_le_bytes(*chunk)) {
            break;
        }
        at += 8;
    }
    at + bytes[at..].iter().position(|b| needs_escape(*b)).unwrap_or(bytes.len() - at)
}

pub(crate) fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Whether one of the eight bytes needs an escape: the classic "has a zero byte" and "has a byte less than" tests.
fn word_has_special(word: u64) -> bool {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES * 0x80;
    let less = |word: u64, bound: u64| word.wrapping_sub(ONES * bound) & !word & HIGHS;
    let equal = |byte: u8| less(word ^ (ONES * u64::from(byte)), 1);
    less(word, 0x20) | equal(b'"') | equal(b'\\') != 0
}

/// Writes a json text as it is, but on one line: frames of line-based formats carry rows. A raw line break can only stand
/// between tokens, where a space is the same.
pub(crate) fn write_embedded(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
        out.extend_from_slice(&rest[..at]);
        out.push(b' ');
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Whether the text is a number as JSON has them.
pub(crate) fn is_number(text: &[u8]) -> bool {
    let rest = text.strip_prefix(b"-").unwrap_or(text);
    let (whole, rest) = split_digits(rest);
    if whole.is_empty() || (whole.len() > 1 && whole[0] == b'0') {
        return false;
    }
    let rest = match rest.strip_prefix(b".") {
        Some(fraction) => match split_digits(fraction) {
            ([], _) => return false,
            (_, rest) => rest,
        },
        None => rest,
    };
    match rest {
        [] => true,
        [b'e' | b'E', exponent @ ..] => {
            let digits = exponent.strip_prefix(b"-").or(exponent.strip_prefix(b"+")).unwrap_or(exponent);
            matches!(split_digits(digits), ([_, ..], []))
        }
        _ => false,
    }
}

pub(crate) fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn string(text: &str) -> String {
        let mut out = Vec::new();
        write_string(text.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes_what_must_be_and_nothing_else() {
        assert_eq!(
            string("plain, longer than eight / bytes é \u{7f}"),
            "\"plain, longer than eight / bytes é \u{7f}\""
        );
        assert_eq!(string("1234567\"90\\"), r#""1234567\"90\\""#);
        assert_eq!(string("\n\r\t\u{1}\u{1f}"), r#""\n\r\t\u0001\u001f""#);
    }

    #[test]
    fn knows_json_numbers() {
        for number in
            ["0", "-0", "1e+20", "1e-07", "1.500", "-12.5E3", "1234567890123456789012345678901234567890"]
        {
            assert!(is_number(number.as_bytes()), "{number}");
        }
        for other in ["", "-", "NaN", "Infinity", "01", "1.", ".5", "1e", "1e+", "1 ", "+1", "1,2", "1e5x"] {
            assert!(!is_number(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn an_embedded_text_is_one_line() {
        let mut out = Vec::new();
        write_embedded(b"{\r\n\"a\\n\":\n1}", &mut out);
        assert_eq!(out, b"{  \"a\\n\": 1}");
    }

    proptest! {
        #[test]
        fn a_string_reads_back(text: String) {
            prop_assert_eq!(serde_json::from_str::<String>(&string(&text)).unwrap(), text);
        }

        #[test]
        fn a_string_of_awkward_bytes_reads_back(text in "[\\x00-\\x22\\\\aé\u{1F600}]{0,40}") {
            prop_assert_eq!(serde_json::from_str::<String>(&string(&text)).unwrap(), text);
        }

        #[test]
        fn numbers_are_those_of_serde(text in "-?[0-9]{0,3}(\\.[0-9]{0,2})?([eE][+-]?[0-9]{0,2})?") {
            let theirs = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            prop_assert_eq!(is_number(text.as_bytes()), theirs);
        }
    }
}
