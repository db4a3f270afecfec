//! Resets of tables: stored at their place, and the gap ends with them.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use waldelta_history::{Entry, Gap, History, NewGap};
use waldelta_testkit::TestDatabase;
use waldelta_wal::{Lsn, Operation, Piece, Repair, RepairReason, Reset, TableName};

use crate::support::*;

const GAPS: &str =
    "SELECT string_agg(format('%s %s-%s', table_oid, from_lsn, to_lsn), ', ' ORDER BY id) FROM waldelta.gaps";

fn gap(table_oid: u32, from: u64, reason: &str) -> NewGap {
    NewGap { table_oid, from: Lsn(from), reason: reason.to_owned() }
}

async fn open_tables(history: &History) -> Vec<u32> {
    history.open_gaps().await.unwrap().iter().map(|gap| gap.table_oid.unwrap()).collect()
}

#[tokio::test]
async fn a_reset_is_a_row_of_its_table_and_ends_the_gap() {
    let database = TestDatabase::create("history_reset").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(7, "orders")).table;
    writer.append(vec![transaction(START, vec![insert(&orders, 0, 1)])]).await.unwrap();
    let gaps =
        [gap(7, START + 1, "rewritten"), gap(8, START + 1, Gap::JOINING), gap(9, START + 1, "skipped")];
    writer.note_source(gaps.into(), Vec::new()).await.unwrap();
    let open = history.open_gaps().await.unwrap();
    assert_eq!(open.iter().map(Gap::needs_repair).collect::<Vec<_>>(), [true, false, true]);

    let changes = vec![
        insert(&orders, 0, 2),
        reset(7, "public.orders", 1),
        reset(4_000_000_000, r#""S".t"#, 2),
        reset(8, "public.\"plain\"", 3),
    ];
    writer.append(vec![transaction(START + 10, changes.clone())]).await.unwrap();
    let stored = database
        .query(
            "SELECT operation, table_oid, table_name, schema_version IS NULL, data ->> 'reason', client_id
            FROM waldelta.change_history WHERE lsn = '0/100A' AND seq > 0 ORDER BY seq",
        )
        .await;
    let stored: Vec<_> =
        stored.iter().map(|row| row.iter().map(|value| value.as_deref()).collect::<Vec<_>>()).collect();
    let row = |oid, name| vec![Some("reset"), Some(oid), Some(name), Some("t"), Some("rewritten"), None];
    // Under the name as it is written everywhere else.
    assert_eq!(stored, [row("7", "public.orders"), row("4000000000", r#""S".t"#), row("8", "public.plain")]);
    assert_eq!(database.query_text(GAPS).await, "7 0/1001-0/100A, 8 0/1001-0/100A, 9 0/1001-");
    assert_eq!(open_tables(&history).await, [9]);

    // They come back as they were appended, from the table as from the feed.
    let page = read_all(&history, whole(START)).await;
    assert_eq!(
        page.parts[0].changes.iter().map(Reset::of).collect::<Vec<_>>(),
        changes.iter().map(Reset::of).collect::<Vec<_>>()
    );
    assert_eq!(Reset::of(&page.parts[0].changes[2]).unwrap().table_name().unwrap().schema, "S");
    assert!(
        page.parts[0].changes[1..]
            .iter()
            .all(|change| change.table.is_none() && change.operation == Operation::Reset)
    );
    let entries = history.feed().after(whole(START), usize::MAX).unwrap();
    assert!(
        matches!(&entries[..], [Entry::Whole(transaction)] if transaction.changes == changes),
        "{entries:?}"
    );
    // It may need repair again, and another reset ends that.
    writer.note_source(vec![gap(7, START + 20, "rewritten")], Vec::new()).await.unwrap();
    writer.append(vec![transaction(START + 30, vec![reset(7, "public.orders", 0)])]).await.unwrap();
    assert_eq!(open_tables(&history).await, [9]);
}

#[tokio::test]
async fn the_order_of_repairs_and_resets_decides_what_stays_open() {
    let database = TestDatabase::create("history_reset_order").await;
    let (history, mut writer) = written(&database).await;
    let repaired = |lsn, tables: &[u32], changes| Piece {
        repairs: tables
            .iter()
            .map(|table_oid| Repair { table_oid: *table_oid, reason: RepairReason::Rewritten })
            .collect(),
        ..transaction(lsn, changes)
    };
    writer
        .append(vec![
            repaired(START, &[1, 2, 3], Vec::new()),
            transaction(START + 1, vec![reset(1, "public.a", 0), reset(2, "public.b", 1)]),
            repaired(START + 2, &[2], Vec::new()),
            // Both in one: whoever reads past it reads the table as it is afterwards.
            repaired(START + 3, &[4, 5], vec![reset(4, "public.d", 0)]),
        ])
        .await
        .unwrap();
    let open = history.open_gaps().await.unwrap();
    let mut open: Vec<_> = open.iter().map(|gap| (gap.table_oid.unwrap(), gap.from.0 - START)).collect();
    open.sort_unstable();
    assert_eq!(open, [(2, 2), (3, 0), (5, 3)]);
    // One that turns out to begin after the reset is not ended by it.
    writer.note_source(vec![gap(6, START + 50, "x")], Vec::new()).await.unwrap();
    writer.append(vec![transaction(START + 49, vec![reset(6, "public.f", 0)])]).await.unwrap();
    assert!(open_tables(&history).await.contains(&6));
    writer.append(vec![transaction(START + 50, vec![reset(6, "public.f", 0)])]).await.unwrap();
    assert!(!open_tables(&history).await.contains(&6));
}

#[tokio::test]
async fn inside_a_large_transaction_it_counts_at_the_end_and_is_told() {
    let database = TestDatabase::create("history_reset_large").await;
    let (history, mut writer) = written(&database).await;
    let follower = History::open(&config(&database)).await.unwrap();
    let orders = writer.number(table(7, "orders")).table;
    writer.note_source(vec![gap(8, START, "x"), gap(9, START, "x")], Vec::new()).await.unwrap();
    let pieces = |ends| {
        let mut last = piece(START + 10, vec![insert(&orders, 2, 1), reset(9, "public.c", 3)], ends);
        last.first = false;
        vec![piece(START + 10, vec![insert(&orders, 0, 1), reset(8, "public.b", 1)], None), last]
    };
    writer.append(pieces(None)).await.unwrap();
    assert_eq!(open_tables(&history).await, [8, 9]);
    // Given up, it has reset nothing.
    writer.abandon().await.unwrap();
    writer.append(vec![transaction(START, vec![insert(&orders, 0, 1)])]).await.unwrap();
    assert_eq!(open_tables(&history).await, [8, 9]);
    for piece in pieces(Some(START + 20)) {
        writer.append(vec![piece]).await.unwrap();
    }
    assert_eq!(open_tables(&history).await, [0; 0]);
    // Whom it concerns is known where it is kept as a reference.
    let tables = |entry: &Entry| match entry {
        Entry::Large(large) => {
            let mut tables = large.touched.clone().unwrap().tables;
            tables.sort();
            tables.into_iter().map(|TableName { name, .. }| name).collect::<Vec<_>>()
        }
        Entry::Whole(_) => panic!("it came in two pieces"),
    };
    let entries = history.feed().after(whole(START), usize::MAX).unwrap();
    assert_eq!(tables(&entries[0]), ["b", "c", "orders"]);
    // In a process that follows, too.
    let stop = CancellationToken::new();
    let caught_up = async {
        let mut watch = follower.feed().watch();
        let reached = watch.wait_for(|now| *now >= head(START + 20));
        tokio::time::timeout(Duration::from_secs(10), reached).await.unwrap().unwrap();
        stop.cancel();
    };
    let (followed, ()) = tokio::join!(follower.follow(stop.clone()), caught_up);
    followed.unwrap();
    let Entry::Whole(transaction) = &follower.feed().after(whole(START), usize::MAX).unwrap()[0] else {
        panic!("four changes fit a page")
    };
    assert_eq!(Arc::as_ref(transaction).changes.iter().filter_map(Reset::of).count(), 2);
}
