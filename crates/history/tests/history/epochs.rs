//! One epoch after another: what survived is read on, what did not is never read again, and what is missing is told.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use waldelta_history::{Behind, Captured, Error, Head, History, Lineage, NewEpoch, NewGap, Writer};
use waldelta_testkit::TestDatabase;
use waldelta_wal::{Code, Column, Epoch, Lsn, Position, Table};

use crate::support::*;

/// Where the second epoch begins in these tests.
const SEAM: u64 = START + 20;

fn promoted() -> Captured {
    Captured { timeline: 4, slot: "other".into(), ..captured() }
}

fn new_epoch(start: u64, fork: Option<u64>, continues: bool) -> NewEpoch {
    NewEpoch {
        captured: promoted(),
        start: end(start),
        fork: fork.map(Lsn),
        reason: "the source was promoted".into(),
        continues,
        fingerprints: vec![(9, "new".into())],
    }
}

/// Transactions at 0, 10, 20 and 30 after the start; durable up to 40 after it.
async fn filled(database: &TestDatabase) -> (History, Writer) {
    let (history, mut writer) = written(database).await;
    let orders = writer.number(table(1, "orders")).table;
    let one = |lsn| transaction(lsn, vec![insert(&orders, 0, lsn)]);
    writer.append([0, 10, 20, 30].map(|at| one(START + at)).into()).await.unwrap();
    writer.advance(end(START + 40)).await.unwrap();
    writer.note_source(Vec::new(), vec![(8, "old".into())]).await.unwrap();
    (history, writer)
}

async fn second_writer(history: &History, at: &[u64]) -> Writer {
    let mut writer = history.writer("second").await.unwrap();
    let orders = writer.number(table(1, "orders")).table;
    let one = |lsn| in_epoch(writer.epoch(), transaction(lsn, vec![insert(&orders, 0, lsn)]));
    let pieces = at.iter().map(|at| one(START + at)).collect();
    writer.append(pieces).await.unwrap();
    writer
}

/// What comes after a position up to another: epoch, and place after the start.
async fn read(history: &History, after: Position, upto: Position) -> Vec<(Epoch, u64)> {
    let page = history.read_after(after, upto, ALL).await.unwrap();
    assert!(!page.has_more);
    page.parts.iter().map(|part| (part.head.epoch, part.head.commit_lsn.0 - START)).collect()
}

fn first(at: u64) -> Position {
    whole(START + at)
}

#[tokio::test]
async fn an_epoch_that_continues_takes_readers_along_and_leaves_ghosts_behind() {
    let database = TestDatabase::create("history_continues").await;
    let (history, writer) = filled(&database).await;
    let now = writer.head().cursor();
    let began = writer.begin_epoch(new_epoch(SEAM, Some(SEAM), true)).await.unwrap();
    assert_eq!(began, Head { epoch: began.epoch, durable_end: end(SEAM) });
    let seconds: u32 = database
        .query_text("SELECT extract(epoch FROM now() - '2025-01-01 00:00:00+00')::int")
        .await
        .parse()
        .unwrap();
    assert!(began.epoch.0.abs_diff(seconds) < 600, "{began:?}");
    assert_eq!(history.captured().await.unwrap(), Some((promoted(), began)));
    assert_eq!(history.floor().await.unwrap(), Position::before(EPOCH, end(START)));
    assert_eq!(history.open_gaps().await.unwrap(), []);
    assert_eq!(database.query_text("SELECT count(*) FROM waldelta.gaps").await, "0");
    assert_eq!(history.fingerprints().await.unwrap(), [(9, "new".into())].into());
    // The feed begins anew: whoever was live reads on from the table.
    assert_eq!(history.feed().head(), began);
    assert_eq!(history.feed().after(now, usize::MAX), Err(Behind { floor: began.cursor() }));

    let lineage = history.lineage().await.unwrap();
    let [before, after] = lineage.epochs() else { panic!("{lineage:?}") };
    assert_eq!((before.epoch, before.previous, before.end), (EPOCH, None, Some(end(SEAM))));
    assert_eq!((after.epoch, after.previous, after.end), (began.epoch, Some(EPOCH), None));
    assert_eq!((after.start, after.fork, after.continues), (end(SEAM), Some(Lsn(SEAM)), true));
    assert_eq!(after.reason, "the source was promoted");
    assert!(after.started_at_us >= before.started_at_us && before.started_at_us > 1_700_000_000_000_000);
    let (last, seam) = (lineage.last_position(EPOCH).unwrap(), lineage.seam(EPOCH).unwrap());
    assert_eq!((last, seam), (first(19), Position::before(began.epoch, end(SEAM))));
    assert!(lineage.can_continue(first(10)) && lineage.can_continue(last) && lineage.can_continue(seam));
    assert!(!lineage.can_continue(first(20)) && !lineage.can_continue(first(30)));

    // The same LSNs again, for other transactions.
    let writer = second_writer(&history, &[20, 25]).await;
    let head = writer.head().cursor();
    for upto in [head, first(30), first(u64::MAX - START), last] {
        assert_eq!(read(&history, first(0), upto).await, [(EPOCH, 10)], "{upto}");
        assert_eq!(read(&history, first(20), upto).await, [], "{upto}");
    }
    assert_eq!(read(&history, seam, head).await, [(began.epoch, 20), (began.epoch, 25)]);
    assert_eq!(read(&history, seam, first(30)).await, []);
    // Page by page as at once, and the last page of the epoch says that it is.
    let one = waldelta_history::ReadLimit { changes_max: 1, bytes_max: 1 };
    let page = history.read_after(first(0).min(whole(START - 1)), head, one).await.unwrap();
    assert!(page.has_more);
    let page = history.read_after(page.parts[0].head.position(), head, one).await.unwrap();
    assert_eq!((page.has_more, page.parts[0].head.commit_lsn.0), (false, START + 10));

    for (at, cursor) in [
        (START, Some(whole(START - 1))),
        (SEAM - 1, Some(whole(SEAM - 2))),
        // At the seam both epochs have it: it is the one that goes on. Beyond it only that one has.
        (SEAM, Some(seam)),
        (SEAM + 5, Some(Position::before(began.epoch, end(SEAM + 5)))),
        (SEAM + 6, Some(head)),
        (SEAM + 7, None),
    ] {
        assert_eq!(history.cursor_of_lsn(Lsn(at)).await.unwrap(), cursor, "{at:x}");
    }
    // Transaction ids of what did not survive are nobody's; what survived is visible to all.
    let snapshot = format!("{START}:{START}:").parse().unwrap();
    assert_eq!(history.xids_unseen_by(&snapshot, first(30)).await.unwrap(), [0; 0]);
    let mut unseen = history.xids_unseen_by(&snapshot, head).await.unwrap();
    unseen.sort_unstable();
    assert_eq!(unseen, [SEAM, SEAM + 5]);
}

#[tokio::test]
async fn an_epoch_that_does_not_continue_leaves_a_gap_of_all_tables() {
    let database = TestDatabase::create("history_gap_of_all").await;
    let (history, mut writer) = filled(&database).await;
    let gap = |table_oid| NewGap { table_oid, from: Lsn(START + 10), reason: "rewritten".into() };
    writer.note_source(vec![gap(7), gap(8)], Vec::new()).await.unwrap();
    let began = writer.begin_epoch(new_epoch(START + 500, None, false)).await.unwrap();
    assert_eq!(began.durable_end, end(START + 500));
    assert_eq!(history.open_gaps().await.unwrap(), [], "their readers begin anew");
    let gaps = "SELECT string_agg(format('%s %s/%s-%s/%s %s', coalesce(table_oid::text, 'all'), epoch, from_lsn, to_epoch, to_lsn, reason), ', '
        ORDER BY id) FROM waldelta.gaps";
    let n = began.epoch.0;
    assert_eq!(
        database.query_text(gaps).await,
        format!(
            "7 1/0/100A-{n}/0/11F4 rewritten, 8 1/0/100A-{n}/0/11F4 rewritten, all 1/0/1028-{n}/0/11F4 the source was promoted"
        )
    );
    assert_eq!(history.floor().await.unwrap(), Position::before(began.epoch, end(START + 500)));
    let lineage = history.lineage().await.unwrap();
    assert_eq!(lineage.last_position(EPOCH), Some(first(39)));
    assert!(!lineage.can_continue(first(10)) && !lineage.can_continue(first(39)));
    assert!(lineage.can_continue(began.cursor()));
    assert_eq!(read(&history, first(0), began.cursor()).await, [(EPOCH, 10), (EPOCH, 20), (EPOCH, 30)]);
    let _writer = second_writer(&history, &[500]).await;
    assert_eq!(history.cursor_of_lsn(Lsn(START + 40)).await.unwrap(), Some(first(39)));
    assert_eq!(history.cursor_of_lsn(Lsn(START + 100)).await.unwrap(), None, "nobody has that");
}

#[tokio::test]
async fn beyond_the_fork_nothing_survives_whether_it_continues_or_not() {
    let database = TestDatabase::create("history_fork").await;
    let (history, writer) = filled(&database).await;
    let began = writer.begin_epoch(new_epoch(START + 500, Some(SEAM), false)).await.unwrap();
    assert_eq!(history.lineage().await.unwrap().last_position(EPOCH), Some(first(19)));
    assert_eq!(read(&history, first(0), began.cursor()).await, [(EPOCH, 10)]);
    assert_eq!(
        database.query_text("SELECT format('%s %s', from_lsn, to_lsn) FROM waldelta.gaps").await,
        "0/1014 0/11F4"
    );
    assert_eq!(history.cursor_of_lsn(Lsn(SEAM + 1)).await.unwrap(), None);
}

#[tokio::test]
async fn epochs_follow_one_another_by_number_whatever_the_clock_says() {
    let database = TestDatabase::create("history_epoch_numbers").await;
    let history = History::open(&config(&database)).await.unwrap();
    let last = Epoch(2_000_000_000);
    history.begin_in(last, &captured(), end(START), "test").await.unwrap();
    for n in 1..=3 {
        let mut writer = history.writer("test").await.unwrap();
        writer.advance(end(START + 10 * n)).await.unwrap();
        let began =
            writer.begin_epoch(new_epoch(START + 10 * n, Some(START + 10 * n), n != 2)).await.unwrap();
        assert_eq!(u64::from(began.epoch.0), u64::from(last.0) + n);
    }
    let lineage = history.lineage().await.unwrap();
    let at = |epoch: u32, lsn| Position::before(Epoch(last.0 + epoch), end(lsn));
    assert!(!lineage.can_continue(at(0, START + 10)) && !lineage.can_continue(at(1, START + 20)));
    assert!(lineage.can_continue(at(2, START + 30)) && lineage.can_continue(at(3, START + 30)));
    assert!(!lineage.can_continue(at(4, START + 30)) && !Lineage::default().can_continue(at(0, START)));
}

#[tokio::test]
async fn a_start_that_cannot_be_is_refused_and_nothing_changes() {
    let database = TestDatabase::create("history_epoch_refused").await;
    let (history, writer) = filled(&database).await;
    writer.release().await.unwrap();
    let before = history.captured().await.unwrap();
    for nonsense in [
        new_epoch(0, None, false),
        new_epoch(0, Some(SEAM), true),
        // On the same timeline nothing has to begin anew unless something is missing.
        new_epoch(SEAM, None, true),
        // Beyond what is durable, beyond the fork, before the epoch itself.
        new_epoch(START + 41, Some(START + 50), true),
        new_epoch(SEAM + 1, Some(SEAM), true),
        new_epoch(START - 1, Some(START), true),
    ] {
        let refused = history.writer("test").await.unwrap().begin_epoch(nonsense.clone()).await;
        assert!(matches!(refused, Err(Error::Unusable { .. })), "{nonsense:?}: {refused:?}");
    }
    let mut writer = history.take_over("test").await.unwrap();
    let orders = writer.number(table(1, "orders")).table;
    writer.append(vec![piece(START + 40, vec![insert(&orders, 0, 1)], None)]).await.unwrap();
    let refused = writer.begin_epoch(new_epoch(SEAM, Some(SEAM), true)).await;
    assert!(matches!(refused, Err(Error::TransactionOpen)), "{refused:?}");
    // One whose place another has taken.
    let writer = history.take_over("test").await.unwrap();
    database.exec("UPDATE waldelta.captures SET token = token + 1").await;
    let refused = writer.begin_epoch(new_epoch(SEAM, None, false)).await;
    assert!(matches!(refused, Err(Error::Fenced { expected }) if expected == end(START + 40)), "{refused:?}");
    assert_eq!(history.captured().await.unwrap(), before);
    assert_eq!(history.lineage().await.unwrap().epochs().len(), 1);
    assert_eq!(history.fingerprints().await.unwrap(), [(8, "old".into())].into());
    assert_eq!(database.query_text("SELECT count(*) FROM waldelta.gaps").await, "0");
    // At the ends of what can be.
    let writer = history.take_over("test").await.unwrap();
    let began = writer.begin_epoch(new_epoch(START + 40, Some(START + 40), true)).await.unwrap();
    let writer = history.writer("test").await.unwrap();
    writer.begin_epoch(new_epoch(START + 40, Some(START + 45), true)).await.unwrap();
    assert!(history.lineage().await.unwrap().can_continue(began.cursor()));
}

#[tokio::test]
async fn what_was_noted_of_ghosts_is_not_taken_for_what_is() {
    let database = TestDatabase::create("history_ghost_shapes").await;
    let (history, mut writer) = written(&database).await;
    let wide = |oid| {
        let mut wide = table(oid, "orders");
        wide.columns.push(Column { ..column(3, "more", 25, "text") });
        wide
    };
    let number = |writer: &mut Writer, table: Table| writer.number(table).table;
    let (orders, others) = (number(&mut writer, table(1, "orders")), number(&mut writer, table(2, "others")));
    let both = vec![insert(&orders, 0, 1), insert(&others, 1, 1)];
    writer.append(vec![transaction(START, both)]).await.unwrap();
    let gap = |table_oid, from| NewGap { table_oid, from: Lsn(from), reason: "x".into() };
    writer.note_source(vec![gap(4, START)], Vec::new()).await.unwrap();
    // Beyond the seam: a column comes, a table comes, one is reset, and one needs repair.
    let (orders, late) = (number(&mut writer, wide(1)), number(&mut writer, table(3, "late")));
    assert_eq!((orders.version, late.version), (2, 1));
    let all = vec![insert(&orders, 0, 1), insert(&late, 1, 1), reset(4, "public.fourth", 2)];
    writer.append(vec![transaction(SEAM + 1, all)]).await.unwrap();
    assert_eq!(history.open_gaps().await.unwrap(), []);
    writer.note_source(vec![gap(1, SEAM + 1), gap(2, START)], Vec::new()).await.unwrap();
    let began = writer.begin_epoch(new_epoch(SEAM, Some(SEAM), true)).await.unwrap();

    // What needed repair still does, from where its readers go on.
    let gaps: Vec<_> =
        history.open_gaps().await.unwrap().iter().map(|gap| (gap.epoch, gap.table_oid, gap.from.0)).collect();
    assert_eq!(
        gaps,
        [(EPOCH, Some(4), START), (began.epoch, Some(1), SEAM), (EPOCH, Some(2), START)],
        "a reset that did not survive ends nothing"
    );
    let mut writer = history.writer("second").await.unwrap();
    assert_eq!(writer.latest_shape(1).unwrap().columns, table(1, "orders").columns);
    // The shape as it was at the seam is no change, and the same column again is one: readers from before have not seen it.
    let again = writer.number(table(1, "orders"));
    assert_eq!((again.table.version, again.changed), (3, false));
    let wider = writer.number(wide(1));
    assert_eq!((wider.table.version, wider.changed), (4, true));
    assert_eq!(writer.number(table(2, "others")).table.version, 1);
    let late = writer.number(table(3, "late"));
    assert_eq!((late.table.version, late.changed), (1, false));
    let all = vec![insert(&wider.table, 0, 1), insert(&late.table, 1, 1)];
    writer.append(vec![in_epoch(began.epoch, transaction(SEAM + 5, all))]).await.unwrap();
    let from = "SELECT string_agg(format('%s %s %s', table_oid, epoch, lsn), ', ' ORDER BY table_oid) FROM waldelta.history_from";
    assert_eq!(
        database.query_text(from).await,
        format!("1 1 0/1000, 2 1 0/1000, 3 {} 0/1014", began.epoch.0)
    );
    // A gap that began before is ended by a reset after it.
    let resets =
        vec![reset(2, "public.others", 0), reset(1, "public.orders", 1), reset(4, "public.fourth", 2)];
    writer.append(vec![in_epoch(began.epoch, transaction(SEAM + 10, resets))]).await.unwrap();
    assert_eq!(history.open_gaps().await.unwrap(), []);
    let ended = "SELECT string_agg(format('%s %s %s', epoch, to_epoch, to_lsn), ', ' ORDER BY table_oid) FROM waldelta.gaps";
    let n = began.epoch.0;
    assert_eq!(database.query_text(ended).await, format!("{n} {n} 0/101E, 1 {n} 0/101E, 1 {n} 0/101E"));
}

#[tokio::test]
async fn the_writer_and_its_lease_are_given_back() {
    let database = TestDatabase::create("history_epoch_lease").await;
    let (_history, writer) = filled(&database).await;
    let (keeper, stop) = (writer.lease_keeper(), CancellationToken::new());
    let began = async {
        let began = writer.begin_epoch(new_epoch(SEAM, Some(SEAM), true)).await.unwrap();
        // At once, and elsewhere too.
        let other = History::open(&config(&database)).await.unwrap();
        let next = other.writer("other").await.unwrap();
        assert_eq!(next.head(), began);
        stop.cancel();
    };
    let (kept, ()) = tokio::join!(keeper.run(stop.clone()), began);
    assert!(kept.is_ok() || kept.is_err_and(|error| error.code() == Code::HistoryFenced));
}

#[tokio::test]
async fn a_follower_goes_on_in_the_new_epoch() {
    let database = TestDatabase::create("history_follow_epoch").await;
    let (history, writer) = filled(&database).await;
    let follower = History::open(&config(&database)).await.unwrap();
    let stop = CancellationToken::new();
    let has_head = async |wanted: Head| {
        let mut watch = follower.feed().watch();
        let reached = watch.wait_for(|now| *now >= wanted);
        tokio::time::timeout(Duration::from_secs(10), reached).await.expect("the head in time").unwrap();
    };
    let test = async {
        has_head(head(START + 40)).await;
        // Its durable end is lower than the one before, and it is further on.
        let began = writer.begin_epoch(new_epoch(SEAM, Some(SEAM), true)).await.unwrap();
        has_head(began).await;
        assert_eq!(follower.feed().head(), began);
        assert!(follower.feed().after(first(39), usize::MAX).is_err());
        let writer = second_writer(&history, &[20, 25]).await;
        has_head(writer.head()).await;
        let entries = follower.feed().after(began.cursor(), usize::MAX).unwrap();
        assert_eq!(entries.len(), 2);
        assert!(entries.iter().all(|entry| entry.position().epoch == began.epoch));
        stop.cancel();
    };
    let (followed, ()) = tokio::join!(follower.follow(stop.clone()), test);
    followed.unwrap();
}
