//! Frames to clients, all but `tx`: each a function from values to bytes.

use std::time::Duration;

use waldelta_wal::{Code, Position, Table, TableName, schema_json};

use super::json::{write_string, write_text};
use super::projection::Projection;
use super::timestamp::Timestamp;
use crate::start::Reset;
use crate::wire::packed::{DICTIONARY_ID, DICTIONARY_PATH};
use crate::wire::{Subprotocol, Utf8Bytes};

/// Turns a finished buffer into a frame. Images are JSON text from the database, so it is UTF-8; should it not be, the
/// session ends rather than send what no client can read.
pub(crate) fn finish(buffer: Vec<u8>) -> Result<Utf8Bytes, NotText> {
    Utf8Bytes::try_from(buffer).map_err(|_| NotText)
}

/// The bytes of a frame are not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an image is not UTF-8")]
pub(crate) struct NotText;

/// Builds an object member by member; `type` first.
struct Frame(Vec<u8>);

impl Frame {
    fn new(kind: &str) -> Self {
        Frame(format!("{{\"type\":\"{kind}\"").into_bytes())
    }

    fn raw(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        write_text(&mut self.0, format_args!(",\"{name}\":{value}"));
        self
    }

    fn text(mut self, name: &str, value: &str) -> Self {
        write_text(&mut self.0, format_args!(",\"{name}\":"));
        write_string(&mut self.0, value);
        self
    }

    fn cursor(self, name: &str, position: Position) -> Self {
        self.raw(name, format_args!("\"{position}\""))
    }

    fn list<T>(mut self, name: &str, values: &[T], mut write: impl FnMut(&mut Vec<u8>, &T)) -> Self {
        write_text(&mut self.0, format_args!(",\"{name}\":["));
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                self.0.push(b',');
            }
            write(&mut self.0, value);
        }
        self.0.push(b']');
        self
    }

    /// The members of what is told of a table's shape: `version` and `columns`.
    fn shape(mut self, table: &Table, projection: Option<&Projection>) -> Self {
        let start = self.0.len();
        match projection {
            None => schema_json(table, &mut self.0),
            Some(projection) => schema_json(&projection.table(table), &mut self.0),
        }
        // The object's members become members of the frame.
        self.0[start] = b',';
        self.0.pop();
        self
    }

    fn end(mut self) -> Utf8Bytes {
        self.0.push(b'}');
        // Every member was written from text.
        Utf8Bytes::from(String::from_utf8_lossy(&self.0).into_owned())
    }
}

/// What `welcome` tells.
pub(crate) struct Welcome<'a> {
    pub session: &'a str,
    pub subprotocol: Subprotocol,
    pub head: Position,
    pub floor: Position,
    pub snapshot: bool,
    pub heartbeat: Duration,
    /// The fingerprint of what may be seen.
    pub access: &'a str,
}

pub(crate) fn welcome(welcome: &Welcome<'_>) -> Utf8Bytes {
    let frame = Frame::new("welcome")
        .text("session", welcome.session)
        .text("protocol", welcome.subprotocol.name())
        .raw("epoch", welcome.head.epoch.0)
        .cursor("head", welcome.head)
        .cursor("floor", welcome.floor)
        .text("mode", if welcome.snapshot { "snapshot" } else { "resume" })
        .raw("heartbeat_ms", welcome.heartbeat.as_millis())
        .text("access", welcome.access);
    if !welcome.subprotocol.takes_packed() {
        return frame.end();
    }
    let dictionary = format_args!("{{\"id\":{DICTIONARY_ID},\"url\":\"{DICTIONARY_PATH}\"}}");
    frame.raw("dictionary", dictionary).end()
}

/// What the client has is of this fingerprint from here on.
pub(crate) fn access(fingerprint: &str) -> Utf8Bytes {
    Frame::new("access").text("access", fingerprint).end()
}

/// The answer to `auth`: how long the fresh token lasts.
pub(crate) fn authenticated(expires_in: Option<Duration>) -> Utf8Bytes {
    let frame = Frame::new("authenticated");
    match expires_in {
        Some(expires_in) => frame.raw("expires_in_ms", expires_in.as_millis()).end(),
        None => frame.end(),
    }
}

/// The token ends soon.
pub(crate) fn auth_required(expires_in: Duration) -> Utf8Bytes {
    Frame::new("auth_required").raw("expires_in_ms", expires_in.as_millis()).end()
}

/// A table's shape, of it the columns that are told.
pub(crate) fn schema(table: &Table, projection: Option<&Projection>) -> Utf8Bytes {
    Frame::new("schema").text("table", &table.name.to_string()).shape(table, projection).end()
}

/// The same in a page of changes: with the place from which on rows have this shape.
pub(crate) fn schema_at(cursor: Position, table: &Table, projection: Option<&Projection>) -> Utf8Bytes {
    let frame = Frame::new("schema").cursor("cursor", cursor).text("table", &table.name.to_string());
    frame.shape(table, projection).end()
}

/// `n` is the number of the first frame of rows that comes.
pub(crate) fn snapshot_begin(cursor: Position, id: &str, n: u64, tables: &[(TableName, i64)]) -> Utf8Bytes {
    Frame::new("snapshot_begin")
        .cursor("cursor", cursor)
        .text("id", id)
        .raw("n", n)
        .list("tables", tables, |out, (table, estimate)| {
            out.extend_from_slice(b"{\"table\":");
            write_string(out, &table.to_string());
            write_text(out, format_args!(",\"rows_estimate\":{estimate}}}"));
        })
        .end()
}

/// Rows of a snapshot, its frame number `n`; each is a JSON object already.
pub(crate) fn rows(table: &TableName, n: u64, rows: &[impl AsRef<[u8]>]) -> Result<Utf8Bytes, NotText> {
    let rows = rows.iter().map(AsRef::as_ref);
    let mut out = Vec::with_capacity(96 + rows.clone().map(|row| row.len() + 1).sum::<usize>());
    out.extend_from_slice(b"{\"type\":\"rows\",\"table\":");
    write_string(&mut out, &table.to_string());
    write_text(&mut out, format_args!(",\"n\":{n},\"rows\":["));
    for (index, row) in rows.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(row);
    }
    out.extend_from_slice(b"]}");
    finish(out)
}

/// What was sent of a table in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableSum {
    pub table: TableName,
    pub rows: u64,
    pub checksum: u64,
}

pub(crate) fn snapshot_end(cursor: Position, consistent_at: Position, tables: &[TableSum]) -> Utf8Bytes {
    Frame::new("snapshot_end")
        .cursor("cursor", cursor)
        .cursor("consistent_at", consistent_at)
        .list("tables", tables, |out, sum| {
            out.extend_from_slice(b"{\"table\":");
            write_string(out, &sum.table.to_string());
            write_text(out, format_args!(",\"rows\":{},\"checksum\":\"{:016x}\"}}", sum.rows, sum.checksum));
        })
        .end()
}

pub(crate) fn live(cursor: Position) -> Utf8Bytes {
    Frame::new("live").cursor("cursor", cursor).end()
}

/// `now_us` is the service's clock, in microseconds since 1970: for people.
pub(crate) fn heartbeat(cursor: Position, now_us: i64) -> Utf8Bytes {
    Frame::new("heartbeat")
        .cursor("cursor", cursor)
        .raw("ts", format_args!("\"{}\"", Timestamp(now_us)))
        .end()
}

pub(crate) fn reset(reason: Reset) -> Utf8Bytes {
    Frame::new("reset").text("reason", reason.as_str()).end()
}

/// The client drops the rows of these tables alone.
pub(crate) fn reset_of<'a>(reason: Reset, tables: impl Iterator<Item = &'a TableName>) -> Utf8Bytes {
    let tables: Vec<String> = tables.map(TableName::to_string).collect();
    Frame::new("reset")
        .text("reason", reason.as_str())
        .list("tables", &tables, |out, table| write_string(out, table))
        .end()
}

/// In a page of changes: the place up to which the changes of a table do not add up to its rows.
pub(crate) fn reset_at(cursor: Position, table: &TableName) -> Utf8Bytes {
    let mut out = b"{\"table\":".to_vec();
    write_string(&mut out, &table.to_string());
    write_text(&mut out, format_args!(",\"cursor\":\"{cursor}\"}}"));
    Utf8Bytes::from(String::from_utf8_lossy(&out).into_owned())
}

pub(crate) fn goaway(retry_ms: u64) -> Utf8Bytes {
    Frame::new("goaway").raw("retry_ms", retry_ms).end()
}

pub(crate) fn acked(cursor: Position) -> Utf8Bytes {
    Frame::new("acked").cursor("cursor", cursor).end()
}

pub(crate) fn pong(n: Option<u64>) -> Utf8Bytes {
    match n {
        Some(n) => Frame::new("pong").raw("n", n).end(),
        None => Frame::new("pong").end(),
    }
}

pub(crate) fn error(code: Code, message: &str, subscription: Option<&str>, fatal: bool) -> Utf8Bytes {
    let frame = Frame::new("error")
        .text("code", code.as_str())
        .text("message", message)
        .text("fix", code.explanation().fix);
    let frame = match subscription {
        Some(id) => frame.text("subscription", id),
        None => frame,
    };
    frame.raw("fatal", fatal).end()
}

/// The sum that `snapshot_end` carries: FNV-1a (64 bits) of each row's text as sent, added up, so that the order of rows
/// and how they were cut into frames do not matter.
pub(crate) fn checksum(rows: &[impl AsRef<[u8]>]) -> u64 {
    // Each byte waits for the product of the one before it, which takes several cycles: so many rows take turns meanwhile.
    let (together, rest) = rows.as_chunks::<8>();
    let together = together.iter().flat_map(|rows| {
        let mut rows = rows.each_ref().map(AsRef::as_ref);
        let common = rows.map(<[u8]>::len).into_iter().min().unwrap_or(0);
        let mut digests = [DIGEST_BEGINS; 8];
        for at in 0..common {
            for (digest, row) in digests.iter_mut().zip(&rows) {
                *digest = digest_of(*digest, &row[at..=at]);
            }
        }
        for (digest, row) in digests.iter_mut().zip(&mut rows) {
            *digest = digest_of(*digest, &row[common..]);
        }
        digests
    });
    let rest = rest.iter().map(|row| digest_of(DIGEST_BEGINS, row.as_ref()));
    together.chain(rest).fold(0, u64::wrapping_add)
}

const DIGEST_BEGINS: u64 = 0xcbf2_9ce4_8422_2325;

fn digest_of(begun: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(begun, |digest, byte| (digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::subscription::Numbers;
    use crate::testing::{position, table};

    #[test]
    fn frames_have_the_documented_form() {
        assert_eq!(
            live(position(0x16b_3748)).as_str(),
            r#"{"type":"live","cursor":"00000001-00000000016b3748-ffffffff"}"#
        );
        assert_eq!(
            schema(&table("t"), None).as_str(),
            r#"{"type":"schema","table":"public.t","version":1,"columns":[{"name":"id","type":"integer","nullable":false,"key":true,"number":1},{"name":"v","type":"text","nullable":true,"key":false,"number":2}]}"#
        );
        assert_eq!(
            rows(
                &table("t").name,
                7,
                &[Bytes::from_static(b"{\"id\":1}"), Bytes::from_static(b"{\"id\":2}")]
            )
            .unwrap()
            .as_str(),
            r#"{"type":"rows","table":"public.t","n":7,"rows":[{"id":1},{"id":2}]}"#
        );
        assert_eq!(pong(None).as_str(), r#"{"type":"pong"}"#);
        let text = error(Code::CursorInvalid, "say \"hi\"", Some("s1"), true);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["message"], "say \"hi\"");
        assert_eq!(value["fatal"], true);
    }

    #[test]
    fn a_shape_has_the_columns_that_are_told() {
        let columns = Some(&["id"].into());
        let only_the_key = Projection::new(&table("t"), columns, Numbers::Number);
        assert_eq!(
            schema(&table("t"), only_the_key.as_ref()).as_str(),
            r#"{"type":"schema","table":"public.t","version":1,"columns":[{"name":"id","type":"integer","nullable":false,"key":true,"number":1}]}"#
        );
    }

    #[test]
    fn the_checksum_is_fnv_1a_of_each_row_added_up() {
        // Published test vectors of FNV-1a, 64 bits.
        let known = [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8_u64),
        ];
        for (text, digest) in known {
            assert_eq!(checksum(&[text]), digest);
        }
        for count in 0..40 {
            let rows: Vec<_> = (0..count).map(|row| known[row * row % 7 % 3]).collect();
            let sum = rows.iter().fold(0_u64, |sum, (_, digest)| sum.wrapping_add(*digest));
            assert_eq!(checksum(&rows.iter().map(|(text, _)| text).collect::<Vec<_>>()), sum, "{count} rows");
        }
    }

    #[test]
    fn an_image_that_is_no_text_is_refused() {
        assert_eq!(rows(&table("t").name, 0, &[Bytes::from_static(b"\xff")]), Err(NotText));
    }
}
