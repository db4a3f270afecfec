//! The steps of a sweep: what is half removed misleads nobody, nothing is done twice, and what is in the way is not waited for.

use std::time::Duration;

use bytes::Bytes;
use waldelta_history::{Error, History, Last, Reads, Retention, RowEntry, Sweep, Writer};
use waldelta_testkit::TestDatabase;
use waldelta_wal::{Change, Operation};

use crate::support::*;

const HOUR: Retention = Retention::Age(Duration::from_secs(3600));
const MUCH: Reads = Reads { queries: 100, bytes: 1 << 20 };
const AUDITED: &str = "SELECT count(*) FROM waldelta.audit WHERE action = 'history_pruned'";
const IN_THE_WAY: &str = include_str!("../../../../sql/queries/in_the_way.sql");

async fn sweep(writer: &Writer, retention: Retention, minutes: u64) -> Sweep {
    writer.sweeper(all_shown()).sweep(retention, false, Duration::from_secs(minutes * 60)).await.unwrap()
}

/// Everything is in one partition.
async fn wide(database: &TestDatabase) -> (History, Writer) {
    let wide = waldelta_history::Config { partition_bytes: 16 << 30, ..config(database) };
    let history = History::open(&wide).await.unwrap();
    history.begin(&captured(), end(START), "test").await.unwrap();
    let writer = history.writer("test").await.unwrap();
    (history, writer)
}

#[tokio::test]
async fn a_version_from_before_the_pruned_place_is_not_found_while_rows_are_removed() {
    let database = TestDatabase::create("retention_half").await;
    let (history, mut writer) = wide(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    let of = |operation, id| Change { operation, ..insert(&orders, 0, id) };
    let gone = Change { data: None, old_data: Some(Bytes::from("{\"id\":1}")), ..of(Operation::Delete, 1) };
    let changes = [
        insert(&orders, 0, 1),
        insert(&orders, 0, 2),
        gone,
        of(Operation::Update, 2),
        of(Operation::Update, 3),
    ];
    let pieces = (START..).zip(changes).map(|(at, change)| transaction(at, vec![change]));
    writer.append(pieces.collect()).await.unwrap();
    let before = history.rows(1).await.unwrap();
    // The second and third of them are removed first; the first is still there.
    let half = format!(
        "UPDATE waldelta.captures SET pruned_epoch = 1, pruned_lsn = '0/0'::pg_lsn + {0};
         DELETE FROM waldelta.change_history WHERE lsn > '0/0'::pg_lsn + {START} AND lsn < '0/0'::pg_lsn + {0}",
        START + 3
    );
    database.exec(&half).await;
    let head = history.feed().head().cursor();
    let rows = history.rows(1).await.unwrap();
    let last = async |key: &str, upto| rows.last_version(key, upto, &[], &mut { MUCH }).await;
    assert_eq!(last("[1]", head).await.unwrap(), Last::Nothing, "it was deleted since");
    let Last::Entry(RowEntry::Change(kept)) = last("[2]", head).await.unwrap() else { panic!("it is kept") };
    assert_eq!(kept.change.operation, Operation::Update);
    // What this update does not tell was told by what was pruned.
    assert_eq!(last("[2]", whole(START + 2)).await.unwrap(), Last::Nothing);
    let below = last("[2]", whole(START + 1)).await;
    assert!(matches!(below, Err(Error::Pruned { .. })), "{below:?}");
    // Who has asked for the place before it moved has found what is not to be relied on.
    let found = before.last_version("[1]", head, &[], &mut { MUCH }).await;
    assert!(matches!(found, Err(Error::Pruned { .. })), "{found:?}");
    assert!(matches!(before.last_version("[3]", head, &[], &mut { MUCH }).await, Ok(Last::Entry(_))));
}

#[tokio::test]
async fn rows_go_in_order_and_once() {
    let database = TestDatabase::create("retention_thin").await;
    let (history, mut writer) = wide(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    let many = (0..11_000).map(|seq| insert(&orders, seq, 1)).collect();
    writer
        .append(vec![transaction(START, many), transaction(START + 5, vec![insert(&orders, 0, 2)])])
        .await
        .unwrap();
    sweep(&writer, HOUR, 0).await;
    writer.append(vec![transaction(START + 9, vec![insert(&orders, 0, 3)])]).await.unwrap();
    // No round leaves a hole: what is left begins behind what is gone.
    let watch = "CREATE TABLE holes (); CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF EXISTS (SELECT FROM gone, waldelta.change_history AS left_
                       WHERE (left_.epoch, left_.lsn, left_.seq) < (gone.epoch, gone.lsn, gone.seq))
            THEN INSERT INTO public.holes DEFAULT VALUES; END IF;
            RETURN NULL; END $$";
    database.exec(watch).await;
    let part = database.query_text("SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'waldelta.change_history'::regclass").await;
    database
        .exec(&format!(
            "CREATE TRIGGER look AFTER DELETE ON {part} REFERENCING OLD TABLE AS gone
             FOR EACH STATEMENT EXECUTE FUNCTION look()"
        ))
        .await;
    // Whoever has the place to be moved is not waited for, and that is no failure.
    let holder = database.client().await;
    holder.batch_execute("BEGIN; SELECT FROM waldelta.captures FOR UPDATE").await.unwrap();
    let plan = history.plan_prune(HOUR, false).await.unwrap();
    assert_eq!(plan.thinned, None, "nothing is old enough by now");
    let swept = sweep(&writer, HOUR, 68).await;
    assert_eq!((swept.rows, swept.is_busy), (0, true));
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!((history.pruned().await.unwrap(), database.query_text(AUDITED).await), (None, "0".to_owned()));

    let swept = sweep(&writer, HOUR, 68).await;
    assert_eq!((swept.rows, swept.partitions, swept.is_busy), (11_001, 0, false));
    assert_eq!(database.query_text("SELECT count(*) FROM holes").await, "0");
    let floor = swept.floor;
    for minutes in [68, 69, 70] {
        let again = sweep(&writer, HOUR, minutes).await;
        assert_eq!((again.rows, again.partitions, &again.floor), (0, 0, &floor), "at {minutes}");
    }
    assert_eq!(database.query_text(AUDITED).await, "1");
}

#[tokio::test]
async fn a_mark_from_a_clock_that_was_ahead_stops_nothing() {
    let database = TestDatabase::create("retention_ahead").await;
    let (_, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    let one = |n: u64| transaction(n * PARTITION_BYTES, vec![insert(&orders, 0, n)]);
    writer.append((1..=5).map(one).collect()).await.unwrap();
    let ahead = "INSERT INTO waldelta.retention_marks
        SELECT epoch, lsn, now() + interval '1 year' FROM waldelta.captures, LATERAL (VALUES ('0/20000'::pg_lsn), (durable_end)) AS at (lsn)";
    database.exec(ahead).await;
    sweep(&writer, HOUR, 0).await;
    assert_eq!(sweep(&writer, HOUR, 62).await.partitions, 4);
}

/// A commit that waits for a standby which is away would keep everybody from history.
#[tokio::test]
async fn what_holds_everybody_up_does_not_wait_for_a_standby() {
    let database = TestDatabase::create("retention_local").await;
    let (_, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    let one = |n: u64| transaction(n * PARTITION_BYTES, vec![insert(&orders, 0, n)]);
    writer.append((1..=3).map(one).collect()).await.unwrap();
    let watch = "CREATE TABLE seen (setting text); CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO public.seen VALUES (current_setting(''synchronous_commit'')); RETURN NULL; END';
        CREATE TRIGGER look AFTER INSERT ON waldelta.audit FOR EACH STATEMENT EXECUTE FUNCTION look()";
    database.exec(watch).await;
    assert_eq!(sweep(&writer, Retention::Size(1), 0).await.partitions, 2);
    assert_eq!(database.query_text("SELECT string_agg(setting, ' ') FROM seen").await, "local local");
}

#[tokio::test]
async fn a_large_transaction_is_as_old_as_its_end() {
    let database = TestDatabase::create("retention_moved").await;
    let (_, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    writer.append(vec![piece(START, vec![insert(&orders, 0, 1)], None)]).await.unwrap();
    let meanwhile = database.query_text("SELECT clock_timestamp()").await;
    writer.append(vec![piece(START, vec![insert(&orders, 1, 2)], Some(START + 1))]).await.unwrap();
    let is_later = format!("SELECT moved_at > '{meanwhile}' FROM waldelta.captures");
    assert_eq!(database.query_text(&is_later).await, "t");
}

/// Without pg_read_all_stats nobody is told since when another's transaction lasts.
#[tokio::test]
async fn a_reader_of_which_nothing_is_told_is_in_the_way() {
    let database = TestDatabase::create("retention_stats").await;
    let (_, writer) = written(&database).await;
    let role = format!("r_{}", database.name());
    database.exec(&format!("CREATE ROLE {role}; GRANT USAGE ON SCHEMA waldelta TO {role}")).await;
    let asking = database.client().await;
    asking.batch_execute(&format!("SET ROLE {role}")).await.unwrap();
    let name = "waldelta.change_history_e1_0000000000000000";
    let is_blocked = async || asking.query_one(IN_THE_WAY, &[&name]).await.unwrap().get::<_, bool>(0);
    assert!(!is_blocked().await);
    let reader = database.client().await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM waldelta.change_history").await.unwrap();
    assert!(is_blocked().await);
    drop((reader, writer));
    database.exec(&format!("REVOKE USAGE ON SCHEMA waldelta FROM {role}; DROP ROLE {role}")).await;
}
