//! What befell one row, and positions by time. What gaps make of it stands in `row_gaps.rs`.

use std::sync::Arc;

use bytes::Bytes;
use waldelta_history::{History, Last, Reads, RowEntry};
use waldelta_testkit::TestDatabase;
use waldelta_wal::{Change, EndLsn, Lsn, Operation, Piece, Position, Table};

use crate::support::*;

fn update(table: &Arc<Table>, seq: u32, id: u64, old: Option<u64>) -> Change {
    let old_data = old.map(|old| Bytes::from(format!("{{\"id\":{old}}}")));
    Change { operation: Operation::Update, old_data, ..insert(table, seq, id) }
}

fn without_key(table: &Arc<Table>, seq: u32, operation: Operation) -> Change {
    Change { operation, row_key: None, data: None, ..insert(table, seq, 0) }
}

pub(crate) fn key(id: u64) -> String {
    format!("[{id}]")
}

/// More than any test reads.
pub(crate) const MUCH: Reads = Reads { queries: 1_000, bytes: 1 << 20 };

/// The last that befell a row of table 1.
pub(crate) async fn last(history: &History, id: u64, upto: Position, columns: &[String]) -> Last {
    let rows = history.rows(1).await.unwrap();
    rows.last_version(&key(id), upto, columns, &mut { MUCH }).await.unwrap()
}

/// What is read of a row, in pages of `limit`: place, operation and key before.
pub(crate) async fn entries(
    history: &History,
    id: u64,
    after: Option<Position>,
    upto: Position,
    limit: usize,
) -> Vec<(u64, u32, String, Option<String>)> {
    let (mut all, mut after) = (Vec::new(), after);
    let rows = history.rows(1).await.unwrap();
    loop {
        let page = rows.versions(&key(id), after, upto, limit, &mut { MUCH }).await.unwrap();
        assert!(page.entries.len() <= limit);
        assert!(page.entries.iter().all(|entry| entry.position() <= page.through));
        for entry in &page.entries {
            let position = entry.position();
            all.push(match entry {
                RowEntry::Gap { until, .. } => {
                    let until =
                        until.map_or_else(String::new, |until| format!(" to {}", until.commit_lsn.0 - START));
                    (position.commit_lsn.0, position.index, format!("gap{until}"), None)
                }
                RowEntry::Change(it) => {
                    let in_gap = if it.in_gap { " in gap" } else { "" };
                    let operation = format!("{}{in_gap}", it.change.operation.as_str());
                    (position.commit_lsn.0, position.index, operation, it.moved_from.clone())
                }
            });
        }
        if !page.has_more {
            assert_eq!(page.through, upto);
            return all;
        }
        after = Some(page.through);
    }
}

pub(crate) fn told(all: &[(u64, u32, String, Option<String>)]) -> Vec<String> {
    all.iter()
        .map(|(lsn, seq, operation, moved_from)| {
            let from = moved_from.as_ref().map_or_else(String::new, |key| format!(" from {key}"));
            format!("{}.{seq} {operation}{from}", lsn - START)
        })
        .collect()
}

#[tokio::test]
async fn a_row_is_followed_through_everything_that_befalls_it() {
    let database = TestDatabase::create("history_rows").await;
    let (history, mut writer) = written(&database).await;
    let (t, u) = (writer.number(table(1, "t")).table, writer.number(table(2, "u")).table);
    let delete = Change { operation: Operation::Delete, data: None, ..insert(&t, 0, 7) };
    let pieces = [
        (0, vec![insert(&t, 0, 7), insert(&u, 1, 7), insert(&t, 2, 8), update(&t, 3, 7, None)]),
        (10, vec![update(&t, 0, 9, Some(7))]),
        (20, vec![update(&t, 0, 9, Some(9)), update(&t, 1, 7, Some(9))]),
        (30, vec![delete]),
        (40, vec![without_key(&u, 0, Operation::Truncate), insert(&t, 1, 7)]),
        (50, vec![without_key(&t, 0, Operation::Truncate)]),
        (60, vec![reset(1, "public.t", 0), reset(2, "public.u", 1)]),
        // In a partition of its own.
        (u64::from(u32::MAX), vec![insert(&t, 0, 7)]),
    ];
    let pieces = pieces.into_iter().map(|(lsn, changes)| transaction(START + lsn, changes));
    writer.append(pieces.collect()).await.unwrap();
    let head = writer.head().cursor();
    for limit in 1..10 {
        assert_eq!(
            told(&entries(&history, 7, None, head, limit).await),
            [
                "0.0 insert",
                "0.3 update",
                "10.0 update from [7]",
                "20.1 update from [9]",
                "30.0 delete",
                "40.1 insert",
                "50.0 truncate",
                "60.0 reset",
                "4294967295.0 insert"
            ],
            "{limit} at once"
        );
    }
    assert_eq!(
        told(&entries(&history, 9, None, whole(START + 50), 100).await),
        ["10.0 update from [7]", "20.0 update", "20.1 update from [9]", "50.0 truncate"]
    );
    let inside = Position { index: 0, ..whole(START) };
    assert_eq!(told(&entries(&history, 7, Some(inside), whole(START + 9), 100).await), ["0.3 update"]);
    assert_eq!(told(&entries(&history, 8, None, whole(START + 49), 100).await), ["0.2 insert"]);
    assert!(entries(&history, 6, None, whole(START + 49), 100).await.is_empty());
}

#[tokio::test]
async fn the_last_version_that_tells_a_column_is_found() {
    let database = TestDatabase::create("history_row_last").await;
    let (history, mut writer) = written(&database).await;
    let t = writer.number(table(1, "t")).table;
    let lacking = |columns: &[&str]| Change {
        unchanged: columns.iter().map(|name| (*name).to_owned()).collect(),
        ..update(&t, 0, 7, None)
    };
    let pieces = [
        insert(&t, 0, 7),
        lacking(&["a"]),
        lacking(&["a", "b"]),
        lacking(&["b", "a", "c"]),
        update(&t, 0, 8, Some(7)),
    ];
    let pieces = (0..).zip(pieces).map(|(at, change)| transaction(START + at, vec![change]));
    writer.append(pieces.collect()).await.unwrap();
    for (upto, columns, expected) in [
        (3, &[][..], Some(3)),
        (3, &["c"], Some(2)),
        (3, &["a", "c"], Some(2)),
        (3, &["b"], Some(1)),
        (3, &["a"], Some(0)),
        (0, &["a"], Some(0)),
        // There it left this key.
        (4, &["a"], Some(4)),
    ] {
        let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
        let last = match last(&history, 7, whole(START + upto), &columns).await {
            Last::Entry(entry) => Some(entry.position().commit_lsn.0 - START),
            Last::Nothing | Last::Unread(_) => None,
        };
        assert_eq!(last, expected, "{upto} {columns:?}");
    }
    let first = Position::before(EPOCH, end(START));
    assert_eq!(last(&history, 7, first, &[]).await, Last::Nothing);
}

#[tokio::test]
async fn a_row_is_found_by_indexes_alone() {
    let database = TestDatabase::create("history_row_plan").await;
    let (history, mut writer) = written(&database).await;
    let t = writer.number(table(1, "t")).table;
    let pieces = (0..20_000).map(|at| transaction(START + at, vec![insert(&t, 0, at)]));
    writer.append(pieces.collect()).await.unwrap();
    database.client().await.batch_execute("ANALYZE waldelta.change_history").await.unwrap();
    for sql in [
        include_str!("../../../../sql/queries/row_versions.sql")
            .replace("$8", "5")
            .replace("$7", "10")
            .replace("$6", "'0/FFFFFF'")
            .replace("$5", "-1")
            .replace("$4", "'0/0'"),
        include_str!("../../../../sql/queries/last_row_version.sql")
            .replace("$8", "'{}'")
            .replace("$7", "5")
            .replace("$6", "'0/FFFFFF'")
            .replace("$5", "-1")
            .replace("$4", "'0/0'"),
    ] {
        let sql = sql.replace("$3", "'[7]'").replace("$2", "1").replace("$1", "1");
        let plan = database.query(&format!("EXPLAIN {sql}")).await;
        let plan = plan.iter().filter_map(|row| row[0].as_deref()).collect::<Vec<_>>().join("\n");
        assert!(!plan.contains("Seq Scan on change_history"), "{plan}");
        for index in ["hashtextextended_lsn_idx", "table_oid_lsn_idx"] {
            assert!(plan.contains(index), "{index}: {plan}");
        }
    }
    assert_eq!(told(&entries(&history, 7, None, writer.head().cursor(), 5).await), ["7.0 insert"]);
    // A bound inside a transaction is kept to.
    let twice = transaction(START + 30_000, vec![insert(&t, 0, 7), insert(&t, 1, 7)]);
    writer.append(vec![twice]).await.unwrap();
    let last = writer.head().cursor();
    for (index, found) in [(0, 2), (1, 3), (u32::MAX, 3)] {
        let upto = Position { index, ..last };
        assert_eq!(entries(&history, 7, None, upto, 5).await.len(), found, "{index}");
    }
}

#[tokio::test]
async fn a_table_is_found_by_the_name_it_has_else_by_the_one_it_had() {
    let database = TestDatabase::create("history_named").await;
    let (history, mut writer) = written(&database).await;
    let mut at = START;
    let mut write = async |oid, name| {
        let table = writer.number(table(oid, name)).table;
        writer.append(vec![transaction(at, vec![insert(&table, 0, 1)])]).await.unwrap();
        at += 10;
    };
    write(1, "a").await;
    write(1, "b").await;
    let found = async |name: &str| {
        let name = format!("public.{name}").parse().unwrap();
        history.table_named(&name).await.unwrap().map(|table| (table.oid, table.version))
    };
    assert_eq!((found("a").await, found("b").await, found("c").await), (Some((1, 2)), Some((1, 2)), None));
    write(2, "a").await;
    assert_eq!((found("a").await, found("b").await), (Some((2, 1)), Some((1, 2))));
    // Dropped and made anew.
    write(3, "a").await;
    assert_eq!(found("a").await, Some((3, 1)));
    let since = history.history_from(3).await.unwrap().unwrap();
    assert_eq!((since.after, since.baseline), (whole(START + 29), false));
    assert_eq!(history.history_from(4).await.unwrap(), None);
}

fn at_time(lsn: u64, time_us: i64, table: &Arc<Table>) -> Piece {
    let mut piece = transaction(START + lsn, vec![insert(table, 0, lsn), insert(table, 1, lsn)]);
    piece.head.committed_at_us = time_us;
    piece
}

#[tokio::test]
async fn nothing_at_or_after_a_time_lies_before_its_position() {
    let database = TestDatabase::create("history_times").await;
    let (history, mut writer) = written(&database).await;
    let t = writer.number(table(1, "t")).table;
    // Neighbours change places, and once the clock is set back. In several partitions.
    let times = [100, 120, 110, 130, 500, 140, 150, 160, 600, 590];
    let step = PARTITION_BYTES / 3;
    let pieces = (0..).zip(times).map(|(at, time)| at_time(at * step, time * 1_000_000, &t));
    writer.append(pieces.collect()).await.unwrap();
    let (floor, head) = (whole(START - 1), writer.head().cursor());
    for time in 0..700 {
        let first = times.iter().position(|other| *other >= time);
        let expected = first.map_or(head, |first| whole(START + first as u64 * step - 1));
        let found = history.position_before_time(time * 1_000_000, floor, head).await.unwrap();
        if time % 10 == 0 || times.contains(&(time - 1)) {
            assert_eq!(found, expected, "{time}");
        }
    }
    // What lies before the floor plays no role.
    let floor = whole(START + 4 * step);
    let found = history.position_before_time(140_000_000, floor, head).await.unwrap();
    assert_eq!(found, whole(START + 5 * step - 1));
}

#[tokio::test]
async fn a_time_is_found_without_looking_at_everything_before_it() {
    let database = TestDatabase::create("history_times_plan").await;
    let (history, mut writer) = written(&database).await;
    let t = writer.number(table(1, "t")).table;
    let count = 30_000;
    let pieces = (0..count).map(|at| {
        let mut piece = transaction(START + at, vec![insert(&t, 0, at)]);
        piece.head.committed_at_us = i64::try_from(at).unwrap() * 1_000_000;
        piece
    });
    writer.append(pieces.collect()).await.unwrap();
    let client = database.client().await;
    let summarize = "ANALYZE waldelta.change_history;
        SELECT brin_summarize_new_values(indexrelid) FROM pg_index JOIN pg_class ON oid = indexrelid
        WHERE relam = (SELECT oid FROM pg_am WHERE amname = 'brin') AND relkind = 'i'";
    client.batch_execute(summarize).await.unwrap();
    let late = i64::try_from(count - 100).unwrap();
    let found = history
        .position_before_time(late * 1_000_000, whole(START - 1), writer.head().cursor())
        .await
        .unwrap();
    assert_eq!(found, whole(START + count - 101));
    let sql = include_str!("../../../../sql/queries/change_since.sql")
        .replace("$1", "1")
        .replace("$2", "'0/0'")
        .replace("$3", "'0/FFFFFF'")
        .replace("$4", &format!("to_timestamp({late})"));
    client
        .batch_execute("SET enable_seqscan = off; SET enable_indexscan = off; SET enable_indexonlyscan = off")
        .await
        .unwrap();
    let plan = client.query(&format!("EXPLAIN (ANALYZE, COSTS OFF) {sql}"), &[]).await.unwrap();
    let plan = plan.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n");
    assert!(plan.contains("lsn_timestamp_idx"), "{plan}");
    let removed = plan.lines().filter_map(|line| line.trim().strip_prefix("Rows Removed by Index Recheck: "));
    let removed: u64 = removed.map(|rows| rows.parse::<u64>().unwrap()).sum();
    assert!(removed < count / 2, "{plan}");
}

#[tokio::test]
async fn a_change_of_the_key_is_stored_with_the_key_before() {
    let database = TestDatabase::create("history_moved").await;
    let (_, mut writer) = written(&database).await;
    let t = writer.number(table(1, "t")).table;
    let changes = vec![insert(&t, 0, 1), update(&t, 1, 1, Some(1)), update(&t, 2, 2, Some(1))];
    writer.append(vec![transaction(START, changes)]).await.unwrap();
    let stored = database
        .query("SELECT coalesce(metadata ->> 'moved_from', '') FROM waldelta.change_history ORDER BY seq")
        .await;
    let stored: Vec<_> = stored.iter().map(|row| row[0].as_deref().unwrap()).collect();
    assert_eq!(stored, ["", "", "[1]"]);
    assert_eq!(EndLsn(Lsn(START + 1)), writer.head().durable_end);
}
