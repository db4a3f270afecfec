//! Writing JSON straight into a buffer: escaped strings, checked numbers, and whether jsonb can hold a json text.
//!
//! No parsing into values: text goes in, text comes out.

/// The longest string that jsonb holds, in bytes (`JENTRY_OFFLENMASK` in PostgreSQL's jsonb.h).
pub(crate) const JSONB_STRING_BYTES_MAX: usize = 0x0FFF_FFFF;

/// Deepest nesting of a `json` value that is embedded. PostgreSQL itself stops by stack size, beyond 10,000 at its default.
const DEPTH_MAX: usize = 5_000;
/// Digits before the point of the largest numeric.
const NUMERIC_DIGITS_MAX: i64 = 131_072;
/// Exponents from here on numeric does not even look at (`INT_MAX / 2` in PostgreSQL's numeric.c).
const NUMERIC_EXPONENT_MAX: i64 = 1_073_741_823;
/// Digits after the point of the finest numeric.
const NUMERIC_SCALE_MAX: i64 = 16_383;

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

fn needs_escape(byte: u8) -> bool {
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

fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// Whether jsonb takes what json took: a json text that PostgreSQL has accepted may still hold `\u0000`, half a surrogate
/// pair, a number beyond numeric, a string or nesting beyond jsonb's limits. When in doubt the answer is no.
pub(crate) fn jsonb_can_hold(text: &[u8]) -> bool {
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => match string_end(&text[at + 1..]) {
                Some(length) => at += length + 2,
                None => return false,
            },
            b'-' | b'0'..=b'9' => match number_end(&text[at..]) {
                Some(length) => at += length,
                None => return false,
            },
            b'[' | b'{' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return false;
                }
                at += 1;
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            _ => at += 1,
        }
    }
    true
}

/// Length of a string up to its closing quote; `None` where jsonb refuses the string.
fn string_end(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', &text[at..])?;
        if text[at] == b'"' {
            return (at <= JSONB_STRING_BYTES_MAX).then_some(at);
        }
        at += match text.get(at + 1)? {
            b'u' => match unicode_escape(text, at)? {
                0 | 0xDC00..=0xDFFF => return None,
                0xD800..=0xDBFF => match unicode_escape(text, at + 6)? {
                    0xDC00..=0xDFFF => 12,
                    _ => return None,
                },
                _ => 6,
            },
            _ => 2,
        };
    }
}

/// The code unit of a `\uXXXX` at this place.
fn unicode_escape(text: &[u8], at: usize) -> Option<u32> {
    let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |value, digit| Some(value * 16 + char::from(*digit).to_digit(16)?))
}

/// Length of a number; `None` where numeric cannot hold it.
fn number_end(text: &[u8]) -> Option<usize> {
    let start = usize::from(text[0] == b'-');
    let (whole, rest) = split_digits(&text[start..]);
    let (fraction, rest) = match rest.strip_prefix(b".") {
        Some(rest) => split_digits(rest),
        None => (&[][..], rest),
    };
    let (exponent, rest) = match rest {
        [b'e' | b'E', b'-', rest @ ..] => {
            let (digits, rest) = split_digits(rest);
            (-saturating_number(digits), rest)
        }
        [b'e' | b'E', b'+', rest @ ..] | [b'e' | b'E', rest @ ..] => {
            let (digits, rest) = split_digits(rest);
            (saturating_number(digits), rest)
        }
        rest => (0, rest),
    };
    let leading_zeros = whole.iter().chain(fraction).take_while(|digit| **digit == b'0').count();
    let is_zero = leading_zeros == whole.len() + fraction.len();
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let digits = count(whole.len()).saturating_sub(count(leading_zeros)).saturating_add(exponent);
    let scale = count(fraction.len()).saturating_sub(exponent);
    let fits = exponent.abs() < NUMERIC_EXPONENT_MAX
        && (is_zero || digits <= NUMERIC_DIGITS_MAX)
        && scale <= NUMERIC_SCALE_MAX;
    fits.then_some(text.len() - rest.len())
}

fn saturating_number(digits: &[u8]) -> i64 {
    digits
        .iter()
        .fold(0i64, |number, digit| number.saturating_mul(10).saturating_add(i64::from(digit - b'0')))
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
    fn knows_what_jsonb_refuses() {
        // Each line as PostgreSQL 15 answers it for `'…'::json::jsonb`.
        let ones = |count| "1".repeat(count);
        let held = [
            r#"{"a":[1,"é\u00e9\ud83d\ude00\\u0000\"",null,true]}"#.to_owned(),
            "1e131071".into(),
            "1e-16383".into(),
            "[-0,0e200000,0.0000001e131078]".into(),
            format!("0.{}", ones(16_383)),
            ones(131_072),
        ];
        for text in held {
            assert!(jsonb_can_hold(text.as_bytes()), "{:.40}", text);
        }
        let refused = [
            r#""\u0000""#.to_owned(),
            r#"{"\u0000":1}"#.into(),
            r#""\ud800""#.into(),
            r#""\udc00""#.into(),
            r#""\ud800\ud800""#.into(),
            r#""\ud800x""#.into(),
            "1e131072".into(),
            "[12e131071]".into(),
            "1e-16384".into(),
            "0e-16384".into(),
            "0.0000001e131079".into(),
            "0e1073741823".into(),
            "1.5e99999999999999999999".into(),
            format!("0.{}", ones(16_384)),
            format!("1.{}e-1", ones(16_383)),
            ones(131_073),
            "[".repeat(5_001) + &"]".repeat(5_001),
        ];
        for text in refused {
            assert!(!jsonb_can_hold(text.as_bytes()), "{:.40}", text);
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

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, json in "[\\[{\"\\\\u0dD89e.\\-\\]}]{0,40}") {
            jsonb_can_hold(&bytes);
            jsonb_can_hold(json.as_bytes());
        }
    }
}
