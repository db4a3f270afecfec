//! What is known of rows around a gap: its beginning, what lies in it, where it was noticed, and the reset that ends it.

use waldelta_history::{History, Last, NewEpoch, NewGap, Reads, RowEntry, Writer};
use waldelta_testkit::TestDatabase;
use waldelta_wal::{Lsn, Piece, Position, Repair, RepairReason, Table};

use crate::rows::{MUCH, entries, key, last, told};
use crate::support::*;

fn gap(from: u64) -> NewGap {
    NewGap { table_oid: 1, from: Lsn(START + from), reason: "rewritten".into() }
}

fn insert_at(table: &std::sync::Arc<Table>, lsn: u64) -> Piece {
    transaction(START + lsn, vec![insert(table, 0, 7)])
}

fn repaired(lsn: u64, changes: Vec<waldelta_wal::Change>) -> Piece {
    let repairs = vec![Repair { table_oid: 1, reason: RepairReason::Rewritten }];
    Piece { repairs, ..transaction(START + lsn, changes) }
}

/// What is told of row 7, in pages of every size.
async fn all(history: &History, writer: &Writer) -> Vec<String> {
    let head = writer.head().cursor();
    let at_once = told(&entries(history, 7, None, head, 100).await);
    for limit in 1..=at_once.len() {
        assert_eq!(told(&entries(history, 7, None, head, limit).await), at_once, "{limit} at once");
    }
    at_once
}

/// The places, of these, at which what row 7 is follows from a change.
async fn known(history: &History, places: &[u64]) -> Vec<u64> {
    let mut known = Vec::new();
    for place in places {
        match last(history, 7, whole(START + place), &[]).await {
            Last::Entry(RowEntry::Change(it)) => {
                assert!(!it.in_gap, "{place}");
                known.push(*place);
            }
            Last::Entry(RowEntry::Gap { from, .. }) => assert!(from <= whole(START + place)),
            other => panic!("{place}: {other:?}"),
        }
    }
    known
}

#[tokio::test]
async fn between_its_beginning_and_where_a_look_noticed_it_nothing_is_known() {
    let database = TestDatabase::create("history_row_gap_look").await;
    let (history, mut writer) = written(&database).await;
    let t = writer.number(table(1, "t")).table;
    writer.append([0, 10, 20].map(|lsn| insert_at(&t, lsn)).into()).await.unwrap();
    // The tables were as they are known when the WAL ended at 5; a look at 25 shows another one.
    writer.advance(end(START + 25)).await.unwrap();
    writer.note_source(vec![gap(5)], vec![(1, "other".into())]).await.unwrap();
    writer.append(vec![insert_at(&t, 30)]).await.unwrap();
    assert_eq!(
        all(&history, &writer).await,
        ["0.0 insert", "4.4294967295 gap to 24", "10.0 insert in gap", "20.0 insert in gap", "30.0 insert"]
    );
    // The row as of a change in the gap is not known, nor that of any place behind until there is a change again.
    assert_eq!(known(&history, &[0, 3, 4, 9, 10, 20, 24, 25, 29, 30, 40]).await, [0, 3, 30, 40]);
    let of_more = last(&history, 7, whole(START + 29), &["note".into()]).await;
    assert_eq!(
        of_more,
        Last::Entry(RowEntry::Gap { from: whole(START + 4), until: Some(whole(START + 24)) })
    );

    // While it is open a look shows that the table changed once more: what came in between is uncertain too.
    writer.append(vec![insert_at(&t, 40)]).await.unwrap();
    writer.note_source(Vec::new(), vec![(2, "another table".into())]).await.unwrap();
    assert_eq!(known(&history, &[30, 40]).await, [30, 40]);
    writer.note_source(Vec::new(), vec![(1, "once more".into())]).await.unwrap();
    assert_eq!(known(&history, &[0, 30, 40]).await, [0]);
    writer.append(vec![insert_at(&t, 50)]).await.unwrap();
    assert_eq!(known(&history, &[0, 40, 49, 50]).await, [0, 50]);
    // A reset ends it, and is followed by what tells the row again. What was uncertain stays so; what was known, too.
    let with_reset = vec![insert(&t, 0, 7), reset(1, "public.t", 1)];
    writer.append(vec![transaction(START + 60, with_reset), insert_at(&t, 70)]).await.unwrap();
    assert_eq!(
        all(&history, &writer).await,
        [
            "0.0 insert",
            "4.4294967295 gap to 40",
            "10.0 insert in gap",
            "20.0 insert in gap",
            "30.0 insert in gap",
            "40.0 insert in gap",
            "50.0 insert",
            "60.0 insert",
            "60.1 reset",
            "70.0 insert"
        ]
    );
    writer.note_source(Vec::new(), vec![(1, "after the reset".into())]).await.unwrap();
    assert_eq!(known(&history, &[49, 50, 59, 70]).await, [50, 59, 70], "another gap's business");
}

#[tokio::test]
async fn one_that_the_stream_told_reaches_over_the_transaction_that_told_it() {
    let database = TestDatabase::create("history_row_gap_told").await;
    let (history, mut writer) = written(&database).await;
    let t = writer.number(table(1, "t")).table;
    writer
        .append(vec![
            insert_at(&t, 0),
            // Which came first, the change or what no change tells?
            repaired(10, vec![insert(&t, 0, 7)]),
            insert_at(&t, 20),
        ])
        .await
        .unwrap();
    assert_eq!(
        all(&history, &writer).await,
        ["0.0 insert", "9.4294967295 gap to 10", "10.0 insert in gap", "20.0 insert"]
    );
    assert_eq!(known(&history, &[0, 8, 9, 10, 19, 20, 30]).await, [0, 8, 20, 30]);
    let inside = Position { index: 0, ..whole(START + 10) };
    assert!(matches!(last(&history, 7, inside, &[]).await, Last::Entry(RowEntry::Gap { .. })));
    // Told once more while it is open, alone and together with the reset that ends it.
    writer.append(vec![repaired(30, Vec::new()), insert_at(&t, 40)]).await.unwrap();
    assert_eq!(known(&history, &[0, 20, 30, 39, 40]).await, [0, 40]);
    let last_of_all = repaired(50, vec![reset(1, "public.t", 0)]);
    writer.append(vec![last_of_all, insert_at(&t, 60)]).await.unwrap();
    assert_eq!(known(&history, &[0, 40, 50, 60]).await, [0, 60]);
    assert_eq!(history.open_gaps().await.unwrap(), []);
    // A second one is another one.
    writer.append(vec![repaired(70, Vec::new()), insert_at(&t, 80)]).await.unwrap();
    assert_eq!(known(&history, &[60, 69, 70, 80]).await, [60, 80]);
    let rows = all(&history, &writer).await;
    let gaps: Vec<_> = rows.iter().filter(|row| row.contains(" gap to ")).collect();
    assert_eq!(gaps, ["9.4294967295 gap to 50", "69.4294967295 gap to 70"]);
}

#[tokio::test]
async fn one_of_which_nobody_knows_where_it_was_noticed_reaches_as_far_as_it_was_open() {
    let database = TestDatabase::create("history_row_gap_old").await;
    let (history, mut writer) = written(&database).await;
    let t = writer.number(table(1, "t")).table;
    writer.append([0, 10, 20, 30].map(|lsn| insert_at(&t, lsn)).into()).await.unwrap();
    let stored = "INSERT INTO waldelta.gaps (epoch, table_oid, from_lsn, to_lsn, reason) VALUES
        (1, 1, '0/1005', '0/1014', 'rewritten'), (1, 1, '0/1019', NULL, 'rewritten'), (1, 2, '0/1000', NULL, 'x')";
    database.exec(stored).await;
    assert_eq!(
        all(&history, &writer).await,
        [
            "0.0 insert",
            "4.4294967295 gap to 19",
            "10.0 insert in gap",
            "20.0 insert",
            "24.4294967295 gap",
            "30.0 insert in gap"
        ]
    );
    assert_eq!(known(&history, &[0, 10, 19, 20, 23, 30]).await, [0, 20, 23]);
}

#[tokio::test]
async fn a_gap_and_the_end_of_an_epoch_are_told_where_they_are() {
    let database = TestDatabase::create("history_row_gaps").await;
    let (history, mut writer) = written(&database).await;
    let t = writer.number(table(1, "t")).table;
    writer.append(vec![insert_at(&t, 0)]).await.unwrap();
    writer.append(vec![repaired(5, Vec::new()), insert_at(&t, 10), insert_at(&t, 20)]).await.unwrap();
    // What lies at the end of an epoch or beyond did not survive, nor where the gap was noticed last.
    writer.note_source(Vec::new(), vec![(1, "other".into())]).await.unwrap();
    let new = |start, continues| NewEpoch {
        captured: captured(),
        start: end(START + start),
        fork: Some(Lsn(START + start)),
        reason: "test".into(),
        continues,
        fingerprints: Vec::new(),
    };
    let second = writer.begin_epoch(new(20, true)).await.unwrap();
    let mut writer = history.writer("test").await.unwrap();
    writer.append(vec![in_epoch(second.epoch, insert_at(&t, 25))]).await.unwrap();
    assert_eq!(
        all(&history, &writer).await,
        ["0.0 insert", "4.4294967295 gap", "10.0 insert in gap", "25.0 insert in gap"],
        "it may have happened again"
    );
    // Noticed again in this epoch, it reaches up to there.
    writer.note_source(Vec::new(), vec![(1, "other".into())]).await.unwrap();
    writer.append(vec![in_epoch(second.epoch, insert_at(&t, 35))]).await.unwrap();
    let rows = all(&history, &writer).await;
    assert_eq!(
        rows[1..],
        ["4.4294967295 gap to 25", "10.0 insert in gap", "25.0 insert in gap", "35.0 insert"]
    );
    assert_eq!(last(&history, 7, writer.head().cursor(), &[]).await, {
        let page = history.rows(1).await.unwrap();
        let page = page.versions(&key(7), None, writer.head().cursor(), 9, &mut { MUCH }).await.unwrap();
        Last::Entry(page.entries.last().unwrap().clone())
    });

    // Between epochs of which one does not continue the other, everything is missing.
    let third = writer.begin_epoch(NewEpoch { fork: None, ..new(90, false) }).await.unwrap();
    let mut writer = history.writer("test").await.unwrap();
    let now = |writer: &Writer| writer.head().cursor();
    let unknown = last(&history, 7, now(&writer), &[]).await;
    assert!(
        matches!(unknown, Last::Entry(RowEntry::Gap { from, .. }) if from.epoch == second.epoch),
        "{unknown:?}"
    );
    writer.append(vec![in_epoch(third.epoch, insert_at(&t, 90))]).await.unwrap();
    let found = last(&history, 7, now(&writer), &[]).await;
    assert!(matches!(found, Last::Entry(RowEntry::Change(it)) if !it.in_gap && it.head.epoch == third.epoch));
    let rows = all(&history, &writer).await;
    assert_eq!(rows[5..], ["35.4294967295 gap to 89", "90.0 insert"]);
}

#[tokio::test]
async fn what_was_open_when_the_place_came_to_be_stored_was_noticed_by_then() {
    let database = TestDatabase::create("history_row_gap_upgrade").await;
    let (history, mut writer) = written(&database).await;
    let t = writer.number(table(1, "t")).table;
    writer.append([0, 10].map(|lsn| insert_at(&t, lsn)).into()).await.unwrap();
    writer.release().await.unwrap();
    drop(history);
    // As the version before left it.
    database
        .exec(
            "ALTER TABLE waldelta.gaps DROP COLUMN found_epoch, DROP COLUMN found_lsn;
             DROP INDEX waldelta.gaps_table_idx;
             DELETE FROM waldelta._sqlx_migrations WHERE version = 6;
             INSERT INTO waldelta.gaps (epoch, table_oid, from_lsn, reason) VALUES (1, 1, '0/1005', 'rewritten')",
        )
        .await;
    let history = History::open(&config(&database)).await.unwrap();
    let mut writer = history.writer("test").await.unwrap();
    writer.append(vec![insert_at(&t, 20)]).await.unwrap();
    assert_eq!(known(&history, &[0, 10, 15, 20]).await, [0, 20]);
}

#[tokio::test]
async fn more_gaps_than_are_looked_at_make_what_was_before_them_unknown() {
    let database = TestDatabase::create("history_row_gaps_many").await;
    let (history, mut writer) = written(&database).await;
    let t = writer.number(table(1, "t")).table;
    let pieces = (0..1_010).map(|at| insert_at(&t, at * 10)).collect();
    writer.append(pieces).await.unwrap();
    let stored =
        "INSERT INTO waldelta.gaps (epoch, table_oid, from_lsn, to_lsn, reason, found_epoch, found_lsn)
        SELECT 1, 1, '0/1002'::pg_lsn + n * 10, '0/1006'::pg_lsn + n * 10, 'x', 1, '0/1004'::pg_lsn + n * 10
        FROM generate_series(0, $1) AS n";
    database.exec(&stored.replace("$1", "999")).await;
    assert_eq!(known(&history, &[0, 5, 10, 9_990, 10_000]).await, [0, 10, 9_990, 10_000]);
    database.exec("DELETE FROM waldelta.gaps").await;
    database.exec(&stored.replace("$1", "1004")).await;
    assert_eq!(known(&history, &[0, 10, 9_990, 10_000]).await, [9_990, 10_000]);
}

#[tokio::test]
async fn what_is_read_is_bounded_and_goes_on_from_where_it_ended() {
    let database = TestDatabase::create("history_row_reads").await;
    let (history, mut writer) = written(&database).await;
    let t = writer.number(table(1, "t")).table;
    writer.append(vec![insert_at(&t, 0)]).await.unwrap();
    let mut writer = writer;
    for at in 1..=3 {
        let new = NewEpoch {
            captured: captured(),
            start: end(START + at * 10),
            fork: Some(Lsn(START + at * 10)),
            reason: "test".into(),
            continues: true,
            fingerprints: Vec::new(),
        };
        writer.advance(end(START + at * 10)).await.unwrap();
        writer.begin_epoch(new).await.unwrap();
        writer = history.writer("test").await.unwrap();
    }
    let rows = history.rows(1).await.unwrap();
    let (head, key) = (writer.head().cursor(), key(7));
    // Each epoch is a query of its own. Where it ended is the last place of the epoch that comes next.
    let (mut upto, mut steps) = (head, 0);
    let found = loop {
        match rows.last_version(&key, upto, &[], &mut Reads { queries: 1, bytes: 1 }).await.unwrap() {
            Last::Unread(next) => {
                assert!(next < upto);
                (upto, steps) = (next, steps + 1);
            }
            Last::Entry(entry) => break entry.position(),
            Last::Nothing => panic!("it is there"),
        }
    };
    assert_eq!((found, steps), (Position { index: 0, ..whole(START) }, 3));
    let mut none = Reads { queries: 0, bytes: 1 };
    assert_eq!(rows.last_version(&key, head, &[], &mut none).await.unwrap(), Last::Unread(head));
    let (mut after, mut pages, mut found) = (None, 0, 0);
    loop {
        let mut reads = Reads { queries: 1, bytes: 1 };
        let page = rows.versions(&key, after, head, 5, &mut reads).await.unwrap();
        assert_eq!(reads.queries, 0);
        (pages, found) = (pages + 1, found + page.entries.len());
        if !page.has_more {
            break;
        }
        assert!(Some(page.through) > after);
        after = Some(page.through);
    }
    assert_eq!((pages, found), (4, 1));
}
