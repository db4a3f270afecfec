//! What must not be gone on from: each has its name, and nothing is stored or told to the slot.

use waldelta_capture::State;
use waldelta_testkit::{TestCluster, wait_until};
use waldelta_wal::Code;

use crate::world::{PATIENCE, World, target};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY)";

async fn assert_stops(world: &World, code: Code) {
    let (error, state) = world.run_to_error().await;
    assert_eq!(error.code(), code, "{error:?}");
    assert!(matches!(state, State::Stopped { code: shown, .. } if shown == code), "{state:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_is_ahead_of_history() {
    let world = World::begun("ahead", TABLE).await;
    world.source_db.exec("INSERT INTO t VALUES (1)").await;
    let advance = format!(
        "SELECT end_lsn FROM pg_replication_slot_advance('{}', pg_current_wal_lsn())",
        world.source.slot
    );
    world.source_db.query_text(&advance).await;
    assert_stops(&world, Code::SlotAhead).await;
    assert_eq!(world.stored_count("true").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_is_gone() {
    let world = World::begun("gone", TABLE).await;
    world.source_db.exec(&format!("SELECT pg_drop_replication_slot('{}')", world.source.slot)).await;
    assert_stops(&world, Code::SlotMissing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_of_another_plugin() {
    let world = World::begun("plugin", TABLE).await;
    world
        .source_db
        .exec(&format!(
            "SELECT pg_drop_replication_slot('{0}'); \
             SELECT pg_create_logical_replication_slot('{0}', 'test_decoding')",
            world.source.slot
        ))
        .await;
    // It begins after what is durable, which is the graver finding.
    world.history_db.exec("UPDATE waldelta.captures SET durable_end = '7FFFFFFF/0'").await;
    assert_stops(&world, Code::SourceBehind).await;
    let end = world.source_db.query_text("SELECT pg_current_wal_lsn()").await;
    world.history_db.exec(&format!("UPDATE waldelta.captures SET durable_end = '{end}'")).await;
    assert_stops(&world, Code::SlotUnusable).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_that_is_gone() {
    let world = World::begun("nopub", TABLE).await;
    world.source_db.exec("DROP PUBLICATION waldelta").await;
    assert_stops(&world, Code::PublicationMissing).await;
}

/// It is there again, but what was written meanwhile can never be decoded with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_that_was_gone_for_a_while() {
    let world = World::begun("pubback", TABLE).await;
    world.source_db.exec("DROP PUBLICATION waldelta").await;
    world.source_db.exec("INSERT INTO t VALUES (1)").await;
    world.source_db.exec("CREATE PUBLICATION waldelta FOR TABLE t, waldelta.canary").await;
    assert_stops(&world, Code::PublicationMissing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_source_and_another_timeline() {
    let world = World::begun("other", TABLE).await;
    world.history_db.exec("UPDATE waldelta.captures SET timeline = timeline + 1").await;
    assert_stops(&world, Code::DivergedTimeline).await;
    world.history_db.exec("UPDATE waldelta.captures SET system_id = '42'").await;
    assert_stops(&world, Code::SourceChanged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_slot_in_the_configuration() {
    let mut world = World::begun("feed", TABLE).await;
    world.source.slot.push_str("_other");
    assert_stops(&world, Code::OtherFeed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_that_was_never_begun() {
    let world = World::bare("never", TABLE).await;
    assert_stops(&world, Code::HistoryNotBegun).await;
}

/// Somebody else reads the slot: it is waited for, and its process is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_in_use_is_waited_for() {
    // On a server of its own: others' WAL would move the slot beyond where the second history begins.
    let cluster = TestCluster::own(&[]).await;
    let world = World::bare_on(&cluster, "busy", TABLE).await;
    world.publish().await;
    world.begin().await;
    // Under another name than ours, so that it could be anybody.
    let mut somebody = world.config();
    somebody.source.target = target(&format!("{}?application_name=somebody", world.source_db.url()));
    let first = world.run_with(somebody);
    first.wait_streaming().await;
    let pid = world
        .source_db
        .query_text(&format!(
            "SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{}'",
            world.source.slot
        ))
        .await;
    // History lets a second writer of the same process in only when the first is gone, so it gets a history of its own.
    let second = World::bare("busy2", "").await;
    let (captured, head) = world.history.captured().await.unwrap().unwrap();
    second.history.begin(&captured, head.durable_end, "a copy").await.unwrap();
    let second = World {
        source: world.source.clone(),
        source_db: second.source_db,
        history_db: second.history_db,
        history: second.history,
    };
    let waiting = second.run();
    waiting
        .wait_state("the slot is in use", |state| {
            matches!(state, State::Reconnecting { code: Code::SlotActive, message } if message.contains(&pid))
        })
        .await;
    assert!(!waiting.is_over());
    first.stop().await;
    wait_until("it streams", PATIENCE, async || waiting.status.read().state == State::Streaming).await;
    waiting.stop().await;
}
