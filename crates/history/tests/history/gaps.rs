//! Tables that need repair: noted with the transaction that shows it, or by who looked at the catalog; only by the one
//! writer; once per table.

use waldelta_history::{Error, Gap, History, NewGap};
use waldelta_testkit::TestDatabase;
use waldelta_wal::{Lsn, Piece, Repair, RepairReason};

use crate::support::*;

const COUNT: &str = "SELECT count(*) FROM waldelta.gaps";

fn repair(table_oid: u32, reason: RepairReason) -> Repair {
    Repair { table_oid, reason }
}

fn gap(table_oid: u32, from: u64, reason: &str) -> NewGap {
    NewGap { table_oid, from: Lsn(from), reason: reason.to_owned() }
}

/// Table, where it begins, why.
async fn open_gaps(history: &History) -> Vec<(u32, u64, String)> {
    let mut gaps: Vec<_> = history
        .open_gaps()
        .await
        .unwrap()
        .into_iter()
        .map(|gap| (gap.table_oid.unwrap(), gap.from.0, gap.reason))
        .collect();
    gaps.sort();
    gaps
}

#[tokio::test]
async fn a_transaction_that_shows_it_opens_the_gap_with_itself() {
    let database = TestDatabase::create("history_gaps").await;
    let (history, mut writer) = written(&database).await;
    assert_eq!(history.open_gaps().await.unwrap(), []);
    let orders = writer.number(table(7, "orders")).table;
    let with_changes = Piece {
        repairs: vec![repair(7, RepairReason::Rewritten), repair(7, RepairReason::ColumnRenamed)],
        ..transaction(START + 10, vec![insert(&orders, 0, 1)])
    };
    let empty = Piece {
        repairs: vec![repair(8, RepairReason::DefaultAdded), repair(7, RepairReason::TypeChanged)],
        ..transaction(START + 20, Vec::new())
    };
    writer.append(vec![transaction(START, Vec::new()), with_changes]).await.unwrap();
    writer.append(vec![empty]).await.unwrap();
    assert_eq!(writer.head(), head(START + 21));
    let gaps = history.open_gaps().await.unwrap();
    let found_at_us = gaps[0].found_at_us;
    let expected = Gap {
        epoch: EPOCH,
        table_oid: Some(7),
        table: Some(orders.name.clone()),
        from: Lsn(START + 10),
        to: None,
        reason: "rewritten".into(),
        found_at_us,
    };
    assert_eq!(gaps[0], expected);
    assert_eq!((gaps[1].table_oid, &gaps[1].table, gaps[1].from), (Some(8), &None, Lsn(START + 20)));
    assert_eq!(gaps.len(), 2, "a table has one open gap: {gaps:?}");
    let now: f64 = database.query_text("SELECT extract(epoch FROM now())").await.parse().unwrap();
    assert!((now - found_at_us as f64 / 1e6).abs() < 600.0, "{found_at_us}");

    // Under the name that it has now.
    let renamed = writer.number(table(7, "sales")).table;
    writer.append(vec![transaction(START + 30, vec![insert(&renamed, 0, 2)])]).await.unwrap();
    assert_eq!(history.open_gaps().await.unwrap()[0].table.as_ref(), Some(&renamed.name));
    // One that is repaired may need it again.
    database.exec("UPDATE waldelta.gaps SET to_lsn = '0/FFFF' WHERE table_oid = 7").await;
    assert_eq!(open_gaps(&history).await, [(8, START + 20, "default_added".into())]);
    let again =
        Piece { repairs: vec![repair(7, RepairReason::Rewritten)], ..transaction(START + 40, Vec::new()) };
    writer.append(vec![again]).await.unwrap();
    assert_eq!(open_gaps(&history).await[0], (7, START + 40, "rewritten".into()));
}

#[tokio::test]
async fn of_a_large_transaction_it_is_stored_at_its_end_and_not_before() {
    let database = TestDatabase::create("history_gaps_large").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(7, "orders")).table;
    let large = |writer_reason| {
        let first = Piece {
            repairs: vec![repair(7, writer_reason)],
            ..piece(START + 10, vec![insert(&orders, 0, 1)], None)
        };
        let next = Piece {
            repairs: vec![repair(9, RepairReason::EnumRenamed)],
            ..piece(START + 10, vec![insert(&orders, 1, 1)], None)
        };
        vec![first, next]
    };
    writer.append(large(RepairReason::Rewritten)).await.unwrap();
    assert_eq!(open_gaps(&history).await, []);
    let refused = writer.note_source(vec![gap(1, START, "x")], Vec::new()).await;
    assert!(matches!(refused, Err(Error::TransactionOpen)), "{refused:?}");
    // Given up, it has shown nothing.
    writer.abandon().await.unwrap();
    writer.append(vec![transaction(START + 1, vec![insert(&orders, 0, 1)])]).await.unwrap();
    assert_eq!(open_gaps(&history).await, []);
    writer.append(large(RepairReason::PartitionsChanged)).await.unwrap();
    let last = Piece { first: false, ..piece(START + 10, Vec::new(), Some(START + 50)) };
    writer.append(vec![last]).await.unwrap();
    assert_eq!(
        open_gaps(&history).await,
        [(7, START + 10, "partitions_changed".into()), (9, START + 10, "enum_renamed".into())]
    );
}

#[tokio::test]
async fn what_a_look_at_the_catalog_shows_is_stored_at_once_and_told() {
    let database = TestDatabase::create("history_note").await;
    let (history, mut writer) = written(&database).await;
    writer.advance(end(START + 100)).await.unwrap();
    let seen = |oid: u32, text: &str| (oid, text.to_owned());
    let first =
        vec![gap(4_000_000_000, START + 90, "partitions_changed, \"quoted\"\n"), gap(2, START + 80, "a")];
    let opened = writer.note_source(first.clone(), vec![seen(1, "{\"a\": 1}"), seen(2, "é")]).await.unwrap();
    assert_eq!(opened.len(), 2);
    assert!(first.iter().all(|gap| opened.contains(gap)), "{opened:?}");
    let noted = history.fingerprints().await.unwrap();
    assert_eq!(noted, [seen(1, "{\"a\": 1}"), seen(2, "é")].into());
    // One that is open stays as it is, but for an earlier beginning; the last of two fingerprints holds.
    let second =
        vec![gap(2, START + 70, "b"), gap(4_000_000_000, START + 95, "b"), gap(3, 7, "c"), gap(3, 5, "d")];
    let opened = writer.note_source(second, vec![seen(1, "x"), seen(3, "z"), seen(1, "y")]).await.unwrap();
    assert_eq!(opened, [gap(3, 5, "d")]);
    assert_eq!(
        open_gaps(&history).await,
        [
            (2, START + 70, "a".into()),
            (3, 5, "d".into()),
            (4_000_000_000, START + 90, "partitions_changed, \"quoted\"\n".into()),
        ]
    );
    let noted = history.fingerprints().await.unwrap();
    assert_eq!(noted, [seen(1, "y"), seen(2, "é"), seen(3, "z")].into());
    // Nothing moved, and the writer goes on.
    assert_eq!(writer.note_source(Vec::new(), Vec::new()).await.unwrap(), []);
    assert_eq!(writer.head(), head(START + 100));
    assert_eq!(stored_end(&history).await, START + 100);
    let orders = writer.number(table(7, "orders")).table;
    writer.append(vec![transaction(START + 100, vec![insert(&orders, 0, 1)])]).await.unwrap();
    assert_eq!(commit_lsns(&history).await, [START + 100]);
}

#[tokio::test]
async fn more_than_a_statement_takes_is_stored_too() {
    let database = TestDatabase::create("history_note_many").await;
    let (history, mut writer) = written(&database).await;
    let gaps = (1..=10_001).map(|oid| gap(oid, START, "x")).collect();
    let seen = (1..=10_001).map(|oid: u32| (oid, oid.to_string())).collect();
    assert_eq!(writer.note_source(gaps, seen).await.unwrap().len(), 10_001);
    assert_eq!(database.query_text(COUNT).await, "10001");
    assert_eq!(history.open_gaps().await.unwrap().len(), 10_000, "the list is bounded");
    assert_eq!(history.fingerprints().await.unwrap().len(), 10_001);
}

#[tokio::test]
async fn a_writer_without_the_token_opens_none() {
    let database = TestDatabase::create("history_gaps_fence").await;
    let history = begun(&database).await;
    let shown = Piece { repairs: vec![repair(7, RepairReason::Rewritten)], ..transaction(START, Vec::new()) };
    for by_append in [true, false] {
        let mut writer = history.writer("test").await.unwrap();
        database.exec("UPDATE waldelta.captures SET token = token + 1").await;
        let fenced = match by_append {
            true => writer.append(vec![shown.clone()]).await.map(drop),
            false => writer.note_source(vec![gap(7, START, "x")], vec![(7, "x".into())]).await.map(drop),
        };
        assert!(matches!(fenced, Err(Error::Fenced { .. })), "{fenced:?}");
        let closed = writer.note_source(vec![gap(7, START, "x")], Vec::new()).await;
        assert!(matches!(closed, Err(Error::WriterClosed)), "{closed:?}");
        assert_eq!(database.query_text(COUNT).await, "0");
        assert_eq!(history.fingerprints().await.unwrap(), [].into());
    }
    // And one whose place was taken.
    let mut first = history.writer("first").await.unwrap();
    let mut second = history.take_over("second").await.unwrap();
    let gone = first.note_source(vec![gap(7, START, "x")], Vec::new()).await;
    assert!(gone.is_err(), "{gone:?}");
    assert_eq!(database.query_text(COUNT).await, "0");
    assert_eq!(second.note_source(vec![gap(7, START, "x")], Vec::new()).await.unwrap().len(), 1);
}
