//! Changes as rows of a binary COPY into `change_history`, written straight into the buffer of what is sent.
//!
//! The format is that of "COPY, Binary Format" in the PostgreSQL documentation; jsonb is the version byte 1 and its text.
//! Values are not checked here: the database does, and its refusal is traced back to the change.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;
use waldelta_wal::{Change, Epoch, Lsn, Operation, Reset, Table, TransactionHead, TruncateOptions};

use crate::copy_buffer::CopyBuffer;
use crate::moved::moved_from;

/// The columns, in the order in which they are written.
pub(crate) const COLUMNS: &str = "lsn, transaction_id, \"timestamp\", epoch, seq, table_oid, schema_version, id, \
     operation, table_name, row_key, data, old_data, metadata, client_id";
const FIELDS: i16 = 15;

/// Signature, flags and an empty extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: i16 = -1;
const NULL: i32 = -1;
const JSONB_VERSION: u8 = 1;
/// Bytes of one field that the server reads at most: it gathers them in a buffer of less than 1 GiB.
const FIELD_BYTES_MAX: usize = (1 << 30) - 16;

/// Microseconds from 1970-01-01 to 2000-01-01, where PostgreSQL's timestamps begin.
pub(crate) const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// Names of tables that are kept as text.
const NAMES_MAX: usize = 1_000;

/// Namespace of the sources' namespaces, in which the ids of changes are named. Never changes.
const NAMESPACE: Uuid = Uuid::from_u128(0x6b1d_55a8_90c7_4f0e_8d0a_5d4f_2a61_7c93);

/// The value is larger than any that the server reads (1 GiB).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// Writes rows; keeps what would otherwise be made anew for each.
pub(crate) struct RowEncoder {
    source: Uuid,
    /// The names of the tables of rows before, as text. By the shape itself, which is kept so that its address stays its own: one
    /// that was given up leaves its version to another.
    names: HashMap<usize, (Arc<Table>, Box<str>)>,
}

impl RowEncoder {
    /// For the changes of one source: a database of a cluster.
    pub(crate) fn new(system_id: &str, database_oid: u32) -> Self {
        let source = Uuid::new_v5(&NAMESPACE, format!("{system_id}/{database_oid}").as_bytes());
        RowEncoder { source, names: HashMap::new() }
    }

    /// What a COPY begins with.
    pub(crate) fn begin(&self, out: &mut CopyBuffer) {
        out.tail().put_slice(HEADER);
    }

    /// What a COPY ends with.
    pub(crate) fn end(&self, out: &mut CopyBuffer) {
        out.tail().put_i16(TRAILER);
    }

    /// One change. `xid` is null for rows that existed before.
    pub(crate) fn row(
        &mut self,
        out: &mut CopyBuffer,
        head: &TransactionHead,
        xid: Option<u64>,
        change: &Change,
    ) -> Result<(), TooLarge> {
        self.put_fixed(out.tail(), head, xid, change)?;
        put_bytes(out.tail(), change.row_key.as_deref())?;
        put_image(out, change.data.as_ref())?;
        put_image(out, change.old_data.as_ref())?;
        put_metadata(out.tail(), head, change)?;
        put_bytes(out.tail(), change.author.as_ref().map(|author| author.client_id.as_bytes()))
    }

    /// The columns before the row's key.
    fn put_fixed(
        &mut self,
        out: &mut BytesMut,
        head: &TransactionHead,
        xid: Option<u64>,
        change: &Change,
    ) -> Result<(), TooLarge> {
        out.put_i16(FIELDS);
        put_u64(out, Some(head.commit_lsn.0));
        put_u64(out, xid);
        out.put_i32(8);
        out.put_i64(head.committed_at_us.saturating_sub(POSTGRES_EPOCH_US));
        put_u32(out, Some(head.epoch.0));
        put_u32(out, Some(change.seq));
        // It is of a table, and shows no row of it.
        let reset = Reset::of(change).filter(|_| change.table.is_none());
        let reset_oid = reset.as_ref().map(|reset| reset.table_oid);
        put_u32(out, change.table.as_ref().map(|table| table.oid).or(reset_oid));
        put_u32(out, change.table.as_ref().map(|table| table.version));
        out.put_i32(16);
        out.put_slice(self.id(head.epoch, head.commit_lsn, change.seq).as_bytes());
        put_bytes(out, Some(change.operation.as_str().as_bytes()))?;
        match &change.table {
            Some(table) => {
                let address = Arc::as_ptr(table).addr();
                if self.names.len() >= NAMES_MAX && !self.names.contains_key(&address) {
                    self.names.clear();
                }
                let known = self.names.entry(address);
                let (_, name) = known.or_insert_with(|| (table.clone(), table.name.to_string().into()));
                put_bytes(out, Some(name.as_bytes()))
            }
            None => {
                let name = reset.map(|reset| reset.table_name().map_or(reset.table, |name| name.to_string()));
                put_bytes(out, name.as_deref().map(str::as_bytes))
            }
        }
    }

    /// The same for the same change after any replay.
    fn id(&self, epoch: Epoch, commit_lsn: Lsn, seq: u32) -> Uuid {
        let mut name = [0; 16];
        name[..4].copy_from_slice(&epoch.0.to_be_bytes());
        name[4..12].copy_from_slice(&commit_lsn.0.to_be_bytes());
        name[12..].copy_from_slice(&seq.to_be_bytes());
        Uuid::new_v5(&self.source, &name)
    }
}

fn put_u64(out: &mut BytesMut, value: Option<u64>) {
    match value {
        Some(value) => {
            out.put_i32(8);
            out.put_u64(value);
        }
        None => out.put_i32(NULL),
    }
}

fn put_u32(out: &mut BytesMut, value: Option<u32>) {
    match value {
        Some(value) => {
            out.put_i32(4);
            out.put_u32(value);
        }
        None => out.put_i32(NULL),
    }
}

fn put_bytes(out: &mut BytesMut, value: Option<&[u8]>) -> Result<(), TooLarge> {
    match value {
        Some(value) => {
            out.put_i32(field_length(value.len())?);
            out.put_slice(value);
        }
        None => out.put_i32(NULL),
    }
    Ok(())
}

/// A jsonb of this text.
fn put_image(out: &mut CopyBuffer, text: Option<&Bytes>) -> Result<(), TooLarge> {
    match text {
        Some(text) => {
            out.tail().put_i32(field_length(text.len() + 1)?);
            out.tail().put_u8(JSONB_VERSION);
            out.put_shared(text);
        }
        None => out.tail().put_i32(NULL),
    }
    Ok(())
}

fn field_length(bytes: usize) -> Result<i32, TooLarge> {
    if bytes > FIELD_BYTES_MAX { Err(TooLarge) } else { i32::try_from(bytes).map_err(|_| TooLarge) }
}

/// `{"author":…,"unchanged":[…],"flagged":[…],"truncate":{…},"origin":…,"moved_from":"…","transactional":false}`, without what
/// is empty or usual; null when all is.
fn put_metadata(out: &mut BytesMut, head: &TransactionHead, change: &Change) -> Result<(), TooLarge> {
    let alone = change.operation == Operation::Message && head.xid == 0;
    let metadata = Metadata {
        author: change.author.as_ref().and_then(|author| author.metadata.as_deref()),
        unchanged: &change.unchanged,
        flagged: &change.flagged,
        truncate: change.truncate,
        origin: change.origin.as_deref(),
        moved_from: moved_from(change),
        alone,
    };
    if metadata.is_empty() {
        out.put_i32(NULL);
        return Ok(());
    }
    let length_at = out.len();
    out.put_i32(0);
    out.put_u8(JSONB_VERSION);
    metadata.put(out).map_err(|_| TooLarge)?;
    let length = field_length(out.len() - length_at - 4)?;
    out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// What `metadata` says of a change.
struct Metadata<'a> {
    author: Option<&'a str>,
    unchanged: &'a [String],
    flagged: &'a [String],
    truncate: TruncateOptions,
    origin: Option<&'a str>,
    moved_from: Option<String>,
    alone: bool,
}

impl Metadata<'_> {
    fn is_empty(&self) -> bool {
        let truncate = self.truncate != TruncateOptions::default();
        let named = !self.unchanged.is_empty() || !self.flagged.is_empty();
        let usual = self.moved_from.is_none() && !self.alone;
        self.author.is_none() && self.origin.is_none() && !named && !truncate && usual
    }

    fn put(&self, out: &mut BytesMut) -> serde_json::Result<()> {
        let mut separator = b'{';
        let mut put_key = |out: &mut BytesMut, key: &str| {
            out.put_u8(separator);
            separator = b',';
            out.put_u8(b'"');
            out.put_slice(key.as_bytes());
            out.put_slice(b"\":");
        };
        if let Some(author) = self.author {
            put_key(out, "author");
            out.put_slice(author.as_bytes());
        }
        for (key, names) in [("unchanged", self.unchanged), ("flagged", self.flagged)] {
            if !names.is_empty() {
                put_key(out, key);
                serde_json::to_writer(out.writer(), names)?;
            }
        }
        if self.truncate != TruncateOptions::default() {
            put_key(out, "truncate");
            serde_json::to_writer(out.writer(), &self.truncate)?;
        }
        if let Some(origin) = self.origin {
            put_key(out, "origin");
            serde_json::to_writer(out.writer(), origin)?;
        }
        if let Some(moved_from) = &self.moved_from {
            put_key(out, "moved_from");
            serde_json::to_writer(out.writer(), moved_from)?;
        }
        if self.alone {
            put_key(out, "transactional");
            out.put_slice(b"false");
        }
        out.put_u8(b'}');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use waldelta_wal::Author;

    use super::*;

    fn change(author: Option<&str>, unchanged: &[&str]) -> Change {
        Change {
            seq: 1,
            operation: Operation::Update,
            table: None,
            row_key: None,
            data: None,
            old_data: None,
            unchanged: unchanged.iter().map(|name| (*name).to_owned()).collect(),
            flagged: Vec::new(),
            truncate: TruncateOptions::default(),
            origin: None,
            author: author.map(|metadata| {
                Arc::new(Author { client_id: "web".into(), metadata: Some(metadata.to_owned()) })
            }),
        }
    }

    fn metadata(change: &Change) -> Option<String> {
        let mut out = BytesMut::from(&b"before"[..]);
        let head = TransactionHead { epoch: Epoch(1), commit_lsn: Lsn(1), xid: 7, committed_at_us: 0 };
        put_metadata(&mut out, &head, change).unwrap();
        let field = &out[6..];
        let length = i32::from_be_bytes(field[..4].try_into().unwrap());
        if length == NULL {
            assert_eq!(field.len(), 4);
            return None;
        }
        assert_eq!(field.len(), 4 + usize::try_from(length).unwrap());
        assert_eq!(field[4], JSONB_VERSION);
        Some(String::from_utf8(field[5..].to_vec()).unwrap())
    }

    #[test]
    fn metadata_holds_only_what_there_is() {
        assert_eq!(metadata(&change(None, &[])), None);
        assert_eq!(metadata(&change(Some("{\"user\":1}"), &[])).unwrap(), r#"{"author":{"user":1}}"#);
        assert_eq!(metadata(&change(None, &["a", "\"b\""])).unwrap(), r#"{"unchanged":["a","\"b\""]}"#);
        let flagged = Change { flagged: vec!["j".into()], ..change(Some("7"), &["a"]) };
        assert_eq!(metadata(&flagged).unwrap(), r#"{"author":7,"unchanged":["a"],"flagged":["j"]}"#);
    }

    /// Cut off to 32 bits, a length would be that of the first bytes, and the rest of the value be read as the next fields.
    #[test]
    fn a_length_that_the_server_cannot_read_is_refused_and_never_cut_off() {
        for (bytes, expected) in [
            (0, Ok(0)),
            (FIELD_BYTES_MAX, Ok(i32::try_from(FIELD_BYTES_MAX).unwrap())),
            (FIELD_BYTES_MAX + 1, Err(TooLarge)),
            (i32::MAX as usize, Err(TooLarge)),
            (i32::MAX as usize + 1, Err(TooLarge)),
            (u32::MAX as usize, Err(TooLarge)),
            (usize::MAX, Err(TooLarge)),
        ] {
            assert_eq!(field_length(bytes), expected, "{bytes}");
        }
        #[cfg(target_pointer_width = "64")]
        for cut_off in [0, 1, 5, FIELD_BYTES_MAX] {
            assert_eq!(field_length((1 << 32) + cut_off), Err(TooLarge), "2^32 and {cut_off}");
        }
        // Pages that nobody touches: nothing of it is read, and nothing of it written.
        let image = Bytes::from(vec![0; FIELD_BYTES_MAX]);
        let mut out = CopyBuffer::with_capacity(16);
        assert_eq!(put_image(&mut out, Some(&image)), Err(TooLarge), "with its version it is one too long");
        assert_eq!(out.len(), 0);
        put_image(&mut out, Some(&image.slice(1..))).unwrap();
        assert_eq!(out.len(), 4 + FIELD_BYTES_MAX);
    }

    #[test]
    fn names_of_so_many_shapes_are_kept() {
        let mut encoder = RowEncoder::new("7000", 5);
        let head = TransactionHead { epoch: Epoch(1), commit_lsn: Lsn(1), xid: 7, committed_at_us: 0 };
        for version in 0..NAMES_MAX + 10 {
            let table = Table {
                oid: 1,
                version: u32::try_from(version).unwrap(),
                name: "t".parse().unwrap(),
                columns: Vec::new(),
                key: Vec::new(),
                identity: waldelta_wal::ReplicaIdentity::Default,
            };
            let change = Change { table: Some(Arc::new(table)), ..change(None, &[]) };
            encoder.row(&mut CopyBuffer::with_capacity(16), &head, Some(7), &change).unwrap();
            assert!(encoder.names.len() <= NAMES_MAX, "{version}");
        }
    }

    #[test]
    fn ids_depend_on_source_epoch_lsn_and_seq_alone() {
        let here = RowEncoder::new("7000", 5);
        let id = |encoder: &RowEncoder, epoch, lsn, seq| encoder.id(Epoch(epoch), Lsn(lsn), seq);
        // Written down, so that a change that would rename every stored row is noticed.
        assert_eq!(id(&here, 1, 2, 3), id(&RowEncoder::new("7000", 5), 1, 2, 3));
        for other in [
            id(&here, 2, 2, 3),
            id(&here, 1, 3, 3),
            id(&here, 1, 2, 4),
            id(&RowEncoder::new("7000", 6), 1, 2, 3),
        ] {
            assert_ne!(id(&here, 1, 2, 3), other);
        }
        assert_eq!(id(&here, 1, 2, 3).get_version_num(), 5);
    }
}
