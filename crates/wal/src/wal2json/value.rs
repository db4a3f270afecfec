//! From a value as wal2json prints it to the type's text form, which is what pgoutput sends.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::json;

/// Object ids of the types that are not printed as a string of their text. A domain over one of them is printed as one.
mod oid {
    pub(super) const BOOL: u32 = 16;
    pub(super) const BYTEA: u32 = 17;
    /// int8, int2, int4, oid, float4, float8, numeric.
    pub(super) const NUMBERS: &[u32] = &[20, 21, 23, 26, 700, 701, 1700];
}

/// The text of a value; `None` for NULL, and for NaN and infinities where numbers are printed as numbers.
///
/// # Errors
/// When the value is not printed as its type is: what it should have been.
pub(super) fn text<'a>(type_oid: u32, printed: &'a RawValue) -> Result<Option<Cow<'a, str>>, &'static str> {
    let printed = printed.get();
    Ok(Some(match (type_oid, printed) {
        (_, "null") => return Ok(None),
        (oid::BOOL, "true") => "t".into(),
        (oid::BOOL, "false") => "f".into(),
        (oid::BOOL, _) => return Err("a boolean"),
        (oid::BYTEA, _) => {
            let digits =
                string(printed).filter(|digits| is_hex(digits)).ok_or("bytea in hexadecimal form")?;
            format!("\\x{digits}").into()
        }
        (number, _) if oid::NUMBERS.contains(&number) => number_text(printed).ok_or("a number")?,
        _ => string(printed).ok_or("a string")?,
    }))
}

/// As a JSON number, or with option `numeric-data-types-as-string` as a string.
fn number_text(printed: &str) -> Option<Cow<'_, str>> {
    if json::is_number(printed.as_bytes()) {
        return Some(printed.into());
    }
    let special = |text: &str| matches!(text, "NaN" | "Infinity" | "-Infinity");
    string(printed).filter(|text| json::is_number(text.as_bytes()) || special(text))
}

fn is_hex(digits: &str) -> bool {
    digits.len().is_multiple_of(2) && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A string without zero characters, which no text of PostgreSQL has.
fn string(printed: &str) -> Option<Cow<'_, str>> {
    // Most strings have no escapes and need no copy.
    let text = match serde_json::from_str::<&str>(printed) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(serde_json::from_str(printed).ok()?),
    };
    (!text.contains('\0')).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn convert(type_oid: u32, printed: &str) -> Result<Option<String>, &'static str> {
        let raw: &RawValue = serde_json::from_str(printed).unwrap();
        text(type_oid, raw).map(|text| text.map(Cow::into_owned))
    }

    #[test]
    fn values_get_back_the_text_of_their_type() {
        // The left as wal2json 2.5 prints it, but for numbers in quotes, as which 2.6 prints them where it is asked to.
        for (type_oid, printed, expected) in [
            (23, "-2", "-2"),
            (20, "9007199254740993", "9007199254740993"),
            (26, "4000000000", "4000000000"),
            (700, "1e-07", "1e-07"),
            (701, "1e+300", "1e+300"),
            (701, "-0", "-0"),
            (1700, "12345678901234567890.0100", "12345678901234567890.0100"),
            (1700, "\"1.50\"", "1.50"),
            (701, "\"-Infinity\"", "-Infinity"),
            (1700, "\"NaN\"", "NaN"),
            (16, "true", "t"),
            (16, "false", "f"),
            (17, "\"00ff\"", "\\x00ff"),
            (17, "\"\"", "\\x"),
            (25, r#""a\"b\\c\n\té\u0001""#, "a\"b\\c\n\té\u{1}"),
            (25, "\"\"", ""),
            (18, "\"x\"", "x"),
            (114, r#""{\"a\": 1.0}""#, "{\"a\": 1.0}"),
            (1022, "\"{NaN,Infinity,1.5}\"", "{NaN,Infinity,1.5}"),
            (1000, "\"{t,f}\"", "{t,f}"),
            // Domains over numeric, bool, bytea, float8.
            (16_402, "\"1.50\"", "1.50"),
            (16_404, "\"t\"", "t"),
            (16_406, "\"\\\\x01\"", "\\x01"),
            (16_408, "\"NaN\"", "NaN"),
        ] {
            assert_eq!(convert(type_oid, printed), Ok(Some(expected.to_owned())), "{type_oid} {printed}");
        }
        for type_oid in [16, 17, 23, 25, 1700, 16_400] {
            assert_eq!(convert(type_oid, "null"), Ok(None));
        }
    }

    #[test]
    fn what_is_not_printed_as_its_type_is_an_error() {
        for (type_oid, printed, expected) in [
            (16, "\"t\"", "a boolean"),
            (16, "1", "a boolean"),
            (17, "\"000\"", "bytea in hexadecimal form"),
            // What is left of bytea_output = escape.
            (17, "\"00\\\\377\"", "bytea in hexadecimal form"),
            (17, "12", "bytea in hexadecimal form"),
            (23, "true", "a number"),
            (23, "\"\"", "a number"),
            (701, "\"nan\"", "a number"),
            (25, "1", "a string"),
            (25, "[]", "a string"),
            (25, "\"\\ud800\"", "a string"),
            (25, "\"a\\u0000\"", "a string"),
            (3802, "{\"a\":1}", "a string"),
        ] {
            assert_eq!(convert(type_oid, printed), Err(expected), "{type_oid} {printed}");
        }
    }

    proptest! {
        #[test]
        fn any_text_reads_back(expected in "[^\\x00]*") {
            let mut printed = Vec::new();
            json::write_string(expected.as_bytes(), &mut printed);
            let printed = String::from_utf8(printed).unwrap();
            prop_assert_eq!(convert(25, &printed), Ok(Some(expected)));
        }

        #[test]
        fn any_bytes_read_back(bytes: Vec<u8>) {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(convert(17, &format!("\"{digits}\"")), Ok(Some(format!("\\x{digits}"))));
        }

        #[test]
        fn any_double_reads_back(number: f64) {
            let printed = format!("{number:e}");
            if number.is_finite() {
                prop_assert_eq!(convert(701, &printed), Ok(Some(printed)));
            }
        }
    }
}
