//! Processes that serve clients are restarted one after the other, and one is killed, under load: their clients go to the other one
//! and go on from their cursors. Nothing is lost, nothing comes twice, nobody waits for long.

mod bank;
mod roamer;

use std::sync::Arc;
use std::time::Duration;

use bank::{Bank, FOLLOWED, SCHEMA};
use roamer::Crowd;
use waldelta_testkit::recorder::{Archive, HistoryLog, Recorder, check};
use waldelta_testkit::{Service, TestDatabase, wait_until};
use waldelta_wal::{EndLsn, Epoch, Position};

use crate::roles::in_role;
use crate::setting::{PATIENCE, Setting, config_file, waldelta_ok, with_databases};

const CLIENTS_VARIABLE: &str = "WALDELTA_ROLLING_CLIENTS";
const CLIENTS_DEFAULT: usize = 100;
/// Frames that all clients together are sent in a second, about: what a debug build and the clients of one process can do.
const FRAMES_PER_SECOND: u64 = 2_500;
/// Every so manieth client begins with a snapshot.
const WITH_SNAPSHOT: usize = 20;
/// From the end of a connection until the client is live elsewhere: the time that it is told to wait, at most two and a quarter
/// seconds for a thousand, and what catching up takes on a busy machine.
const OUTAGE_MAX: Duration = Duration::from_secs(20);

/// How many clients there are.
#[expect(clippy::disallowed_methods, reason = "the size of the crowd is given by whoever starts it")]
fn crowd() -> usize {
    std::env::var(CLIENTS_VARIABLE).map_or(CLIENTS_DEFAULT, |text| text.parse().unwrap())
}

/// The place at which history is, as a cursor.
async fn head(history: &TestDatabase) -> Position {
    let row = history.query("SELECT epoch, durable_end FROM waldelta.captures").await.remove(0);
    let [epoch, end] = [0, 1].map(|column: usize| row[column].clone().unwrap());
    Position::before(Epoch(epoch.parse().unwrap()), EndLsn(end.parse().unwrap()))
}

/// Asks a process to stop, and waits until it has: it says first that it is not ready, while it still answers.
async fn restart(service: &mut Service, crowd: &Crowd, other: usize) {
    service.terminate();
    let mut unready = false;
    wait_until("it has stopped", PATIENCE, async || {
        unready |= matches!(service.ready().await, Some((503, text)) if text == "stopping\n");
        service.exited().is_some()
    })
    .await;
    let ended = service.wait_exit(PATIENCE).await;
    assert!(ended.success(), "{ended}: {}", service.log());
    assert!(unready, "it was not ready before it was gone");
    crowd.live_on(&[other], PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_go_from_one_process_to_the_other_and_lose_nothing() {
    let (count, seed) = (crowd(), u64::from(std::process::id()));
    println!("{count} clients, seed {seed}");
    let (source, history) = (TestDatabase::create("rolling").await, TestDatabase::create("rolling_h").await);
    source.exec(SCHEMA).await;
    waldelta_ok(&with_databases(&["init", "--apply"], &source, &history));
    HistoryLog::record_ends(&history).await;
    let quick = config_file("[capture]\ncanary_interval_ms = 1000\n");
    let capture = Service::start(quick.add_to(in_role("capture", &source, &history))).await;
    let config = config_file("[server]\nheartbeat_ms = 2000\ndrain_ms = 3000\n");
    let mut fanouts = Vec::new();
    for _ in 0..2 {
        fanouts.push(Service::start(config.add_to(in_role("fanout", &source, &history))).await);
    }
    let setting = Setting { service: capture, source, history };

    let (archive, start) = (Arc::<Archive>::default(), head(&setting.history).await);
    let recorder = |number: usize| {
        let recorder = Recorder::new(&format!("c{number}"), &FOLLOWED, &archive);
        if number.is_multiple_of(WITH_SNAPSHOT) { recorder } else { recorder.starting_at(start) }
    };
    let servers: Vec<String> = fanouts.iter().map(Service::stream).collect();
    let crowd = Crowd::connect((0..count).map(recorder).collect(), &servers);
    let rate = (FRAMES_PER_SECOND / count as u64).max(1);
    let bank = Bank::open(setting.source.url(), rate, seed).await;
    crowd.live_on(&[0, 1], PATIENCE).await;
    bank.more(rate).await;

    // One, then the other.
    for (service, other) in fanouts.iter_mut().zip([1, 0]) {
        restart(service, &crowd, other).await;
        bank.more(rate).await;
        service.start_again().await;
    }
    // All are on the first by now.
    fanouts[0].kill9().await;
    crowd.live_on(&[1], PATIENCE).await;
    bank.more(rate).await;
    fanouts[0].start_again().await;

    let transactions = bank.close().await;
    setting.settled().await;
    let goal = setting.last_of(&FOLLOWED).await.unwrap();
    // A quiet time at the end: heartbeats move the cursors to where the canary moved history.
    let mut quiet = goal;
    wait_until("history goes on without transactions", PATIENCE, async || {
        quiet = head(&setting.history).await;
        quiet > goal
    })
    .await;
    let clients = crowd.finish(quiet).await;

    let outage = clients.iter().map(|client| client.outage).max().unwrap();
    println!("{transactions} transactions; the longest outage was {outage:?}");
    for client in &clients {
        let (name, closes) = (client.recorder.client_id(), &client.closes);
        let let_go = closes.iter().filter(|code| **code == 1012).count();
        let broken = closes.iter().filter(|code| **code == 1006).count();
        assert!((1..=2).contains(&let_go) && broken == 1, "{name} was let go, and cut: {closes:?}");
    }
    assert!(outage < OUTAGE_MAX, "{outage:?}");
    let log = HistoryLog::read(&setting.history).await;
    let recorders: Vec<Recorder> = clients.into_iter().map(|client| client.recorder).collect();
    let checked = check(&recorders, &log).unwrap_or_else(|violations| {
        let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
        panic!("{}", lines.join("\n"))
    });
    println!("{checked:?}");
    assert!(checked.sessions >= 3 * count, "{checked:?}");
    assert!(
        checked.transactions as u64 >= transactions * (count - count.div_ceil(WITH_SNAPSHOT)) as u64,
        "{checked:?}"
    );
    assert!(checked.states > checked.transactions / 2, "{checked:?}");
    setting.history_is_gapless().await;
}
