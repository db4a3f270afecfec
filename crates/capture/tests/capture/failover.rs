//! The source goes on in another timeline, as after a promotion or a restore: where nothing is missing capture goes on by
//! itself, else it says what did not survive.

use waldelta_capture::recover::{self, Remedy};
use waldelta_capture::{State, Status};
use waldelta_testkit::{Shutdown, TestCluster, wait_until};
use waldelta_wal::Code;

use crate::world::{PATIENCE, World, target};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY)";

async fn begun_on(cluster: &TestCluster, hint: &str) -> World {
    let world = World::bare_on(cluster, hint, TABLE).await;
    world.publish().await;
    world.begin().await;
    world
}

async fn write(cluster: &TestCluster, world: &World, id: u32) {
    let client = waldelta_testkit::connect(&cluster.url(world.source_db.name())).await;
    client.batch_execute(&format!("INSERT INTO t VALUES ({id})")).await.unwrap();
}

/// A10, A12: the slot came along and everything in history survived, so nobody is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeline_on_which_nothing_is_missing_is_gone_on_with() {
    let cluster = TestCluster::own(&[]).await;
    let mut world = begun_on(&cluster, "failgoes").await;
    let capture = world.run();
    write(&cluster, &world, 1).await;
    world.wait_told(1).await;
    capture.stop().await;
    write(&cluster, &world, 2).await;
    cluster.down(Shutdown::Fast).await;
    let promoted = TestCluster::recovered_copy_of(&cluster, &[]).await;
    world.source.target = target(&promoted.url(world.source_db.name()));
    let capture = world.run();
    capture.wait_streaming().await;
    write(&promoted, &world, 3).await;
    world.wait_told(3).await;
    assert_eq!(world.told("data ->> 'id'").await, ["1", "2", "3"]);
    world.assert_epochs(2, 0).await;
    world.assert_gapless().await;
    let reason = world.stored("SELECT reason FROM waldelta.epochs ORDER BY epoch DESC LIMIT 1").await;
    assert!(reason.starts_with("timeline_changed: "), "{reason}");
    capture.stop().await;
}

/// A10, A12: what history has beyond the fork did not survive; it is counted, and stays readable in its epoch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeline_that_left_before_the_end_of_history() {
    let cluster = TestCluster::own(&[]).await;
    let mut world = begun_on(&cluster, "failghost").await;
    let capture = world.run();
    write(&cluster, &world, 1).await;
    world.wait_told(1).await;
    capture.stop().await;
    cluster.down(Shutdown::Fast).await;
    let restored = TestCluster::recovered_copy_of(&cluster, &[]).await;
    cluster.up().await;
    let capture = world.run();
    capture.wait_streaming().await;
    for id in 2..=4 {
        write(&cluster, &world, id).await;
    }
    world.wait_told(4).await;
    capture.stop().await;

    world.source.target = target(&restored.url(world.source_db.name()));
    write(&restored, &world, 10).await;
    let capture = world.run();
    assert_eq!(capture.wait_stopped().await, Code::DivergedTimeline);
    let (diagnosis, _) = world.recover().await;
    let lost = diagnosis.lost().expect("they are counted");
    assert_eq!((lost.transactions, lost.or_more), (3, false));
    assert_eq!(diagnosis.remedy(), Remedy::NewEpoch);
    world.assert_epochs(2, 0).await;
    capture.wait_streaming().await;
    world.wait_stored("data ->> 'id' = '10'", 1).await;
    let newest = "epoch = (SELECT max(epoch) FROM waldelta.epochs) AND operation = 'insert'";
    assert_eq!(world.listed("data ->> 'id'", newest).await, ["10"]);
    world.assert_gapless().await;
    capture.stop().await;
}

/// A9, A12: a backup of the disk, restored as it was: the same timeline, and less than history has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_was_restored_from_an_older_backup() {
    let cluster = TestCluster::own(&[]).await;
    let mut world = begun_on(&cluster, "failback").await;
    cluster.down(Shutdown::Fast).await;
    let restored = TestCluster::copy_of(&cluster, &[]).await;
    cluster.up().await;
    let capture = world.run();
    write(&cluster, &world, 1).await;
    world.wait_told(1).await;
    // Beyond what the restored server writes by itself.
    let client = waldelta_testkit::connect(&cluster.url(world.source_db.name())).await;
    let switch = "SELECT pg_switch_wal(); SELECT pg_logical_emit_message(true, 'x', 'y')";
    client.batch_execute(switch).await.unwrap();
    world.wait_stored("operation = 'message'", 1).await;
    wait_until("it is reported", PATIENCE, async || world.durable().await == capture.status.read().reported)
        .await;
    capture.stop().await;

    world.source.target = target(&restored.url(world.source_db.name()));
    let capture = world.run();
    assert_eq!(capture.wait_stopped().await, Code::SourceBehind);
    world.recover().await;
    world.assert_epochs(2, 1).await;
    capture.wait_streaming().await;
    write(&restored, &world, 7).await;
    world.wait_stored("data ->> 'id' = '7'", 1).await;
    capture.stop().await;
}

/// A30, A28: a slot on a standby, whose primary is idle when it is created and then no longer writes what it needs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_on_a_standby_is_lost_with_its_reason() {
    let primary = TestCluster::own(&[]).await;
    let mut world = World::bare_on(&primary, "failstandby", TABLE).await;
    if world.source_db.server_major().await < 16 {
        println!("skipped: a standby has no logical slots before 16");
        return;
    }
    world.publish().await;
    let standby = TestCluster::standby_of(&primary, &[("hot_standby_feedback", "on")]).await;
    standby.has_caught_up_with(&primary).await;
    world.source.primary = Some(world.source.target.clone());
    world.source.target = target(&standby.url(world.source_db.name()));
    // It waits for a sign of the primary, which is asked for.
    world.begin().await;
    let capture = world.run();
    write(&primary, &world, 1).await;
    world.wait_told(1).await;
    capture.stop().await;

    let admin = waldelta_testkit::connect(&primary.url("postgres")).await;
    admin.batch_execute("ALTER SYSTEM SET wal_level = 'replica'").await.unwrap();
    primary.restart().await;
    standby.has_caught_up_with(&primary).await;
    let capture = world.run();
    assert_eq!(capture.wait_stopped().await, Code::SlotLost);
    let state = capture.status.read().state;
    let reason =
        if world.source_db.server_major().await < 17 { "conflicting" } else { "wal_level_insufficient" };
    assert!(matches!(&state, State::Stopped { message, .. } if message.contains(reason)), "{state:?}");
    // Nor is a new one to be had, and that is named too.
    let diagnosis = world.diagnose().await;
    let act = async || recover::act(&world.config(), &world.history, &Status::new(), &diagnosis).await;
    assert_eq!(act().await.unwrap_err().code(), Code::WalLevel);

    let admin = waldelta_testkit::connect(&primary.url("postgres")).await;
    admin.batch_execute("ALTER SYSTEM SET wal_level = 'logical'").await.unwrap();
    primary.restart().await;
    standby.has_caught_up_with(&primary).await;
    world.recover().await;
    world.assert_epochs(2, 1).await;
    capture.wait_streaming().await;
    write(&primary, &world, 2).await;
    world.wait_stored("data ->> 'id' = '2'", 1).await;
    capture.stop().await;
}
