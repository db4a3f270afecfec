//! What a transaction takes back is never seen, however much it is; and the ways of writing that PostgreSQL decodes apart:
//! many subtransactions at a time, rows of ON CONFLICT, COPY FREEZE.

use waldelta_testkit::{TestCluster, TestDatabase};

use crate::oracle::Oracle;
use crate::setting::Setting;

const SCHEMA: &str = "CREATE TABLE item (id int PRIMARY KEY, value text NOT NULL);
                      CREATE TABLE frozen (id int PRIMARY KEY)";
const TABLES: [&str; 2] = ["public.item", "public.frozen"];
const SAVEPOINTS: u32 = 100_000;
/// What the service may take beyond what it has when idle: what was taken back never reaches it.
const GROWTH_BYTES_MAX: u64 = 48 << 20;

/// On a server of its own: on the shared one, every new slot of another test would wait for these transactions.
async fn setting(hint: &str) -> Setting {
    let cluster = TestCluster::own(&[]).await;
    let source = TestDatabase::create_on(&cluster, hint).await;
    let history = TestDatabase::create_on(&cluster, &format!("{hint}_h")).await;
    Setting::over(source, history, SCHEMA).await
}

#[tokio::test]
async fn a_hundred_thousand_are_taken_back_inside_one_transaction() {
    let setting = setting("savepoints").await;
    let oracle = Oracle::begin(&setting.source, &setting.history).await;
    let (mut socket, mut replica) = setting.client("here").await;
    let idle = setting.service.rss_peak_bytes();
    // A block with an exception handler is a subtransaction; one in a thousand stays.
    let sql = format!(
        "DO $$ BEGIN
           FOR i IN 1..{SAVEPOINTS} LOOP
             BEGIN
               INSERT INTO item VALUES (i, repeat('never seen', 10));
               IF i % 1000 <> 0 THEN RAISE division_by_zero; END IF;
             EXCEPTION WHEN division_by_zero THEN NULL;
             END;
           END LOOP;
         END $$"
    );
    setting.source.exec(&sql).await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    assert_eq!(replica.rows("public.item").len(), SAVEPOINTS as usize / 1000);
    let stored = "SELECT count(*), count(DISTINCT lsn), max(seq) FROM waldelta.change_history";
    assert_eq!(setting.history.query(stored).await[0][1].as_deref(), Some("1"), "one transaction");
    setting.history_equals_source(&TABLES).await;
    oracle.check_all().await;
    let growth = setting.service.rss_peak_bytes().saturating_sub(idle);
    assert!(growth <= GROWTH_BYTES_MAX, "the service grew by {growth} bytes");
}

/// A server keeps 64 subtransactions of a backend where snapshots find them; beyond that they have to look elsewhere.
#[tokio::test]
async fn more_are_open_at_a_time_than_a_snapshot_lists() {
    const OPEN: u32 = 150;
    let setting = setting("subtransactions").await;
    let oracle = Oracle::begin(&setting.source, &setting.history).await;
    let (mut early, mut early_replica) = setting.client("early").await;
    let writer = setting.source.client().await;
    writer.batch_execute("BEGIN; INSERT INTO item VALUES (0, 'first')").await.unwrap();
    for id in 1..=OPEN {
        let sql = format!(
            "SAVEPOINT s{id}; INSERT INTO item VALUES ({id}, 'open'); UPDATE item SET value = '{id}' WHERE id = 0"
        );
        writer.batch_execute(&sql).await.unwrap();
    }
    // A client that comes now takes its snapshot beside them, and sees none of it.
    let (mut late, mut late_replica) = setting.client("late").await;
    assert_eq!(late_replica.rows("public.item"), [""; 0]);
    writer
        .batch_execute("ROLLBACK TO s101; INSERT INTO item VALUES (1000, 'instead'); COMMIT")
        .await
        .unwrap();
    setting.equal(&mut early, &mut early_replica, &TABLES).await;
    setting.equal(&mut late, &mut late_replica, &TABLES).await;
    assert_eq!(early_replica.rows("public.item").len(), 102);
    setting.history_equals_source(&TABLES).await;
    oracle.check_all().await;
}

#[tokio::test]
async fn speculative_rows_and_frozen_copies() {
    let setting = setting("speculative").await;
    let oracle = Oracle::begin(&setting.source, &setting.history).await;
    let (mut socket, mut replica) = setting.client("here").await;
    let upsert = "INSERT INTO item SELECT i, 'new' FROM generate_series(1, 400) i
                  ON CONFLICT (id) DO UPDATE SET value = item.value || '+'";
    let pass_over =
        "INSERT INTO item SELECT i, 'never' FROM generate_series(300, 500) i ON CONFLICT DO NOTHING";
    // Writers of the same rows at a time: each speculative insertion that loses is taken back inside its transaction.
    let (a, b, c) =
        (setting.source.client().await, setting.source.client().await, setting.source.client().await);
    for _ in 0..5 {
        let done = tokio::join!(a.batch_execute(upsert), b.batch_execute(upsert), c.batch_execute(pass_over));
        // Two that wait for each other's rows are parted by an error, and that is no change.
        for result in [done.0, done.1, done.2] {
            let code = result.err().and_then(|error| error.code().cloned());
            assert!(code.is_none_or(|code| code == tokio_postgres::error::SqlState::T_R_DEADLOCK_DETECTED));
        }
    }
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    // Rows of COPY FREEZE are visible to everybody as soon as they are there; only a table new to the transaction takes them.
    let copy = "BEGIN; TRUNCATE frozen; COPY frozen FROM PROGRAM 'seq 1 3000' WITH (FREEZE);
                SAVEPOINT s; DELETE FROM frozen; ROLLBACK TO s; DELETE FROM frozen WHERE id > 2990; COMMIT";
    setting.source.exec(copy).await;
    setting.source.exec(copy).await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    assert_eq!(replica.rows("public.frozen").len(), 2990);
    setting.history_equals_source(&TABLES).await;
    oracle.check_all().await;
}
