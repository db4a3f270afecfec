//! Whether two JSON texts are the same value, as jsonb sees it: whatever the spaces, the escapes, the order of members and
//! the way a number is written. Numbers are compared digit by digit, never as doubles.
//!
//! It reads values that are known to be JSON; on other bytes it says that they differ, unless they are the same bytes.

use std::borrow::Cow;

use super::json::{self, string};
use crate::filter::Decimal;

/// Values that are nested deeper are compared as text.
const DEPTH_MAX: usize = 64;

/// Whether two texts are the same value.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    same_within(a, b, DEPTH_MAX)
}

fn same_within(a: &[u8], b: &[u8], depth: usize) -> bool {
    if a == b {
        return true;
    }
    let Some(depth) = depth.checked_sub(1) else { return false };
    match (a.first(), b.first()) {
        (Some(b'"'), Some(b'"')) => string(a).is_some_and(|a| Some(a) == string(b)),
        (Some(b'['), Some(b'[')) => {
            let (mut a, mut b) = (json::elements(a), json::elements(b));
            loop {
                match (a.next(), b.next()) {
                    (None, None) => return true,
                    (Some(a), Some(b)) if same_within(a, b, depth) => {}
                    _ => return false,
                }
            }
        }
        (Some(b'{'), Some(b'{')) => {
            let (Some(a), Some(b)) = (members(a), members(b)) else { return false };
            let equal = |((a_name, a), (b_name, b)): (&(_, &[u8]), &(_, &[u8]))| {
                a_name == b_name && same_within(a, b, depth)
            };
            a.len() == b.len() && a.iter().zip(&b).all(equal)
        }
        (Some(b'-' | b'0'..=b'9'), Some(b'-' | b'0'..=b'9')) => {
            Decimal::parse(a).is_some_and(|a| Some(a) == Decimal::parse(b))
        }
        _ => false,
    }
}

/// The members of an object by name.
fn members(object: &[u8]) -> Option<Vec<(Cow<'_, str>, &[u8])>> {
    let named = json::members(object).map(|(name, value)| Some((string(name)?, value)));
    let mut all = named.collect::<Option<Vec<_>>>()?;
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_of_one_value_are_the_same_and_others_are_not() {
        for (a, b) in [
            ("1e+20", "100000000000000000000"),
            ("1.5E-07", "0.00000015"),
            ("-0", "0"),
            ("10.50", "10.5"),
            ("[1,2,null]", "[1, 2, null]"),
            ("[[1.0],\"a\"]", "[ [1], \"a\" ]"),
            (r#"{"b":1,"a":[{"x":"\u00e9"}]}"#, r#"{"a": [{"x": "é"}], "b": 1}"#),
            (r#""a\u000ab""#, r#""a\nb""#),
        ] {
            assert!(same(a.as_bytes(), b.as_bytes()) && same(b.as_bytes(), a.as_bytes()), "{a} {b}");
        }
        for (a, b) in [
            ("1", "\"1\""),
            ("1", "-1"),
            ("1", "10"),
            ("0.1", "0.01"),
            ("9007199254740993", "9007199254740992"),
            ("0", "null"),
            ("[1]", "[1,1]"),
            ("[1,2]", "[2,1]"),
            (r#"{"a":1}"#, r#"{"b":1}"#),
            (r#"{"a":1}"#, r#"{"a":1,"b":1}"#),
            (r#""a\nb""#, r#""anb""#),
            ("[]", "{}"),
            ("true", "false"),
        ] {
            assert!(!same(a.as_bytes(), b.as_bytes()) && !same(b.as_bytes(), a.as_bytes()), "{a} {b}");
        }
    }

    #[test]
    fn what_is_nested_without_end_costs_no_stack() {
        let nested = |value: &str| format!("{}{value}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(!same(nested("1").as_bytes(), nested("2").as_bytes()));
    }

    proptest! {
        #[test]
        fn doubles_are_the_same_however_written(value in -1e300f64..1e300) {
            let (short, long) = (format!("{value:e}"), format!("{value}"));
            prop_assert!(same(short.as_bytes(), long.as_bytes()));
        }

        #[test]
        fn any_bytes_end_without_panic(a: Vec<u8>, b: Vec<u8>) {
            let _ = same(&a, &b);
        }
    }
}
