//! History against PostgreSQL's own `test_decoding`, which shares no code with anything of ours: the same transactions in the same
//! order, with the same operations on the same keys.

use crate::tables::{ALL, root_of};
use crate::world::World;

/// An operation: table, what was done, and the numbers of the key.
type Operation = (String, String, Vec<String>);
/// A transaction: its id, and what it did.
type Transaction = (String, Vec<Operation>);

const STORED: &str =
    "SELECT transaction_id::text, table_name, operation, row_key::jsonb::text, epoch::text, lsn::text
    FROM waldelta.change_history WHERE operation IN ('insert', 'update', 'delete', 'truncate')";

/// Up to where the two were compared.
#[derive(Default)]
pub(crate) struct Decoded {
    /// Epoch and commit LSN of the last transaction in history.
    after: Option<(String, String)>,
}

impl Decoded {
    /// Compares what came since the last time. The source is at rest, and history has everything.
    pub(crate) async fn compare(&mut self, world: &World) {
        let (decoded, stored) = (decoded(world).await, self.stored(world).await);
        for (place, (decoded, stored)) in decoded.iter().zip(&stored).enumerate() {
            assert_eq!(decoded, stored, "I7: transaction {place} of this part: test_decoding, history");
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
            let [xid, table, operation, key, epoch, lsn] = <[Option<String>; 6]>::try_from(row).unwrap();
            self.after = epoch.zip(lsn);
            let (xid, table) = (xid.unwrap(), table.unwrap());
            if transactions.last().is_none_or(|(last, _)| *last != xid) {
                transactions.push((xid, Vec::new()));
            }
            let key = key.map_or_else(Vec::new, |key| {
                key.trim_matches(['[', ']']).split(", ").map(str::to_owned).collect()
            });
            transactions.last_mut().unwrap().1.push((table, operation.unwrap(), key));
        }
        // The tables of one TRUNCATE have no order among themselves.
        for (_, operations) in &mut transactions {
            for truncated in operations.chunk_by_mut(|a, b| a.1 == "truncate" && b.1 == "truncate") {
                truncated.sort();
            }
        }
        transactions
    }
}

async fn decoded(world: &World) -> Vec<Transaction> {
    let sql =
        "SELECT xid::text, data FROM pg_logical_slot_get_changes($1, NULL, NULL, 'skip-empty-xacts', '1')";
    let mut transactions: Vec<Transaction> = Vec::new();
    let client = world.source_client().await;
    for row in client.query(sql, &[&world.decoder_slot()]).await.unwrap() {
        let (xid, line): (String, String) = (row.get(0), row.get(1));
        match line.split_once(' ') {
            Some(("BEGIN", _)) => transactions.push((xid, Vec::new())),
            Some(("table", rest)) => transactions.last_mut().unwrap().1.extend(operations(rest)),
            Some(("COMMIT" | "message:", _)) => {}
            _ => panic!("{line}"),
        }
    }
    transactions.retain(|(_, operations)| !operations.is_empty());
    transactions
}

/// `public.item: UPDATE: old-key: id[bigint]:1 new-tuple: id[bigint]:2 …`; a TRUNCATE names several tables.
fn operations(line: &str) -> Vec<Operation> {
    let (tables, rest) = line.split_once(": ").unwrap();
    let (operation, tuple) = rest.split_once(": ").unwrap();
    let tuple = tuple.split_once("new-tuple: ").map_or(tuple, |(_, new)| new);
    let ours = tables.split(", ").map(root_of).filter(|table| ALL.contains(table));
    let mut operations: Vec<Operation> = ours
        .map(|table| {
            let key = if operation == "TRUNCATE" { Vec::new() } else { key_of(table, tuple) };
            (table.to_owned(), operation.to_lowercase(), key)
        })
        .collect();
    operations.sort();
    // A partitioned table is emptied together with its partitions.
    operations.dedup();
    operations
}

/// The keys of all tables are their first columns, and numbers: `a[integer]:1 b[integer]:2 …`.
fn key_of(table: &str, tuple: &str) -> Vec<String> {
    let columns = match table {
        "public.line" => 0,
        "public.pair" | "public.part" => 2,
        _ => 1,
    };
    let values = tuple.split(' ').take(columns).map(|column| column.rsplit(':').next().unwrap().to_owned());
    values.collect()
}

#[cfg(test)]
mod tests {
    use super::{Operation, operations};

    fn operation(table: &str, operation: &str, key: &[&str]) -> Operation {
        (table.to_owned(), operation.to_owned(), key.iter().map(|part| (*part).to_owned()).collect())
    }

    #[test]
    fn lines_of_the_decoder_are_read() {
        let inserted = operations("public.part_1: INSERT: id[integer]:7 region[integer]:1 v[text]:'a b'");
        assert_eq!(inserted, [operation("public.part", "insert", &["7", "1"])]);
        let moved =
            operations("public.big: UPDATE: old-key: id[integer]:1 new-tuple: id[integer]:2 note[text]:'n'");
        assert_eq!(moved, [operation("public.big", "update", &["2"])]);
        let emptied =
            operations("public.part, public.part_0, public.part_1, public.item: TRUNCATE: (no-flags)");
        assert_eq!(
            emptied,
            [operation("public.item", "truncate", &[]), operation("public.part", "truncate", &[])]
        );
        assert_eq!(operations("waldelta.canary: UPDATE: id[integer]:1"), []);
    }
}
