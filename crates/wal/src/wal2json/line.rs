//! One line of wal2json's format version 2, read. What its values mean is the business of `value`.
//!
//! Fields that are not needed are passed over, unknown ones too. Nothing here nests deeper than the format does: what
//! nests deeper is passed over or an error, without recursion.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::error::Wal2jsonError;
use super::time;
use crate::lsn::{EndLsn, Lsn};
use crate::table::TableName;

/// What PostgreSQL's string buffers hold: a longer line cannot come from it.
const LINE_BYTES_MAX: usize = 0x3FFF_FFFF;

/// What a line says.
#[derive(Debug)]
pub(super) enum Line<'a> {
    Begin {
        commit_lsn: Lsn,
        /// Microseconds since 2000-01-01 UTC, as pgoutput has it.
        committed_at_us: i64,
        xid: u32,
    },
    Commit {
        commit_lsn: Lsn,
        end: EndLsn,
        /// Microseconds since 2000-01-01 UTC.
        committed_at_us: i64,
    },
    Row(Row<'a>),
    Truncate(TableName),
    Message {
        transactional: bool,
        lsn: Lsn,
        prefix: Vec<u8>,
        content: Vec<u8>,
    },
}

/// A row that changed.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) table: TableName,
    pub(super) change: RowChange<'a>,
    /// Names of the primary key's columns, in the order of the table; empty where there is none.
    pub(super) primary_key: Vec<Cow<'a, str>>,
}

#[derive(Debug)]
pub(super) enum RowChange<'a> {
    Insert {
        new: Vec<Column<'a>>,
    },
    /// The columns of the replica identity are always there: where the old row was not logged they are copied from the
    /// new one.
    Update {
        new: Vec<Column<'a>>,
        old: Vec<Column<'a>>,
    },
    Delete {
        old: Vec<Column<'a>>,
    },
}

/// A column of a row.
#[derive(Debug, Deserialize)]
pub(super) struct Column<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(rename = "typeoid", deserialize_with = "type_oid")]
    pub(super) type_oid: u32,
    /// As it is printed.
    #[serde(borrow)]
    pub(super) value: &'a RawValue,
}

/// wal2json prints object ids of types as if they were signed.
fn type_oid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let printed = i64::deserialize(deserializer)?;
    u32::try_from(printed)
        .or_else(|_| i32::try_from(printed).map(i32::cast_unsigned))
        .map_err(|_| serde::de::Error::custom("an object id"))
}

#[derive(Deserialize)]
struct KeyColumn<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// All fields that any line has. A field that is null is as one that is absent.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    action: Cow<'a, str>,
    xid: Option<u32>,
    timestamp: Option<&'a str>,
    lsn: Option<&'a str>,
    nextlsn: Option<&'a str>,
    schema: Option<String>,
    table: Option<String>,
    columns: Option<Vec<Column<'a>>>,
    identity: Option<Vec<Column<'a>>>,
    pk: Option<Vec<KeyColumn<'a>>>,
    transactional: Option<bool>,
    prefix: Option<String>,
    content: Option<String>,
}

/// The bytes of a line as text.
pub(super) struct LineText<'a> {
    text: Cow<'a, str>,
    /// Each character stands for the byte of its number.
    transliterated: bool,
}

impl<'a> LineText<'a> {
    /// Takes any bytes: a logical message may hold some that are no text.
    pub(super) fn new(line: &'a [u8]) -> Result<Self, Wal2jsonError> {
        if line.len() > LINE_BYTES_MAX {
            return Err(Wal2jsonError::TooLong { bytes: line.len() });
        }
        Ok(match std::str::from_utf8(line) {
            Ok(text) => LineText { text: text.into(), transliterated: false },
            // All that JSON gives a meaning is ASCII, so nothing changes but what stands between quotes.
            Err(_) => LineText { text: line.iter().copied().map(char::from).collect(), transliterated: true },
        })
    }

    /// The bytes that a text of the line stands for.
    fn bytes(&self, text: String) -> Option<Vec<u8>> {
        if !self.transliterated {
            return Some(text.into_bytes());
        }
        text.chars().map(|c| u8::try_from(c).ok()).collect()
    }
}

impl<'a> Line<'a> {
    pub(super) fn read(text: &'a LineText<'_>) -> Result<Self, Wal2jsonError> {
        let fields: Fields<'a> = serde_json::from_str(&text.text)
            .map_err(|error| Wal2jsonError::Unreadable { at: error.column() })?;
        match &*fields.action {
            "M" => fields.message(text),
            _ if text.transliterated => Err(Wal2jsonError::NotUtf8),
            "B" => Ok(Line::Begin {
                commit_lsn: lsn(fields.lsn, 'B', "lsn")?,
                committed_at_us: committed_at_us(fields.timestamp, 'B')?,
                xid: required(fields.xid, 'B', "xid")?,
            }),
            "C" => Ok(Line::Commit {
                commit_lsn: lsn(fields.lsn, 'C', "lsn")?,
                end: EndLsn(lsn(fields.nextlsn, 'C', "nextlsn")?),
                committed_at_us: committed_at_us(fields.timestamp, 'C')?,
            }),
            "I" => fields.row('I', |columns, _| Ok(RowChange::Insert { new: columns? })),
            "U" => {
                fields.row('U', |columns, identity| Ok(RowChange::Update { new: columns?, old: identity? }))
            }
            "D" => fields.row('D', |_, identity| Ok(RowChange::Delete { old: identity? })),
            "T" => Ok(Line::Truncate(table_name(fields.schema, fields.table, 'T')?)),
            unknown => Err(Wal2jsonError::UnknownAction { action: unknown.chars().take(16).collect() }),
        }
    }
}

type Columns<'a> = Result<Vec<Column<'a>>, Wal2jsonError>;

impl<'a> Fields<'a> {
    fn row(
        self,
        action: char,
        change: impl FnOnce(Columns<'a>, Columns<'a>) -> Result<RowChange<'a>, Wal2jsonError>,
    ) -> Result<Line<'a>, Wal2jsonError> {
        let columns = required(self.columns, action, "columns");
        let identity = required(self.identity, action, "identity");
        Ok(Line::Row(Row {
            table: table_name(self.schema, self.table, action)?,
            change: change(columns, identity)?,
            primary_key: required(self.pk, action, "pk")?.into_iter().map(|column| column.name).collect(),
        }))
    }

    fn message(self, text: &LineText<'_>) -> Result<Line<'a>, Wal2jsonError> {
        let bytes = |value: Option<String>, field| {
            let value = required(value, 'M', field)?;
            text.bytes(value).ok_or(Wal2jsonError::Malformed { field })
        };
        let prefix = bytes(self.prefix, "prefix")?;
        if prefix.contains(&0) {
            return Err(Wal2jsonError::Malformed { field: "prefix" });
        }
        Ok(Line::Message {
            transactional: required(self.transactional, 'M', "transactional")?,
            lsn: lsn(self.lsn, 'M', "lsn")?,
            prefix,
            content: bytes(self.content, "content")?,
        })
    }
}

fn required<T>(value: Option<T>, action: char, field: &'static str) -> Result<T, Wal2jsonError> {
    value.ok_or(Wal2jsonError::Missing { action, field })
}

fn lsn(printed: Option<&str>, action: char, field: &'static str) -> Result<Lsn, Wal2jsonError> {
    required(printed, action, field)?.parse().map_err(|_| Wal2jsonError::Malformed { field })
}

fn committed_at_us(printed: Option<&str>, action: char) -> Result<i64, Wal2jsonError> {
    let field = "timestamp";
    time::protocol_us(required(printed, action, field)?).ok_or(Wal2jsonError::Malformed { field })
}

fn table_name(
    schema: Option<String>,
    table: Option<String>,
    action: char,
) -> Result<TableName, Wal2jsonError> {
    Ok(TableName { schema: required(schema, action, "schema")?, name: required(table, action, "table")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(line: &[u8]) -> Wal2jsonError {
        let text = LineText::new(line).unwrap();
        Line::read(&text).unwrap_err()
    }

    /// Prefix and content of a message.
    fn message(line: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let text = LineText::new(line).unwrap();
        let Ok(Line::Message { prefix, content, .. }) = Line::read(&text) else { panic!("a message") };
        (prefix, content)
    }

    #[test]
    fn object_ids_of_types_are_printed_with_a_sign() {
        // As wal2json 2.5 prints type 3000000001.
        let line = br#"{"action":"I","schema":"public","table":"hi_t","columns":[{"name":"a","typeoid":-1294967295,"value":"a"}],"pk":[]}"#;
        let text = LineText::new(line).unwrap();
        let Ok(Line::Row(Row { change: RowChange::Insert { new }, .. })) = Line::read(&text) else {
            panic!("an insert")
        };
        assert_eq!(new[0].type_oid, 3_000_000_001);
        for oid in ["-2147483649", "4294967296", "1.5", "\"23\"", "99999999999999999999"] {
            let line = format!(r#"{{"action":"I","columns":[{{"name":"a","typeoid":{oid},"value":1}}]}}"#);
            assert!(matches!(error(line.as_bytes()), Wal2jsonError::Unreadable { .. }), "{oid}");
        }
    }

    #[test]
    fn a_message_may_hold_any_bytes() {
        let line = b"{\"action\":\"M\",\"lsn\":\"0/157BD80\",\"transactional\":true,\"prefix\":\"p\xc3\xa9\",\"content\":\"a\\\"\xff\x80\\u0001\"}";
        assert_eq!(message(line), ("pé".into(), b"a\"\xff\x80\x01".to_vec()));
        let line = br#"{"action":"M","lsn":"0/157BDE8","transactional":false,"prefix":"","content":""}"#;
        assert_eq!(message(line), (Vec::new(), Vec::new()));
    }

    #[test]
    fn what_a_line_lacks_is_named() {
        for (line, expected) in [
            (
                r#"{"action":"B","timestamp":"2024-01-01 00:00:00+00","lsn":"0/1"}"#,
                "a line of action 'B' lacks \"xid\"",
            ),
            (
                r#"{"action":"B","xid":1,"timestamp":null,"lsn":"0/1"}"#,
                "a line of action 'B' lacks \"timestamp\"",
            ),
            (r#"{"action":"C","lsn":"0/1"}"#, "a line of action 'C' lacks \"nextlsn\""),
            (r#"{"action":"C","lsn":"x","nextlsn":"0/1"}"#, "\"lsn\" of a line cannot be read"),
            (
                r#"{"action":"U","schema":"s","table":"t","columns":[],"pk":[]}"#,
                "a line of action 'U' lacks \"identity\"",
            ),
            (r#"{"action":"D","schema":"s","table":"t","pk":[]}"#, "a line of action 'D' lacks \"identity\""),
            (r#"{"action":"I","schema":"s","table":"t","columns":[]}"#, "a line of action 'I' lacks \"pk\""),
            (r#"{"action":"T","table":"t"}"#, "a line of action 'T' lacks \"schema\""),
            (
                r#"{"action":"M","lsn":"0/1","prefix":"","content":""}"#,
                "a line of action 'M' lacks \"transactional\"",
            ),
            (
                r#"{"action":"M","lsn":"0/1","transactional":true,"prefix":"a\u0000","content":""}"#,
                "\"prefix\" of a line cannot be read",
            ),
            (r#"{"action":"TRUNCATE EVERYTHING"}"#, "a line with the unknown action \"TRUNCATE EVERYTH\""),
            (r#"{"change":[]}"#, "a line is not wal2json's format version 2, at byte 13"),
        ] {
            assert_eq!(error(line.as_bytes()).to_string(), expected, "{line}");
        }
    }

    #[test]
    fn a_row_must_be_utf8() {
        let line = b"{\"action\":\"I\",\"schema\":\"public\",\"table\":\"t\",\"columns\":[{\"name\":\"a\",\"typeoid\":25,\"value\":\"\xfc\"}],\"pk\":[]}";
        assert_eq!(error(line), Wal2jsonError::NotUtf8);
    }

    #[test]
    fn the_name_of_a_type_would_not_always_be_json() {
        // As wal2json 2.5 prints it with include-types: why that is not asked for.
        let line = br#"{"action":"I","columns":[{"name":"mm","type":"My App"."Mood","typeoid":16390,"value":"sad"}]}"#;
        assert!(matches!(error(line), Wal2jsonError::Unreadable { .. }));
    }

    #[test]
    fn depth_costs_nothing() {
        let deep = "[".repeat(1_000_000);
        for line in [format!("{{\"action\":\"B\",\"x\":{deep}"), format!("{{\"action\":{deep}"), deep] {
            assert!(matches!(error(line.as_bytes()), Wal2jsonError::Unreadable { .. }));
        }
    }

    proptest! {
        #[test]
        fn messages_read_back(prefix in "[^\\x00]*", content: Vec<u8>, transactional: bool) {
            let mut line = format!(r#"{{"action":"M","lsn":"A/B","transactional":{transactional},"prefix":"#).into_bytes();
            crate::json::write_string(prefix.as_bytes(), &mut line);
            line.extend(b",\"content\":");
            crate::json::write_string(&content, &mut line);
            line.push(b'}');
            prop_assert_eq!(message(&line), (prefix.into_bytes(), content));
        }
    }
}
