//! Hand-made tables, transactions and subscriptions for unit tests.

use std::sync::Arc;

use bytes::Bytes;
use waldelta_history::Transaction;
use waldelta_wal::{
    Author, Change, Column, Epoch, Lsn, Operation, Position, ReplicaIdentity, Table, TableName,
    TransactionHead,
};

use crate::subscription::{Route, Subscription};

pub(crate) fn position(lsn: u64) -> Position {
    Position::whole(Epoch(1), Lsn(lsn))
}

pub(crate) fn table(name: &str) -> Table {
    let column = |name: &str, type_oid, type_name: &str, nullable| Column {
        name: name.into(),
        type_oid,
        type_modifier: -1,
        type_name: type_name.into(),
        nullable,
        identity: !nullable,
    };
    Table {
        oid: name.bytes().fold(16_384, |oid, byte| oid + u32::from(byte)),
        version: 1,
        name: TableName { schema: "public".into(), name: name.into() },
        columns: vec![column("id", 23, "integer", false), column("v", 25, "text", true)],
        key: vec![0],
        identity: ReplicaIdentity::Default,
    }
}

pub(crate) fn head(lsn: u64, xid: u64) -> TransactionHead {
    TransactionHead { epoch: Epoch(1), commit_lsn: Lsn(lsn), xid, committed_at_us: 1_000_000 }
}

/// A change of the row `id`, without author.
pub(crate) fn change(seq: u32, operation: Operation, table: &Arc<Table>, id: i64) -> Change {
    let has_data = matches!(operation, Operation::Insert | Operation::Update);
    Change {
        seq,
        operation,
        table: Some(table.clone()),
        row_key: Some(Bytes::from(format!("[{id}]"))),
        data: has_data.then(|| Bytes::from(format!(r#"{{"id":{id},"v":"x"}}"#))),
        old_data: None,
        unchanged: Vec::new(),
        kept_as_text: Vec::new(),
        author: None,
    }
}

/// A transaction that inserts one row with its LSN as id and xid.
pub(crate) fn insert(table: &Arc<Table>, lsn: u64, author: Option<&str>) -> Arc<Transaction> {
    let author = author.map(|id| Arc::new(Author { client_id: id.into(), metadata: None }));
    let change = Change { author, ..change(0, Operation::Insert, table, lsn.cast_signed()) };
    Arc::new(Transaction { head: head(lsn, lsn), changes: vec![change] })
}

pub(crate) fn subscription(id: &str, table: &str) -> Subscription {
    Subscription { id: id.into(), table: table.parse().unwrap(), old: false }
}

pub(crate) fn route(id: &str, old: bool) -> Route {
    Route { sub: Bytes::from(format!("[\"{id}\"]")), old }
}
