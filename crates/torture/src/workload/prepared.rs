//! Transactions that were prepared are decided by somebody else: a while later, over another connection, also when the writer and the
//! server have gone down meanwhile. None waits for long, because others wait for its locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, NoTls};
use waldelta_testkit::Dice;

const LOOK_INTERVAL_MS: (u64, u64) = (50, 1500);
const PATIENCE: Duration = Duration::from_secs(60);
/// Their names, and whether one has waited long enough.
const WAITING: &str = "SELECT gid, prepared < now() - interval '4 s' FROM pg_prepared_xacts WHERE database = current_database()";
const WRITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'torture writer'";

/// Decides some now and then, until it is told to stop.
pub(super) async fn decide_some(url: String, mut dice: Dice, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        if let Ok(Ok((client, connection))) = timeout(PATIENCE, tokio_postgres::connect(&url, NoTls)).await {
            tokio::select! {
                () = decide(&client, &mut dice, &stop) => {}
                _ = connection => {}
            }
        }
        sleep(Duration::from_millis(LOOK_INTERVAL_MS.0)).await;
    }
}

/// Until the server does not answer.
async fn decide(client: &Client, dice: &mut Dice, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let Ok(Ok(waiting)) = timeout(PATIENCE, client.query(WAITING, &[])).await else { return };
        for row in waiting {
            let (gid, is_old): (String, bool) = (row.get(0), row.get(1));
            let what = if dice.once_in(3) { "ROLLBACK" } else { "COMMIT" };
            // Somebody else may have decided it: that is as good.
            if (is_old || dice.once_in(2))
                && timeout(PATIENCE, client.batch_execute(&format!("{what} PREPARED '{gid}'"))).await.is_err()
            {
                return;
            }
        }
        sleep(dice.ms(LOOK_INTERVAL_MS.0, LOOK_INTERVAL_MS.1)).await;
    }
}

/// Decides all that are left, once the server is whole and nobody begins anything. The backend of a writer that gave its connection up
/// may still be at it.
pub(super) async fn decide_all(url: &str) {
    let deadline = Instant::now() + PATIENCE;
    let client = waldelta_testkit::connect(url).await;
    loop {
        let writing: i64 = client.query_one(WRITING, &[]).await.unwrap().get(0);
        let waiting = client.query(WAITING, &[]).await.unwrap();
        if writing == 0 && waiting.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{writing} backends still write; prepared: {waiting:?}");
        for row in waiting {
            let gid: String = row.get(0);
            // One that is being decided is looked at again.
            let _ = client.batch_execute(&format!("COMMIT PREPARED '{gid}'")).await;
        }
        sleep(Duration::from_millis(LOOK_INTERVAL_MS.0)).await;
    }
}
