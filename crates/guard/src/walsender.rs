//! What a walsender sends with pgoutput, by hand: rows of three kinds of tables, the same in each run. The forms are those of
//! "Logical Replication Message Formats" and "Streaming Replication Protocol" in the PostgreSQL documentation.

use bytes::{BufMut, Bytes, BytesMut};

const TABLE: u32 = 16_400;
/// Rows of one transaction.
const TRANSACTION_ROWS: u32 = 4;

const BOOL: u32 = 16;
const INT8: u32 = 20;
const INT4: u32 = 23;
const TEXT: u32 = 25;
const JSONB: u32 = 3802;
const INT4_ARRAY: u32 = 1007;
const TEXT_ARRAY: u32 = 1009;
const TIMESTAMPTZ: u32 = 1184;
const NUMERIC: u32 = 1700;
const UUID: u32 = 2950;

/// A kind of table.
#[derive(Clone, Copy)]
pub(crate) enum Row {
    /// Five columns, as pgbench writes them.
    Narrow,
    /// Eight columns, about 250 bytes.
    Usual,
    /// Forty columns of most kinds, about 1,500 bytes.
    Wide,
}

/// What is in a block.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub row: Row,
    /// Updates with all of the old row, instead of inserts.
    pub updates: bool,
}

/// Transactions with so many rows of one table.
pub(crate) fn block(rows: Rows, count: u32) -> Bytes {
    let mut block = Block::default();
    for transaction in 0..count.div_ceil(TRANSACTION_ROWS) {
        let first = transaction * TRANSACTION_ROWS;
        block.transaction(transaction, |block| {
            if transaction == 0 {
                block.relation(rows.row, rows.updates);
            }
            for row in first..count.min(first + TRANSACTION_ROWS) {
                let old = rows.updates.then(|| rows.row.values(row, row));
                block.row(old.as_deref(), &rows.row.values(row, row + 1));
            }
        });
    }
    block.bytes.freeze()
}

/// One transaction: two inserts and two updates with the old row, each of another tenant.
pub(crate) fn transaction_of_tenants() -> Bytes {
    let mut block = Block::default();
    block.transaction(0, |block| {
        block.relation(Row::Usual, true);
        for row in [100, 300, 500, 700] {
            let old = (row > 400).then(|| Row::Usual.values(row, row));
            block.row(old.as_deref(), &Row::Usual.values(row, row));
        }
    });
    block.bytes.freeze()
}

impl Row {
    /// Names and types; the first is the key.
    fn columns(self) -> Vec<(String, u32)> {
        let named =
            |columns: &[(&str, u32)]| columns.iter().map(|(name, oid)| ((*name).to_owned(), *oid)).collect();
        match self {
            Row::Narrow => named(&[
                ("id", INT8),
                ("tid", INT4),
                ("delta", INT4),
                ("mtime", TIMESTAMPTZ),
                ("filler", TEXT),
            ]),
            Row::Usual => named(&[
                ("id", INT8),
                ("tenant", INT4),
                ("amount", NUMERIC),
                ("is_paid", BOOL),
                ("note", TEXT),
                ("created_at", TIMESTAMPTZ),
                ("updated_at", TIMESTAMPTZ),
                ("document", JSONB),
            ]),
            Row::Wide => {
                let kinds = [INT4, TEXT, NUMERIC, TIMESTAMPTZ, UUID, JSONB, INT4_ARRAY, TEXT_ARRAY];
                let others = (0..39).map(|n| (format!("column_{n}"), kinds[n % kinds.len()]));
                std::iter::once(("id".to_owned(), INT8)).chain(others).collect()
            }
        }
    }

    /// The values of the row of this number, as text: `tenant` is the number, the rest depends on what `seed` says.
    fn values(self, number: u32, seed: u32) -> Vec<Option<String>> {
        let value = |(name, oid): (String, u32)| match (&*name, oid) {
            ("id", _) => Some((10_000 + number).to_string()),
            ("tenant", _) => Some(number.to_string()),
            // Ends as pgbench's rows do.
            ("filler", _) => None,
            (_, oid) => Some(text(oid, seed)),
        };
        self.columns().into_iter().map(value).collect()
    }
}

/// A value of a type.
fn text(type_oid: u32, seed: u32) -> String {
    let (minute, cents) = (seed % 60, seed % 100);
    match type_oid {
        BOOL => if seed.is_multiple_of(2) { "t" } else { "f" }.to_owned(),
        TIMESTAMPTZ => format!("2026-11-22 13:{minute:02}:35.4{cents:02}+00"),
        NUMERIC => format!("{seed}.{cents:02}"),
        UUID => format!("6b1d55a8-90c7-4f0e-8d0a-{seed:012}"),
        JSONB => format!(
            r#"{{"sku": "A-{seed}", "tags": ["new", "blue"], "count": {cents}, "note": "\"quoted\""}}"#
        ),
        INT4_ARRAY => format!("{{1,2,{seed},NULL,{cents}}}"),
        TEXT_ARRAY => format!(r#"{{plain,"with space {seed}","a \"quote\"",NULL}}"#),
        TEXT => format!("Delivered to the back door, number {seed}, \"as usual\"; ask for Zoë"),
        _ => seed.to_string(),
    }
}

/// Messages, one after the other, as a socket gives them.
#[derive(Default)]
struct Block {
    bytes: BytesMut,
}

impl Block {
    fn transaction(&mut self, number: u32, rows: impl FnOnce(&mut Self)) {
        let (commit_lsn, end) = (0x1000 * (u64::from(number) + 1), 0x1000 * (u64::from(number) + 1) + 0x30);
        self.message(|out| {
            out.put_u8(b'B');
            out.put_u64(commit_lsn);
            out.put_i64(i64::from(number));
            out.put_u32(700 + number);
        });
        rows(self);
        self.message(|out| {
            out.put_u8(b'C');
            out.put_u8(0);
            out.put_u64(commit_lsn);
            out.put_u64(end);
            out.put_i64(i64::from(number));
        });
    }

    fn relation(&mut self, row: Row, is_full: bool) {
        let columns = row.columns();
        self.message(|out| {
            out.put_u8(b'R');
            out.put_u32(TABLE);
            out.put_slice(b"public\0t\0");
            out.put_u8(if is_full { b'f' } else { b'd' });
            put_count(out, columns.len());
            for (at, (name, type_oid)) in columns.iter().enumerate() {
                out.put_u8(u8::from(is_full || at == 0));
                out.put_slice(name.as_bytes());
                out.put_u8(0);
                out.put_u32(*type_oid);
                out.put_i32(-1);
            }
        });
    }

    /// An update where there is an old row, an insert otherwise.
    fn row(&mut self, old: Option<&[Option<String>]>, new: &[Option<String>]) {
        self.message(|out| {
            out.put_u8(if old.is_some() { b'U' } else { b'I' });
            out.put_u32(TABLE);
            for (form, values) in [(b'O', old), (b'N', Some(new))] {
                let Some(values) = values else { continue };
                out.put_u8(form);
                put_count(out, values.len());
                values.iter().for_each(|value| put_value(out, value.as_deref()));
            }
        });
    }

    /// In XLogData, in CopyData.
    fn message(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let mut message = BytesMut::new();
        write(&mut message);
        self.bytes.put_u8(b'd');
        self.bytes.put_u32(u32::try_from(4 + 25 + message.len()).expect("a small message"));
        self.bytes.put_u8(b'w');
        // Where it begins, where the WAL ends, when it was sent.
        self.bytes.put_bytes(0, 24);
        self.bytes.put_slice(&message);
    }
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u16(u16::try_from(count).expect("few columns"));
}

fn put_value(out: &mut BytesMut, value: Option<&str>) {
    let Some(text) = value else { return out.put_u8(b'n') };
    out.put_u8(b't');
    out.put_u32(u32::try_from(text.len()).expect("a short value"));
    out.put_slice(text.as_bytes());
}
