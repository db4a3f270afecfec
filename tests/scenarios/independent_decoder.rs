//! History against PostgreSQL's own `test_decoding`, which shares no code with anything of ours: the same transactions in
//! the same order, with the same operations on the same keys.

use waldelta_testkit::{TestDatabase, connect};

use crate::load::{Load, SCHEMA, TABLES};
use crate::setting::{Setting, waldelta_ok, with_databases};

/// An operation: table, what was done, and the value of the key, which is the first column everywhere.
type Operation = (String, String, Option<String>);
/// A transaction: its id, and what it did.
type Transaction = (String, Vec<Operation>);

/// What `test_decoding` says of the slot's changes, of our tables alone.
async fn decoded(source: &TestDatabase, slot: &str) -> Vec<Transaction> {
    let client = connect(source.url()).await;
    let sql =
        "SELECT xid::text, data FROM pg_logical_slot_get_changes($1, NULL, NULL, 'skip-empty-xacts', '1')";
    let mut transactions: Vec<Transaction> = Vec::new();
    for row in client.query(sql, &[&slot]).await.unwrap() {
        let (xid, line): (String, String) = (row.get(0), row.get(1));
        match line.split_once(' ') {
            Some(("BEGIN", _)) => transactions.push((xid, Vec::new())),
            Some(("table", rest)) => {
                let operations = operations(rest);
                let transaction = transactions.last_mut().unwrap();
                assert_eq!(transaction.0, xid);
                transaction.1.extend(operations);
            }
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
    let key = tuple.strip_prefix("id[").and_then(|rest| rest.split_once("]:"));
    let key = key.map(|(_, value)| value.split(' ').next().unwrap().to_owned());
    let ours = tables.split(", ").filter(|table| TABLES.contains(table));
    let mut operations: Vec<Operation> =
        ours.map(|table| (table.to_owned(), operation.to_lowercase(), key.clone())).collect();
    operations.sort();
    operations
}

/// The same as history has it. The tables of one TRUNCATE have no order among themselves.
async fn stored(setting: &Setting) -> Vec<Transaction> {
    let sql =
        "SELECT transaction_id::text, table_name, operation, row_key::jsonb->>0 FROM waldelta.change_history
               WHERE operation IN ('insert', 'update', 'delete', 'truncate') ORDER BY epoch, lsn, seq";
    let mut transactions: Vec<Transaction> = Vec::new();
    for row in setting.history.query(sql).await {
        let [xid, table, operation, key] = <[Option<String>; 4]>::try_from(row).unwrap();
        let xid = xid.unwrap();
        if transactions.last().is_none_or(|(last, _)| *last != xid) {
            transactions.push((xid, Vec::new()));
        }
        transactions.last_mut().unwrap().1.push((table.unwrap(), operation.unwrap(), key));
    }
    for (_, operations) in &mut transactions {
        for truncated in operations.chunk_by_mut(|a, b| a.1 == "truncate" && b.1 == "truncate") {
            truncated.sort();
        }
    }
    transactions
}

#[tokio::test]
async fn tells_the_same_as_history() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let (source, history) = (TestDatabase::create("decoder").await, TestDatabase::create("decoder_h").await);
    source.exec(SCHEMA).await;
    waldelta_ok(&with_databases(&["init", "--apply"], &source, &history));
    let slot = source.slot("test_decoding");
    source
        .query_text(&format!("SELECT lsn FROM pg_create_logical_replication_slot('{slot}', 'test_decoding')"))
        .await;
    let setting = {
        let service = waldelta_testkit::Service::start(crate::setting::run_options(&source, &history)).await;
        Setting { service, source, history }
    };
    let load = Load::start(setting.source.url(), 6, seed);
    load.more(600).await;
    load.stop().await;
    // What the load does not do: keys that change, tables that are emptied, a savepoint inside.
    setting
        .source
        .exec("UPDATE item SET id = -id WHERE id IN (SELECT id FROM item ORDER BY id LIMIT 20)")
        .await;
    setting.source.exec("BEGIN; UPDATE counter SET id = id + 100; TRUNCATE entry; SAVEPOINT s; TRUNCATE item, counter; ROLLBACK TO s; COMMIT").await;
    let load = Load::start(setting.source.url(), 6, seed.wrapping_add(100));
    load.more(200).await;
    load.stop().await;
    setting.source.exec("TRUNCATE item, counter").await;
    setting.settled().await;

    let (decoded, stored) = (decoded(&setting.source, &slot).await, stored(&setting).await);
    for (place, (decoded, stored)) in decoded.iter().zip(&stored).enumerate() {
        assert_eq!(decoded, stored, "transaction {place} of seed {seed}: test_decoding, history");
    }
    assert_eq!(decoded.len(), stored.len());
    assert!(decoded.len() > 700, "{}", decoded.len());
}
