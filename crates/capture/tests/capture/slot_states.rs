//! States of the slot that only a server of the test's own can be brought into: WAL that is gone, limits that are used up, a
//! walsender that nobody reads.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use waldelta_capture::recover;
use waldelta_capture::{State, Status};
use waldelta_testkit::{TestCluster, wait_until};
use waldelta_wal::Code;

use crate::world::{PATIENCE, World};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY)";

async fn begun_on(cluster: &TestCluster, hint: &str) -> World {
    let world = World::bare_on(cluster, hint, TABLE).await;
    world.publish().await;
    world.begin().await;
    world
}

/// Writes WAL until the slot has lost what it needs.
async fn lose_slot(world: &World) {
    let status =
        format!("SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{}'", world.source.slot);
    wait_until("the slot is lost", PATIENCE, async || {
        world
            .source_db
            .exec("SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1000000)); SELECT pg_switch_wal(); CHECKPOINT")
            .await;
        world.source_db.query_text(&status).await == "lost"
    })
    .await;
}

/// A5, V22: before the start, and under a stream that cannot follow. It is tried no further, and a new slot is begun at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_whose_wal_is_gone() {
    let cluster = TestCluster::own(&[
        ("max_slot_wal_keep_size", "1MB"),
        ("min_wal_size", "32MB"),
        ("max_wal_size", "32MB"),
    ])
    .await;
    let world = begun_on(&cluster, "lost").await;
    lose_slot(&world).await;
    let capture = world.run();
    assert_eq!(capture.wait_stopped().await, Code::SlotLost);
    assert!(
        matches!(capture.status.read().state, State::Stopped { message, .. } if message.contains("wal_removed"))
    );
    assert_eq!(capture.status.read().reconnects, 0, "it was tried once");
    world.recover().await;
    world.assert_epochs(2, 1).await;
    capture.wait_streaming().await;
    world.source_db.exec("INSERT INTO t VALUES (1)").await;
    world.wait_told(1).await;

    // History takes nothing in, so the slot is told nothing, while the source goes on.
    let blocker = world.history_db.client().await;
    blocker.batch_execute("BEGIN; LOCK TABLE waldelta.captures IN ACCESS EXCLUSIVE MODE").await.unwrap();
    world.source_db.exec("INSERT INTO t VALUES (2)").await;
    lose_slot(&world).await;
    blocker.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(capture.wait_stopped().await, Code::SlotLost);
    world.recover().await;
    world.assert_epochs(3, 2).await;
    capture.wait_streaming().await;
    world.source_db.exec("INSERT INTO t VALUES (3)").await;
    world.wait_stored("data ->> 'id' = '3'", 1).await;
    world.assert_gapless().await;
    capture.stop().await;
}

/// A15: no slot is free for the new epoch, then no walsender for the stream. Both pass by themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_and_walsenders_that_are_used_up() {
    let cluster = TestCluster::own(&[("max_replication_slots", "1"), ("max_wal_senders", "1")]).await;
    let world = begun_on(&cluster, "full").await;
    world.drop_slot().await;
    world.source_db.exec("SELECT pg_create_logical_replication_slot('other', 'pgoutput')").await;
    let diagnosis = world.diagnose().await;
    let refused =
        recover::act(&world.config(), &world.history, &Status::new(), &diagnosis).await.unwrap_err();
    assert_eq!((refused.code(), refused.is_retryable()), (Code::SlotsExhausted, true));
    world.source_db.exec("SELECT pg_drop_replication_slot('other')").await;
    world.recover().await;

    // The connection that has created the slot may need a moment to go.
    let walsenders = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'";
    wait_until("it is gone", PATIENCE, async || world.source_db.query_text(walsenders).await == "0").await;
    let other = Holder::open(&cluster.url(world.source_db.name()), "other");
    let capture = world.run();
    capture
        .wait_state("no walsender is free", |state| {
            matches!(state, State::Reconnecting { code: Code::SlotsExhausted, .. })
        })
        .await;
    drop(other);
    capture.wait_streaming().await;
    capture.stop().await;
}

/// A7: what a connection of ours has left is ended by the holder of the writer's lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walsender_that_was_left_is_ended() {
    let cluster = TestCluster::own(&[]).await;
    let world = begun_on(&cluster, "left").await;
    let mut left = Holder::open(&cluster.url(world.source_db.name()), "waldelta");
    left.start(&world.source.slot);
    let capture = world.run();
    capture
        .wait_state("the slot is in use", |state| {
            matches!(state, State::Reconnecting { code: Code::SlotActive, .. })
        })
        .await;
    world.source_db.exec("INSERT INTO t VALUES (1)").await;
    world.wait_told(1).await;
    assert!(left.has_ended());
    capture.stop().await;
}

/// The application's commits would wait for us, and for as long as history is down: it is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_wait_for_capture_are_told() {
    let cluster = TestCluster::own(&[("wal_sender_timeout", "10s")]).await;
    let world = begun_on(&cluster, "sync").await;
    let capture = world.run();
    capture.wait_streaming().await;
    assert!(!capture.status.read().commits_wait);
    world.source_db.exec("ALTER SYSTEM SET synchronous_standby_names = '*'").await;
    world.source_db.exec("SELECT pg_reload_conf()").await;
    capture.stop().await;
    let capture = world.run();
    wait_until("it is told", PATIENCE, async || capture.status.read().commits_wait).await;
    capture.stop().await;
    let standby = "ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (\"a standby\", Waldeltas)'";
    world.source_db.exec(standby).await;
    world.source_db.exec("SELECT pg_reload_conf()").await;
    let sql = include_str!("../../../../sql/source/synchronous_standby.sql");
    let client = world.source_db.client().await;
    let by_setting = async |name: &str| -> bool { client.query_one(sql, &[&0, &name]).await.unwrap().get(0) };
    wait_until("the setting is read", PATIENCE, async || !by_setting("waldelta").await).await;
    assert!(by_setting("waldeltas").await, "whoever may not see the state asks for the name");
}

/// A replication connection that takes a walsender, and reads nothing.
struct Holder {
    stream: TcpStream,
}

impl Holder {
    fn open(url: &str, application_name: &str) -> Self {
        let target = crate::world::target(url);
        let address = url.split('@').nth(1).and_then(|rest| rest.split('/').next()).unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut out = BytesMut::new();
        let parameters = [
            ("user", target.user()),
            ("database", target.database()),
            ("replication", "database"),
            ("application_name", application_name),
        ];
        frontend::startup_message(parameters, &mut out).unwrap();
        stream.write_all(&out).unwrap();
        let mut holder = Holder { stream };
        holder.wait_for(b'Z');
        holder
    }

    /// Begins to stream.
    fn start(&mut self, slot: &str) {
        let mut out = BytesMut::new();
        let command = format!(
            "START_REPLICATION SLOT \"{slot}\" LOGICAL 0/0 (proto_version '1', publication_names 'waldelta')"
        );
        frontend::query(&command, &mut out).unwrap();
        self.stream.write_all(&out).unwrap();
        self.wait_for(b'W');
    }

    fn wait_for(&mut self, wanted: u8) {
        loop {
            let mut head = [0; 5];
            self.stream.read_exact(&mut head).unwrap();
            let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4;
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).unwrap();
            assert_ne!(head[0], b'E', "{}", String::from_utf8_lossy(&body));
            if head[0] == wanted {
                return;
            }
        }
    }

    /// Whether the server has closed it.
    fn has_ended(&mut self) -> bool {
        self.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).is_ok()
    }
}
