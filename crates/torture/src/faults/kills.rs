//! Kills and nothing else, of any part, as fast as parts come back: kill -9 of processes, servers, single backends, and of everything
//! at once, as when the power goes.

use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::NoTls;
use waldelta_testkit::Shutdown;

use super::{Hand, databases, processes};

const RECOVERY_PATIENCE: Duration = Duration::from_secs(60);
const RECOVERY_LOOK: Duration = Duration::from_millis(50);

/// A backend of ours, or the checkpointer: the server ends all of them with it, and recovers.
const BACKENDS: &str = "SELECT pid::text FROM pg_stat_activity
    WHERE application_name LIKE 'waldelta%' OR backend_type IN ('checkpointer', 'walwriter', 'walsender') ORDER BY pid";

/// Kills until the end.
pub(super) async fn run(mut hand: Hand) {
    loop {
        // Sometimes there is time to get somewhere.
        let high_ms = if hand.dice.once_in(6) { 5000 } else { 1200 };
        if !hand.pause(50, high_ms).await {
            return;
        }
        let number = hand.dice.index(hand.stage.fleet.len());
        let to = hand.dice.index(2);
        match hand.dice.roll(14) {
            0..=8 => processes::kill(&mut hand, number).await,
            9 => processes::kill_all(&mut hand).await,
            10 | 11 => databases::crash(&mut hand, to, Shutdown::Kill).await,
            12 => kill_backend(&mut hand, to).await,
            _ => power_failure(&mut hand).await,
        }
    }
}

async fn kill_backend(hand: &mut Hand, to: usize) {
    let world = &hand.stage.world;
    let client = if to == 0 { world.source_client().await } else { world.history_client().await };
    let pids = client.query(BACKENDS, &[]).await.unwrap();
    let pids: Vec<String> = pids.iter().map(|row| row.get(0)).collect();
    let pid = hand.dice.pick(&pids).clone();
    hand.note(format!("kill a backend of {}", databases::NAMES[to]));
    // It may have ended by itself.
    let is_killed = Command::new("kill").args(["-9", &pid]).status().is_ok_and(|status| status.success());
    if !is_killed {
        return;
    }
    hand.stage.fleet.count_kill();
    // It comes back by itself; whoever asks it next may do so without patience.
    let url = if to == 0 { world.source.url() } else { world.history.url() }.to_owned();
    let deadline = Instant::now() + RECOVERY_PATIENCE;
    // It has ended our connection before it recovers.
    while !client.is_closed() || tokio_postgres::connect(&url, NoTls).await.is_err() {
        assert!(
            Instant::now() < deadline,
            "{} has not recovered in {RECOVERY_PATIENCE:?}",
            databases::NAMES[to]
        );
        sleep(RECOVERY_LOOK).await;
    }
}

async fn power_failure(hand: &mut Hand) {
    hand.note("the power goes");
    let stage = hand.stage.clone();
    let clusters = [&stage.world.source_cluster, &stage.world.history_cluster];
    for number in 0..stage.fleet.len() {
        stage.fleet.member(number).await.kill().await;
        stage.fleet.count_kill();
    }
    for cluster in clusters {
        cluster.down(Shutdown::Kill).await;
        stage.fleet.count_kill();
    }
    // Processes and servers come back in no order.
    let processes_first = hand.dice.once_in(2);
    if processes_first {
        processes::launch_all(hand).await;
    }
    for cluster in clusters {
        hand.pause(0, 1000).await;
        cluster.up().await;
    }
    if !processes_first {
        processes::launch_all(hand).await;
    }
}
