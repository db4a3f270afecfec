//! Rows that existed before history began.

use bytes::Bytes;
use waldelta_history::{BaselineRow, Error};
use waldelta_testkit::TestDatabase;
use waldelta_wal::Operation;

use crate::support::*;

fn rows(ids: std::ops::Range<u32>) -> Vec<BaselineRow> {
    let row = |id| BaselineRow {
        row_key: Some(Bytes::from(format!("[{id}]"))),
        data: Bytes::from(format!("{{\"id\": {id}}}")),
        flagged: Vec::new(),
    };
    ids.map(row).collect()
}

#[tokio::test]
async fn they_stand_before_the_floor_once_per_table() {
    let database = TestDatabase::create("history_baseline").await;
    let (history, mut writer) = written(&database).await;
    let (orders, lines) = (writer.number(table(1, "orders")).table, writer.number(table(2, "lines")).table);
    let mut baseline = writer.baseline(&orders, 1_000_000).await.unwrap();
    baseline.rows(rows(0..3)).await.unwrap();
    baseline.rows(rows(3..5)).await.unwrap();
    assert_eq!(baseline.commit().await.unwrap(), 5);
    let mut baseline = writer.baseline(&lines, 1_000_000).await.unwrap();
    baseline.rows(rows(0..2)).await.unwrap();
    assert_eq!(baseline.commit().await.unwrap(), 2);
    let again = writer.baseline(&orders, 1_000_000).await.map(drop);
    assert!(matches!(&again, Err(Error::BaselineExists { table }) if table == "public.orders"), "{again:?}");
    // The end did not move, and changes go on after it.
    assert_eq!(writer.head(), head(START));
    writer.append(vec![transaction(START, vec![insert(&orders, 0, 1)])]).await.unwrap();

    let below = history.read_after(whole(0), whole(START - 1), ALL).await.unwrap();
    let changes = &below.parts[0].changes;
    assert_eq!(below.parts.len(), 1);
    assert_eq!(below.parts[0].head.committed_at_us, 1_000_000);
    assert_eq!(changes.iter().map(|change| change.seq).collect::<Vec<_>>(), (0..7).collect::<Vec<_>>());
    assert!(changes.iter().all(|change| change.operation == Operation::Baseline));
    assert_eq!(changes[6].table.as_ref().unwrap().oid, 2);
    // Whoever may resume meets none of them.
    let floor = history.floor().await.unwrap();
    let page = read_all(&history, floor).await;
    assert_eq!(page.parts.len(), 1);
    assert_eq!(page.parts[0].changes[0].operation, Operation::Insert);
    let from = database.query("SELECT lsn, baseline FROM waldelta.history_from ORDER BY table_oid").await;
    assert_eq!(from, vec![vec![Some(format!("0/{START:X}")), Some("t".to_owned())]; 2]);
    assert_eq!(history.xids_unseen_by(&"1:1:".parse().unwrap(), whole(START)).await.unwrap(), [START]);
}

#[tokio::test]
async fn dropped_half_way_they_are_not_there() {
    let database = TestDatabase::create("history_baseline_drop").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    let mut baseline = writer.baseline(&orders, 0).await.unwrap();
    baseline.rows(rows(0..3000)).await.unwrap();
    drop(baseline);
    assert!(matches!(writer.advance(end(START + 1)).await, Err(Error::WriterClosed)));
    drop(writer);
    let mut writer = history.writer("again").await.unwrap();
    assert_eq!(database.query_text("SELECT count(*) FROM waldelta.change_history").await, "0");
    let orders = writer.number(table(1, "orders")).table;
    let mut baseline = writer.baseline(&orders, 0).await.unwrap();
    baseline.rows(rows(0..1)).await.unwrap();
    assert_eq!(baseline.commit().await.unwrap(), 1);
}
