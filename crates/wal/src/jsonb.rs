//! What jsonb can hold, and how much room it takes there (PostgreSQL's jsonb.h, jsonb_util.c, numeric.c; measured on 15).

use crate::json::{self, split_digits};

/// The longest string that jsonb holds, in bytes, and the most that the values of one array or object take together
/// (`JENTRY_OFFLENMASK`).
pub(crate) const STRING_BYTES_MAX: usize = 0x0FFF_FFFF;
/// The longest JSON text that is written: somewhat below the longest that PostgreSQL takes in one field (1 GiB).
pub(crate) const JSON_BYTES_MAX: usize = 1_000_000_000;

/// Texts below need not be measured to know that their JSON is short enough.
const SHORT_BYTES: usize = 1 << 24;
/// Elements of an array: the parser doubles its memory for 32 bytes each, up to 1 GiB.
const ELEMENTS_MAX: usize = 1 << 24;
/// Pairs of an object, 72 bytes each.
const PAIRS_MAX: usize = 1 << 23;
/// Deepest nesting of a `json` value that is embedded. PostgreSQL itself stops by stack size, beyond 10,000 at its default.
const DEPTH_MAX: usize = 5_000;
/// Digits before the point of the largest numeric.
const NUMERIC_DIGITS_MAX: i64 = 131_072;
/// Exponents from here on numeric does not even look at (`INT_MAX / 2` in PostgreSQL's numeric.c).
const NUMERIC_EXPONENT_MAX: i64 = 1_073_741_823;
/// Digits after the point of the finest numeric.
const NUMERIC_SCALE_MAX: i64 = 16_383;

/// Whether a text fits into jsonb as a string.
pub(crate) fn can_hold_string(text: &[u8]) -> bool {
    // An escape takes six bytes at most.
    let specials = || text.iter().filter(|byte| json::needs_escape(**byte)).count();
    text.len() < SHORT_BYTES
        || (text.len() <= STRING_BYTES_MAX && text.len() + 5 * specials() <= JSON_BYTES_MAX)
}

/// Whether jsonb takes what json took: a json text that PostgreSQL has accepted may still hold `\u0000`, half a surrogate
/// pair, a number beyond numeric, a string or nesting beyond jsonb's limits. When in doubt the answer is no.
///
/// `ascii_escapes_only`: nor an escape beyond ASCII, which jsonb takes in a UTF-8 database alone.
pub(crate) fn can_hold(text: &[u8], ascii_escapes_only: bool) -> bool {
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => match string_end(&text[at + 1..], ascii_escapes_only) {
                Some(length) => at += length + 2,
                None => return false,
            },
            b'-' | b'0'..=b'9' => {
                let number = Decimal::read(&text[at..]);
                if !number.fits_numeric() {
                    return false;
                }
                at += number.bytes;
            }
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
fn string_end(text: &[u8], ascii_escapes_only: bool) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', &text[at..])?;
        if text[at] == b'"' {
            return (at <= STRING_BYTES_MAX).then_some(at);
        }
        at += match text.get(at + 1)? {
            b'u' => match unicode_escape(text, at)? {
                0 | 0xDC00..=0xDFFF => return None,
                0x80.. if ascii_escapes_only => return None,
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

/// About how many bytes a JSON text takes in jsonb as a value within another: never fewer than it really takes, and hardly
/// more. `usize::MAX` for one that no jsonb holds, because an array or object in it has too many elements.
///
/// Every value, and every key, has a JEntry of four bytes. Behind it a string has its bytes without escapes, a number what
/// numeric takes, an array or object a header of four bytes and its values. Numbers, arrays and objects begin at a multiple
/// of four; here everything ends at one, which comes to the same or more.
///
/// `converted`: history's database is not in UTF-8, where a character beyond ASCII can take half as much again.
pub(crate) fn size(json: &[u8], converted: bool) -> usize {
    size_within(json, converted, ELEMENTS_MAX, PAIRS_MAX)
}

fn size_within(json: &[u8], converted: bool, elements_max: usize, pairs_max: usize) -> usize {
    let mut bytes = 0usize;
    // Of each array and object that is open, how many more it may have.
    let mut elements_left: Vec<usize> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        let (length, taken) = match byte {
            b'"' => string_size(&json[at + 1..], converted),
            b'-' | b'0'..=b'9' => {
                let number = Decimal::read(&json[at..]);
                (number.bytes, 4 + number.numeric_bytes())
            }
            b'{' | b'[' => {
                elements_left.push(if byte == b'{' { pairs_max } else { elements_max } - 1);
                (1, 8)
            }
            b'}' | b']' => {
                elements_left.pop();
                (1, 0)
            }
            b',' => {
                if let Some(left) = elements_left.last_mut() {
                    let Some(less) = left.checked_sub(1) else { return usize::MAX };
                    *left = less;
                }
                (1, 0)
            }
            b'a'..=b'z' => (json[at..].iter().take_while(|byte| byte.is_ascii_lowercase()).count(), 4),
            _ => (1, 0),
        };
        at += length;
        bytes = bytes.saturating_add(taken.next_multiple_of(4));
    }
    bytes
}

/// Length of a string with its quotes, of which the first was taken off, and what it takes with its JEntry.
fn string_size(text: &[u8], converted: bool) -> (usize, usize) {
    let mut escapes_bytes = 0;
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'"', b'\\', &text[at..]) {
        at += found;
        if text[at] == b'"' {
            break;
        }
        // A \u and four digits become three bytes at most, anything else one.
        let (length, saved) = if text.get(at + 1) == Some(&b'u') { (6, 3) } else { (2, 1) };
        at += length;
        escapes_bytes += saved;
        if at > text.len() {
            break;
        }
    }
    let string = &text[..at.min(text.len())];
    let wider = if converted { string.iter().filter(|byte| !byte.is_ascii()).count().div_ceil(2) } else { 0 };
    // What ends inside an escape is no JSON, and saves less than was counted.
    (string.len() + 2, 4 + string.len().saturating_sub(escapes_bytes) + wider)
}

/// A number's text, taken apart.
struct Decimal<'a> {
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
    /// Length of the text.
    bytes: usize,
}

impl<'a> Decimal<'a> {
    /// Reads the number that the text begins with.
    fn read(text: &'a [u8]) -> Self {
        let start = usize::from(text.first() == Some(&b'-'));
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
        Decimal { whole, fraction, exponent, bytes: text.len() - rest.len() }
    }

    fn digits(&self) -> impl DoubleEndedIterator<Item = &'a u8> {
        self.whole.iter().chain(self.fraction)
    }

    /// The power of ten of the first and of the last digit that is not zero; `None` for zero.
    fn significant(&self) -> Option<(i64, i64)> {
        let is_significant = |digit: &u8| *digit != b'0';
        let leading_zeros = self.digits().position(is_significant)?;
        let trailing_zeros = self.digits().rev().position(is_significant)?;
        let highest = count(self.whole.len()) - 1 - count(leading_zeros);
        let lowest = count(trailing_zeros) - count(self.fraction.len());
        Some((highest.saturating_add(self.exponent), lowest.saturating_add(self.exponent)))
    }

    /// Digits behind the point that numeric remembers.
    fn scale(&self) -> i64 {
        count(self.fraction.len()).saturating_sub(self.exponent)
    }

    fn fits_numeric(&self) -> bool {
        self.exponent.abs() < NUMERIC_EXPONENT_MAX
            && self.significant().is_none_or(|(highest, _)| highest < NUMERIC_DIGITS_MAX)
            && self.scale() <= NUMERIC_SCALE_MAX
    }

    /// What it takes as a numeric that fits: a header of six or eight bytes and two for each four digits.
    fn numeric_bytes(&self) -> usize {
        let Some((highest, lowest)) = self.significant() else { return 8 };
        let (weight, last) = (highest.div_euclid(4), lowest.div_euclid(4));
        let is_short = self.scale() <= 63 && (-64..64).contains(&weight);
        let groups = usize::try_from(weight - last + 1).unwrap_or_default();
        (if is_short { 6 } else { 8 }) + 2 * groups
    }
}

fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn saturating_number(digits: &[u8]) -> i64 {
    digits
        .iter()
        .fold(0i64, |number, digit| number.saturating_mul(10).saturating_add(i64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::copy_text::CopyText;
    use crate::row::Value;

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
            assert!(can_hold(text.as_bytes(), false), "{:.40}", text);
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
            assert!(!can_hold(text.as_bytes(), false), "{:.40}", text);
        }
    }

    #[test]
    fn a_size_is_what_a_value_takes_or_hardly_more() {
        let check = |json: &str, taken: usize| {
            let found = size(json.as_bytes(), false);
            let strings = json.matches('"').count();
            // Some bytes of padding for each string, and what escapes may have become.
            assert!(found >= taken && found <= taken + 4 + 2 * strings, "{json}: {found} for {taken}");
        };
        for line in include_str!("../fixtures/types.txt").lines() {
            let mut copy = CopyText::default();
            let fields: Vec<Value<'_>> = copy.split(line.as_bytes(), 5).unwrap().collect();
            let (Value::Text(json), Value::Text(bytes)) = (fields[3], fields[4]) else { panic!("{line}") };
            let bytes: usize = std::str::from_utf8(bytes).unwrap().parse().unwrap();
            // The length of the datum, and the header of the array.
            check(std::str::from_utf8(json).unwrap(), bytes - 8);
        }
        // As `pg_column_size(('[' || value || ']')::jsonb) - 8` of PostgreSQL 15 answers it.
        for (json, bytes) in [
            ("9999", 12),
            ("10000", 12),
            ("12345678.5", 16),
            ("0.0001", 12),
            ("1e-63", 12),
            ("1e-64", 14),
            ("1e255", 12),
            ("1e256", 14),
            ("-1e131071", 14),
            ("100.0010", 14),
            (r#""a\u00e9\n\"x""#, 10),
            (r#""\ud83d\ude00""#, 8),
            ("[1, 2]", 32),
            (r#"{"a":"bcd","b":[true,null]}"#, 44),
            (r#"{"a":{"b":{"c":[1.5,"x"]}}}"#, 75),
        ] {
            check(json, bytes);
        }
    }

    #[test]
    fn arrays_objects_and_strings_have_limits() {
        for (json, bytes) in [
            ("[[],[],[]]", 32),
            ("[[],[],[],[]]", usize::MAX),
            ("[[1,2,3],[1,2,3]]", 96),
            (r#"{"":0,"a":[1,2,3]}"#, 8 + 4 + 12 + 8 + 44),
            (r#"[{"":0,"a":1,"b":2}]"#, usize::MAX),
        ] {
            assert_eq!(size_within(json.as_bytes(), false, 3, 2), bytes, "{json}");
        }
        assert!(can_hold_string(&vec![b'x'; SHORT_BYTES]));
        assert!(!can_hold_string(&vec![b'x'; STRING_BYTES_MAX + 1]));
    }

    #[test]
    fn characters_can_be_wider_elsewhere() {
        assert_eq!(size("\"äöü\"".as_bytes(), false), 12);
        assert_eq!(size("\"äöü\"".as_bytes(), true), 16);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, json in "[\\[{\"\\\\u0dD89e.\\-\\]},]{0,40}") {
            for text in [&bytes[..], json.as_bytes()] {
                can_hold(text, true);
                size(text, true);
            }
        }
    }
}
