//! A frame as the recorder keeps it: what is checked, and no more.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use waldelta_wal::Position;

use super::moment;
use super::rows::Row;
use crate::canonical::canonical;

/// What a frame said.
#[derive(Debug)]
pub(super) enum Note {
    Schema {
        table: String,
        key: Vec<String>,
    },
    Reset {
        tables: Option<Vec<String>>,
    },
    SnapshotBegin,
    Rows {
        table: String,
        rows: Vec<Row>,
    },
    SnapshotEnd {
        cursor: Position,
        consistent_at: Position,
    },
    Transaction {
        cursor: Position,
        prev: Option<Position>,
        own: bool,
        last: bool,
        changes: Vec<Change>,
    },
    /// `live` and `heartbeat`.
    Moved {
        cursor: Position,
        is_live: bool,
        /// When it was heard, see [`moment`].
        heard: u64,
    },
    GoAway {
        retry: Duration,
    },
    Error {
        code: String,
        message: String,
    },
    /// Nothing that is checked.
    Other,
}

/// One change, as it was told or as history says that it is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub seq: u32,
    pub op: Op,
    pub table: String,
    /// The key as a canonical JSON object; `None` for a truncate.
    pub key: Option<String>,
    /// Of the insert half of a key change: the key before.
    pub moved_from: Option<String>,
    pub data: Option<Row>,
    pub unchanged: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Op {
    Insert,
    Update,
    Delete,
    Truncate,
    Message,
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: String,
    cursor: Option<String>,
    prev: Option<String>,
    consistent_at: Option<String>,
    own: Option<bool>,
    last: Option<bool>,
    table: Option<String>,
    #[serde(borrow)]
    tables: Option<&'a RawValue>,
    #[serde(borrow)]
    columns: Option<Vec<Column<'a>>>,
    #[serde(borrow)]
    rows: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    changes: Option<Vec<Told<'a>>>,
    retry_ms: Option<u64>,
    code: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct Column<'a> {
    #[serde(borrow)]
    name: std::borrow::Cow<'a, str>,
    key: bool,
}

#[derive(Deserialize)]
struct Told<'a> {
    seq: u32,
    op: Op,
    #[serde(default)]
    table: Option<String>,
    #[serde(borrow, default)]
    key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    moved_from: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    unchanged: Vec<String>,
}

impl Note {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("{error}: {text}");
        let frame: Frame<'_> = serde_json::from_str(text).map_err(|error| wrong(&error))?;
        let position = |name: &str, text: &Option<String>| {
            let text = text.as_deref().ok_or_else(|| wrong(&format!("no {name}")))?;
            text.parse::<Position>().map_err(|_| wrong(&format!("{name} is no cursor")))
        };
        let cursor = || position("cursor", &frame.cursor);
        let table = || frame.table.clone().ok_or_else(|| wrong(&"no table"));
        Ok(match frame.kind.as_str() {
            "schema" => {
                let columns = frame.columns.as_deref().unwrap_or_default();
                let key = columns.iter().filter(|column| column.key).map(|column| column.name.to_string());
                Note::Schema { table: table()?, key: key.collect() }
            }
            "reset" => {
                let tables = frame.tables.map(|tables| serde_json::from_str(tables.get())).transpose();
                Note::Reset { tables: tables.map_err(|error| wrong(&error))? }
            }
            "snapshot_begin" => Note::SnapshotBegin,
            "rows" => {
                let rows = frame.rows.unwrap_or_default().into_iter().map(|row| Row::parse(row.get()));
                let rows = rows.collect::<Result<_, _>>().map_err(|error| wrong(&error))?;
                Note::Rows { table: frame.table.ok_or("rows of no table")?, rows }
            }
            "snapshot_end" => Note::SnapshotEnd {
                cursor: cursor()?,
                consistent_at: position("consistent_at", &frame.consistent_at)?,
            },
            "tx" => Note::Transaction {
                cursor: cursor()?,
                prev: frame.prev.as_ref().map(|_| position("prev", &frame.prev)).transpose()?,
                own: frame.own.ok_or_else(|| wrong(&"no own"))?,
                last: frame.last.ok_or_else(|| wrong(&"no last"))?,
                changes: frame
                    .changes
                    .unwrap_or_default()
                    .into_iter()
                    .map(Change::told)
                    .collect::<Result<_, _>>()
                    .map_err(|error| wrong(&error))?,
            },
            "live" => Note::Moved { cursor: cursor()?, is_live: true, heard: moment() },
            "heartbeat" => Note::Moved { cursor: cursor()?, is_live: false, heard: moment() },
            "goaway" => Note::GoAway { retry: Duration::from_millis(frame.retry_ms.unwrap_or_default()) },
            "error" => Note::Error {
                code: frame.code.unwrap_or_default(),
                message: frame.message.unwrap_or_default(),
            },
            _ => Note::Other,
        })
    }

    /// Whether others are likely to get the same frame.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self, Note::Schema { .. } | Note::Rows { .. } | Note::Transaction { .. })
    }
}

impl Change {
    fn told(told: Told<'_>) -> Result<Self, serde_json::Error> {
        let object = |text: Option<&RawValue>| text.map(|text| canonical(text.get())).transpose();
        Ok(Change {
            seq: told.seq,
            op: told.op,
            table: told.table.unwrap_or_default(),
            key: object(told.key)?,
            moved_from: object(told.moved_from)?,
            data: told.data.map(|data| Row::parse(data.get())).transpose()?,
            unchanged: told.unchanged,
        })
    }
}
