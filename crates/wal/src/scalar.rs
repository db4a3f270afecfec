//! Values that are no arrays, composites or hstores, written as `to_jsonb` prints them.

use crate::kind::Scalar;
use crate::value::{Refusal, Target};
use crate::{json, jsonb};

impl Scalar {
    /// Writes the JSON of a value's text. After an error, what was written is to be thrown away.
    pub(crate) fn write(self, text: &[u8], target: &mut Target<'_>) -> Result<(), Refusal> {
        let out = &mut *target.out;
        match self {
            Scalar::Bool => out.extend_from_slice(match text {
                b"t" => b"true",
                b"f" => b"false",
                _ => return malformed("a boolean"),
            }),
            Scalar::Number => write_number(text, out)?,
            Scalar::Text => write_text(text, out)?,
            Scalar::Bytea if text.starts_with(b"\\x") => write_text(text, out)?,
            Scalar::Bytea => return malformed("bytea in hexadecimal form"),
            Scalar::Date if is_infinity(text) || is_iso_date(text) => write_text(text, out)?,
            Scalar::Date => return malformed("an ISO date"),
            Scalar::Timestamp => write_timestamp(text, b"", b"", out)?,
            Scalar::TimestampTz => write_timestamp(text, b"+00", b"+00:00", out)?,
            Scalar::Json if !jsonb::can_hold(text, target.ascii_escapes_only) => {
                write_text(text, out)?;
                target.kept_as_text = true;
            }
            Scalar::Json | Scalar::Jsonb => write_checked_json(text, out)?,
            Scalar::Int2Vector => write_vector(text, out, write_number)?,
            Scalar::OidVector => write_vector(text, out, write_text)?,
        }
        Ok(())
    }
}

fn malformed<T>(expected: &'static str) -> Result<T, Refusal> {
    Err(Refusal::Malformed { expected })
}

fn write_text(text: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    check_utf8(text)?;
    if !jsonb::can_hold_string(text) {
        return Err(Refusal::TooLong);
    }
    json::write_string(text, out);
    Ok(())
}

fn check_utf8(text: &[u8]) -> Result<(), Refusal> {
    std::str::from_utf8(text).map(|_| ()).map_err(|_| Refusal::NotUtf8)
}

fn write_number(text: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    if json::is_number(text) {
        out.extend_from_slice(text);
    } else if matches!(text, b"NaN" | b"Infinity" | b"-Infinity") {
        json::write_string(text, out);
    } else {
        return malformed("a number");
    }
    Ok(())
}

/// PostgreSQL has checked that it is JSON; what is left to see to is that it is something, and UTF-8.
fn write_checked_json(text: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    if text.is_empty() {
        return malformed("JSON");
    }
    check_utf8(text)?;
    if text.len() > jsonb::JSON_BYTES_MAX {
        return Err(Refusal::TooLong);
    }
    json::write_embedded(text, out);
    Ok(())
}

/// `1 2 3`: arrays that are not printed like arrays.
fn write_vector(
    text: &[u8],
    out: &mut Vec<u8>,
    write: fn(&[u8], &mut Vec<u8>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut separator = b'[';
    for element in text.split(|byte| *byte == b' ').filter(|_| !text.is_empty()) {
        if !json::is_number(element) {
            return malformed("a vector of numbers");
        }
        out.push(separator);
        separator = b',';
        write(element, out)?;
    }
    if separator == b'[' {
        out.push(b'[');
    }
    out.push(b']');
    Ok(())
}

fn is_infinity(text: &[u8]) -> bool {
    matches!(text, b"infinity" | b"-infinity")
}

/// Whether the text begins as an ISO date does: a year of four digits or more and a hyphen. Other date styles do not.
fn is_iso_date(text: &[u8]) -> bool {
    let year = text.iter().take_while(|b| b.is_ascii_digit()).count();
    year >= 4 && text.get(year) == Some(&b'-')
}

/// `2024-01-02 03:04:05.678+00 BC` becomes `"2024-01-02T03:04:05.678+00:00 BC"`, with `zone` replaced by `iso_zone`.
fn write_timestamp(text: &[u8], zone: &[u8], iso_zone: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    if is_infinity(text) {
        return write_text(text, out);
    }
    let refusal = Refusal::Malformed { expected: "an ISO timestamp in UTC" };
    if !is_iso_date(text) || !text.is_ascii() {
        return Err(refusal);
    }
    let (era, rest): (&[u8], _) = match text.strip_suffix(b" BC") {
        Some(rest) => (b" BC", rest),
        None => (b"", text),
    };
    let rest = rest.strip_suffix(zone).ok_or(refusal)?;
    let space = memchr::memchr(b' ', rest).ok_or(refusal)?;
    let (date, time) = (&rest[..space], &rest[space + 1..]);
    // They are written as they are: nothing may end the string.
    let is_date = date.iter().all(|b| matches!(b, b'0'..=b'9' | b'-'));
    let is_time = !time.is_empty() && time.iter().all(|b| matches!(b, b'0'..=b'9' | b':' | b'.'));
    if !(is_date && is_time) {
        return Err(refusal);
    }
    out.push(b'"');
    for part in [date, b"T", time, iso_zone, era] {
        out.extend_from_slice(part);
    }
    out.push(b'"');
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::kind::{Kind, Scalar};
    use crate::value::{ValueError, Written, write};

    fn json(type_oid: u32, text: &str) -> Result<String, ValueError> {
        let mut out = Vec::new();
        write(&Kind::builtin(type_oid).unwrap(), text.as_bytes(), false, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn no_timestamp_ends_its_string() {
        for (oid, text) in [
            (1114, "2024-\",\"x\":\"y 03:04:05"),
            (1114, "2024-01-0\\ 03:04:05"),
            (1114, "2024-\0 03:04:05"),
            (1184, "2024-01-02\" 03:04:05+00"),
            (1184, "2024-01-02T 03:04:05+00"),
        ] {
            let expected = "an ISO timestamp in UTC";
            assert_eq!(json(oid, text), Err(ValueError::Malformed { expected }), "{text:?}");
        }
    }

    #[test]
    fn timestamps_are_iso_8601() {
        for (oid, text, expected) in [
            (1114, "2024-01-02 03:04:05.678", "\"2024-01-02T03:04:05.678\""),
            (1114, "0044-03-15 12:13:14.5 BC", "\"0044-03-15T12:13:14.5 BC\""),
            (1114, "294276-12-31 23:59:59.999999", "\"294276-12-31T23:59:59.999999\""),
            (1114, "-infinity", "\"-infinity\""),
            (1184, "2024-01-02 03:04:05.678+00", "\"2024-01-02T03:04:05.678+00:00\""),
            (1184, "0044-03-15 12:13:14.5+00 BC", "\"0044-03-15T12:13:14.5+00:00 BC\""),
            (1184, "infinity", "\"infinity\""),
            (1185, "{\"2024-01-02 00:00:00+00\",NULL}", "[\"2024-01-02T00:00:00+00:00\",null]"),
        ] {
            assert_eq!(json(oid, text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn text_of_other_settings_is_an_error() {
        for (oid, text) in [
            (1082, "01/02/2024"),
            (1082, "01-02-2024"),
            (1114, "Tue Jan 02 03:04:05 2024"),
            (1184, "2024-01-02 03:04:05+05:30"),
            (1184, "2024-01-02 03:04:05"),
            (17, "\\001"),
            (16, "true"),
            (23, "1,5"),
            (22, "1  2"),
            (3802, ""),
        ] {
            assert!(matches!(json(oid, text), Err(ValueError::Malformed { .. })), "{oid} {text}");
        }
    }

    #[test]
    fn json_that_jsonb_cannot_hold_is_flagged() {
        let kind = Kind::Scalar(Scalar::Json);
        for (ascii_escapes_only, text, expected, written) in [
            (false, r#"{"a":"\u0000"}"#, r#""{\"a\":\"\\u0000\"}""#, Written::Flagged),
            (false, r#"["\u00e9"]"#, r#"["\u00e9"]"#, Written::Faithful),
            (true, r#"["\u00e9"]"#, r#""[\"\\u00e9\"]""#, Written::Flagged),
            (true, r#"["\u007fé"]"#, r#"["\u007fé"]"#, Written::Faithful),
        ] {
            let mut out = Vec::new();
            assert_eq!(write(&kind, text.as_bytes(), ascii_escapes_only, &mut out), Ok(written), "{text}");
            assert_eq!(std::str::from_utf8(&out).unwrap(), expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_json(oid in 16u32..6200, bytes: Vec<u8>, text in "[-0-9a-fx\\\\{}\"(), =>:+T.N]{0,24}") {
            let kind = Kind::builtin(oid).unwrap_or(Kind::TEXT);
            for text in [&bytes[..], text.as_bytes()] {
                let mut out = Vec::new();
                // A json value is what PostgreSQL has checked.
                if !format!("{kind:?}").contains("Json") && write(&kind, text, true, &mut out).is_ok() {
                    prop_assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok());
                }
            }
        }
    }
}
