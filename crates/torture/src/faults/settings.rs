//! Time limits of the two servers that are too short for a while, as somebody may set them for everybody: the service is to set for
//! itself what its connections need, and to come back where it cannot.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::SimpleQueryMessage;
use waldelta_testkit::TestCluster;

use super::Hand;
use super::databases::NAMES;
use super::disks::ask;

const ALTER_PATIENCE: Duration = Duration::from_secs(60);
/// How long a walsender waits for an answer.
const WAL_SENDER_TIMEOUT: &str = "wal_sender_timeout";
/// Those that every session can set for itself; a server knows them, or is too old to.
const LIMITS: [&str; 5] = [
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "transaction_timeout",
];

/// Breaks until the end.
pub(super) async fn run(mut hand: Hand) {
    while hand.pause(2000, 15_000).await {
        match hand.dice.roll(4) {
            0 => {
                let limit_ms = hand.dice.between(1000, 2500);
                shorten(&mut hand, 0, WAL_SENDER_TIMEOUT, limit_ms).await;
            }
            _ => {
                let to = hand.dice.index(2);
                let (limit, limit_ms) = (*hand.dice.pick(&LIMITS), hand.dice.between(50, 1000));
                shorten(&mut hand, to, limit, limit_ms).await;
            }
        }
    }
}

/// For all sessions of a server, those that are there too.
async fn shorten(hand: &mut Hand, to: usize, setting: &str, limit_ms: u64) {
    let stage = hand.stage.clone();
    {
        let (cluster, _held) = stage.world.server(to).await;
        let known = format!("SELECT FROM pg_settings WHERE name = '{setting}'");
        let rows = ask(&cluster, &known).await.unwrap_or_default();
        if !rows.iter().any(|message| matches!(message, SimpleQueryMessage::Row(_))) {
            return;
        }
        hand.note(format!("{}: {setting} is {limit_ms} ms", NAMES[to]));
        alter(&cluster, &format!("SET {setting} = {limit_ms}")).await;
    }
    hand.pause(2000, 12_000).await;
    let (cluster, _held) = stage.world.server(to).await;
    alter(&cluster, &format!("RESET {setting}")).await;
    hand.note(format!("{}: {setting} is as it was", NAMES[to]));
}

/// Tries it until it is done: a limit may be too short for this too, but not each time.
async fn alter(cluster: &TestCluster, what: &str) {
    let deadline = Instant::now() + ALTER_PATIENCE;
    for sql in [&format!("ALTER SYSTEM {what}"), "SELECT pg_reload_conf()"] {
        while ask(cluster, sql).await.is_none() {
            assert!(Instant::now() < deadline, "{sql} cannot be done:\n{}", cluster.log());
        }
    }
}
