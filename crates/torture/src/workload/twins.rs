//! Transactions of two that commit in the same moment: their commit records touch in the WAL, and the one begins where the other one
//! ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, Connection, NoTls, Socket, tls::NoTlsStream};
use waldelta_testkit::Dice;

const PATIENCE: Duration = Duration::from_secs(60);
const RECONNECT: Duration = Duration::from_millis(100);

/// Commits pairs until it is told to stop.
pub(super) async fn commit_some(url: String, mut dice: Dice, stop: Arc<AtomicBool>, rest: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        if let (Some((one, driving)), Some((other, driving_other))) =
            (connect(&url).await, connect(&url).await)
        {
            tokio::select! {
                _ = commit([&one, &other], &mut dice, &stop, &rest) => {}
                _ = driving => {}
                _ = driving_other => {}
            }
        }
        sleep(RECONNECT).await;
    }
}

async fn connect(url: &str) -> Option<(Client, Connection<Socket, NoTlsStream>)> {
    timeout(PATIENCE, tokio_postgres::connect(url, NoTls)).await.ok()?.ok()
}

/// Until the server does not answer.
async fn commit(twins: [&Client; 2], dice: &mut Dice, stop: &AtomicBool, rest: &AtomicBool) -> Option<()> {
    let both = async |sql: &str| {
        let [one, other] = twins.map(|twin| timeout(PATIENCE, twin.batch_execute(sql)));
        let (one, other) = tokio::join!(one, other);
        one.ok()?.ok().zip(other.ok()?.ok())
    };
    while !stop.load(Ordering::Relaxed) {
        if !rest.load(Ordering::Relaxed) {
            both("BEGIN; INSERT INTO log VALUES (0, 'twin')").await?;
            both("COMMIT").await?;
        }
        sleep(dice.ms(50, 400)).await;
    }
    Some(())
}
