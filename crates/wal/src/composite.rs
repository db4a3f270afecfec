//! The text of a composite value (PostgreSQL documentation, "Composite Type Input and Output Syntax") as a JSON object.

use crate::kind::{CompositeKind, Kind};
use crate::value::{Refusal, Target};
use crate::{json, quoted};

/// Writes the JSON of a composite's text. After an error, what was written is to be thrown away.
///
/// Nothing in the stream tells when a composite type is altered, so a text that does not fit the definition is of another
/// one: that may be more or fewer fields, or one that cannot be read as its type.
pub(crate) fn write(text: &[u8], composite: &CompositeKind, target: &mut Target<'_>) -> Result<(), Refusal> {
    let mut rest = text.strip_prefix(b"(").ok_or(Refusal::OtherDefinition)?;
    let mut separator = b'{';
    for field in &composite.fields {
        if separator == b',' {
            rest = rest.strip_prefix(b",").ok_or(Refusal::OtherDefinition)?;
        }
        target.check_end()?;
        target.out.push(separator);
        separator = b',';
        json::write_string(field.name.as_bytes(), target.out);
        target.out.push(b':');
        rest = write_field(rest, &field.kind, target)?;
    }
    if separator == b'{' {
        target.out.push(b'{');
    }
    target.out.push(b'}');
    if rest == b")" { Ok(()) } else { Err(Refusal::OtherDefinition) }
}

/// Writes one field, and returns what follows it. Nothing is NULL; an empty text is quoted.
fn write_field<'a>(text: &'a [u8], kind: &Kind, target: &mut Target<'_>) -> Result<&'a [u8], Refusal> {
    let of_this_definition = |refusal| match refusal {
        Refusal::Malformed { .. } => Refusal::OtherDefinition,
        other => other,
    };
    if let Some(inside) = text.strip_prefix(b"\"") {
        let (field, rest) = quoted::read(inside, true).ok_or(Refusal::OtherDefinition)?;
        kind.write(&field, target).map_err(of_this_definition)?;
        return Ok(rest);
    }
    let end = text.iter().position(|b| matches!(b, b',' | b')')).ok_or(Refusal::OtherDefinition)?;
    let (field, rest) = text.split_at(end);
    match field {
        b"" => target.out.extend_from_slice(b"null"),
        field if field.iter().any(|b| matches!(b, b'"' | b'\\' | b'(')) => {
            return Err(Refusal::OtherDefinition);
        }
        field => kind.write(field, target).map_err(of_this_definition)?,
    }
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::kind::{ArrayKind, Field, Scalar};

    fn definition(kinds: &[Kind]) -> CompositeKind {
        let field = |(name, kind): (char, &Kind)| Field {
            number: 1,
            name: name.into(),
            type_name: "t".into(),
            kind: kind.clone(),
        };
        CompositeKind { type_oid: 16_400, fields: ('a'..).zip(kinds).map(field).collect() }
    }

    fn json(text: &str, definition: &CompositeKind) -> Result<String, Refusal> {
        let mut out = Vec::new();
        write(text.as_bytes(), definition, &mut Target::new(&mut out, false))?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn composites_become_objects() {
        let texts = definition(&[Kind::TEXT, Kind::TEXT, Kind::TEXT, Kind::TEXT]);
        for (text, expected) in [
            (r#"(a,"b ""c""\\",,)"#, r#"{"a":"a","b":"b \"c\"\\","c":null,"d":null}"#),
            (r#"("","(,)",NULL,é)"#, r#"{"a":"","b":"(,)","c":"NULL","d":"é"}"#),
            ("(,,,)", r#"{"a":null,"b":null,"c":null,"d":null}"#),
        ] {
            assert_eq!(json(text, &texts).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(json("()", &definition(&[])).as_deref(), Ok("{}"));
        assert_eq!(json("()", &definition(&[Kind::TEXT])).as_deref(), Ok(r#"{"a":null}"#));
        let inner = Kind::Composite(Arc::new(definition(&[Kind::Scalar(Scalar::Number), Kind::TEXT])));
        let inners = Kind::Array(Arc::new(ArrayKind { element: inner.clone(), delimiter: b',' }));
        assert_eq!(
            json(r#"("(1,""x y"")","{""(2,)"",NULL,""(,\\""\\"")""}")"#, &definition(&[inner, inners]))
                .as_deref(),
            Ok(r#"{"a":{"a":1,"b":"x y"},"b":[{"a":2,"b":null},null,{"a":null,"b":""}]}"#)
        );
    }

    #[test]
    fn a_text_of_another_definition_is_refused() {
        let pair = definition(&[Kind::Scalar(Scalar::Number), Kind::TEXT]);
        for text in [
            "",
            "(",
            ")",
            "()",
            "(1)",
            "(1,a,)",
            "(1,a",
            "(1,a)x",
            "(1,\"a)",
            "(1,\"a\\",
            "(1,\"a\"b)",
            "(1,a\"b)",
            "(x,a)",
            "1,a",
        ] {
            assert_eq!(json(text, &pair), Err(Refusal::OtherDefinition), "{text}");
        }
        assert_eq!(json("(a)", &definition(&[])), Err(Refusal::OtherDefinition));
    }

    proptest! {
        #[test]
        fn what_is_written_is_json(text in "[(),\"\\\\a1\u{e9} ]{0,24}") {
            if let Ok(written) = json(&text, &definition(&[Kind::TEXT, Kind::TEXT])) {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&written).is_ok(), "{}", written);
            }
        }
    }
}
