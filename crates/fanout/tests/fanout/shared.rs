//! Snapshots that are shared: one reading of the source for all who want the same, kept while it is of worth, and taken at
//! each client's own pace.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use waldelta_fanout::Config;
use waldelta_testkit::{ConnectOptions, Frame, WsClient, wait_until};

use crate::support::*;

/// Kilobytes, and rows: more than all sockets on the way hold.
const LARGE: u32 = 16_000;

/// What a client was told of a snapshot.
#[derive(Default)]
pub(crate) struct Copy {
    pub begin: Value,
    /// Numbers of the frames of rows.
    pub frames: Vec<u64>,
    pub rows: Vec<Value>,
    /// The sum of the digests of the rows' texts.
    pub checksum: u64,
    pub end: Value,
}

impl Copy {
    /// Takes a frame in; whether it was the last.
    pub(crate) fn take(&mut self, text: &str) -> bool {
        let frame: Value = serde_json::from_str(text).unwrap();
        match frame["type"].as_str().unwrap() {
            "snapshot_begin" => self.begin = frame,
            "rows" => {
                self.frames.push(frame["n"].as_u64().unwrap());
                self.rows.extend(frame["rows"].as_array().unwrap().iter().cloned());
                let raw: std::collections::HashMap<&str, &serde_json::value::RawValue> =
                    serde_json::from_str(text).unwrap();
                let raw: Vec<&serde_json::value::RawValue> = serde_json::from_str(raw["rows"].get()).unwrap();
                for row in raw {
                    let digest = row.get().bytes().fold(0xcbf2_9ce4_8422_2325u64, |sum, byte| {
                        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
                    });
                    self.checksum = self.checksum.wrapping_add(digest);
                }
            }
            "snapshot_end" => {
                self.end = frame;
                return true;
            }
            "welcome" | "schema" => {}
            other => panic!("{other}: {text}"),
        }
        false
    }

    pub(crate) fn id(&self) -> &str {
        self.begin["id"].as_str().unwrap()
    }

    pub(crate) fn ids(&self) -> BTreeSet<i64> {
        let ids: BTreeSet<i64> = self.rows.iter().map(|row| row["id"].as_i64().unwrap()).collect();
        assert_eq!(ids.len(), self.rows.len(), "no row comes twice");
        ids
    }

    /// Its end says what came.
    pub(crate) fn adds_up(&self) {
        let sums = &self.end["tables"][0];
        assert_eq!(sums["rows"], self.rows.len());
        assert_eq!(sums["checksum"], format!("{:016x}", self.checksum));
    }
}

/// Takes a snapshot to its end.
async fn take(client: &mut WsClient) -> Copy {
    let mut copy = Copy::default();
    loop {
        match client.next_frame(PATIENCE).await {
            Frame::Text(text) => {
                if copy.take(&text) {
                    copy.adds_up();
                    return copy;
                }
            }
            closed => panic!("{closed:?}"),
        }
    }
}

async fn snapshot(world: &World, client_id: &str) -> Copy {
    take(&mut world.hello(client_id, json!({})).await).await
}

/// Says hello through a small buffer, so that it soon takes nothing.
async fn slow(world: &World, client_id: &str, more: Value) -> WsClient {
    let options = ConnectOptions { receive_buffer_bytes: Some(4_096), ..ConnectOptions::default() };
    let mut client = WsClient::try_connect(&world.stream_url(), &options).await.unwrap();
    let mut hello = json!({"type": "hello", "client_id": client_id, "subscriptions": [{"id": "s1", "table": "public.t"}]});
    for (name, value) in more.as_object().unwrap() {
        hello[name] = value.clone();
    }
    client.send(&hello).await;
    client
}

/// Rows of a kilobyte that does not compress.
async fn fill(world: &World, rows: u32) {
    let text = "(SELECT string_agg(md5((i * 100 + k)::text), '') FROM generate_series(1, 32) k)";
    world.database.exec(&format!("INSERT INTO t SELECT i, {text} FROM generate_series(1, {rows}) i")).await;
}

/// Waits until no connection of ours keeps the source from cleaning up.
async fn wait_released(world: &World) {
    let held = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                AND application_name = 'waldelta' AND backend_xmin IS NOT NULL";
    wait_until("the source is let go", PATIENCE, async || world.database.query_text(held).await == "0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_the_same_gets_it_from_one_reading() {
    const CLIENTS: usize = 20;
    let world = World::new("shared").await;
    fill(&world, 500).await;
    // Nobody is served before all are there.
    let lock = world.database.client().await;
    lock.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        // What a client calls its subscription is its own business.
        let subscriptions =
            json!([{"id": format!("mine-{number}"), "table": "public.t", "old": number % 2 == 0}]);
        clients.push(world.hello(&format!("web-{number}"), json!({"subscriptions": subscriptions})).await);
    }
    world.wait_sessions(CLIENTS, "hydrating").await;
    lock.batch_execute("ROLLBACK").await.unwrap();
    let mut ids = BTreeSet::new();
    for client in &mut clients {
        let copy = take(client).await;
        assert_eq!(copy.ids(), (1..=500).collect());
        assert!(copy.frames.len() > 5 && copy.frames.iter().copied().eq(0..copy.frames.len() as u64));
        ids.insert(copy.id().to_owned());
    }
    // Each reading has an id of its own: the place of its fence.
    assert_eq!(ids.len(), 1, "{ids:?}");
    let late = snapshot(&world, "late").await;
    assert!(ids.contains(late.id()) && late.ids().len() == 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_snapshot_and_what_has_come_since_are_the_source() {
    let mut world = World::new("shared_late").await;
    world.database.exec("INSERT INTO t VALUES (1, 'x'), (2, 'x')").await;
    let first = snapshot(&world, "web-1").await;
    // What comes after its end, so that the snapshot plays no role in it.
    world.skip_to(cursor(&json!({"cursor": first.end["consistent_at"]})).commit_lsn.0 + 64);
    world.database.exec("INSERT INTO t VALUES (3, 'x')").await;
    let change = insert(&world.t, 0, 3);
    let xid = world.xid().await;
    world.commit(xid, vec![change]).await;
    let mut client = world.hello("web-2", json!({})).await;
    let second = take(&mut client).await;
    assert_eq!((second.id(), second.ids()), (first.id(), [1, 2].into()));
    assert_eq!(second.end["cursor"], first.end["cursor"]);
    assert_eq!(ids(&client.next_of_type("tx", PATIENCE).await), [3]);
    client.next_of_type("live", PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_taken_anew_when_history_has_outgrown_it_or_rows_changed_unseen() {
    let mut world = World::new("shared_stale").await;
    world.database.exec("INSERT INTO t VALUES (1, 'x')").await;
    let first = snapshot(&world, "web-1").await;
    let change = insert(&world.t, 0, 2);
    world.commit(SHOWN_XID, vec![change]).await;
    assert_eq!(snapshot(&world, "web-2").await.id(), first.id(), "a little more is no reason");
    let text = "z".repeat(1 << 20);
    for id in 20..25 {
        let change = insert_text(&world.u, 0, id, &text);
        world.commit(SHOWN_XID, vec![change]).await;
    }
    let second = snapshot(&world, "web-3").await;
    assert_ne!(second.id(), first.id(), "so much has to be read past");
    assert_eq!(snapshot(&world, "web-4").await.id(), second.id());
    let u = world.u.clone();
    world.reset(&[&u]).await;
    assert_eq!(snapshot(&world, "web-5").await.id(), second.id(), "of another table");
    let t = world.t.clone();
    let reset_at = world.reset(&[&t]).await;
    let third = snapshot(&world, "web-6").await;
    assert_ne!(third.id(), second.id());
    assert!(cursor(&third.begin) >= reset_at);

    // Rows changed in a way that no change tells: what was read before lacks that, what is read after it does not.
    let gap = "INSERT INTO waldelta.gaps (epoch, table_oid, from_lsn, reason)
               SELECT epoch, 't'::regclass, durable_end, 'rewritten' FROM waldelta.captures";
    world.database.exec(gap).await;
    let fourth = snapshot(&world, "web-7").await;
    assert_ne!(fourth.id(), third.id());
    let fifth = snapshot(&world, "web-8").await;
    assert_ne!(fifth.id(), fourth.id(), "more may have changed in it unseen");
    world.reset(&[&t]).await;
    let sixth = snapshot(&world, "web-9").await;
    assert_eq!(snapshot(&world, "web-10").await.id(), sixth.id(), "nothing is open any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_does_not_keep_the_source_from_cleaning_up() {
    let world = World::new("shared_slow").await;
    fill(&world, LARGE).await;
    let mut client = slow(&world, "slow", json!({})).await;
    let mut copy = Copy::default();
    while copy.frames.is_empty() {
        let Frame::Text(text) = client.next_frame(PATIENCE).await else { panic!("closed") };
        copy.take(&text);
    }
    wait_released(&world).await;
    assert!(world.fanout.sessions()[0].sent_bytes < 10 << 20, "it has not been sent yet");
    while let Frame::Text(text) = client.next_frame(PATIENCE).await {
        if copy.take(&text) {
            break;
        }
    }
    copy.adds_up();
    assert_eq!(copy.ids(), (1..=i64::from(LARGE)).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_goes_on_after_the_last_frame_that_it_has() {
    let world = World::new("shared_resume").await;
    fill(&world, 2_000).await;
    // The reading is whole before anybody is cut off.
    let whole = snapshot(&world, "web-1").await;
    let mut client = world.hello("web-2", json!({})).await;
    let mut copy = Copy::default();
    while copy.frames.len() < 7 {
        let Frame::Text(text) = client.next_frame(PATIENCE).await else { panic!("closed") };
        copy.take(&text);
    }
    drop(client);
    let from = json!({"id": copy.id(), "n": copy.frames.last()});
    let mut client = world.hello("web-2", json!({"snapshot_from": from})).await;
    assert_eq!(client.next_json(PATIENCE).await["mode"], "snapshot");
    let begin = client.next_json(PATIENCE).await;
    assert_eq!(
        (&begin["type"], &begin["id"], &begin["n"]),
        (&json!("snapshot_begin"), &json!(whole.id()), &json!(7))
    );
    assert_eq!(client.next_json(PATIENCE).await["type"], "schema", "of the rows that follow");
    while let Frame::Text(text) = client.next_frame(PATIENCE).await {
        if copy.take(&text) {
            break;
        }
    }
    copy.adds_up();
    assert!(
        copy.frames.iter().copied().eq(0..whole.frames.len() as u64),
        "each frame once: {:?}",
        copy.frames
    );
    assert_eq!((copy.ids(), &copy.end["tables"]), (whole.ids(), &whole.end["tables"]));
    client.next_of_type("live", PATIENCE).await;

    // What is not there, or is not of these tables, begins anew; so does one who has a cursor.
    let gone = json!({"id": "00000001-0000000000000001", "n": 3});
    let other = json!([{"id": "s1", "table": "public.u"}]);
    for more in [
        json!({"snapshot_from": gone}),
        json!({"snapshot_from": from, "subscriptions": other}),
        json!({"snapshot_from": {"id": whole.id(), "n": 1_000_000}}),
    ] {
        let mut client = world.hello("web-3", more.clone()).await;
        assert_eq!(client.next_of_type("snapshot_begin", PATIENCE).await["n"], 0, "{more}");
    }
    let mut client = world.hello("web-3", json!({"snapshot_from": from, "after": whole.end["cursor"]})).await;
    assert_eq!(client.next_json(PATIENCE).await["mode"], "resume");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_to_be_kept_goes_through_and_each_reads_for_itself() {
    let config =
        Config { snapshot_bytes_max: 256 << 10, snapshot_cache_bytes_max: 1 << 20, ..Config::default() };
    let world = World::with("shared_large", Setup { config, ..Setup::default() }).await;
    fill(&world, LARGE).await;
    let mut stuck = slow(&world, "slow", json!({})).await;
    stuck.next_of_type("snapshot_begin", PATIENCE).await;
    // The source waits for the one that does not read; others do not.
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                 AND application_name = 'waldelta' AND wait_event = 'ClientWrite'";
    // Again and again: on a busy machine it also waits now and then for who does read.
    let mut seen = 0;
    wait_until("the source waits", PATIENCE, async || {
        let waits = world.database.query_text(waits).await == "1";
        seen = if waits { seen + 1 } else { 0 };
        seen == 20
    })
    .await;
    let first = snapshot(&world, "web-1").await;
    assert_eq!(first.ids(), (1..=i64::from(LARGE)).collect());
    let second = snapshot(&world, "web-2").await;
    assert_eq!(second.ids(), first.ids());
    assert_ne!(first.id(), second.id(), "it was not kept");
    assert_eq!(take(&mut stuck).await.ids(), first.ids());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_holds_up_the_others_is_let_go() {
    let config = Config {
        snapshot_bytes_max: 256 << 10,
        snapshot_cache_bytes_max: 1 << 20,
        snapshot_timeout: Duration::from_secs(12),
        ..Config::default()
    };
    let world = World::with("shared_holdup", Setup { config, ..Setup::default() }).await;
    fill(&world, 3_000).await;
    let lock = world.database.client().await;
    lock.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut stuck = slow(&world, "slow", json!({})).await;
    // First, as one who comes later is let go for want of time: it is its reading that waits for the table.
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                 AND application_name = 'waldelta' AND wait_event_type = 'Lock'";
    wait_until("the first reading waits", PATIENCE, async || world.database.query_text(waits).await == "1")
        .await;
    let mut client = world.hello("web-1", json!({})).await;
    world.wait_sessions(2, "hydrating").await;
    lock.batch_execute("ROLLBACK").await.unwrap();
    let copy = take(&mut client).await;
    assert_eq!(copy.ids(), (1..=3_000).collect());
    let error = stuck.next_of_type("error", PATIENCE).await;
    assert_eq!(error["code"], "WD-CLIENT-TOO-SLOW");
    assert_eq!(stuck.closed(PATIENCE).await.0, 4418);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_that_fails_in_the_middle_ends_for_all_and_the_next_one_is_whole() {
    let config =
        Config { snapshot_bytes_max: 256 << 10, snapshot_cache_bytes_max: 1 << 20, ..Config::default() };
    let world = World::with("shared_failure", Setup { config, ..Setup::default() }).await;
    fill(&world, LARGE).await;
    let lock = world.database.client().await;
    lock.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut clients = Vec::new();
    for number in 0..3 {
        clients.push(slow(&world, &format!("web-{number}"), json!({})).await);
    }
    world.wait_sessions(3, "hydrating").await;
    lock.batch_execute("ROLLBACK").await.unwrap();
    for client in &mut clients {
        client.next_of_type("rows", PATIENCE).await;
    }
    let backends = "FROM pg_stat_activity WHERE datname = current_database()
                    AND application_name = 'waldelta' AND query LIKE 'COPY%' AND state = 'active'";
    assert_eq!(
        world.database.query_text(&format!("SELECT count(*) {backends}")).await,
        "1",
        "one reads for all"
    );
    world.database.exec(&format!("SELECT pg_terminate_backend(pid) {backends}")).await;
    // It is noticed when they take what is there, all of them: the reading waits for the slowest.
    let ends = clients.iter_mut().map(async |client| {
        let error = client.next_of_type("error", PATIENCE).await;
        assert_eq!(error["fatal"], true);
        assert_eq!(client.closed(PATIENCE).await.0, 1013, "{error}");
    });
    futures_util::future::join_all(ends).await;
    assert_eq!(snapshot(&world, "web-9").await.ids(), (1..=i64::from(LARGE)).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_that_nobody_wants_any_more_ends() {
    let config =
        Config { snapshot_bytes_max: 256 << 10, snapshot_cache_bytes_max: 1 << 20, ..Config::default() };
    let world = World::with("shared_left", Setup { config, ..Setup::default() }).await;
    fill(&world, LARGE).await;
    let mut client = slow(&world, "web-1", json!({})).await;
    client.next_of_type("rows", PATIENCE).await;
    drop(client);
    wait_released(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_before_a_readings_time_is_up_is_not_too_slow() {
    let config = Config { snapshot_timeout: Duration::from_secs(4), ..Config::default() };
    let world = World::with("shared_deadline", Setup { config, ..Setup::default() }).await;
    fill(&world, 100).await;
    // Its rows cannot be read for as long as this lasts.
    let lock = world.database.client().await;
    lock.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let begun = async |client_id: &str| {
        let mut client = world.hello(client_id, json!({})).await;
        let begin = client.next_of_type("snapshot_begin", PATIENCE).await;
        (client, begin["id"].clone())
    };
    let (mut first, id) = begun("web-1").await;
    let (mut joined, same) = begun("web-2").await;
    assert_eq!(same, id);
    // Who comes when half of its time is over gets one of its own.
    let late = async {
        loop {
            let (client, other) = begun("late").await;
            if other != id {
                return client;
            }
        }
    };
    let mut late = tokio::time::timeout(PATIENCE, late).await.unwrap();
    for client in [&mut first, &mut joined] {
        let error = client.next_of_type("error", PATIENCE).await;
        assert_eq!((&error["code"], &error["fatal"]), (&json!("WD-SNAPSHOT-TIMEOUT"), &json!(true)));
        let (code, reason) = client.closed(PATIENCE).await;
        assert_eq!(code, 1013, "{reason}");
        assert!(reason.contains("retry_ms"), "{reason}");
    }
    lock.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(take(&mut late).await.ids(), (1..=100).collect());
}
