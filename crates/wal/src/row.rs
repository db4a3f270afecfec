//! Rows to JSON: an object of all columns, an array of the key's. From the text of the values straight into a buffer.
//!
//! Serves rows of the WAL and of COPY alike, so that a snapshot and the stream cannot print the same value in two ways.

use crate::code::Code;
use crate::json;
use crate::kind::{self, Kind, ValueError, Written};
use crate::relation::UnsupportedType;
use crate::table::Table;

/// One column of a row, as the source sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// NULL.
    Null,
    /// Not sent: unchanged TOAST, or a column that the tuple says nothing about. Never the same as NULL.
    Unchanged,
    /// The value in the type's text form.
    Text(&'a [u8]),
}

/// What a row's JSON does not say by itself. Numbers are indexes into the table's columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowNotes {
    /// Columns absent because they were [`Value::Unchanged`].
    pub unchanged: Vec<u16>,
    /// Columns with a json value that jsonb cannot hold, written as a JSON string of its text.
    pub kept_as_text: Vec<u16>,
}

/// A row cannot be turned into JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A row has more or fewer values than its table has columns.
    #[error("a row of {found} values for {expected} columns")]
    ColumnCount {
        /// Columns of the table.
        expected: usize,
        /// Values of the row.
        found: usize,
    },
    /// The text of a value is not what its type prints under the pinned settings.
    #[error("column {column} cannot be read as {type_name}")]
    Value {
        /// Name of the column.
        column: String,
        /// Its type.
        type_name: String,
        /// What is wrong with it.
        #[source]
        source: ValueError,
    },
    /// The source did not send a column of the key.
    #[error("column {column} of the key was not sent")]
    KeyNotSent {
        /// Name of the column.
        column: String,
    },
}

impl EncodeError {
    /// The stable code that users see.
    pub fn code(&self) -> Code {
        match self {
            EncodeError::Value { source: ValueError::TooLong { .. }, .. } => Code::ValueTooLong,
            EncodeError::Value { .. } => Code::ValueUnreadable,
            EncodeError::ColumnCount { .. } | EncodeError::KeyNotSent { .. } => Code::WalUnreadable,
        }
    }
}

/// Turns the rows of one version of a table into JSON.
#[derive(Clone, Debug)]
pub struct RowEncoder {
    columns: Vec<EncodedColumn>,
    key: Vec<u16>,
    labels_bytes: usize,
}

#[derive(Clone, Debug)]
struct EncodedColumn {
    name: String,
    type_name: String,
    /// `"name":`, escaped.
    label: Vec<u8>,
    kind: Kind,
    identity: bool,
}

impl RowEncoder {
    /// Prepares for the rows of a table.
    ///
    /// # Errors
    /// When a column has a type that is not supported, naming it.
    pub fn new(table: &Table) -> Result<Self, UnsupportedType> {
        let encoded = |column: &crate::table::Column| {
            let kind = kind::supported(column.type_oid).ok_or_else(|| UnsupportedType {
                table: table.name.clone(),
                column: column.name.clone(),
                type_oid: column.type_oid,
                type_name: column.type_name.clone(),
            })?;
            let mut label = Vec::with_capacity(column.name.len() + 3);
            json::write_string(column.name.as_bytes(), &mut label);
            label.push(b':');
            let (name, type_name) = (column.name.clone(), column.type_name.clone());
            Ok(EncodedColumn { name, type_name, label, kind, identity: column.identity })
        };
        let columns = table.columns.iter().map(encoded).collect::<Result<Vec<_>, _>>()?;
        let labels_bytes = columns.iter().map(|column| column.label.len()).sum();
        Ok(RowEncoder { columns, key: table.key.clone(), labels_bytes })
    }

    /// Appends the row as a JSON object, one value for each column of the table, in order. What was not sent is absent.
    ///
    /// # Errors
    /// When a value cannot be read; then nothing is appended.
    pub fn encode_object<'a>(
        &self,
        values: impl IntoIterator<Item = Value<'a>>,
        out: &mut Vec<u8>,
    ) -> Result<RowNotes, EncodeError> {
        let start = out.len();
        let result = self.write_object(values.into_iter(), out);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    /// Appends the key's values as a compact JSON array, given one value for each column of the table, in order.
    /// Returns whether the table has a key; nothing is appended where it has none.
    ///
    /// # Errors
    /// When a value of the key cannot be read or was not sent; then nothing is appended.
    pub fn encode_key<'a>(
        &self,
        values: impl IntoIterator<Item = Value<'a>>,
        out: &mut Vec<u8>,
    ) -> Result<bool, EncodeError> {
        if self.key.is_empty() {
            return Ok(false);
        }
        let start = out.len();
        let result = self.write_key(values.into_iter(), out);
        if result.is_err() {
            out.truncate(start);
        }
        result.map(|()| true)
    }

    /// For each column, whether it is part of the replica identity.
    pub(crate) fn identity_columns(&self) -> impl Iterator<Item = bool> + Clone {
        self.columns.iter().map(|column| column.identity)
    }

    /// Bytes that the names of the columns take in each object.
    pub(crate) fn labels_bytes(&self) -> usize {
        self.labels_bytes
    }

    pub(crate) fn column_count(&self) -> usize {
        self.columns.len()
    }

    /// Name of a column that a [`RowNotes`] speaks of.
    pub(crate) fn column_name(&self, index: u16) -> &str {
        &self.columns[usize::from(index)].name
    }

    fn write_object<'a>(
        &self,
        mut values: impl Iterator<Item = Value<'a>>,
        out: &mut Vec<u8>,
    ) -> Result<RowNotes, EncodeError> {
        let mut notes = RowNotes::default();
        let mut separator = b'{';
        for (index, column) in (0u16..).zip(&self.columns) {
            let Some(value) = values.next() else {
                return Err(EncodeError::ColumnCount { expected: self.columns.len(), found: index.into() });
            };
            if value == Value::Unchanged {
                notes.unchanged.push(index);
                continue;
            }
            out.push(separator);
            separator = b',';
            out.extend_from_slice(&column.label);
            if column.write(value, out)? == Written::KeptAsText {
                notes.kept_as_text.push(index);
            }
        }
        if separator == b'{' {
            out.push(b'{');
        }
        out.push(b'}');
        match values.count() {
            0 => Ok(notes),
            more => {
                let expected = self.columns.len();
                Err(EncodeError::ColumnCount { expected, found: expected + more })
            }
        }
    }

    fn write_key<'a>(
        &self,
        mut values: impl Iterator<Item = Value<'a>>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let mut separator = b'[';
        let mut next = 0usize;
        // The key is in the order of the columns, so one pass over the values finds them all.
        for index in self.key.iter().copied().map(usize::from) {
            let Some(value) = values.nth(index - next) else {
                return Err(EncodeError::ColumnCount { expected: self.columns.len(), found: index });
            };
            next = index + 1;
            out.push(separator);
            separator = b',';
            let column = &self.columns[index];
            if value == Value::Unchanged {
                return Err(EncodeError::KeyNotSent { column: column.name.clone() });
            }
            column.write(value, out)?;
        }
        out.push(b']');
        Ok(())
    }
}

impl EncodedColumn {
    fn write(&self, value: Value<'_>, out: &mut Vec<u8>) -> Result<Written, EncodeError> {
        let Value::Text(text) = value else {
            out.extend_from_slice(b"null");
            return Ok(Written::Faithful);
        };
        self.kind.write(text, out).map_err(|source| EncodeError::Value {
            column: self.name.clone(),
            type_name: self.type_name.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Column, ReplicaIdentity, TableName};

    fn encoder(columns: &[(&str, u32)], key: &[u16]) -> Result<RowEncoder, UnsupportedType> {
        let column = |(name, type_oid): &(&str, u32)| Column {
            name: (*name).into(),
            type_oid: *type_oid,
            type_modifier: -1,
            type_name: kind::type_name(*type_oid).unwrap_or("public.mood").into(),
            nullable: true,
            identity: false,
        };
        RowEncoder::new(&Table {
            oid: 1,
            version: 1,
            name: TableName { schema: "public".into(), name: "t".into() },
            columns: columns.iter().map(column).collect(),
            key: key.to_vec(),
            identity: ReplicaIdentity::Default,
        })
    }

    fn text(text: &str) -> Value<'_> {
        Value::Text(text.as_bytes())
    }

    #[test]
    fn a_row_becomes_an_object_and_its_key_an_array() {
        let encoder = encoder(&[("a", 23), ("say \"b\"", 25), ("c", 16), ("d", 1700)], &[0, 3]).unwrap();
        let row = [text("7"), text("x\ny"), Value::Null, text("1.500")];
        let mut out = b"before ".to_vec();
        assert_eq!(encoder.encode_object(row, &mut out), Ok(RowNotes::default()));
        assert_eq!(String::from_utf8_lossy(&out), r#"before {"a":7,"say \"b\"":"x\ny","c":null,"d":1.500}"#);
        out.clear();
        assert_eq!(encoder.encode_key(row, &mut out), Ok(true));
        assert_eq!(out, b"[7,1.500]");
    }

    #[test]
    fn what_was_not_sent_is_absent_and_named() {
        let encoder = encoder(&[("a", 25), ("b", 25), ("c", 114)], &[0]).unwrap();
        let mut out = Vec::new();
        let row = [Value::Unchanged, text("x"), text("\"\\u0000\"")];
        let notes = encoder.encode_object(row, &mut out).unwrap();
        assert_eq!(String::from_utf8_lossy(&out), r#"{"b":"x","c":"\"\\u0000\""}"#);
        assert_eq!(notes, RowNotes { unchanged: vec![0], kept_as_text: vec![2] });
        let error = encoder.encode_key(row, &mut out).unwrap_err();
        assert_eq!(error, EncodeError::KeyNotSent { column: "a".into() });
    }

    #[test]
    fn rows_without_columns_or_values() {
        let mut out = Vec::new();
        encoder(&[], &[]).unwrap().encode_object([], &mut out).unwrap();
        encoder(&[("a", 25)], &[]).unwrap().encode_object([Value::Unchanged], &mut out).unwrap();
        assert_eq!(out, b"{}{}");
        assert_eq!(encoder(&[("a", 25)], &[]).unwrap().encode_key([Value::Null], &mut out), Ok(false));
    }

    #[test]
    fn an_error_leaves_the_buffer_as_it_was() {
        let encoder = encoder(&[("a", 25), ("b", 23)], &[0, 1]).unwrap();
        let mut out = b"kept".to_vec();
        for row in [&[text("x")][..], &[text("x"), text("1"), text("2")], &[text("x"), text("one")]] {
            encoder.encode_object(row.iter().copied(), &mut out).unwrap_err();
        }
        encoder.encode_key([text("x"), text("one")], &mut out).unwrap_err();
        assert_eq!(out, b"kept");
        let error = encoder.encode_object([text("secret"), text("secret")], &mut out).unwrap_err();
        assert_eq!(error.to_string(), "column b cannot be read as integer", "an error says no values");
        assert_eq!(error.code(), Code::ValueUnreadable);
    }

    #[test]
    fn an_unsupported_type_is_refused_by_name() {
        let error = encoder(&[("a", 25), ("feeling", 16_400)], &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "column feeling of table public.t has the type public.mood, which is not supported"
        );
    }
}
