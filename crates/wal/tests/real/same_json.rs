//! Equality of JSON as jsonb values: numbers by value in full precision, objects without order.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// Whether two JSON texts are the same jsonb value.
pub(crate) fn same_json(a: &str, b: &str) -> bool {
    let (a, b) = (a.trim(), b.trim());
    match (a.as_bytes()[0], b.as_bytes()[0]) {
        (b'{', b'{') => {
            let [a, b] =
                [a, b].map(|text| serde_json::from_str::<BTreeMap<String, &RawValue>>(text).unwrap());
            a.len() == b.len()
                && a.iter().zip(&b).all(|((ka, va), (kb, vb))| ka == kb && same_json(va.get(), vb.get()))
        }
        (b'[', b'[') => {
            let [a, b] = [a, b].map(|text| serde_json::from_str::<Vec<&RawValue>>(text).unwrap());
            a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| same_json(a.get(), b.get()))
        }
        (b'-' | b'0'..=b'9', b'-' | b'0'..=b'9') => plain_number(a) == plain_number(b),
        (b'"', b'"') => {
            serde_json::from_str::<String>(a).unwrap() == serde_json::from_str::<String>(b).unwrap()
        }
        _ => a == b && matches!(a, "true" | "false" | "null"),
    }
}

/// Sign, digits without zeros around them, and the power of ten of the last digit.
fn plain_number(text: &str) -> (bool, String, i64) {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return (false, String::new(), 0);
    }
    let power = exponent.parse::<i64>().unwrap() - i64::try_from(fraction.len()).unwrap()
        + i64::try_from(digits.len() - significant.len()).unwrap();
    (negative, significant.trim_start_matches('0').to_owned(), power)
}

#[test]
fn equality_is_of_values() {
    for (a, b) in [
        ("1.500", "1.5"),
        ("1e+20", "100000000000000000000"),
        ("-0", "0"),
        ("0.0000001", "1e-07"),
        ("{\"a\":1, \"b\":[true]}", "{\"b\": [true],\"a\":1.0}"),
        (r#""\u00e9""#, "\"é\""),
    ] {
        assert!(same_json(a, b), "{a} {b}");
    }
    for (a, b) in [
        ("1", "-1"),
        ("1", "10"),
        ("1", "\"1\""),
        ("null", "\"null\""),
        ("[1]", "[1,2]"),
        ("{\"a\":1}", "{\"b\":1}"),
        ("9007199254740993", "9007199254740992"),
    ] {
        assert!(!same_json(a, b), "{a} {b}");
    }
}
