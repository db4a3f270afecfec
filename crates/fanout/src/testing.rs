//! Hand-made tables, transactions and subscriptions for unit tests.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use waldelta_access::{ClientIds, Identity, Origin};
use waldelta_history::{EpochSpan, Lineage, Transaction};
use waldelta_wal::{
    Author, Change, Column, EndLsn, Epoch, Kind, Lsn, Operation, Position, ReplicaIdentity, Reset, Table,
    TableName, TransactionHead, TruncateOptions,
};

use crate::rules::{Grant, Rule, Rules};
use crate::subscription::{Route, Selection, Subscription};

/// What a future comes to that waits for nobody.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("it waits for nobody")
}

pub(crate) fn position(lsn: u64) -> Position {
    Position::whole(Epoch(1), Lsn(lsn))
}

pub(crate) fn position_in(epoch: u32, lsn: u64) -> Position {
    Position { epoch: Epoch(epoch), ..position(lsn) }
}

/// Epochs by number and start, each with whether it goes on where the one before ends; `None` for the first.
pub(crate) fn lineage(epochs: &[(u32, u64, Option<bool>)]) -> Lineage {
    let span = |index: usize| {
        let (epoch, start, continues) = epochs[index];
        EpochSpan {
            epoch: Epoch(epoch),
            previous: index.checked_sub(1).map(|before| Epoch(epochs[before].0)),
            start: EndLsn(Lsn(start)),
            end: epochs.get(index + 1).map(|next| EndLsn(Lsn(next.1))),
            continues: continues.unwrap_or(false),
            fork: continues.and(Some(Lsn(start))),
            reason: String::new(),
            started_at_us: 0,
        }
    };
    Lineage::new((0..epochs.len()).map(span).collect())
}

pub(crate) fn table(name: &str) -> Table {
    let column = |number, name: &str, type_oid, type_name: &str, nullable| Column {
        number,
        kind: Kind::builtin(type_oid).unwrap(),
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
        columns: vec![column(1, "id", 23, "integer", false), column(2, "v", 25, "text", true)],
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
        flagged: Vec::new(),
        truncate: TruncateOptions::default(),
        origin: None,
        author: None,
    }
}

/// The change that tells another shape of a table.
pub(crate) fn schema_change(seq: u32, table: &Arc<Table>) -> Change {
    let mut shape = Vec::new();
    waldelta_wal::schema_json(table, &mut shape);
    Change { row_key: None, data: Some(shape.into()), ..change(seq, Operation::Schema, table, 0) }
}

/// A logical message without author.
pub(crate) fn message(seq: u32, content: &str) -> Change {
    let data = Bytes::from(format!(r#"{{"prefix":"app","content":"{content}"}}"#));
    let table = Arc::new(table("t"));
    Change { table: None, row_key: None, data: Some(data), ..change(seq, Operation::Message, &table, 0) }
}

/// The change by which a table is reset.
pub(crate) fn reset_change(seq: u32, name: &str) -> Change {
    let table = Arc::new(table(name));
    let reset = Reset { table_oid: table.oid, table: table.name.to_string(), reason: "rewritten".into() };
    let data = serde_json::to_string(&reset).unwrap();
    let base = change(seq, Operation::Reset, &table, 0);
    Change { table: None, row_key: None, data: Some(data.into()), ..base }
}

/// A transaction that inserts one row with its LSN as id and xid.
pub(crate) fn insert(table: &Arc<Table>, lsn: u64, author: Option<&str>) -> Arc<Transaction> {
    let author = author.map(|id| Arc::new(Author { client_id: id.into(), metadata: None }));
    let change = Change { author, ..change(0, Operation::Insert, table, lsn.cast_signed()) };
    Arc::new(Transaction { head: head(lsn, lsn), changes: vec![change] })
}

pub(crate) fn subscription(id: &str, table: &str) -> Subscription {
    Subscription::new(id, table.parse().unwrap())
}

/// The same, of the rows that a filter passes.
pub(crate) fn filtered(id: &str, table: &str, filter: &str) -> Subscription {
    Subscription { filter: Some(filter.parse().unwrap()), ..subscription(id, table) }
}

/// How `t` looks to one who follows all of it.
pub(crate) fn route(id: &str, old: bool) -> Route {
    let selection = everything(vec![Subscription { old, ..subscription(id, "t") }]);
    selection.route(Some(&table("t"))).unwrap().unwrap()
}

/// Somebody with these claims.
pub(crate) fn identity(claims: serde_json::Value) -> Identity {
    let serde_json::Value::Object(claims) = claims else { panic!("claims are an object") };
    Identity {
        subject: "somebody".into(),
        origin: Origin::Static("id".into()),
        claims: Arc::new(claims),
        client_ids: ClientIds::Any,
        is_admin: false,
        expires_at: None,
    }
}

/// A rule for everybody: a table, the columns and the filter.
pub(crate) fn rule(table: &str, columns: Option<&[&str]>, filter: Option<&str>) -> Rule {
    let columns = columns.map(|columns| columns.iter().map(|&name| name.to_owned()).collect());
    Rule { table: table.into(), columns, filter: filter.map(str::to_owned), ..Rule::default() }
}

/// What rules grant to somebody with these claims.
pub(crate) fn grant(rules: &[Rule], claims: serde_json::Value) -> Grant {
    Rules::parse(rules).unwrap().grant(Some(&identity(claims)))
}

/// Subscriptions of one who may see everything.
pub(crate) fn everything(subscriptions: Vec<Subscription>) -> Selection {
    Selection::new(subscriptions, Grant::everything())
}
