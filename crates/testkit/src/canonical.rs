//! JSON texts that are equal exactly when PostgreSQL's jsonb values are.
//!
//! A parsed `serde_json::Value` would lose digits of big numbers, and a feature of serde_json that keeps them would change
//! every other crate of the build. So this works on text: keys sorted, no blanks, one form for each string and number.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// The canonical form of a JSON text: `{"b": 1.0, "a": 1e1}` becomes `{"a":1e1,"b":1}`.
///
/// Numbers are written as their significant digits and a power of ten, because jsonb compares them as numbers
/// (`1.0 = 1.00`) although it prints them as they were given.
pub fn canonical(text: &str) -> Result<String, serde_json::Error> {
    let text = text.trim();
    let mut out = String::with_capacity(text.len());
    write(text, &mut out)?;
    Ok(out)
}

/// The members of a JSON object, each in canonical form.
pub(crate) fn members(text: &str) -> Result<BTreeMap<String, String>, serde_json::Error> {
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text)?;
    members.into_iter().map(|(name, value)| Ok((name, canonical(value.get())?))).collect()
}

/// The opposite of [`members`].
pub(crate) fn object(members: &BTreeMap<String, String>) -> String {
    let mut out = String::from("{");
    for (name, value) in members {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(&serde_json::Value::from(name.as_str()).to_string());
        out.push(':');
        out.push_str(value);
    }
    out.push('}');
    out
}

fn write(text: &str, out: &mut String) -> Result<(), serde_json::Error> {
    match text.as_bytes().first() {
        Some(b'{') => out.push_str(&object(&members(text)?)),
        Some(b'[') => {
            out.push('[');
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            for (index, item) in items.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item.get(), out)?;
            }
            out.push(']');
        }
        Some(b'-' | b'0'..=b'9') => {
            // Checks the syntax without looking at the value.
            let number: &RawValue = serde_json::from_str(text)?;
            out.push_str(&number_form(number.get()));
        }
        _ => out.push_str(&serde_json::from_str::<serde_json::Value>(text)?.to_string()),
    }
    Ok(())
}

/// `-0012.500e3` as `-125e2`; every zero as `0`.
fn number_form(text: &str) -> String {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let significant = all.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return "0".into();
    }
    let dropped = all.len() - all.trim_end_matches('0').len();
    let exponent: i64 = exponent.parse().unwrap_or(i64::MAX / 2);
    match exponent + dropped as i64 - fraction.len() as i64 {
        0 => format!("{sign}{significant}"),
        power => format!("{sign}{significant}e{power}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(canonical(text).unwrap(), expected, "{text}");
    }

    #[test]
    fn one_form_for_equal_values() {
        check(r#" { "b" : [ 1 , null ] , "a" : { } } "#, r#"{"a":{},"b":[1,null]}"#);
        check(r#"{"a":1,"a":2}"#, r#"{"a":2}"#);
        check(r#""\u00e9\/\n""#, "\"é/\\n\"");
        check(r#"{"é\"":true}"#, r#"{"é\"":true}"#);
    }

    #[test]
    fn numbers_keep_every_digit() {
        check("9007199254740993", "9007199254740993");
        check("0.1000000000000000055511151231257827", "1000000000000000055511151231257827e-34");
        check("-1.50", "-15e-1");
        check("1e400", "1e400");
        for zero in ["0", "-0", "0.00", "0e9"] {
            check(zero, "0");
        }
        for ten in ["10", "1e1", "10.0", "0.1E+2", "100e-1"] {
            check(ten, "1e1");
        }
    }

    #[test]
    fn what_is_not_json_is_an_error() {
        for text in ["", "{", "01", "1.", "[1,]", "nul", "\"\u{1}\""] {
            assert!(canonical(text).is_err(), "{text}");
        }
    }
}
