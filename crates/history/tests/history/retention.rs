//! History is kept as long as is said: what has to go goes, whole and in order; nobody misses it silently, and nobody waits for it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use waldelta_history::{Error, History, Last, NewEpoch, Pruner, Reads, Retention, Sweep, Writer};
use waldelta_testkit::{TestDatabase, wait_until};
use waldelta_wal::{Code, Lsn, Position};

use crate::support::*;

const PATIENCE: Duration = Duration::from_secs(60);
const HOUR: Retention = Retention::Age(Duration::from_secs(3600));
/// Everything but what is written.
const NOTHING: Retention = Retention::Size(1);
const MUCH: Reads = Reads { queries: 100, bytes: 1 << 20 };
const PARTITIONS: &str =
    "SELECT count(*) FROM pg_inherits WHERE inhparent = 'waldelta.change_history'::regclass";

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

async fn sweep(writer: &Writer, retention: Retention, ahead: Duration) -> Sweep {
    writer.sweeper(all_shown()).sweep(retention, false, ahead).await.unwrap()
}

/// One transaction with one row of table 1, whose key is its place.
async fn append(writer: &mut Writer, lsns: &[u64]) {
    let orders = writer.number(table(1, "orders")).table;
    let epoch = writer.epoch();
    let one = |lsn: &u64| in_epoch(epoch, transaction(*lsn, vec![insert(&orders, 0, *lsn)]));
    writer.append(lsns.iter().map(one).collect()).await.unwrap();
}

/// Five partitions with two transactions each: at their beginning and a hundred bytes behind it.
async fn five(database: &TestDatabase) -> (History, Writer) {
    let (history, mut writer) = written(database).await;
    let lsns: Vec<u64> = (1..=5).flat_map(|n| [n * PARTITION_BYTES, n * PARTITION_BYTES + 100]).collect();
    append(&mut writer, &lsns).await;
    (history, writer)
}

async fn partitions(database: &TestDatabase) -> u64 {
    database.query_text(PARTITIONS).await.parse().unwrap()
}

async fn lsns_after(history: &History, after: Position) -> Result<Vec<u64>, Error> {
    let head = history.captured().await?.unwrap().1;
    let page = history.read_after(after, head.cursor(), ALL).await?;
    Ok(page.parts.iter().map(|part| part.head.commit_lsn.0).collect())
}

/// The floor, where that is why.
fn pruned(result: Result<impl std::fmt::Debug, Error>) -> Position {
    match result {
        Err(error @ Error::Pruned { floor }) => {
            assert_eq!((error.code(), error.is_retryable()), (Code::HistoryPruned, false));
            floor
        }
        other => panic!("not pruned: {other:?}"),
    }
}

#[tokio::test]
async fn the_oldest_partitions_go_and_the_floor_with_them() {
    let database = TestDatabase::create("retention_floor").await;
    let (history, writer) = five(&database).await;
    let start = history.floor().await.unwrap();
    assert_eq!(sweep(&writer, Retention::Off, minutes(9_999)).await.partitions, 0);
    assert_eq!(history.pruned().await.unwrap(), None);
    let plan = history.plan_prune(NOTHING, false).await.unwrap();
    assert_eq!((plan.partitions.len(), plan.of_partitions), (4, 5));
    assert_eq!(plan.partitions[0].0, "change_history_e1_0000000000010000");
    assert_eq!(
        (partitions(&database).await, history.floor().await.unwrap()),
        (5, start),
        "it was only asked"
    );

    // About two partitions may stay.
    let kept = plan.of_bytes * 2 / 5 + 1_000;
    let swept = sweep(&writer, Retention::Size(kept), Duration::ZERO).await;
    assert_eq!((swept.partitions, partitions(&database).await), (3, 2));
    let floor = whole(4 * PARTITION_BYTES - 1);
    assert_eq!(history.floor().await.unwrap(), floor);
    assert_eq!(swept.floor, floor.to_string());
    let gone = history.pruned().await.unwrap().unwrap();
    assert_eq!((gone.upto, gone.committed_at_us), (floor, Some(1_700_000_000_123_456)));
    assert_eq!(history.history_from(1).await.unwrap().unwrap().after, floor);

    // Every boundary: the floor is there, one before it is not.
    let left = [4, 5].map(|n| [n * PARTITION_BYTES, n * PARTITION_BYTES + 100]).concat();
    assert_eq!(lsns_after(&history, floor).await.unwrap(), left);
    for below in [start, whole(3 * PARTITION_BYTES + 100), Position { index: Position::WHOLE - 1, ..floor }] {
        assert_eq!(pruned(lsns_after(&history, below).await), floor, "{below}");
    }
    let audited = database.query_text("SELECT string_agg(detail::text, ' ') FROM waldelta.audit").await;
    assert_eq!(audited.matches("\"partitions\": 1").count(), 3, "{audited}");

    // Rows and times from before.
    let head = history.feed().head().cursor();
    let rows = history.rows(1).await.unwrap();
    assert_eq!(rows.pruned(), Some(floor));
    let key = |n: u64| format!("[{}]", n * PARTITION_BYTES);
    let page = rows.versions(&key(1), None, head, 10, &mut { MUCH }).await.unwrap();
    assert_eq!(page.entries, []);
    assert_eq!(pruned(rows.versions(&key(1), Some(start), head, 10, &mut { MUCH }).await), floor);
    assert_eq!(rows.versions(&key(4), None, head, 10, &mut { MUCH }).await.unwrap().entries.len(), 1);
    assert_eq!(rows.last_version(&key(1), head, &[], &mut { MUCH }).await.unwrap(), Last::Nothing);
    assert_eq!(pruned(rows.last_version(&key(1), start, &[], &mut { MUCH }).await), floor);
    let before_time = async |us| history.position_before_time(us, floor, head).await;
    assert_eq!(pruned(before_time(1_700_000_000_123_456).await), floor);
    assert_eq!(before_time(1_700_000_000_123_457).await.unwrap(), head);

    let retained = history.retained().unwrap();
    assert_eq!((retained.partitions, retained.floor, retained.is_busy), (2, floor, false));
    // Another writer goes on.
    writer.release().await.unwrap();
    let mut writer = history.writer("again").await.unwrap();
    append(&mut writer, &[5 * PARTITION_BYTES + 200, 9 * PARTITION_BYTES]).await;
    assert_eq!(lsns_after(&history, floor).await.unwrap().len(), 6);
    assert_eq!(sweep(&writer, NOTHING, Duration::ZERO).await.partitions, 2);
}

/// A transaction a minute for three hours, swept each minute.
#[tokio::test]
async fn nothing_goes_before_its_time_and_nothing_stays_for_a_fifth_longer() {
    let database = TestDatabase::create("retention_age").await;
    let (history, mut writer) = written(&database).await;
    // Slow at first, so that a partition would last for ever; then eight minutes fill one.
    let mut at = PARTITION_BYTES;
    let mut stored: Vec<(u64, u64)> = Vec::new();
    let mut swept = Sweep::default();
    for minute in 0..200 {
        at += if minute < 80 { 10 } else { PARTITION_BYTES / 8 };
        append(&mut writer, &[at]).await;
        stored.push((minute, at));
        let one = sweep(&writer, HOUR, minutes(minute)).await;
        (swept.partitions, swept.rows) = (swept.partitions + one.partitions, swept.rows + one.rows);
        let left = "SELECT coalesce(min(lsn - '0/0'), 0), count(*) FROM waldelta.change_history";
        let row = database.query(left).await.remove(0);
        let oldest: u64 = row[0].as_ref().unwrap().parse().unwrap();
        let (since, _) = *stored.iter().find(|(_, lsn)| *lsn == oldest).unwrap();
        assert!(minute - since <= 72, "at minute {minute} there is something of minute {since}");
        let newest_gone = stored.iter().rev().find(|(_, lsn)| *lsn < oldest).map_or(0, |(since, _)| *since);
        assert!(newest_gone == 0 || minute - newest_gone >= 60, "of {newest_gone} at {minute}");
        let count = stored.iter().filter(|(_, lsn)| *lsn >= oldest).count();
        assert_eq!(row[1].as_deref(), Some(&*count.to_string()), "it has no holes");
        assert!(history.floor().await.unwrap() < whole(oldest));
    }
    assert!(swept.partitions >= 5 && swept.rows >= 30, "{swept:?}");
    let marks: u64 =
        database.query_text("SELECT count(*) FROM waldelta.retention_marks").await.parse().unwrap();
    assert!(marks <= 80, "{marks}");
    // Nothing comes any more: in the end nothing is left.
    sweep(&writer, HOUR, minutes(202)).await;
    sweep(&writer, HOUR, minutes(202 + 72)).await;
    assert_eq!(database.query_text("SELECT count(*) FROM waldelta.change_history").await, "0");
    let (floor, head) = (history.floor().await.unwrap(), history.feed().head().cursor());
    assert_eq!((floor, lsns_after(&history, head).await.unwrap()), (head, vec![]));
    append(&mut writer, &[at + 1]).await;
    assert_eq!(lsns_after(&history, head).await.unwrap(), [at + 1]);
}

/// History of a version that had no marks, in partitions as wide as they were.
#[tokio::test]
async fn what_was_there_before_is_as_old_as_its_commits() {
    let database = TestDatabase::create("retention_upgrade").await;
    let (history, writer) = five(&database).await;
    // By the source's clock all of it committed in 2023; but nothing is older than its epoch.
    let swept = sweep(&writer, HOUR, Duration::ZERO).await;
    assert_eq!((swept.partitions, swept.rows), (0, 0));
    database
        .exec("TRUNCATE waldelta.retention_marks; UPDATE waldelta.epochs SET started_at = '2020-01-01'")
        .await;
    let swept = sweep(&writer, HOUR, Duration::ZERO).await;
    assert_eq!((swept.partitions, swept.rows), (4, 0), "the last one is not over");
    assert_eq!(history.floor().await.unwrap(), whole(5 * PARTITION_BYTES - 1));
}

#[tokio::test]
async fn a_wide_partition_that_was_there_before_is_thinned_and_filled() {
    let database = TestDatabase::create("retention_wide").await;
    let wide = waldelta_history::Config { partition_bytes: 16 << 30, ..config(&database) };
    let history = History::open(&wide).await.unwrap();
    history.begin(&captured(), end(START), "test").await.unwrap();
    let mut writer = history.writer("test").await.unwrap();
    append(&mut writer, &[START, START + 10]).await;
    sweep(&writer, HOUR, Duration::ZERO).await;
    writer.release().await.unwrap();
    history.retain(HOUR);
    let mut writer = history.writer("again").await.unwrap();
    append(&mut writer, &[START + (1 << 30)]).await;
    let swept = sweep(&writer, HOUR, minutes(68)).await;
    assert_eq!((swept.partitions, swept.rows, partitions(&database).await), (0, 2, 1));
    assert_eq!(pruned(lsns_after(&history, whole(START)).await), whole(START + 10));
    // Whatever comes behind it gets a narrower one.
    append(&mut writer, &[(16 << 30) + 5]).await;
    let bounds = database
        .query_text("SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'change_history_e1_0000000400000000'")
        .await;
    assert!(!bounds.contains("8/0"), "{bounds}");
}

#[tokio::test]
async fn a_reader_that_waits_for_a_prune_does_not_miss_what_it_removed() {
    let database = TestDatabase::create("retention_race").await;
    let (history, writer) = five(&database).await;
    for (nth, by) in [(1, "page"), (2, "versions"), (3, "as of")] {
        // The steps of a sweep, by hand and held up before its commit.
        let pruning = database.client().await;
        let gone = format!(
            "BEGIN; DROP TABLE waldelta.change_history_e1_00000000000{nth}0000;
             UPDATE waldelta.captures SET pruned_epoch = 1, pruned_lsn = '0/{next}0000', floor_lsn = '0/{next}0000'",
            next = nth + 1,
        );
        let rows = history.rows(1).await.unwrap();
        pruning.batch_execute(&gone).await.unwrap();
        let reading = async {
            let (key, head) = (format!("[{}]", nth * PARTITION_BYTES), whole(6 * PARTITION_BYTES));
            let (before, at) = (whole(nth * PARTITION_BYTES - 1), whole(nth * PARTITION_BYTES + 50));
            match by {
                "page" => lsns_after(&history, before).await.map(|_| ()),
                "versions" => rows.versions(&key, Some(before), head, 10, &mut { MUCH }).await.map(|_| ()),
                _ => rows.last_version(&key, at, &[], &mut { MUCH }).await.map(|_| ()),
            }
        };
        let commit = async {
            let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'relation'
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
            wait_until("the reader waits", PATIENCE, async || database.query_text(waits).await == "1").await;
            pruning.batch_execute("COMMIT").await.unwrap();
        };
        let (read, ()) = tokio::join!(reading, commit);
        assert_eq!(pruned(read), whole((nth + 1) * PARTITION_BYTES - 1), "{by}");
    }
    // Whoever reads what stays is not disturbed.
    let above = whole(4 * PARTITION_BYTES - 1);
    assert_eq!(lsns_after(&history, above).await.unwrap().len(), 4);
    drop(writer);
}

#[tokio::test]
async fn a_sweep_does_not_wait_for_long_readers_and_nobody_for_it() {
    let database = TestDatabase::create("retention_reader").await;
    let (history, mut writer) = five(&database).await;
    let reader = database.client().await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM waldelta.change_history").await.unwrap();
    let floor = history.floor().await.unwrap();
    for _ in 0..2 {
        let swept = sweep(&writer, NOTHING, Duration::ZERO).await;
        assert!(swept.is_busy && swept.partitions == 0, "{swept:?}");
        assert!(history.retained().unwrap().is_busy);
        let old = "SELECT count(*) FROM pg_stat_activity WHERE xact_start < clock_timestamp() - interval '2s'
            AND datname = current_database()";
        wait_until("the reader has been there for long", PATIENCE, async || {
            database.query_text(old).await == "1"
        })
        .await;
    }
    assert_eq!((partitions(&database).await, history.floor().await.unwrap()), (5, floor));
    append(&mut writer, &[6 * PARTITION_BYTES]).await;
    reader.batch_execute("COMMIT").await.unwrap();
    assert_eq!(sweep(&writer, NOTHING, Duration::ZERO).await.partitions, 5);
}

#[tokio::test]
async fn a_large_transaction_that_is_appended_is_left_alone() {
    let database = TestDatabase::create("retention_large").await;
    let (history, mut writer) = five(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    let at = 5 * PARTITION_BYTES + 200;
    writer.append(vec![piece(at, vec![insert(&orders, 0, 1)], None)]).await.unwrap();
    assert_eq!(sweep(&writer, NOTHING, Duration::ZERO).await.partitions, 4, "those beside it");
    writer.append(vec![piece(at, vec![insert(&orders, 1, 2)], Some(at + 1))]).await.unwrap();
    assert_eq!(sweep(&writer, NOTHING, Duration::ZERO).await.partitions, 0);
    let left = lsns_after(&history, history.floor().await.unwrap()).await.unwrap();
    assert_eq!(left, [5 * PARTITION_BYTES, 5 * PARTITION_BYTES + 100, at]);
}

#[tokio::test]
async fn who_does_not_write_any_more_removes_nothing() {
    let database = TestDatabase::create("retention_fenced").await;
    let (history, writer) = five(&database).await;
    let old = writer.sweeper(all_shown());
    let new = history.take_over("new").await.unwrap();
    for retention in [NOTHING, HOUR] {
        let error = old.sweep(retention, true, minutes(9_999)).await.unwrap_err();
        assert!(matches!(error, Error::Fenced { .. }), "{error:?}");
    }
    assert_eq!((partitions(&database).await, history.pruned().await.unwrap()), (5, None));
    // Also where it is fenced in the middle of a sweep: its last statement hits nothing.
    let stale = new.sweeper(all_shown());
    let sabotage = "CREATE FUNCTION fence() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN UPDATE waldelta.captures SET token = token + 1; RETURN NULL; END';
        CREATE TRIGGER fence AFTER INSERT ON waldelta.audit FOR EACH STATEMENT EXECUTE FUNCTION fence()";
    database.exec(sabotage).await;
    let error = stale.sweep(NOTHING, true, Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, Error::Fenced { .. }), "{error:?}");
    assert_eq!((partitions(&database).await, history.pruned().await.unwrap()), (5, None));
    assert_eq!(old.run(CancellationToken::new()).await.unwrap_err().code(), Code::HistoryFenced);
}

#[tokio::test]
async fn what_a_client_has_yet_to_read_is_held_for_a_while() {
    let database = TestDatabase::create("retention_held").await;
    let (history, writer) = five(&database).await;
    sweep(&writer, HOUR, Duration::ZERO).await;
    history.record_ack("behind", whole(2 * PARTITION_BYTES + 100)).await.unwrap();
    history.record_ack("ahead", whole(4 * PARTITION_BYTES + 100)).await.unwrap();
    // One that cannot be resumed anyway holds nothing.
    history.record_ack("long ago", Position::default()).await.unwrap();
    database.exec("UPDATE waldelta.clients SET seen_at = now() + interval '60 minutes'").await;
    let swept = sweep(&writer, HOUR, minutes(62)).await;
    assert_eq!((swept.partitions, swept.is_held), (1, true));
    assert!(history.retained().unwrap().is_held);
    assert_eq!(lsns_after(&history, whole(2 * PARTITION_BYTES + 100)).await.unwrap().len(), 6);
    // It was not here for an hour.
    let plan = writer.sweeper(all_shown()).sweep(HOUR, false, minutes(122)).await.unwrap();
    assert_eq!((plan.partitions, plan.is_held), (3, false));

    let database = TestDatabase::create("retention_forced").await;
    let (history, writer) = five(&database).await;
    history.record_ack("behind", whole(PARTITION_BYTES)).await.unwrap();
    assert!(history.plan_prune(Retention::Size(200_000), false).await.unwrap().is_held);
    assert!(!history.plan_prune(Retention::Size(200_000), true).await.unwrap().is_held);
    assert_eq!(writer.sweeper(all_shown()).sweep(NOTHING, true, Duration::ZERO).await.unwrap().partitions, 4);
}

#[tokio::test]
async fn an_order_is_carried_out_by_whoever_writes() {
    let database = TestDatabase::create("retention_order").await;
    let (history, writer) = five(&database).await;
    assert!(matches!(history.pruner("prune").await.unwrap(), Pruner::Elsewhere));
    let order = history.order_prune(NOTHING, false).await.unwrap();
    assert_eq!(history.prune_outcome(order).await.unwrap(), None);
    let stop = CancellationToken::new();
    let carried_out = async {
        let is_done = async || history.prune_outcome(order).await.unwrap().is_some();
        wait_until("the order is carried out", PATIENCE, is_done).await;
        stop.cancel();
    };
    let (ran, ()) = tokio::join!(writer.sweeper(all_shown()).run(stop.clone()), carried_out);
    ran.unwrap();
    assert_eq!(history.prune_outcome(order).await.unwrap().unwrap().partitions, 4);
    assert_eq!(partitions(&database).await, 1);
    writer.release().await.unwrap();
    let Pruner::Here(writer) = history.pruner("prune").await.unwrap() else { panic!("nobody writes") };
    assert_eq!(
        sweep(&writer, NOTHING, Duration::ZERO).await,
        Sweep { floor: whole(5 * PARTITION_BYTES - 1).to_string(), ..Sweep::default() }
    );
}

/// What was appended, and what a reader at a cursor may still get of it.
struct Model {
    history: History,
    /// Every position, in order.
    stored: Vec<Position>,
    random: u64,
}

impl Model {
    fn random(&mut self, below: u64) -> u64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % below
    }

    async fn append(&mut self, mut writer: Writer) -> Writer {
        let orders = writer.number(table(1, "orders")).table;
        let mut at = writer.head().durable_end.0.0;
        let mut pieces = Vec::new();
        for _ in 0..=self.random(12) {
            at += self.random(PARTITION_BYTES / 3);
            let rows = (0..=u32::try_from(self.random(3)).unwrap()).map(|seq| insert(&orders, seq, at));
            pieces.push(in_epoch(writer.epoch(), transaction(at, rows.collect())));
            self.stored.push(Position::whole(writer.epoch(), Lsn(at)));
            at += 1;
        }
        writer.append(pieces).await.unwrap();
        writer
    }

    /// The next epoch goes on where this one ends.
    async fn begin_epoch(&mut self, writer: Writer) -> Writer {
        let start = writer.head().durable_end;
        let new = NewEpoch {
            captured: captured(),
            start,
            fork: Some(start.0),
            reason: "promoted".into(),
            continues: true,
            fingerprints: Vec::new(),
        };
        writer.begin_epoch(new).await.unwrap();
        self.history.writer("next").await.unwrap()
    }

    /// From every cursor on all that was stored after it is read, or that it was pruned is told.
    async fn check(&mut self) {
        let floor = self.history.floor().await.unwrap();
        let lineage = self.history.lineage().await.unwrap();
        let head = self.history.feed().head().cursor();
        let mut cursors = self.stored.clone();
        cursors.extend([Position::default(), floor, head]);
        for _ in 0..20 {
            let cursor = cursors[usize::try_from(self.random(cursors.len() as u64)).unwrap()];
            let (mut at, mut read) = (cursor, Vec::new());
            let outcome = loop {
                match self.history.read_after(at, head, ALL).await {
                    Err(error) => break Err(error),
                    Ok(page) => read.extend(page.parts.iter().map(|part| part.head.position())),
                }
                match lineage.seam(at.epoch) {
                    Some(seam) => at = seam,
                    None => break Ok(()),
                }
            };
            // The end of an epoch lies before a floor at the beginning of the next one, and nothing between them.
            let lacks = self.stored.iter().any(|at| cursor < *at && *at <= floor);
            match outcome {
                _ if cursor == Position::default() => {}
                Err(error) if cursor < floor => assert_eq!(pruned(Err::<(), _>(error)), floor, "{cursor}"),
                outcome => {
                    outcome.unwrap();
                    assert!(!lacks, "{cursor} with the floor at {floor}");
                    let expected: Vec<_> = self.stored.iter().copied().filter(|at| *at > cursor).collect();
                    assert_eq!(read, expected, "after {cursor}, with the floor at {floor}");
                }
            }
        }
    }
}

/// I28.
#[tokio::test]
async fn pruning_does_not_change_the_fold_from_any_allowed_cursor() {
    // To see a run again, put the seed here that it printed.
    let seed = u64::from(std::process::id()) << 20;
    println!("seed {seed}");
    let database = TestDatabase::create("retention_fold").await;
    let (history, mut writer) = written(&database).await;
    let mut model = Model { history, stored: Vec::new(), random: seed };
    let (mut minute, mut swept) = (0, Sweep::default());
    for round in 0..40 {
        writer = model.append(writer).await;
        if model.random(8) == 0 {
            writer = model.begin_epoch(writer).await;
        }
        minute += model.random(40);
        let retention = match model.random(3) {
            0 => Retention::Size(100_000 + model.random(1_500_000)),
            1 => Retention::Age(minutes(20 + model.random(60))),
            _ => HOUR,
        };
        let one = writer
            .sweeper(all_shown())
            .sweep(retention, model.random(2) == 0, minutes(minute))
            .await
            .unwrap();
        (swept.partitions, swept.rows) = (swept.partitions + one.partitions, swept.rows + one.rows);
        println!("round {round}: {retention} at {minute}: {one:?}");
        model.check().await;
    }
    assert!(swept.partitions > 0, "{swept:?}");
    let epochs: u64 = database.query_text("SELECT count(*) FROM waldelta.epochs").await.parse().unwrap();
    assert_eq!(model.history.lineage().await.unwrap().epochs().len() as u64, epochs);
}
