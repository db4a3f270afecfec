//! The text of an array (PostgreSQL documentation, "Array Input and Output Syntax") as nested JSON arrays.
//!
//! Lower bounds are dropped, as `to_jsonb` drops them.

use crate::kind::{ArrayKind, Kind};
use crate::quoted;
use crate::value::{Refusal, Target};

/// PostgreSQL's `MAXDIM`.
const DIMENSIONS_MAX: usize = 6;

const MALFORMED: Refusal = Refusal::Malformed { expected: "an array" };

/// Writes the JSON of an array's text. After an error, what was written is to be thrown away.
pub(crate) fn write(text: &[u8], array: &ArrayKind, target: &mut Target<'_>) -> Result<(), Refusal> {
    let mut rest = without_bounds(text)?;
    let mut depth = 0usize;
    let mut place = Place::Value;
    loop {
        let (&byte, after) = rest.split_first().ok_or(MALFORMED)?;
        match (place, byte) {
            (Place::Value | Place::First, b'{') if depth < DIMENSIONS_MAX => {
                depth += 1;
                target.out.push(b'[');
                (place, rest) = (Place::First, after);
            }
            (Place::First | Place::AfterValue, b'}') => {
                depth -= 1;
                target.out.push(b']');
                if depth == 0 {
                    return if after.is_empty() { Ok(()) } else { Err(MALFORMED) };
                }
                (place, rest) = (Place::AfterValue, after);
            }
            (Place::AfterValue, byte) if byte == array.delimiter => {
                target.out.push(b',');
                (place, rest) = (Place::Value, after);
            }
            (Place::Value | Place::First, _) if depth > 0 => {
                target.check_end()?;
                rest = write_element(rest, &array.element, array.delimiter, target)?;
                place = Place::AfterValue;
            }
            _ => return Err(MALFORMED),
        }
    }
}

/// Where in the array the next byte is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Just behind an opening brace: a value, or the end of an empty array.
    First,
    Value,
    AfterValue,
}

/// Takes off `[0:2][1:1]=`, which stands before arrays that do not begin at 1.
fn without_bounds(text: &[u8]) -> Result<&[u8], Refusal> {
    if text.first() != Some(&b'[') {
        return Ok(text);
    }
    let end = memchr::memchr(b'=', text).ok_or(MALFORMED)?;
    let bounds = &text[..end];
    let plain =
        bounds.ends_with(b"]") && bounds.iter().all(|b| matches!(b, b'0'..=b'9' | b'-' | b':' | b'[' | b']'));
    if plain { Ok(&text[end + 1..]) } else { Err(MALFORMED) }
}

/// Writes one element, and returns what follows it.
fn write_element<'a>(
    text: &'a [u8],
    element: &Kind,
    delimiter: u8,
    target: &mut Target<'_>,
) -> Result<&'a [u8], Refusal> {
    if let Some(inside) = text.strip_prefix(b"\"") {
        let (quoted, after) = quoted::read(inside, false).ok_or(MALFORMED)?;
        element.write(&quoted, target)?;
        return Ok(after);
    }
    let end = text.iter().position(|b| *b == delimiter || *b == b'}').ok_or(MALFORMED)?;
    let (bare, after) = text.split_at(end);
    match bare {
        b"NULL" => target.out.extend_from_slice(b"null"),
        bare if bare.is_empty() || bare.iter().any(|b| matches!(b, b'"' | b'\\' | b'{')) => {
            return Err(MALFORMED);
        }
        bare => element.write(bare, target)?,
    }
    Ok(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::kind::Scalar;
    use proptest::prelude::*;

    fn json_of(text: &str, element: Kind, delimiter: u8) -> Result<String, Refusal> {
        let mut out = Vec::new();
        write(text.as_bytes(), &ArrayKind { element, delimiter }, &mut Target::new(&mut out, false))?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn json(text: &str, element: Scalar, delimiter: u8) -> Result<String, Refusal> {
        json_of(text, Kind::Scalar(element), delimiter)
    }

    #[test]
    fn an_element_can_be_an_array() {
        // Of a domain over an array.
        let element = Kind::Array(Arc::new(ArrayKind { element: Kind::TEXT, delimiter: b',' }));
        let text = r#"{"{a,\"b c\",\"\\\"\"}","{}",NULL,"{{1},{NULL}}"}"#;
        let expected = r#"[["a","b c","\""],[],null,[["1"],[null]]]"#;
        assert_eq!(json_of(text, element, b',').as_deref(), Ok(expected));
    }

    #[test]
    fn arrays_become_nested_arrays() {
        for (text, expected) in [
            ("{}", "[]"),
            ("{1,NULL,3}", "[1,null,3]"),
            ("[0:2]={1,NULL,3}", "[1,null,3]"),
            ("{{1,2},{3,NULL}}", "[[1,2],[3,null]]"),
            ("[1:2][0:1]={{1,2},{3,NULL}}", "[[1,2],[3,null]]"),
            ("{{{{{{1}}}}}}", "[[[[[[1]]]]]]"),
            ("{NaN,1e+20}", "[\"NaN\",1e+20]"),
        ] {
            assert_eq!(json(text, Scalar::Number, b',').as_deref(), Ok(expected), "{text}");
        }
        let strings = r#"{"a,b","NULL",NULL,"q\"\\x"," ",é,""}"#;
        assert_eq!(
            json(strings, Scalar::Text, b',').as_deref(),
            Ok(r#"["a,b","NULL",null,"q\"\\x"," ","é",""]"#)
        );
        assert_eq!(
            json("{(1,2),(0,0);(3,4),(1,1)}", Scalar::Text, b';').as_deref(),
            Ok(r#"["(1,2),(0,0)","(3,4),(1,1)"]"#)
        );
        assert_eq!(json(r#"{"{\"a\":1}","[1,2]"}"#, Scalar::Json, b',').as_deref(), Ok(r#"[{"a":1},[1,2]]"#));
    }

    #[test]
    fn refuses_what_is_not_an_array() {
        for text in [
            "",
            "1",
            "{",
            "}",
            "{1",
            "{1,",
            "{1,}",
            "{,1}",
            "{1}2",
            "{1}}",
            "{{1}",
            "{1 {2}}",
            "{\"1}",
            "{\"1\\",
            "{\"1\"2}",
            "[0:1]",
            "[0:1={1}",
            "{{{{{{{1}}}}}}}",
            "{1;2}",
        ] {
            assert!(json(text, Scalar::Number, b',').is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_json(text in "[\\[\\]{}\",;\\\\a1=:N\u{e9} ]{0,24}") {
            if let Ok(written) = json(&text, Scalar::Text, b',') {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&written).is_ok(), "{}", written);
            }
        }

        #[test]
        fn elements_survive(elements: Vec<String>) {
            prop_assume!(!elements.is_empty());
            let quoted: Vec<String> =
                elements.iter().map(|e| format!("\"{}\"", e.replace('\\', "\\\\").replace('"', "\\\""))).collect();
            let written = json(&format!("{{{}}}", quoted.join(",")), Scalar::Text, b',').unwrap();
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&written).unwrap(), elements);
        }
    }
}
