//! A row's key as a path names it, in the form that history has it: a compact JSON array of the key's values.

use std::borrow::Cow;

use serde_json::value::RawValue;
use waldelta_wal::{Code, Column, Kind, Scalar, Table};

use crate::http::problem::Problem;
use crate::wire::json;

/// Values of a key at most: no index has more columns.
const VALUES_MAX: usize = 32;

/// `real` and `double precision`, fixed in pg_type.dat.
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;

/// Reads `[7,"a"]`, or `7` and `a` where the table's key is one column. Numbers are taken as they stand: `1.50` is not `1.5`; but
/// those of floats in any notation.
pub(super) fn parse(text: &str, table: &Table) -> Result<String, Problem> {
    let columns: Vec<_> = table.key.iter().map(|index| table.columns.get(usize::from(*index))).collect();
    if columns.is_empty() {
        return Err(invalid(format!("{} has no key: its rows have no history of their own", table.name)));
    }
    if text.starts_with('[')
        && let Ok(values) = serde_json::from_str::<Vec<&RawValue>>(text)
    {
        // More or fewer than the key has now: those of an earlier shape.
        let of_column = |index: usize| columns.get(index).copied().flatten();
        let values = values.iter().enumerate();
        return match values.len() {
            1..=VALUES_MAX => Ok(array(values.map(|(index, value)| written(value.get(), of_column(index))))),
            _ => Err(invalid(format!("a key has 1 to {VALUES_MAX} values"))),
        };
    }
    let [Some(column)] = columns[..] else {
        return Err(invalid("the key has several columns: name it by a JSON array of their values"));
    };
    let is_json = serde_json::from_str::<&RawValue>(text).is_ok_and(|value| value.get() == text);
    let value = match column.kind {
        Kind::Scalar(Scalar::Number | Scalar::Bool | Scalar::Json | Scalar::Jsonb) | Kind::Composite(_)
            if is_json =>
        {
            written(text, Some(column))
        }
        _ if is_json && text.starts_with('"') => written(text, Some(column)),
        _ => Cow::Owned(quoted(text)),
    };
    Ok(array([value].into_iter()))
}

fn array<'a>(values: impl Iterator<Item = Cow<'a, str>>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(","))
}

/// A value as history writes it: clients may escape characters of a string in other ways, get large numbers as strings, and
/// print floats as their language does.
fn written<'a>(value: &'a str, column: Option<&Column>) -> Cow<'a, str> {
    let is_number = column.is_some_and(|column| matches!(column.kind, Kind::Scalar(Scalar::Number)));
    let value = match json::string(value.as_bytes()) {
        Some(text) if is_number && is_number_text(&text) => text,
        Some(text) => return Cow::Owned(quoted(&text)),
        None => Cow::Borrowed(value),
    };
    let digits = match column.map(|column| column.type_oid) {
        Some(FLOAT4) => 6,
        Some(FLOAT8) => 15,
        _ => return value,
    };
    notation(&value, digits).map_or(value, Cow::Owned)
}

fn is_number_text(text: &str) -> bool {
    text.starts_with(|first: char| first == '-' || first.is_ascii_digit())
        && serde_json::from_str::<&RawValue>(text).is_ok_and(|value| value.get() == text)
}

/// A JSON number in the notation in which PostgreSQL prints floats: with an exponent below 0.0001, and from so many digits before
/// the point on. Its digits stay.
fn notation(number: &str, digits_max: i32) -> Option<String> {
    let (sign, number) = match number.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", number),
    };
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let digits = all.trim_start_matches('0');
    let zeros = all.len() - digits.len();
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() {
        return Some(format!("{sign}0"));
    }
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    // Of the first digit.
    let places = i32::try_from(whole.len()).ok()? - i32::try_from(zeros).ok()?;
    let exponent = exponent.parse::<i32>().ok()?.checked_add(places)?.checked_sub(1)?;
    let (first, rest) = digits.split_at(1);
    Some(match usize::try_from(exponent) {
        Ok(before) if exponent < digits_max => match rest.split_at_checked(before) {
            Some((before, "")) => format!("{sign}{first}{before}"),
            Some((before, after)) => format!("{sign}{first}{before}.{after}"),
            None => format!("{sign}{digits:0<width$}", width = before + 1),
        },
        Err(_) if exponent >= -4 => {
            let zeros = usize::try_from(-exponent - 1).ok()?;
            format!("{sign}0.{:0<zeros$}{digits}", "")
        }
        _ => {
            let point = if rest.is_empty() { "" } else { "." };
            format!(
                "{sign}{first}{point}{rest}e{}{:02}",
                if exponent < 0 { '-' } else { '+' },
                exponent.abs()
            )
        }
    })
}

fn quoted(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    json::write_string(&mut out, text);
    String::from_utf8_lossy(&out).into_owned()
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::bad_request(Code::RequestInvalid, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::table;

    #[test]
    fn a_key_is_read_in_every_form_that_a_client_may_write_it_in() {
        // `id integer`, `v text`
        let by_id = table("t");
        let by_text = Table { key: vec![1], ..table("t") };
        let by_both = Table { key: vec![0, 1], ..table("t") };
        for (table, text, key) in [
            (&by_id, "7", "[7]"),
            (&by_id, "[7]", "[7]"),
            (&by_id, "[ 7 ]", "[7]"),
            (&by_id, "-9007199254740993", "[-9007199254740993]"),
            (&by_id, "NaN", "[\"NaN\"]"),
            (&by_text, "7", "[\"7\"]"),
            (&by_text, "ü/\"", "[\"ü/\\\"\"]"),
            (&by_text, "\"\\u00fc\\u002f\"", "[\"ü/\"]"),
            (&by_text, "[\"\\u00fc\"]", "[\"ü\"]"),
            (&by_text, "[x", "[\"[x\"]"),
            (&by_both, "[7, \"a,\\n\"]", "[7,\"a,\\n\"]"),
            // As one who asked for large numbers as strings has it.
            (&by_id, "[\"7\"]", "[7]"),
            (&by_id, "\"7\"", "[7]"),
            (&by_text, "[\"7\"]", "[\"7\"]"),
            // An earlier shape's.
            (&by_id, "[7,\"a\"]", "[7,\"a\"]"),
        ] {
            assert_eq!(parse(text, table).as_deref(), Ok(key), "{text}");
        }
        let float = |type_oid| {
            let mut table = table("t");
            table.columns[0].type_oid = type_oid;
            table
        };
        for (type_oid, text, key) in [
            (FLOAT8, "100000000000000000000", "[1e+20]"),
            (FLOAT8, "[1E20]", "[1e+20]"),
            (FLOAT8, "\"-0.00001250\"", "[-1.25e-05]"),
            (FLOAT4, "1000000", "[1e+06]"),
            (FLOAT4, "NaN", "[\"NaN\"]"),
            (20, "1e20", "[1e20]"),
        ] {
            assert_eq!(parse(text, &float(type_oid)).as_deref(), Ok(key), "{text}");
        }
        let keyless = Table { key: Vec::new(), ..table("t") };
        for (table, text) in [(&by_both, "7"), (&by_id, "[]"), (&keyless, "7")] {
            assert_eq!(
                parse(text, table).map_err(|problem| problem.code),
                Err(Code::RequestInvalid),
                "{text}"
            );
        }
    }

    #[test]
    fn a_float_has_one_notation() {
        for (number, expected) in [
            ("0", "0"),
            ("-0.0", "-0"),
            ("0e7", "0"),
            ("7", "7"),
            ("1.50", "1.5"),
            ("100", "100"),
            ("1e2", "100"),
            ("12.5e1", "125"),
            ("12.5e-3", "0.0125"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("123456789012345", "123456789012345"),
            ("123456789012345.5", "123456789012345.5"),
            ("1234567890123456", "1.234567890123456e+15"),
            ("1e14", "100000000000000"),
            ("1e+15", "1e+15"),
            ("2.5e-300", "2.5e-300"),
            ("1.7976931348623157E308", "1.7976931348623157e+308"),
        ] {
            assert_eq!(notation(number, 15).as_deref(), Some(expected), "{number}");
            assert_eq!(notation(expected, 15).as_deref(), Some(expected), "{expected}");
        }
        assert_eq!(notation("1e99999999999", 15), None);
    }
}
