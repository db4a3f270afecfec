//! What lets capture go on after its slot, its publication, its history or its database changed under it: each is named, and
//! after the recovery changes arrive again, with an epoch and a gap that say what happened.

use waldelta_capture::recover::{self, Remedy};
use waldelta_capture::{Config, OnGap, State, Status};
use waldelta_testkit::{connect, wait_until};
use waldelta_wal::Code;

use crate::world::{PATIENCE, Running, World};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY)";

/// Capture that has stored the row 1, and runs on.
async fn streaming(world: &World) -> Running {
    let capture = world.run();
    world.source_db.exec("INSERT INTO t VALUES (1)").await;
    world.wait_told(1).await;
    capture
}

/// Capture that waited goes on by itself, with what is written now.
async fn assert_goes_on(world: &World, capture: Running, stored: u64) {
    capture.wait_streaming().await;
    world.source_db.exec("INSERT INTO t VALUES (1000)").await;
    world.wait_told(stored + 1).await;
    assert_eq!(world.stored_count("data ->> 'id' = '1000'").await, 1);
    world.assert_gapless().await;
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_wrong() {
    let world = World::begun("recwell", TABLE).await;
    world.source_db.exec("INSERT INTO t VALUES (1)").await;
    let diagnosis = world.diagnose().await;
    assert_eq!((diagnosis.remedy(), diagnosis.code()), (Remedy::None, None), "{}", diagnosis.message());
    let done = recover::act(&world.config(), &world.history, &Status::new(), &diagnosis).await.unwrap();
    assert_eq!(done, None);
    // What the look streamed was taken from nobody.
    let capture = world.run();
    world.wait_told(1).await;
    let diagnosis = world.diagnose().await;
    assert_eq!((diagnosis.remedy(), diagnosis.state()), (Remedy::Patience, "slot_active"));
    capture.stop().await;
}

/// A3: dropped while nobody captures, with changes in between; the service waits and sees that somebody has decided.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_was_dropped() {
    let world = World::begun("recdrop", TABLE).await;
    streaming(&world).await.stop().await;
    world.drop_slot().await;
    world.source_db.exec("INSERT INTO t VALUES (2)").await;
    let capture = world.run();
    assert_eq!(capture.wait_stopped().await, Code::SlotMissing);
    let (diagnosis, head) = world.recover().await;
    assert_eq!(diagnosis.state(), "slot_missing");
    assert!(diagnosis.consequences().iter().any(|line| line.contains("a gap says so")));
    world.assert_epochs(2, 1).await;
    assert_eq!(world.confirmed().await, head.durable_end);
    if world.source_db.server_major().await >= 17 {
        let failover =
            "SELECT bool_and(failover) FROM pg_replication_slots WHERE database = current_database()";
        assert_eq!(world.source_db.query_text(failover).await, "t", "standbys are asked to keep it");
    }
    assert_goes_on(&world, capture, 1).await;
    assert_eq!(world.stored_count("data ->> 'id' = '2'").await, 0, "that is the gap");
    // And again there is nothing to do.
    assert_eq!(world.diagnose().await.remedy(), Remedy::None);
}

/// A4: it looks as before, and has lost what was written before it was made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_was_dropped_and_created_again() {
    let world = World::begun("recagain", TABLE).await;
    streaming(&world).await.stop().await;
    world.drop_slot().await;
    world.source_db.exec("INSERT INTO t VALUES (2)").await;
    let create = format!("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", world.source.slot);
    world.source_db.exec(&create).await;
    world.source_db.exec("INSERT INTO t VALUES (3)").await;
    let capture = world.run();
    assert_eq!(capture.wait_stopped().await, Code::SlotAhead);
    let message = capture.status.read().state;
    assert!(matches!(message, State::Stopped { message, .. } if message.contains("created again")));
    let confirmed = world.confirmed().await;
    let (_, head) = world.recover().await;
    assert_eq!(head.durable_end, confirmed, "the slot is kept: what it has is whole from there on");
    world.assert_epochs(2, 1).await;
    capture.wait_streaming().await;
    world.wait_stored("data ->> 'id' = '3'", 1).await;
    assert_goes_on(&world, capture, 2).await;
}

/// B12: the slot was told more than history has now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_that_was_restored_from_an_older_backup() {
    let world = World::begun("recback", TABLE).await;
    let capture = streaming(&world).await;
    let backup = world.durable().await;
    world.source_db.exec("INSERT INTO t VALUES (2)").await;
    world.wait_told(2).await;
    wait_until("the slot was told", PATIENCE, async || world.confirmed().await > backup).await;
    capture.stop().await;
    world
        .history_db
        .exec(&format!(
            "DELETE FROM waldelta.change_history WHERE lsn >= '{backup}'; \
             UPDATE waldelta.captures SET durable_end = '{backup}'",
        ))
        .await;
    let capture = world.run();
    assert_eq!(capture.wait_stopped().await, Code::SlotAhead);
    world.recover().await;
    world.assert_epochs(2, 1).await;
    assert_goes_on(&world, capture, 1).await;
}

/// A16, V9: while it is gone there is nothing to begin with; then what was written without it can never be decoded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_that_was_gone_while_rows_were_written() {
    let world = World::begun("recpub", TABLE).await;
    streaming(&world).await.stop().await;
    world.source_db.exec("DROP PUBLICATION waldelta").await;
    world.source_db.exec("INSERT INTO t VALUES (2)").await;
    let diagnosis = world.diagnose().await;
    assert_eq!((diagnosis.remedy(), diagnosis.state()), (Remedy::Person, "publication_missing"));
    let steps = diagnosis.steps(&world.source.slot);
    assert!(steps.iter().any(|step| step.contains("CREATE PUBLICATION waldelta FOR TABLE")), "{steps:?}");

    world.source_db.exec("CREATE PUBLICATION waldelta FOR TABLE t, waldelta.canary").await;
    let capture = world.run();
    assert_eq!(capture.wait_stopped().await, Code::PublicationMissing);
    let (diagnosis, _) = world.recover().await;
    assert_eq!(diagnosis.remedy(), Remedy::NewEpoch);
    world.assert_epochs(2, 1).await;
    assert_goes_on(&world, capture, 1).await;
}

/// A14, V27: the same name, another database; the slot went with the old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_dropped_and_created_again() {
    let world = World::begun("recdb", TABLE).await;
    let capture = streaming(&world).await;
    capture.stop().await;
    let (name, server) = (world.source_db.name(), world.source_db.url().rsplit_once('/').unwrap().0);
    let admin = connect(&format!("{server}/postgres")).await;
    admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
    admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    world.source_db.client().await.batch_execute(TABLE).await.unwrap();
    world.publish().await;
    let capture = world.run();
    assert_eq!(capture.wait_stopped().await, Code::SourceChanged);
    let (diagnosis, _) = world.recover().await;
    assert_eq!(diagnosis.state(), "source_changed");
    world.assert_epochs(2, 1).await;
    assert_goes_on(&world, capture, 1).await;
}

/// A13: it could as well be a wrong URL, so it never happens by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_needs_somebodys_word() {
    let world = World::begun("reccluster", TABLE).await;
    streaming(&world).await.stop().await;
    world.history_db.exec("UPDATE waldelta.captures SET system_id = '42'").await;
    let capture = world.run_with(Config { on_gap: OnGap::NewEpoch, ..world.config() });
    assert_eq!(capture.wait_stopped().await, Code::SourceChanged);
    world.assert_epochs(1, 0).await;
    world.recover().await;
    world.assert_epochs(2, 1).await;
    assert_goes_on(&world, capture, 1).await;
}

/// A stop is not the end: what somebody mends at the source is seen, and where nothing is missing capture goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_that_comes_back_before_a_row_is_written() {
    let world = World::begun("recmend", TABLE).await;
    streaming(&world).await.stop().await;
    world.source_db.exec("DROP PUBLICATION waldelta").await;
    let capture = world.run();
    assert_eq!(capture.wait_stopped().await, Code::PublicationMissing);
    world.source_db.exec("CREATE PUBLICATION waldelta FOR TABLE t, waldelta.canary").await;
    assert_goes_on(&world, capture, 1).await;
    world.assert_epochs(1, 0).await;
}

/// What was decided beforehand needs nobody, but it is not done again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_epoch_begins_by_itself_once() {
    let world = World::begun("recself", TABLE).await;
    let capture = world.run_with(Config { on_gap: OnGap::NewEpoch, ..world.config() });
    world.source_db.exec("INSERT INTO t VALUES (1)").await;
    world.wait_told(1).await;
    let drop_under_it = async || {
        let slot = &world.source.slot;
        let sql = format!(
            "SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots \
             WHERE slot_name = '{slot}' AND active_pid IS NOT NULL"
        );
        let dropped = format!(
            "SELECT count(pg_drop_replication_slot(slot_name)) FROM pg_replication_slots \
             WHERE slot_name = '{slot}' AND active_pid IS NULL"
        );
        wait_until("the slot is dropped", PATIENCE, async || {
            world.source_db.query_text(&sql).await;
            // It may be in use again in between.
            let client = world.source_db.client().await;
            let row = client.query_one(&dropped, &[]).await;
            row.is_ok_and(|row| row.get::<_, i64>(0) == 1)
        })
        .await;
    };
    drop_under_it().await;
    wait_until("a new epoch has begun", PATIENCE, async || {
        world.stored("SELECT count(*) FROM waldelta.epochs").await == "2"
    })
    .await;
    capture.wait_streaming().await;
    world.source_db.exec("INSERT INTO t VALUES (2)").await;
    world.wait_told(2).await;
    world.assert_epochs(2, 1).await;

    drop_under_it().await;
    assert_eq!(capture.wait_stopped().await, Code::SlotMissing);
    world.assert_epochs(2, 1).await;
    world.recover().await;
    assert_goes_on(&world, capture, 2).await;
    world.assert_epochs(3, 2).await;
}

/// A slot that nobody would ever read is not left behind, and doing it again is right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_that_cannot_begin_leaves_no_slot() {
    let world = World::begun("rechalf", TABLE).await;
    world.drop_slot().await;
    world
        .history_db
        .exec(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$; \
             CREATE TRIGGER refuse BEFORE INSERT ON waldelta.epochs EXECUTE FUNCTION refuse()",
        )
        .await;
    let diagnosis = world.diagnose().await;
    let failed = recover::act(&world.config(), &world.history, &Status::new(), &diagnosis).await;
    assert_eq!(failed.unwrap_err().code(), Code::HistoryWriteFailed);
    assert_eq!(world.diagnose().await.state(), "slot_missing");
    world.history_db.exec("DROP TRIGGER refuse ON waldelta.epochs").await;
    world.recover().await;
    world.assert_epochs(2, 1).await;
}

/// Somebody else was quicker, or mended it: what was shown is not done to something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diagnosis_that_has_become_old_is_not_carried_out() {
    let world = World::begun("recold", TABLE).await;
    world.drop_slot().await;
    let old = world.diagnose().await;
    world.recover().await;
    let act = async || recover::act(&world.config(), &world.history, &Status::new(), &old).await;
    assert_eq!(act().await.unwrap(), None, "nothing is to be done any more");
    let slot = &world.source.slot;
    let end = "pg_current_wal_lsn()";
    world
        .source_db
        .exec(&format!("INSERT INTO t VALUES (1); SELECT pg_replication_slot_advance('{slot}', {end})"))
        .await;
    assert_eq!(act().await.unwrap_err().code(), Code::RecoveryOutdated, "another state by now");
    world.assert_epochs(2, 1).await;
}
