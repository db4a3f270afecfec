//! How the text of a value becomes JSON, by the type of its column: as PostgreSQL's `to_jsonb` would print it.
//!
//! Holds for the text that PostgreSQL sends under pinned settings: `DateStyle` ISO, `TimeZone` UTC, `bytea_output` hex,
//! `extra_float_digits` 1 or more. Where the text shows that a setting differs, that is an error, not a wrong value.
//!
//! Only built-in types, whose object ids are the same everywhere. Enums, domains, composites and types of extensions need
//! the source's catalog; a table that has one is refused by name.

use crate::array;
use crate::json;

/// How the values of a column become JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One value.
    Scalar(Scalar),
    /// An array, of any dimensions: nested JSON arrays.
    Array {
        /// What its elements are.
        element: Scalar,
        /// What stands between two elements in the text: a comma, for `box` a semicolon.
        delimiter: u8,
    },
}

/// How one value becomes JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// `true` or `false`.
    Bool,
    /// A JSON number in full precision; `NaN` and infinities as strings.
    Number,
    /// A string of the type's text: also of numbers that `to_jsonb` does not print as numbers (oid, money).
    Text,
    /// A string of the hexadecimal form, `\x…`.
    Bytea,
    /// A string: the ISO date.
    Date,
    /// A string with `T` between date and time.
    Timestamp,
    /// A string with `T` between date and time, and `+00:00` behind it.
    TimestampTz,
    /// Embedded as it is; what jsonb cannot hold as a string of its text.
    Json,
    /// Embedded as it is.
    Jsonb,
}

/// The text of a value is not what its type prints under the pinned settings. Never says the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The bytes are not UTF-8.
    #[error("not valid UTF-8")]
    NotUtf8,
    /// The text has another form than its type's.
    #[error("not {expected}")]
    Malformed {
        /// What it should have been.
        expected: &'static str,
    },
    /// Longer than any string that jsonb holds.
    #[error("{bytes} bytes long, more than the 268435455 that jsonb holds")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Faithful,
    /// A json value that jsonb cannot hold was written as a JSON string of its text.
    KeptAsText,
}

/// How values of this type become JSON; `None` for a type that is not supported.
pub fn supported(type_oid: u32) -> Option<Kind> {
    builtin(type_oid).map(|(_, kind)| kind)
}

/// The name of a built-in type that is supported, as `format_type` prints it without modifier.
pub fn type_name(type_oid: u32) -> Option<&'static str> {
    builtin(type_oid).map(|(name, _)| name)
}

/// Object ids, from PostgreSQL's pg_type.dat: they never change.
fn builtin(type_oid: u32) -> Option<(&'static str, Kind)> {
    macro_rules! types {
        ($($scalar:ident { $($oid:literal $array_oid:literal $name:literal $((delimiter $delimiter:literal))?)* })*) => {
            match type_oid {
                $($(
                    $oid => Some(($name, Kind::Scalar(Scalar::$scalar))),
                    $array_oid => {
                        let delimiter = [$($delimiter,)? b','][0];
                        Some((concat!($name, "[]"), Kind::Array { element: Scalar::$scalar, delimiter }))
                    }
                )*)*
                _ => None,
            }
        };
    }
    types! {
        Bool { 16 1000 "boolean" }
        Number {
            20 1016 "bigint"
            21 1005 "smallint"
            23 1007 "integer"
            700 1021 "real"
            701 1022 "double precision"
            1700 1231 "numeric"
        }
        Bytea { 17 1001 "bytea" }
        Json { 114 199 "json" }
        Jsonb { 3802 3807 "jsonb" }
        Date { 1082 1182 "date" }
        Timestamp { 1114 1115 "timestamp without time zone" }
        TimestampTz { 1184 1185 "timestamp with time zone" }
        Text {
            18 1002 "\"char\""
            19 1003 "name"
            25 1009 "text"
            26 1028 "oid"
            27 1010 "tid"
            28 1011 "xid"
            142 143 "xml"
            600 1017 "point"
            601 1018 "lseg"
            602 1019 "path"
            603 1020 "box" (delimiter b';')
            604 1027 "polygon"
            628 629 "line"
            650 651 "cidr"
            718 719 "circle"
            774 775 "macaddr8"
            790 791 "money"
            829 1040 "macaddr"
            869 1041 "inet"
            1042 1014 "character"
            1043 1015 "character varying"
            1083 1183 "time without time zone"
            1186 1187 "interval"
            1266 1270 "time with time zone"
            1560 1561 "bit"
            1562 1563 "bit varying"
            2950 2951 "uuid"
            2970 2949 "txid_snapshot"
            3220 3221 "pg_lsn"
            3614 3643 "tsvector"
            3615 3645 "tsquery"
            3904 3905 "int4range"
            3906 3907 "numrange"
            3908 3909 "tsrange"
            3910 3911 "tstzrange"
            3912 3913 "daterange"
            3926 3927 "int8range"
            4072 4073 "jsonpath"
            4451 6150 "int4multirange"
            4532 6151 "nummultirange"
            4533 6152 "tsmultirange"
            4534 6153 "tstzmultirange"
            4535 6155 "datemultirange"
            4536 6157 "int8multirange"
            5038 5039 "pg_snapshot"
            5069 271 "xid8"
        }
    }
}

impl Kind {
    /// Writes the JSON of a value's text. After an error, what was written is to be thrown away.
    pub(crate) fn write(self, text: &[u8], out: &mut Vec<u8>) -> Result<Written, ValueError> {
        match self {
            Kind::Scalar(scalar) => scalar.write(text, out),
            Kind::Array { element, delimiter } => array::write(text, element, delimiter, out),
        }
    }
}

impl Scalar {
    /// Writes the JSON of a value's text. After an error, what was written is to be thrown away.
    pub(crate) fn write(self, text: &[u8], out: &mut Vec<u8>) -> Result<Written, ValueError> {
        match self {
            Scalar::Bool => out.extend_from_slice(match text {
                b"t" => b"true",
                b"f" => b"false",
                _ => return Err(ValueError::Malformed { expected: "a boolean" }),
            }),
            Scalar::Number => write_number(text, out)?,
            Scalar::Text => write_text(text, out)?,
            Scalar::Bytea if text.starts_with(b"\\x") => write_text(text, out)?,
            Scalar::Bytea => return Err(ValueError::Malformed { expected: "bytea in hexadecimal form" }),
            Scalar::Date if is_infinity(text) || is_iso_date(text) => write_text(text, out)?,
            Scalar::Date => return Err(ValueError::Malformed { expected: "an ISO date" }),
            Scalar::Timestamp => write_timestamp(text, b"", b"", out)?,
            Scalar::TimestampTz => write_timestamp(text, b"+00", b"+00:00", out)?,
            Scalar::Json => return write_json(text, out),
            Scalar::Jsonb => write_checked_json(text, out)?,
        }
        Ok(Written::Faithful)
    }
}

fn write_text(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    if text.len() > json::JSONB_STRING_BYTES_MAX {
        return Err(ValueError::TooLong { bytes: text.len() });
    }
    check_utf8(text)?;
    json::write_string(text, out);
    Ok(())
}

fn check_utf8(text: &[u8]) -> Result<(), ValueError> {
    std::str::from_utf8(text).map(|_| ()).map_err(|_| ValueError::NotUtf8)
}

fn write_number(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    if json::is_number(text) {
        out.extend_from_slice(text);
    } else if matches!(text, b"NaN" | b"Infinity" | b"-Infinity") {
        json::write_string(text, out);
    } else {
        return Err(ValueError::Malformed { expected: "a number" });
    }
    Ok(())
}

fn write_json(text: &[u8], out: &mut Vec<u8>) -> Result<Written, ValueError> {
    if json::jsonb_can_hold(text) {
        write_checked_json(text, out)?;
        return Ok(Written::Faithful);
    }
    write_text(text, out)?;
    Ok(Written::KeptAsText)
}

/// PostgreSQL has checked that it is JSON; what is left to see to is that it is something, and UTF-8.
fn write_checked_json(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    if text.is_empty() {
        return Err(ValueError::Malformed { expected: "JSON" });
    }
    check_utf8(text)?;
    json::write_embedded(text, out);
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
fn write_timestamp(text: &[u8], zone: &[u8], iso_zone: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    if is_infinity(text) {
        return write_text(text, out);
    }
    let malformed = ValueError::Malformed { expected: "an ISO timestamp in UTC" };
    if !is_iso_date(text) || !text.is_ascii() {
        return Err(malformed);
    }
    let (era, rest): (&[u8], _) = match text.strip_suffix(b" BC") {
        Some(rest) => (b" BC", rest),
        None => (b"", text),
    };
    let rest = rest.strip_suffix(zone).ok_or(malformed)?;
    let space = memchr::memchr(b' ', rest).ok_or(malformed)?;
    let (date, time) = (&rest[..space], &rest[space + 1..]);
    if time.is_empty() || !time.iter().all(|b| matches!(b, b'0'..=b'9' | b':' | b'.')) {
        return Err(malformed);
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
    use super::*;

    fn json(type_oid: u32, text: &str) -> Result<String, ValueError> {
        let mut out = Vec::new();
        supported(type_oid).unwrap().write(text.as_bytes(), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
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
            (3802, ""),
        ] {
            assert!(matches!(json(oid, text), Err(ValueError::Malformed { .. })), "{oid} {text}");
        }
    }

    #[test]
    fn bytes_that_are_no_utf8_are_an_error() {
        for oid in [25, 114, 3802, 1009] {
            let mut out = Vec::new();
            let written = supported(oid).unwrap().write(b"{\"\xff\"}", &mut out);
            assert_eq!(written, Err(ValueError::NotUtf8), "{oid}");
        }
    }

    #[test]
    fn what_jsonb_cannot_hold_is_kept_as_text() {
        let mut out = Vec::new();
        let written = Scalar::Json.write(br#"{"a":"\u0000"}"#, &mut out);
        assert_eq!(written, Ok(Written::KeptAsText));
        assert_eq!(out, br#""{\"a\":\"\\u0000\"}""#);
    }

    #[test]
    fn names_are_those_of_format_type() {
        assert_eq!(type_name(1042), Some("character"));
        assert_eq!(type_name(1020), Some("box[]"));
        assert_eq!(type_name(22), None, "int2vector");
        assert_eq!(supported(1020), Some(Kind::Array { element: Scalar::Text, delimiter: b';' }));
    }
}
