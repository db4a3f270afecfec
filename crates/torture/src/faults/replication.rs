//! Faults of replication that lose nothing: somebody else has the slot for a while, a third process captures too, one that stands by is
//! started while the writer is frozen; and faults of the notifications by which processes wake each other: none, false ones, late ones.

use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, NoTls};
use waldelta_testkit::{Route, Service};

use super::Hand;
use super::foreign::Reader;

/// A server that is down or stands still is left alone after this time.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long somebody tries to be faster than we are.
const TAKE_TIME_MAX: Duration = Duration::from_secs(8);
const STOP_PATIENCE: Duration = Duration::from_secs(60);

const END_READER: &str = "SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots
    WHERE slot_name = $1 AND active";
const CONFIRMED: &str = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1";
const PEEK: &str = "SELECT count(*) FROM pg_logical_slot_peek_binary_changes($1, NULL, 500,
    'proto_version', '1', 'publication_names', 'waldelta')";
const LISTENERS: &str = "SELECT pid FROM pg_stat_activity
    WHERE application_name IN ('waldelta-history-listen', 'waldelta-history-clients')";
const END_LISTENERS: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE application_name IN ('waldelta-history-listen', 'waldelta-history-clients')";
/// Of heads that are not there yet, that were long ago, of none; and of connections that are not there, or that everybody knows.
const FALSE_NOTICES: &str = "SELECT pg_notify('waldelta_head', payload) FROM generate_series(1, 50) i, unnest(ARRAY[
        'ffffffff-ffffffffffffffff-ffffffff', '00000001-0000000000000001-ffffffff', '', i::text, repeat('é', 3900),
        (SELECT to_hex(epoch) || '-' || lsn FROM waldelta.change_history LIMIT 1)]) payload
    UNION ALL SELECT pg_notify('waldelta_clients', payload) FROM generate_series(1, 50) i, unnest(ARRAY[
        '', 'x', i::text,
        '9223372036854775807 ' || (SELECT client_id FROM waldelta.clients ORDER BY client_id OFFSET i % 8 LIMIT 1),
        '0 copy 0', '-1 recorder 1', '99999999999999999999 pages', i || ' nobody', repeat('x', 7900)]) payload";

/// Breaks until the end.
pub(super) async fn run(mut hand: Hand) {
    while hand.pause(1500, 9000).await {
        match hand.dice.roll(12) {
            0..=2 => take_slot(&mut hand).await,
            3 => peek(&mut hand).await,
            4 => third_writer(&mut hand).await,
            5 => start_beside_frozen(&mut hand).await,
            6 | 7 => deafen(&mut hand).await,
            8 | 9 => mislead(&mut hand).await,
            _ => delay(&mut hand).await,
        }
    }
}

/// Does this on a connection of its own, unless the server is out of reach, or goes.
async fn on<T>(url: &str, work: impl AsyncFnOnce(&Client) -> T) -> Option<T> {
    let connecting = timeout(PATIENCE, tokio_postgres::connect(url, NoTls)).await;
    let (client, connection) = connecting.ok()?.ok()?;
    tokio::select! {
        done = work(&client) => Some(done),
        _ = connection => None,
    }
}

/// A walsender of somebody else, in the moment between two of ours.
async fn take_slot(hand: &mut Hand) {
    let (url, slot) = (hand.stage.world.source.url().to_owned(), hand.stage.world.slot());
    let (port, database) =
        (hand.stage.world.source_cluster.port(), hand.stage.world.source.name().to_owned());
    hand.note("somebody wants our slot");
    on(&url, async |client| {
        let connecting = timeout(PATIENCE, Reader::connect(port, &database)).await;
        let Ok(Ok(mut reader)) = connecting else { return };
        let deadline = Instant::now() + TAKE_TIME_MAX;
        loop {
            if client.execute(END_READER, &[&slot]).await.is_err() || Instant::now() > deadline {
                return hand.note("somebody did not get our slot");
            }
            match timeout(PATIENCE, reader.start(&slot)).await {
                Ok(Ok(true)) => break,
                Ok(Ok(false)) => {}
                _ => return,
            }
        }
        let before = confirmed(client, &slot).await;
        hand.note("somebody has our slot");
        let high_ms = if hand.dice.once_in(4) { 16_000 } else { 6000 };
        tokio::select! {
            () = reader.read_on() => return hand.note("somebody who had our slot was ended"),
            _ = hand.pause(500, high_ms) => {}
        }
        let after = confirmed(client, &slot).await;
        // Whoever loses changes by this is the rig.
        assert!(before.is_none() || after.is_none() || before == after, "somebody moved our slot");
        hand.note("somebody leaves our slot");
    })
    .await;
}

async fn confirmed(client: &Client, slot: &str) -> Option<String> {
    client.query_one(CONFIRMED, &[&slot]).await.ok()?.get(0)
}

/// Somebody looks at what lies in the slot, again and again.
async fn peek(hand: &mut Hand) {
    let (url, slot) = (hand.stage.world.source.url().to_owned(), hand.stage.world.slot());
    let until = Instant::now() + hand.dice.ms(500, 5000);
    hand.note("somebody looks into our slot");
    on(&url, async |client| {
        _ = client.execute(END_READER, &[&slot]).await;
        while Instant::now() < until && !client.is_closed() {
            // While we read it, it is refused.
            _ = client.query_one(PEEK, &[&slot]).await;
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    hand.note("somebody has looked into our slot");
}

/// One more that captures, which stands by, or takes over when the writer goes.
async fn third_writer(hand: &mut Hand) {
    let stage = hand.stage.clone();
    let world = &stage.world;
    let routes = [&world.source_cluster, &world.history_cluster].map(|cluster| Route::to(cluster.port()));
    let mut service = Service::spawn(world.run_options("capture", &routes[0], &routes[1]));
    hand.note("a third writer is started");
    hand.pause(2000, 16_000).await;
    if let Some(status) = service.exited() {
        panic!("the third writer ended by itself ({status}): {}", service.log());
    }
    if hand.dice.once_in(2) {
        hand.note("kill the third writer");
        service.kill9().await;
        stage.fleet.count_kill();
    } else {
        hand.note("stop the third writer");
        service.terminate();
        service.wait_exit(STOP_PATIENCE).await;
    }
    let log = service.log();
    assert!(!log.contains("panicked at"), "the third writer panicked: {log}");
}

/// The other one that may write is started anew while one of them is frozen, for longer than it takes until another takes over.
async fn start_beside_frozen(hand: &mut Hand) {
    let stage = hand.stage.clone();
    let writers = stage.fleet.writers();
    // Nobody else holds two of them.
    let (mut frozen, mut other) =
        (stage.fleet.member(writers[0]).await, stage.fleet.member(writers[1]).await);
    if hand.dice.once_in(2) {
        std::mem::swap(&mut frozen, &mut other);
    }
    hand.note(format!("freeze {}, and start {} anew", frozen.name, other.name));
    frozen.freeze();
    other.kill().await;
    stage.fleet.count_kill();
    other.launch(None);
    hand.pause(3000, 18_000).await;
    hand.note(format!("thaw {}", frozen.name));
    frozen.thaw();
}

/// Whoever listens is cut off, again and again: what is told meanwhile is lost.
async fn deafen(hand: &mut Hand) {
    let url = hand.stage.world.history.url().to_owned();
    hand.note("cut notifications");
    on(&url, async |client| {
        for _ in 0..hand.dice.between(1, 8) {
            if client.execute(END_LISTENERS, &[]).await.is_err() || !hand.pause(50, 1000).await {
                return;
            }
        }
    })
    .await;
}

/// Notifications of what is not so, many times.
async fn mislead(hand: &mut Hand) {
    let url = hand.stage.world.history.url().to_owned();
    hand.note("false notifications");
    on(&url, async |client| {
        for _ in 0..hand.dice.between(1, 8) {
            if client.query(FALSE_NOTICES, &[]).await.is_err() || !hand.pause(50, 500).await {
                return;
            }
        }
    })
    .await;
}

/// The server's processes that bring notifications stand still for a while: these come late, and all at once.
async fn delay(hand: &mut Hand) {
    let url = hand.stage.world.history.url().to_owned();
    let listening = on(&url, async |client| client.query(LISTENERS, &[]).await.unwrap_or_default()).await;
    let listeners: Vec<i32> = listening.unwrap_or_default().iter().map(|row| row.get(0)).collect();
    hand.note(format!("hold up notifications of {} listeners", listeners.len()));
    signal("-STOP", &listeners);
    hand.pause(200, 5000).await;
    signal("-CONT", &listeners);
    hand.note("let notifications go");
}

/// One that has ended meanwhile needs none.
fn signal(signal: &str, processes: &[i32]) {
    if !processes.is_empty() {
        _ = Command::new("kill").arg(signal).args(processes.iter().map(ToString::to_string)).output();
    }
}
