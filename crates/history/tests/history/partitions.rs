//! Partitions are there when rows come, and only those that matter are read.

use waldelta_history::{History, READ_AFTER_SQL};
use waldelta_testkit::TestDatabase;

use crate::support::*;

const PARTITIONS: &str = "SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY inhrelid::regclass::text)
    FROM pg_inherits WHERE inhparent = 'waldelta.change_history'::regclass";

#[tokio::test]
async fn an_append_crosses_from_one_partition_into_the_next() {
    let database = TestDatabase::create("history_partitions").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    let one = |lsn| transaction(lsn, vec![insert(&orders, 0, lsn)]);
    let last = PARTITION_BYTES - 1;
    let lsns = [START, last, PARTITION_BYTES, PARTITION_BYTES + 5, 5 * PARTITION_BYTES];
    assert_eq!(writer.append(lsns.map(one).into()).await.unwrap(), Some(end(5 * PARTITION_BYTES + 1)));
    assert_eq!(commit_lsns(&history).await, lsns);
    assert_eq!(
        database.query_text(PARTITIONS).await,
        "waldelta.change_history_e1_0000000000000000 waldelta.change_history_e1_0000000000010000 \
         waldelta.change_history_e1_0000000000050000",
        "only ranges that received rows have one"
    );
    // Another writer finds them.
    writer.release().await.unwrap();
    let mut writer = history.writer("again").await.unwrap();
    writer.append(vec![one(5 * PARTITION_BYTES + 1), one(6 * PARTITION_BYTES)]).await.unwrap();
    assert_eq!(commit_lsns(&history).await.len(), 7);
    let default = "SELECT count(*) FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE pg_get_expr(relpartbound, pg_class.oid) = 'DEFAULT'";
    assert_eq!(database.query_text(default).await, "0");
}

#[tokio::test]
async fn readers_go_on_while_a_partition_is_made() {
    let database = TestDatabase::create("history_attach").await;
    let (_, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    let reader = database.client().await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM waldelta.change_history").await.unwrap();
    writer.append(vec![transaction(START, vec![insert(&orders, 0, 1)])]).await.unwrap();
    reader.batch_execute("COMMIT").await.unwrap();
}

#[tokio::test]
async fn a_page_reads_one_partition_by_its_key() {
    let database = TestDatabase::create("history_plan").await;
    let (_, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    let rows = |count| (0..count).map(|seq| insert(&orders, seq, 1)).collect::<Vec<_>>();
    let pieces = (1..20).map(|n| transaction(n * PARTITION_BYTES, rows(if n == 5 { 20_000 } else { 50 })));
    writer.append(pieces.collect()).await.unwrap();

    let page = |from: u64, seq: u32, to: u64, changes: u32| {
        READ_AFTER_SQL
            .replace("$1", "1")
            .replace("$2", &format!("'0/{from:X}'::pg_lsn"))
            .replace("$3", &seq.to_string())
            .replace("$4", &format!("'0/{to:X}'::pg_lsn"))
            .replace("$5", &format!("{changes}::bigint"))
            .replace("$6", "1000000::bigint")
    };
    let plan = async |sql: String| {
        let explain = format!("EXPLAIN (ANALYZE, BUFFERS, COSTS off, TIMING off, SUMMARY off) {sql}");
        let rows = database.query(&explain).await;
        rows.into_iter().filter_map(|mut row| row.remove(0)).collect::<Vec<_>>().join("\n")
    };
    // Also right after the rows came, before anything has counted them.
    for analyzed in [false, true] {
        if analyzed {
            database.exec("ANALYZE waldelta.change_history").await;
        }
        let inside = plan(page(5 * PARTITION_BYTES, 19_900, 6 * PARTITION_BYTES - 1, 1000)).await;
        assert!(inside.contains("Index Scan using change_history_e1_0000000000050000_pkey"), "{inside}");
        assert_eq!(inside.matches(" Scan ").count() - inside.matches("Subquery Scan").count(), 1, "{inside}");
        assert!(!inside.contains("Sort"), "{inside}");
        // PostgreSQL 18 prints fractions of rows.
        assert!(inside.contains("rows=99 ") || inside.contains("rows=99.00 "), "{inside}");
        // It begins at the change, not at the transaction, whose rows fill a hundred pages of the index.
        let (_, hit) = inside.split_once("shared hit=").unwrap();
        let hit: u32 = hit.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
        assert!(hit < 20, "{inside}");

        // A wide page stops at its limit: later partitions are there and not read.
        let wide = plan(page(5 * PARTITION_BYTES, 19_990, 15 * PARTITION_BYTES, 30)).await;
        assert!(!wide.contains("_0000000000040000") && !wide.contains("_0000000000100000"), "{wide}");
        assert!(wide.contains("never executed"), "{wide}");
        assert!(!wide.contains("Sort"), "{wide}");
    }
}

#[tokio::test]
async fn versions_of_a_row_are_paged_by_the_row_index() {
    let database = TestDatabase::create("history_row_plan").await;
    let (_, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    // One row that changes again and again, among others that do not.
    let single = |n| {
        let id = if n % 400 == 0 { 7 } else { 1000 + n };
        transaction(3 * PARTITION_BYTES + 1 + n, vec![insert(&orders, 0, id)])
    };
    writer.append((0..20_000).map(single).collect()).await.unwrap();
    writer.append((PARTITION_BYTES..PARTITION_BYTES + 4_000).map(single).collect()).await.unwrap();
    database.exec("ANALYZE waldelta.change_history").await;
    let versions = format!(
        "FROM waldelta.change_history
         WHERE hashtextextended(row_key, table_oid::bigint) = hashtextextended('[7]', 1) AND row_key = '[7]' AND table_oid = 1
             AND epoch = 1 AND lsn >= '0/{:X}' AND (lsn, seq) > ('0/{:X}', 0)",
        3 * PARTITION_BYTES + 1001,
        3 * PARTITION_BYTES + 1001,
    );
    // For few versions a bitmap and a sort are cheaper; this is about a row that has very many.
    database.exec("SET enable_bitmapscan = off").await;
    let explain = format!("EXPLAIN (COSTS off) SELECT data {versions} ORDER BY lsn, seq LIMIT 10");
    let plan: Vec<_> =
        database.query(&explain).await.into_iter().filter_map(|mut row| row.remove(0)).collect();
    let plan = plan.join("\n");
    // The order comes from the index; only changes of one transaction are sorted.
    assert!(
        plan.contains("Incremental Sort") && plan.contains("Presorted Key: change_history.lsn"),
        "{plan}"
    );
    assert_eq!(plan.matches("Index Cond: ((hashtextextended(").count(), 2, "{plan}");
    // 47 in the rest of the first partition, 10 in the other.
    assert_eq!(database.query_text(&format!("SELECT count(*) {versions}")).await, "57");
}

#[tokio::test]
async fn opening_with_partitions_of_no_width_is_refused() {
    let database = TestDatabase::create("history_width").await;
    let mut config = config(&database);
    config.partition_bytes = 0;
    assert!(History::open(&config).await.is_err());
}
