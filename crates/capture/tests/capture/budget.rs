//! The slot is looked at whatever state capture is in, and how far capture is behind grows with the clock while it stands.

use std::time::Instant;

use waldelta_capture::{State, Verdict};
use waldelta_testkit::wait_until;

use crate::world::{PATIENCE, World};

#[tokio::test]
async fn the_slot_is_looked_at_while_capture_stands() {
    let world = World::begun("budget", "CREATE TABLE t (id int PRIMARY KEY)").await;
    let capture = world.run();
    let budget = || capture.status.read().budget;
    wait_until("the slot is seen in use", PATIENCE, async || budget().is_some_and(|budget| budget.active))
        .await;
    let seen = budget().unwrap();
    assert_eq!(seen.slot, world.source.slot);
    assert!(seen.safe_bytes.is_some() && seen.retained_bytes > 0, "tests' servers have a limit: {seen:?}");
    assert!(seen.verdict != Verdict::Lost && seen.invalidation.is_none(), "{seen:?}");

    let lag = || capture.status.read().lag(Instant::now(), i64::MAX);
    wait_until("all is durable", PATIENCE, async || lag().seconds == Some(0.0)).await;
    world.source_db.exec("DROP PUBLICATION waldelta; INSERT INTO t VALUES (1)").await;
    capture.wait_state("it has stopped", |state| matches!(state, State::Stopped { .. })).await;
    wait_until("the slot is seen idle", PATIENCE, async || budget().is_some_and(|budget| !budget.active))
        .await;
    wait_until("its rate is known", PATIENCE, async || {
        budget().is_some_and(|budget| budget.wal_bytes_per_second.is_some())
    })
    .await;
    let before = lag();
    assert!(before.bytes > 0, "{before:?}");
    let end = world.source_db.query_text("SELECT pg_current_wal_insert_lsn()").await;
    world.source_db.exec("INSERT INTO t SELECT generate_series(2, 1000)").await;
    wait_until("bytes grow", PATIENCE, async || {
        lag().bytes > before.bytes && capture.status.read().source_end > end.parse().unwrap()
    })
    .await;
    assert!(lag().seconds > before.seconds, "so do seconds: {before:?}, {:?}", lag());

    world.source_db.exec(&format!("SELECT pg_drop_replication_slot('{}')", world.source.slot)).await;
    wait_until("there is nothing to be told of it", PATIENCE, async || budget().is_none()).await;
}
