//! History against PostgreSQL's own `test_decoding`, which shares no code with anything of ours: the same transactions in the same
//! order, with the same operations on the same keys, and the same values where both print them alike.

mod line;

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use tokio_postgres::SimpleQueryMessage;
use waldelta_wal::Position;

use crate::tables::{ALL, root_of};
use crate::world::World;
use line::{Line, Value};

/// Those of [`ALL`], and those whose changes are told like any other although they do not add up.
const COMPARED: [&str; ALL.len() + 1] = {
    let mut tables = ["public.recast"; ALL.len() + 1];
    let mut at = 0;
    while at < ALL.len() {
        tables[at] = ALL[at];
        at += 1;
    }
    tables
};

/// Their values are printed in one way only.
const PLAIN: [&str; 7] = ["integer", "bigint", "text", "boolean", "character varying", "uuid", "mood"];

/// Columns by name, as text; `None` is NULL.
type Row = BTreeMap<String, Option<String>>;

/// What a transaction did to one row, or to a whole table.
#[derive(Debug, PartialEq)]
struct Operation {
    table: String,
    what: String,
    /// Of a row: the values of its key, after the change.
    key: Vec<String>,
    /// The values that can be compared.
    row: Row,
}

/// A transaction: its id, and what it did.
type Transaction = (String, Vec<Operation>);

const STORED: &str = "SELECT transaction_id::text, table_name, operation, epoch::text, lsn::text, data::text,
        (SELECT string_agg(v, chr(31) ORDER BY n) FROM jsonb_array_elements_text(row_key::jsonb) WITH ORDINALITY AS key (v, n))
    FROM waldelta.change_history WHERE operation IN ('insert', 'update', 'delete', 'truncate')";

/// Up to where the two were compared.
pub(crate) struct Decoded {
    /// Epoch and commit LSN of the last transaction in history.
    after: Option<(String, String)>,
}

impl Decoded {
    /// Begins here: the decoder's slot tells nothing of before.
    pub(crate) fn since(position: Position) -> Self {
        Decoded { after: Some((position.epoch.0.to_string(), position.commit_lsn.to_string())) }
    }

    /// Compares what came since the last time. The source is at rest, and history has everything.
    pub(crate) async fn compare(&mut self, world: &World) {
        let (decoded, mut stored) = (decoded(world).await, self.stored(world).await);
        for (place, (decoded, stored)) in decoded.iter().zip(&mut stored).enumerate() {
            // What cannot be compared of one of them is left out of the other one.
            for (decoded, stored) in decoded.1.iter().zip(&mut stored.1) {
                stored.row.retain(|column, _| decoded.row.contains_key(column));
            }
            if decoded != stored {
                let of = format!(
                    "transaction {place} of this part, {} in test_decoding, {} in history",
                    decoded.0, stored.0
                );
                let at =
                    decoded.1.iter().zip(&stored.1).take_while(|(decoded, stored)| decoded == stored).count();
                panic!("I7: {of}: change {at} is {:?}, in history {:?}", decoded.1.get(at), stored.1.get(at));
            }
        }
        let next = decoded.get(stored.len()).or(stored.get(decoded.len()));
        assert_eq!(
            decoded.len(),
            stored.len(),
            "I7: transactions of test_decoding, of history; the next is {next:?}"
        );
    }

    async fn stored(&mut self, world: &World) -> Vec<Transaction> {
        let after = self.after.as_ref().map_or_else(String::new, |(epoch, lsn)| {
            format!("AND (epoch, lsn) > ({epoch}, '{lsn}'::pg_lsn)")
        });
        let mut transactions: Vec<Transaction> = Vec::new();
        for row in world.history.query(&format!("{STORED} {after} ORDER BY epoch, lsn, seq")).await {
            let [xid, table, what, epoch, lsn, data, key] = <[Option<String>; 7]>::try_from(row).unwrap();
            self.after = epoch.zip(lsn);
            let (xid, table, what) = (xid.unwrap(), table.unwrap(), what.unwrap());
            if !COMPARED.contains(&table.as_str()) {
                continue;
            }
            if transactions.last().is_none_or(|(last, _)| *last != xid) {
                transactions.push((xid, Vec::new()));
            }
            let key = key.map_or_else(Vec::new, |key| key.split('\u{1f}').map(str::to_owned).collect());
            let row = data.filter(|_| what != "delete").map_or_else(Row::new, |data| row_of(&data));
            transactions.last_mut().unwrap().1.push(Operation { table, what, key, row });
        }
        // The tables of one TRUNCATE have no order among themselves.
        for (_, operations) in &mut transactions {
            for truncated in operations.chunk_by_mut(|a, b| a.what == "truncate" && b.what == "truncate") {
                truncated.sort_by(|a, b| a.table.cmp(&b.table));
            }
        }
        transactions
    }
}

/// The values of a row that are a text of their own in JSON.
fn row_of(data: &str) -> Row {
    let columns: BTreeMap<String, Box<RawValue>> = serde_json::from_str(data).unwrap();
    let text = |value: &RawValue| match value.get() {
        "null" => None,
        value if value.starts_with('"') => Some(serde_json::from_str(value).unwrap()),
        other => Some(other.to_owned()),
    };
    columns.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

async fn decoded(world: &World) -> Vec<Transaction> {
    let sql = format!(
        "SELECT xid::text, data FROM pg_logical_slot_get_changes('{}', NULL, NULL, 'skip-empty-xacts', '1')",
        world.decoder_slot()
    );
    let mut transactions: Vec<Transaction> = Vec::new();
    let client = world.source_client().await;
    // Line by line, and not all of them at once: there may be long ones.
    let mut lines = std::pin::pin!(client.simple_query_raw(&sql).await.unwrap());
    while let Some(message) = futures_util::TryStreamExt::try_next(&mut lines).await.unwrap() {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let (xid, text) = (row.get(0).unwrap(), row.get(1).unwrap());
        match text.split_once(' ') {
            Some(("BEGIN", _)) => transactions.push((xid.to_owned(), Vec::new())),
            Some(("table", rest)) => {
                transactions.last_mut().unwrap().1.extend(operations(&Line::parse(rest)));
            }
            Some(("COMMIT" | "message:", _)) => {}
            _ => panic!("{text}"),
        }
    }
    // A slot that is read by SQL goes back to what a checkpoint saved of it when its server is killed.
    client.batch_execute("CHECKPOINT").await.unwrap();
    for (_, operations) in &mut transactions {
        for truncated in operations.chunk_by_mut(|a, b| a.what == "truncate" && b.what == "truncate") {
            truncated.sort_by(|a, b| a.table.cmp(&b.table));
        }
    }
    transactions.retain(|(_, operations)| !operations.is_empty());
    transactions
}

/// A line as operations: a TRUNCATE names several tables.
fn operations(line: &Line) -> Vec<Operation> {
    let ours = line.tables.iter().map(|table| root_of(table)).filter(|table| COMPARED.contains(table));
    let mut operations: Vec<Operation> = ours
        .map(|table| {
            let is_row = line.what != "TRUNCATE";
            let key = key_of(table).iter().filter(|_| is_row).map(|column| match &line.columns[*column].1 {
                Value::Text(text) => text.clone(),
                other => panic!("the key of {table} is {other:?}"),
            });
            let key = key.collect();
            let row = if line.what == "DELETE" { Row::new() } else { row(line) };
            Operation { table: table.to_owned(), what: line.what.to_lowercase(), key, row }
        })
        .collect();
    operations.sort_by(|a, b| a.table.cmp(&b.table));
    // A partitioned table is emptied together with its partitions.
    operations.dedup();
    operations
}

fn row(line: &Line) -> Row {
    let plain = line.columns.iter().filter(|(_, (kind, _))| PLAIN.contains(&kind.as_str()));
    plain
        .filter_map(|(name, (_, value))| match value {
            Value::Text(text) => Some((name.clone(), Some(text.clone()))),
            Value::Null => Some((name.clone(), None)),
            Value::Unchanged => None,
        })
        .collect()
}

fn key_of(table: &str) -> &'static [&'static str] {
    match table {
        "public.line" | "public.log" => &[],
        "public.pair" => &["a", "b"],
        "public.part" => &["id", "region"],
        "public.indexed" => &["code", "n"],
        _ => &["id"],
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, Operation, Row, operations};

    fn operation(table: &str, what: &str, key: &[&str], row: &[(&str, &str)]) -> Operation {
        let row: Row =
            row.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect();
        let key = key.iter().map(|part| (*part).to_owned()).collect();
        Operation { table: table.to_owned(), what: what.to_owned(), key, row }
    }

    #[test]
    fn lines_of_the_decoder_are_operations() {
        let of = |line: &str| operations(&Line::parse(line));
        assert_eq!(
            of("public.part_1: INSERT: id[integer]:7 region[integer]:1 v[text]:'a b'"),
            [operation("public.part", "insert", &["7", "1"], &[("id", "7"), ("region", "1"), ("v", "a b")])]
        );
        assert_eq!(
            of(
                "public.big: UPDATE: old-key: id[integer]:1 new-tuple: id[integer]:2 body[text]:unchanged-toast-datum"
            ),
            [operation("public.big", "update", &["2"], &[("id", "2")])]
        );
        assert_eq!(
            of("public.part, public.part_0, public.part_1, public.item: TRUNCATE: (no-flags)"),
            [operation("public.item", "truncate", &[], &[]), operation("public.part", "truncate", &[], &[])]
        );
        assert_eq!(of("public.log: DELETE: (no-tuple-data)"), [operation("public.log", "delete", &[], &[])]);
        assert_eq!(of("waldelta.canary: UPDATE: id[integer]:1"), []);
    }
}
