//! Transactions to append, and a history in a database of its own.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use waldelta_history::{Captured, Config, Head, History, Page, ReadLimit, Shown, Writer};
use waldelta_pgconn::{Environment, Target};
use waldelta_testkit::TestDatabase;
use waldelta_wal::{
    Change, Column, EndLsn, Epoch, Kind, Lsn, Operation, PgSnapshot, Piece, Position, ReplicaIdentity, Reset,
    Table, TableName, TransactionHead, TruncateOptions,
};

pub(crate) const EPOCH: Epoch = Epoch(1);
/// Where history begins in these tests.
pub(crate) const START: u64 = 0x1000;
pub(crate) const PARTITION_BYTES: u64 = 0x1_0000;
/// More than any test holds.
pub(crate) const ALL: ReadLimit = ReadLimit { changes_max: 100_000, bytes_max: 1 << 30 };

pub(crate) fn config(database: &TestDatabase) -> Config {
    Config {
        target: Target::parse(database.url(), &Environment::default()).unwrap(),
        feed_bytes_max: 1 << 20,
        connections_max: 4,
        partition_bytes: PARTITION_BYTES,
    }
}

pub(crate) fn captured() -> Captured {
    Captured {
        system_id: u64::MAX - 7,
        timeline: 3,
        database_oid: 4_000_000_000,
        slot: "slot".into(),
        publication: "publication".into(),
    }
}

/// A history that captures something, from [`START`] on.
pub(crate) async fn begun(database: &TestDatabase) -> History {
    let history = History::open(&config(database)).await.unwrap();
    assert_eq!(history.captured().await.unwrap(), None);
    history.begin(&captured(), end(START), "test").await.unwrap();
    history
}

/// And its writer.
pub(crate) async fn written(database: &TestDatabase) -> (History, Writer) {
    let history = begun(database).await;
    let writer = history.writer("test").await.unwrap();
    (history, writer)
}

pub(crate) fn end(lsn: u64) -> EndLsn {
    EndLsn(Lsn(lsn))
}

pub(crate) fn head(lsn: u64) -> Head {
    Head { epoch: EPOCH, durable_end: end(lsn) }
}

pub(crate) fn whole(lsn: u64) -> Position {
    Position::whole(EPOCH, Lsn(lsn))
}

pub(crate) fn table(oid: u32, name: &str) -> Table {
    Table {
        oid,
        version: 0,
        name: TableName { schema: "public".into(), name: name.into() },
        columns: vec![
            Column { nullable: false, identity: true, ..column(1, "id", 23, "integer") },
            column(2, "note", 25, "text"),
        ],
        key: vec![0],
        identity: ReplicaIdentity::Default,
    }
}

/// A nullable column of a built-in type.
pub(crate) fn column(number: i16, name: &str, type_oid: u32, type_name: &str) -> Column {
    Column {
        number,
        name: name.into(),
        type_oid,
        type_modifier: -1,
        type_name: type_name.into(),
        kind: Kind::builtin(type_oid).unwrap(),
        nullable: true,
        identity: false,
    }
}

pub(crate) fn insert(table: &Arc<Table>, seq: u32, id: u64) -> Change {
    Change {
        seq,
        operation: Operation::Insert,
        table: Some(Arc::clone(table)),
        row_key: Some(Bytes::from(format!("[{id}]"))),
        data: Some(Bytes::from(format!("{{\"id\": {id}, \"note\": \"n\"}}"))),
        old_data: None,
        unchanged: Vec::new(),
        flagged: Vec::new(),
        truncate: TruncateOptions::default(),
        origin: None,
        author: None,
    }
}

pub(crate) fn transaction_head(commit_lsn: u64) -> TransactionHead {
    TransactionHead {
        epoch: EPOCH,
        commit_lsn: Lsn(commit_lsn),
        xid: commit_lsn,
        committed_at_us: 1_700_000_000_123_456,
    }
}

/// A whole transaction, one byte of WAL long.
pub(crate) fn transaction(commit_lsn: u64, changes: Vec<Change>) -> Piece {
    piece(commit_lsn, changes, Some(commit_lsn + 1))
}

pub(crate) fn piece(commit_lsn: u64, changes: Vec<Change>, ends: Option<u64>) -> Piece {
    Piece {
        head: transaction_head(commit_lsn),
        first: changes.first().is_none_or(|change| change.seq == 0),
        changes,
        end: ends.map(end),
        new_tables: Vec::new(),
        repairs: Vec::new(),
        urgent: false,
    }
}

/// The same in another epoch.
pub(crate) fn in_epoch(epoch: Epoch, piece: Piece) -> Piece {
    Piece { head: TransactionHead { epoch, ..piece.head }, ..piece }
}

/// The change by which a table is reset.
pub(crate) fn reset(table_oid: u32, name: &str, seq: u32) -> Change {
    let reset = Reset { table_oid, table: name.into(), reason: "rewritten".into() };
    Change {
        seq,
        operation: Operation::Reset,
        table: None,
        row_key: None,
        data: Some(serde_json::to_vec(&reset).unwrap().into()),
        old_data: None,
        unchanged: Vec::new(),
        flagged: Vec::new(),
        truncate: TruncateOptions::default(),
        origin: None,
        author: None,
    }
}

/// A source of which everybody sees what this snapshot shows; `None`: one that cannot be asked.
struct Shows(Option<&'static str>);

impl Shown for Shows {
    fn now(&self) -> BoxFuture<'_, Result<PgSnapshot, Box<dyn std::error::Error + Send + Sync>>> {
        Box::pin(async { Ok(self.0.ok_or("the source is away")?.parse()?) })
    }
}

pub(crate) fn shown(snapshot: Option<&'static str>) -> Arc<dyn Shown> {
    Arc::new(Shows(snapshot))
}

/// A source that shows all that is in history.
pub(crate) fn all_shown() -> Arc<dyn Shown> {
    shown(Some("9223372036854775807:9223372036854775807:"))
}

/// Everything after a position, at once.
pub(crate) async fn read_all(history: &History, after: Position) -> Page {
    let head = history.captured().await.unwrap().unwrap().1;
    let page = history.read_after(after, head.cursor(), ALL).await.unwrap();
    assert!(!page.has_more);
    page
}

/// The commit LSNs that history holds.
pub(crate) async fn commit_lsns(history: &History) -> Vec<u64> {
    let page = read_all(history, Position::before(EPOCH, end(START))).await;
    page.parts.iter().map(|part| part.head.commit_lsn.0).collect()
}

/// The durable end as the database has it.
pub(crate) async fn stored_end(history: &History) -> u64 {
    history.captured().await.unwrap().unwrap().1.durable_end.0.0
}
