//! What is known of a column's type: how the text of its values becomes JSON, as PostgreSQL's `to_jsonb` would print it.
//!
//! Built-in types are known by their object ids, see [`Kind::builtin`]. What enums, domains, composites and types of
//! extensions are, the source's catalog says; a type that nobody knows is its text. Writing is the business of
//! [`value`](crate::value).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How the values of a column become JSON. A domain is what its base type is. History stores it with the table's shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One value.
    Scalar(Scalar),
    /// An array, of any dimensions: nested JSON arrays.
    Array(Arc<ArrayKind>),
    /// A row within the row: a JSON object.
    Composite(Arc<CompositeKind>),
    /// The extension hstore's type: a JSON object of strings and nulls, as its own cast to json prints it.
    Hstore,
}

/// What an array is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrayKind {
    /// What its elements are: an array again where the element type is a domain over one.
    pub element: Kind,
    /// What stands between two elements in the text: a comma, for `box` a semicolon.
    pub delimiter: u8,
}

/// One version of a composite type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompositeKind {
    /// Object id of the type.
    pub type_oid: u32,
    /// Its attributes, in order, without those that were dropped.
    pub fields: Vec<Field>,
}

/// An attribute of a composite type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its number (`attnum`): its identity through renames.
    pub number: i16,
    /// Its name, unquoted.
    pub name: String,
    /// Its type as `format_type` prints it, without modifier.
    pub type_name: String,
    /// How its values become JSON.
    pub kind: Kind,
}

/// How one value becomes JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// An array of numbers.
    Int2Vector,
    /// An array of strings.
    OidVector,
}

impl Kind {
    /// The text, as a string: what every type is that nothing else is known of.
    pub const TEXT: Self = Kind::Scalar(Scalar::Text);

    /// How many arrays, composites and hstores may lie in each other. What lies deeper is text: a value that has more of
    /// them is a string of its whole text, and flagged. Serde's JSON can still be read at this depth.
    pub const DEPTH_MAX: usize = 30;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_kind_is_read_back_from_json() {
        let field = |kind| Field { number: 1, name: "a".into(), type_name: "public.t".into(), kind };
        let deepest = (0..Kind::DEPTH_MAX).fold(Kind::TEXT, |kind, _| {
            Kind::Composite(Arc::new(CompositeKind { type_oid: 16_400, fields: vec![field(kind)] }))
        });
        let stored = serde_json::to_string(&[[&deepest]]).unwrap();
        assert_eq!(serde_json::from_str::<[[Kind; 1]; 1]>(&stored).unwrap(), [[deepest]]);
    }
}
