//! The text of one value becomes JSON, whole: as `to_jsonb` prints it, or, where jsonb cannot hold that, as something
//! that it can, and flagged.
//!
//! Holds for the text that PostgreSQL sends under pinned settings: `DateStyle` ISO, `TimeZone` UTC, `bytea_output` hex,
//! `extra_float_digits` 1 or more. Where the text shows that a setting differs, that is an error, not a wrong value.

use crate::kind::Kind;
use crate::{array, composite, hstore, json, jsonb};

/// The text of a value is not what its type prints under the pinned settings, or too long. Never says the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The text has another form than its type's.
    #[error("not {expected}")]
    Malformed {
        /// What it should have been.
        expected: &'static str,
    },
    /// No jsonb holds it.
    #[error("{bytes} bytes of text, more than jsonb holds of it")]
    TooLong {
        /// Bytes of its text.
        bytes: usize,
    },
}

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Faithful,
    /// It is not what `to_jsonb` gives, because jsonb cannot hold that.
    Flagged,
}

/// Why a value cannot be written as its kind wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The text is not UTF-8: the source's database has no encoding.
    NotUtf8,
    /// The text is of another definition of the composite type than the one known (nothing tells when one is altered), or
    /// nested too deep.
    OtherDefinition,
    /// The text has not the form of its type.
    Malformed {
        /// What it should have been.
        expected: &'static str,
    },
    /// No jsonb holds it.
    TooLong,
}

/// Where a value is written to.
pub(crate) struct Target<'a> {
    pub(crate) out: &'a mut Vec<u8>,
    /// See [`ValuePolicy::ascii_escapes_only`](crate::ValuePolicy).
    pub(crate) ascii_escapes_only: bool,
    /// A json value within was written as a string of its text.
    pub(crate) kept_as_text: bool,
    end_max: usize,
    depth: usize,
}

impl<'a> Target<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>, ascii_escapes_only: bool) -> Self {
        let end_max = out.len().saturating_add(jsonb::JSON_BYTES_MAX);
        Target { out, ascii_escapes_only, kept_as_text: false, end_max, depth: 0 }
    }

    fn nested(&mut self, write: impl FnOnce(&mut Self) -> Result<(), Refusal>) -> Result<(), Refusal> {
        if self.depth == Kind::DEPTH_MAX {
            return Err(Refusal::OtherDefinition);
        }
        self.depth += 1;
        let result = write(self);
        self.depth -= 1;
        result
    }

    /// Stops a value whose JSON grows beyond what jsonb is made of: a short text of a composite can become a long one.
    pub(crate) fn check_end(&self) -> Result<(), Refusal> {
        if self.out.len() > self.end_max { Err(Refusal::TooLong) } else { Ok(()) }
    }
}

/// Writes a value's JSON. After an error, what was written is to be thrown away.
pub(crate) fn write(
    kind: &Kind,
    text: &[u8],
    ascii_escapes_only: bool,
    out: &mut Vec<u8>,
) -> Result<Written, ValueError> {
    let start = out.len();
    let mut target = Target::new(out, ascii_escapes_only);
    let refusal = match kind.write(text, &mut target) {
        Ok(()) => return Ok(if target.kept_as_text { Written::Flagged } else { Written::Faithful }),
        Err(refusal) => refusal,
    };
    out.truncate(start);
    let too_long = ValueError::TooLong { bytes: text.len() };
    match refusal {
        Refusal::Malformed { expected } => return Err(ValueError::Malformed { expected }),
        Refusal::TooLong => return Err(too_long),
        Refusal::OtherDefinition if std::str::from_utf8(text).is_ok() => {
            if !jsonb::can_hold_string(text) {
                return Err(too_long);
            }
            json::write_string(text, out);
        }
        Refusal::OtherDefinition | Refusal::NotUtf8 => {
            if text.len() > jsonb::STRING_BYTES_MAX / 2 - 1 {
                return Err(too_long);
            }
            json::write_hex_string(text, out);
        }
    }
    Ok(Written::Flagged)
}

impl Kind {
    /// Writes the JSON of a value's text, as far as the kind goes: what may be written instead, [`write`] knows.
    pub(crate) fn write(&self, text: &[u8], target: &mut Target<'_>) -> Result<(), Refusal> {
        match self {
            Kind::Scalar(scalar) => scalar.write(text, target),
            Kind::Array(array) => target.nested(|target| array::write(text, array, target)),
            Kind::Composite(composite) => target.nested(|target| composite::write(text, composite, target)),
            Kind::Hstore => target.nested(|target| hstore::write(text, target)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kind::{ArrayKind, CompositeKind, Field, Scalar};

    fn json(kind: &Kind, text: &[u8]) -> (String, Written) {
        let mut out = b"before".to_vec();
        let written = super::write(kind, text, false, &mut out).unwrap();
        (String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned(), written)
    }

    fn array(element: Kind) -> Kind {
        Kind::Array(Arc::new(ArrayKind { element, delimiter: b',' }))
    }

    fn composite(kinds: &[Kind]) -> Kind {
        let field = |(number, kind): (i16, &Kind)| Field {
            number,
            name: format!("f{number}"),
            type_name: "t".into(),
            kind: kind.clone(),
        };
        let fields = (1..).zip(kinds).map(field).collect();
        Kind::Composite(Arc::new(CompositeKind { type_oid: 16_400, fields }))
    }

    #[test]
    fn bytes_that_are_no_utf8_are_hexadecimal_and_flagged() {
        let pair = composite(&[Kind::TEXT, Kind::TEXT]);
        for (kind, text) in [
            (Kind::TEXT, &b"a\xff"[..]),
            (Kind::Scalar(Scalar::Json), b"{\"\xff\":1}"),
            (array(Kind::TEXT), b"{a,\xe9}"),
            (pair.clone(), b"(a,\xe9)"),
            (pair, b"\xe9"),
            (Kind::Hstore, b"\"\xe9\"=>NULL"),
        ] {
            let hex: String = text.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(json(&kind, text), (format!(r#""\\x{hex}""#), Written::Flagged));
        }
    }

    #[test]
    fn a_composite_of_another_definition_is_the_whole_text() {
        let pair = composite(&[Kind::Scalar(Scalar::Number), Kind::TEXT]);
        for text in ["(1)", "(1,a,)", "(x,a)", "()", "", "1,a"] {
            assert_eq!(json(&pair, text.as_bytes()), (format!("\"{text}\""), Written::Flagged));
        }
        let expected = r#""{\"(1,a)\",\"(1)\"}""#.to_owned();
        assert_eq!(json(&array(pair), br#"{"(1,a)","(1)"}"#), (expected, Written::Flagged));
    }

    #[test]
    fn a_json_value_within_is_a_string_alone() {
        let kind = composite(&[Kind::Scalar(Scalar::Json), Kind::Scalar(Scalar::Number)]);
        let expected = r#"{"f1":"\"\\u0000\"","f2":1}"#.to_owned();
        assert_eq!(json(&kind, br#"("""\\u0000""",1)"#), (expected, Written::Flagged));
    }

    #[test]
    fn what_is_nested_too_deep_is_refused() {
        // A text that really is so deep has 2^30 bytes: each level doubles the quotes within.
        let mut out = Vec::new();
        let mut target = Target { depth: Kind::DEPTH_MAX - 1, ..Target::new(&mut out, false) };
        let pair = composite(&[Kind::TEXT, composite(&[Kind::TEXT])]);
        assert_eq!(pair.write(b"(a,)", &mut target), Ok(()));
        assert_eq!(pair.write(b"(a,\"(b)\")", &mut target), Err(Refusal::OtherDefinition));
    }
}
