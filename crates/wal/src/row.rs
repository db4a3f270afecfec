//! Rows to JSON: an object of all columns, an array of the key's. From the text of the values straight into a buffer.
//!
//! Serves rows of the WAL and of COPY alike, so that a snapshot and the stream cannot print the same value in two ways.

use crate::code::Code;
use crate::json;
use crate::kind::Kind;
use crate::oversize::{self, LARGE_BYTES, Size};
use crate::table::{Column, ReplicaIdentity, Table};
use crate::value::{self, ValueError, Written};

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
    /// Columns with a value that is not written as `to_jsonb` writes it, because jsonb cannot hold that. The crate's page
    /// says what stands there instead.
    pub flagged: Vec<u16>,
}

/// What is written where jsonb cannot hold what `to_jsonb` gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValuePolicy {
    /// What becomes of a value that is too large for jsonb.
    pub oversize: Oversize,
    /// History's database is not in UTF-8, so that jsonb takes no escape like `\u00e9` there.
    pub ascii_escapes_only: bool,
}

/// What becomes of a value that is too large for jsonb.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Oversize {
    /// Capture stops at it.
    #[default]
    Poison,
    /// Its length and checksum are stored in its place: `{"$too_large":{"bytes":…,"sha256":…}}`.
    Reference,
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
    /// The values are too large together.
    #[error("the row is larger than jsonb holds, and column {column} is the largest of it")]
    RowTooLarge {
        /// Name of the column.
        column: String,
    },
    /// The source did not send a column of the key.
    #[error("column {column} of the key was not sent")]
    KeyNotSent {
        /// Name of the column.
        column: String,
    },
    /// An old row has a NULL where there can be none.
    #[error(
        "column {column} of the replica identity is null in an old row: the row's partition has another replica identity than \
         the partitioned table that it is published as"
    )]
    IdentityNull {
        /// Name of the column.
        column: String,
    },
}

impl EncodeError {
    /// The stable code that users see.
    pub fn code(&self) -> Code {
        match self {
            EncodeError::Value { source: ValueError::TooLong { .. }, .. }
            | EncodeError::RowTooLarge { .. } => Code::ValueTooLong,
            EncodeError::Value { .. } => Code::ValueUnreadable,
            EncodeError::IdentityNull { .. } => Code::PartitionIdentity,
            EncodeError::ColumnCount { .. } | EncodeError::KeyNotSent { .. } => Code::WalUnreadable,
        }
    }
}

/// Turns the rows of one version of a table into JSON.
#[derive(Clone, Debug)]
pub struct RowEncoder {
    columns: Vec<EncodedColumn>,
    key: Vec<u16>,
    mixed_identity: bool,
    labels_bytes: usize,
    policy: ValuePolicy,
    /// Bytes of JSON up to which a row cannot be too large.
    large_bytes: usize,
    size_max: Size,
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
    pub fn new(table: &Table, policy: ValuePolicy) -> Self {
        let mixed_identity = table.identity == ReplicaIdentity::Mixed;
        let encoded = |(index, column): (u16, &Column)| {
            let kind = column.kind.clone();
            let mut label = Vec::with_capacity(column.name.len() + 3);
            json::write_string(column.name.as_bytes(), &mut label);
            label.push(b':');
            let (name, type_name) = (column.name.clone(), column.type_name.clone());
            // FULL has every column in it, and where it is not that of all partitions nothing but the key is sure.
            let identity = if mixed_identity { table.key.contains(&index) } else { column.identity };
            EncodedColumn { name, type_name, label, kind, identity }
        };
        let columns: Vec<_> = (0..).zip(&table.columns).map(encoded).collect();
        let labels_bytes = columns.iter().map(|column| column.label.len()).sum();
        RowEncoder {
            columns,
            key: table.key.clone(),
            mixed_identity,
            labels_bytes,
            policy,
            large_bytes: LARGE_BYTES,
            size_max: Size::MAX,
        }
    }

    /// Appends the row as a JSON object, one value for each column of the table, in order. What was not sent is absent.
    ///
    /// # Errors
    /// When a value cannot be read, or the row is too large; then nothing is appended.
    pub fn encode_object<'a>(
        &self,
        values: impl IntoIterator<Item = Value<'a>, IntoIter: Clone>,
        out: &mut Vec<u8>,
    ) -> Result<RowNotes, EncodeError> {
        let start = out.len();
        let values = values.into_iter();
        let again = values.clone();
        let result = match self.write_object(values, &[], self.large_bytes, out) {
            Err(EncodeError::RowTooLarge { .. }) => {
                out.truncate(start);
                self.write_large_object(again, out)
            }
            result => result,
        };
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

    /// For each column, whether a key-only old row tells it.
    pub(crate) fn identity_columns(&self) -> impl Iterator<Item = bool> + Clone {
        self.columns.iter().map(|column| column.identity)
    }

    /// Whether what comes as a whole old row may tell its key alone, see [`ReplicaIdentity::Mixed`].
    pub(crate) fn has_mixed_identity(&self) -> bool {
        self.mixed_identity
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

    /// Writes all columns, those of `replaced` as references. Stops where the row has become longer than `bytes_max`.
    fn write_object<'a>(
        &self,
        mut values: impl Iterator<Item = Value<'a>>,
        replaced: &[usize],
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<RowNotes, EncodeError> {
        let start = out.len();
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
            let written = match value {
                Value::Text(text) if replaced.contains(&index.into()) => {
                    oversize::write_reference(text, out);
                    Written::Flagged
                }
                value => column.write(value, self.policy, out)?,
            };
            if written == Written::Flagged {
                notes.flagged.push(index);
            }
            if out.len() - start > bytes_max {
                return Err(EncodeError::RowTooLarge { column: column.name.clone() });
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

    /// Writes a row that is so long that jsonb may not hold it.
    fn write_large_object<'a>(
        &self,
        values: impl Iterator<Item = Value<'a>> + Clone,
        out: &mut Vec<u8>,
    ) -> Result<RowNotes, EncodeError> {
        let start = out.len();
        let mut sizes = Vec::with_capacity(self.columns.len());
        // Two braces, and as jsonb a header.
        let mut fixed = Size { json: 2, jsonb: 4 };
        for (column, value) in self.columns.iter().zip(values.clone()) {
            // With the comma, and as jsonb with the key's JEntry and padding, in whatever encoding.
            fixed.json += column.label.len() + 1;
            fixed.jsonb += 2 * column.label.len() + 8;
            if value != Value::Unchanged {
                column.write(value, self.policy, out)?;
            }
            sizes.push(Size::of(&out[start..], self.policy.ascii_escapes_only));
            out.truncate(start);
        }
        let replaced = oversize::too_large(&sizes, fixed, self.size_max);
        match replaced.first() {
            Some(largest) if self.policy.oversize == Oversize::Poison => {
                Err(EncodeError::RowTooLarge { column: self.columns[*largest].name.clone() })
            }
            _ => self.write_object(values, &replaced, usize::MAX, out),
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
            column.write(value, self.policy, out)?;
        }
        out.push(b']');
        Ok(())
    }
}

impl EncodedColumn {
    fn write(
        &self,
        value: Value<'_>,
        policy: ValuePolicy,
        out: &mut Vec<u8>,
    ) -> Result<Written, EncodeError> {
        let Value::Text(text) = value else {
            out.extend_from_slice(b"null");
            return Ok(Written::Faithful);
        };
        match value::write(&self.kind, text, policy.ascii_escapes_only, out) {
            Err(ValueError::TooLong { .. }) if policy.oversize == Oversize::Reference => {
                oversize::write_reference(text, out);
                Ok(Written::Flagged)
            }
            result => result.map_err(|source| EncodeError::Value {
                column: self.name.clone(),
                type_name: self.type_name.clone(),
                source,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::type_name;
    use crate::table::TableName;

    fn encoder(columns: &[(&str, u32)], key: &[u16]) -> RowEncoder {
        let column = |(name, type_oid): &(&str, u32)| Column {
            number: 0,
            name: (*name).into(),
            type_oid: *type_oid,
            type_modifier: -1,
            type_name: type_name(*type_oid).unwrap().into(),
            kind: Kind::builtin(*type_oid).unwrap(),
            nullable: true,
            identity: false,
        };
        let table = Table {
            oid: 1,
            version: 1,
            name: TableName { schema: "public".into(), name: "t".into() },
            columns: columns.iter().map(column).collect(),
            key: key.to_vec(),
            identity: ReplicaIdentity::Default,
        };
        RowEncoder::new(&table, ValuePolicy::default())
    }

    fn text(text: &str) -> Value<'_> {
        Value::Text(text.as_bytes())
    }

    #[test]
    fn a_row_becomes_an_object_and_its_key_an_array() {
        let encoder = encoder(&[("a", 23), ("say \"b\"", 25), ("c", 16), ("d", 1700)], &[0, 3]);
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
        let encoder = encoder(&[("a", 25), ("b", 25), ("c", 114)], &[0]);
        let mut out = Vec::new();
        let row = [Value::Unchanged, text("x"), text("\"\\u0000\"")];
        let notes = encoder.encode_object(row, &mut out).unwrap();
        assert_eq!(String::from_utf8_lossy(&out), r#"{"b":"x","c":"\"\\u0000\""}"#);
        assert_eq!(notes, RowNotes { unchanged: vec![0], flagged: vec![2] });
        let error = encoder.encode_key(row, &mut out).unwrap_err();
        assert_eq!(error, EncodeError::KeyNotSent { column: "a".into() });
    }

    #[test]
    fn rows_without_columns_or_values() {
        let mut out = Vec::new();
        encoder(&[], &[]).encode_object([], &mut out).unwrap();
        encoder(&[("a", 25)], &[]).encode_object([Value::Unchanged], &mut out).unwrap();
        assert_eq!(out, b"{}{}");
        assert_eq!(encoder(&[("a", 25)], &[]).encode_key([Value::Null], &mut out), Ok(false));
    }

    #[test]
    fn an_error_leaves_the_buffer_as_it_was() {
        let encoder = encoder(&[("a", 25), ("b", 23)], &[0, 1]);
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
    fn a_row_that_is_too_large_is_an_error_or_loses_its_largest_values() {
        let size_max = Size { json: 1000, jsonb: 500 };
        let at = |oversize| RowEncoder {
            policy: ValuePolicy { oversize, ..ValuePolicy::default() },
            large_bytes: 60,
            size_max,
            ..encoder(&[("a", 23), ("b", 25), ("c", 1007), ("d", 25)], &[1])
        };
        let (long, numbers) = ("x".repeat(150), format!("{{{}0}}", "0,".repeat(29)));
        let row = [text("7"), text(&long), text(&numbers), Value::Unchanged];
        let mut out = b"kept".to_vec();
        let error = at(Oversize::Poison).encode_object(row, &mut out).unwrap_err();
        assert_eq!(error, EncodeError::RowTooLarge { column: "c".into() }, "as jsonb it is the largest");
        assert_eq!((error.code(), &out[..]), (Code::ValueTooLong, &b"kept"[..]));
        out.clear();
        let notes = at(Oversize::Reference).encode_object(row, &mut out).unwrap();
        assert_eq!(notes, RowNotes { unchanged: vec![3], flagged: vec![2] });
        let written: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(written["c"]["$too_large"]["bytes"], numbers.len());
        assert_eq!((&written["a"], &written["b"]), (&7.into(), &long.clone().into()));
        out.clear();
        at(Oversize::Reference).encode_key(row, &mut out).unwrap();
        assert_eq!(out.len(), long.len() + 4, "the key keeps what it can");
        out.clear();
        let smaller = [text("7"), text(&long), Value::Null, text("y")];
        assert_eq!(at(Oversize::Poison).encode_object(smaller, &mut out), Ok(RowNotes::default()));
    }

    #[test]
    fn a_string_that_no_jsonb_holds() {
        let long = vec![b'x'; 0x1000_0000];
        let at = |oversize| RowEncoder {
            policy: ValuePolicy { oversize, ..ValuePolicy::default() },
            ..encoder(&[("a", 25)], &[0])
        };
        let mut out = Vec::new();
        let error = at(Oversize::Poison).encode_object([Value::Text(&long)], &mut out).unwrap_err();
        assert_eq!(error.code(), Code::ValueTooLong);
        let EncodeError::Value { column, source, .. } = error else { panic!("{error}") };
        assert_eq!((&*column, source), ("a", ValueError::TooLong { bytes: 0x1000_0000 }));
        let notes = at(Oversize::Reference).encode_object([Value::Text(&long)], &mut out).unwrap();
        assert_eq!(notes.flagged, [0]);
        let expected = r#"{"a":{"$too_large":{"bytes":268435456,"sha256":""#;
        assert!(out.starts_with(expected.as_bytes()));
    }
}
