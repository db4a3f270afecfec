//! Many clients at once: those who come back together cost history little, those who are too many are told when to come back,
//! and a stop does not send all of them off in one moment.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;
use waldelta_fanout::Config;
use waldelta_testkit::wait_until;

use crate::raw::{Came, Raw};
use crate::support::*;

/// As many clients as this process may have, both ends of each connection counted, up to `wanted`.
fn as_many_clients(wanted: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const BESIDES: u64 = 300;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let clients = limit.maximum.map_or(wanted, |files| wanted.min(files.saturating_sub(BESIDES) / 2));
    assert!(clients >= 200, "too few open files for a crowd: {limit:?}");
    clients
}

/// The value of a counter.
fn count(metrics: &PrometheusHandle, name: &str) -> u64 {
    let text = metrics.render();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

fn hello(client_id: &str, after: &str) -> Value {
    json!({"type": "hello", "client_id": client_id, "after": after, "snapshot": false,
           "subscriptions": [{"id": "s1", "table": "public.t"}]})
}

/// Follows until the row of this id has come, through every end of the connection: the ids that came, in order.
async fn follow(
    address: SocketAddr,
    number: u64,
    after: String,
    last: u64,
    seen: Arc<AtomicU64>,
) -> Vec<u64> {
    let (mut cursor, mut got) = (after, Vec::new());
    loop {
        let retry_ms = connection(address, number, &mut cursor, &mut got, last, &seen).await;
        if got.last() == Some(&last) {
            return got;
        }
        // As a client does that cannot connect, or was not told.
        tokio::time::sleep(Duration::from_millis(retry_ms.unwrap_or(100 + number % 400))).await;
    }
}

/// One connection of it, to its end; when to come back.
async fn connection(
    address: SocketAddr,
    number: u64,
    cursor: &mut String,
    got: &mut Vec<u64>,
    last: u64,
    seen: &AtomicU64,
) -> Option<u64> {
    let mut raw = Raw::connect(address, "").await.ok()?;
    if !raw.answer.starts_with("http/1.1 101") {
        assert!(raw.answer.starts_with("http/1.1 503"), "{}", raw.answer);
        return Some(raw.retry_after_s() * 1_000 + number % 500);
    }
    raw.say(&hello(&format!("c{number}"), cursor)).await.ok()?;
    let mut said = Value::Null;
    loop {
        let frame = match raw.next().await.ok()? {
            Came::Frame(frame) => frame,
            Came::Closed(code, reason) => {
                // Whatever it is, it is to be tried again.
                assert!([1012, 1013].contains(&code), "{code} {reason} {said}");
                return serde_json::from_str::<Value>(&reason).unwrap()["retry_ms"].as_u64();
            }
        };
        match frame["type"].as_str().unwrap() {
            "tx" => {
                *cursor = frame["cursor"].as_str().unwrap().to_owned();
                got.extend(ids(&frame));
            }
            "live" => {
                *cursor = frame["cursor"].as_str().unwrap().to_owned();
                seen.fetch_add(1, Ordering::Relaxed);
            }
            "heartbeat" => *cursor = frame["cursor"].as_str().unwrap().to_owned(),
            "welcome" => assert_eq!(frame["mode"], "resume"),
            "schema" | "goaway" => {}
            "error" => said = frame,
            other => panic!("{other}: {frame}"),
        }
        if got.last() == Some(&last) {
            return None;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_that_come_back_together_cost_history_few_questions() {
    const DEADLINE: Duration = Duration::from_secs(90);
    const ARRIVALS_MAX: usize = 500;
    let crowd = as_many_clients(1_000);
    let metrics = PrometheusBuilder::new().install_recorder().unwrap();
    let config = Config {
        arrivals_max: ARRIVALS_MAX,
        drain: Duration::from_secs(1),
        // Two processes' worth of work, unoptimised, on a machine that has other tests to run.
        hello_timeout: DEADLINE,
        heartbeat_interval: DEADLINE,
        ..Config::default()
    };
    let mut world = World::with("storm", Setup { config, ..Setup::default() }).await;
    let (address, start) = (world.address(), world.head().to_string());
    let lives = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for number in 0..crowd {
        clients.spawn(follow(address, number, start.clone(), 70, lives.clone()));
    }
    wait_until("all are live", DEADLINE, || async { lives.load(Ordering::Relaxed) >= crowd }).await;
    let asked = |what: &str| count(&metrics, &format!("waldelta_fanout_{what}_total"));
    let beginning = asked("extent_reads");
    world.commit_inserts(1..21).await;

    // They leave at different positions, and come back to a process that has nothing in memory.
    world.stop.cancel();
    world.commit_inserts(21..41).await;
    let mut world = world.restart().await;
    // How many share a question depends on how long an answer takes: this one takes until half of those are there who may come.
    let lock = world.database.client().await;
    lock.batch_execute("BEGIN; LOCK TABLE waldelta.captures IN ACCESS EXCLUSIVE MODE").await.unwrap();
    wait_until("many ask", DEADLINE, || async { world.fanout.sessions().len() >= ARRIVALS_MAX / 2 }).await;
    lock.batch_execute("ROLLBACK").await.unwrap();
    world.commit_inserts(41..61).await;
    let back = Instant::now();
    wait_until("all are live again", DEADLINE, || async { lives.load(Ordering::Relaxed) >= 2 * crowd }).await;
    let took = back.elapsed();
    world.commit_inserts(61..71).await;
    let following = async {
        while let Some(got) = clients.join_next().await {
            assert_eq!(got.unwrap(), (1..71).collect::<Vec<_>>(), "each change once, in order");
        }
    };
    tokio::time::timeout(DEADLINE, following).await.expect("all have everything");

    let (extents, pages, shared) =
        (asked("extent_reads") - beginning, asked("catch_up_reads"), asked("catch_up_shared"));
    println!("{crowd} back in {took:?}: {extents} questions, {pages} pages read, {shared} shared");
    assert!(beginning <= crowd / 2, "{beginning} questions of {crowd} that came first");
    let alone = crowd - ARRIVALS_MAX as u64 / 2;
    assert!(extents <= alone + crowd / 20, "{extents} questions of {crowd} that came back");
    assert!(pages <= crowd / 2, "{pages} pages were read for {crowd}");
    assert!(shared > crowd / 2, "{shared}: so many had something to catch up with");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_when_too_many_arrive_is_told_when_to_come_back() {
    let config = Config { arrivals_max: 1, ..Config::default() };
    let world = World::with("arrivals", Setup { config, ..Setup::default() }).await;
    let head = world.head().to_string();
    let mut first = Raw::connect(world.address(), "").await.unwrap();
    // One is on its way, and one is being told; that one does not listen.
    let mut second = Raw::connect(world.address(), "").await.unwrap();
    let third = Raw::connect(world.address(), "").await.unwrap();
    assert!(third.answer.starts_with("http/1.1 503"), "{}", third.answer);
    assert!(third.retry_after_s() >= 1);
    let (code, reason) = second.closed().await;
    assert_eq!(code, 1013, "{reason}");
    assert!(reason.contains("WD-TOO-MANY-ARRIVALS") && reason.contains("retry_ms"), "{reason}");

    first.say(&hello("first", &head)).await.unwrap();
    first.next_of_type("live").await;
    let mut fourth = Raw::connect(world.address(), "").await.unwrap();
    fourth.say(&hello("fourth", &head)).await.unwrap();
    fourth.next_of_type("live").await;
    // And who leaves without a word makes room too.
    drop(Raw::connect(world.address(), "").await.unwrap());
    wait_until("there is room", PATIENCE, || async {
        let mut fifth = Raw::connect(world.address(), "").await.unwrap();
        fifth.answer.starts_with("http/1.1 101")
            && fifth.say(&hello("fifth", &head)).await.is_ok()
            && matches!(fifth.next().await, Ok(Came::Frame(_)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_too_many_wait_for_is_for_later() {
    let config = Config { hydrations_max: 1, ..Config::default() };
    let world = World::with("hydrations", Setup { config, ..Setup::default() }).await;
    // Its snapshot waits for a transaction that no snapshot shows yet: for an id that the source has not given out.
    let mut world = world;
    world.commit_inserts(1..2).await;
    let mut first = world.hello("first", json!({})).await;
    world.wait_sessions(1, "hydrating").await;
    let mut second = world.hello("second", json!({})).await;
    assert_eq!(second.next_of_type("error", PATIENCE).await["code"], "WD-SNAPSHOTS-BUSY");
    let (code, reason) = second.closed(PATIENCE).await;
    assert_eq!(code, 1013, "{reason}");
    // Who needs no snapshot is served.
    world.live("third").await;
    first.send(&json!({"type": "ping", "n": 1})).await;
    first.next_of_type("pong", PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_sessions_go_one_after_the_other() {
    const CLIENTS: usize = 100;
    const DRAIN: Duration = Duration::from_millis(800);
    let config = Config { drain: DRAIN, ..Config::default() };
    let mut world = World::with("drain", Setup { config, ..Setup::default() }).await;
    let head = world.head().to_string();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (address, head) = (world.address(), head.clone());
        clients.spawn(async move {
            let mut raw = Raw::connect(address, "").await.unwrap();
            raw.say(&hello(&format!("c{number}"), &head)).await.unwrap();
            raw.next_of_type("live").await;
            let mut got = 0;
            let goaway = loop {
                match raw.next().await.unwrap() {
                    Came::Frame(frame) if frame["type"] == "tx" => got += 1,
                    Came::Frame(frame) if frame["type"] == "goaway" => {
                        break frame["retry_ms"].as_u64().unwrap();
                    }
                    Came::Frame(_) => {}
                    Came::Closed(code, reason) => panic!("{code} {reason} without a word before"),
                }
            };
            let told_at = Instant::now();
            let (code, reason) = raw.closed().await;
            assert_eq!(code, 1012);
            let reason: Value = serde_json::from_str(&reason).unwrap();
            assert_eq!(reason, json!({"code": "WD-STOPPING", "retry_ms": goaway}), "both say the same");
            (told_at, got)
        });
    }
    world.wait_sessions(CLIENTS, "live").await;
    let stopped = Instant::now();
    world.stop.cancel();
    world.commit_inserts(1..2).await;
    let mut gone = clients.join_all().await;
    tokio::time::timeout(PATIENCE, world.running).await.unwrap().unwrap();
    gone.sort_unstable();
    let (first, last) = (gone[0].0 - stopped, gone[CLIENTS - 1].0 - stopped);
    assert!(last - first > DRAIN / 2, "they went between {first:?} and {last:?} after the stop");
    assert!(last < DRAIN + PATIENCE / 4, "{last:?}");
    let served = gone.iter().filter(|(_, got)| *got == 1).count();
    assert!(served > CLIENTS / 4, "{served} were still served");
    assert!(world.fanout.sessions().is_empty());
}
