//! What holds at every moment, looked at all the time: the slot is told nothing that is not durable (I1), nothing in history lies at or
//! beyond the durable end (I2), which never goes back.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls};
use waldelta_wal::Lsn;

use crate::round::Stage;

const INTERVAL: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(30);

const CONFIRMED: &str = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1";
/// In one statement: of one moment.
const STORED: &str = "SELECT epoch::text, durable_end::text,
    (SELECT lsn::text FROM waldelta.change_history ORDER BY epoch DESC, lsn DESC LIMIT 1) FROM waldelta.captures";

/// Looks until the task is ended.
pub(crate) async fn run(stage: Arc<Stage>) {
    let mut before = (String::new(), Lsn(0));
    loop {
        let source = connect(stage.world.source.url());
        let history = connect(stage.world.history.url());
        let (Some((source, source_connection)), Some((history, history_connection))) =
            (source.await, history.await)
        else {
            sleep(INTERVAL).await;
            continue;
        };
        tokio::select! {
            () = look(&stage, &source, &history, &mut before) => {}
            _ = source_connection => {}
            _ = history_connection => {}
        }
    }
}

type Connection = tokio_postgres::Connection<tokio_postgres::Socket, tokio_postgres::tls::NoTlsStream>;

async fn connect(url: &str) -> Option<(Client, Connection)> {
    timeout(PATIENCE, tokio_postgres::connect(url, NoTls)).await.ok()?.ok()
}

/// Until one of the servers does not answer.
async fn look(stage: &Stage, source: &Client, history: &Client, before: &mut (String, Lsn)) {
    let slot = stage.world.slot();
    loop {
        // The slot first: what it was told by then must be durable by now.
        let Ok(Ok(confirmed)) = timeout(PATIENCE, source.query_one(CONFIRMED, &[&slot])).await else {
            return;
        };
        let Ok(Ok(stored)) = timeout(PATIENCE, history.query_one(STORED, &[])).await else { return };
        let lsn = |text: &str| text.parse::<Lsn>().unwrap();
        let confirmed = lsn(confirmed.get(0));
        let (epoch, durable): (String, Lsn) = (stored.get(0), lsn(stored.get(1)));
        assert!(confirmed <= durable, "I1: the slot was told {confirmed}, history has {durable}");
        if let Some(last) = stored.get::<_, Option<&str>>(2).map(lsn) {
            assert!(last < durable, "I2: history has {last}, its durable end is {durable}");
        }
        assert!(
            before.0.is_empty() || before.0 == epoch && before.1 <= durable,
            "the durable end went from {before:?} to {epoch} {durable}"
        );
        *before = (epoch, durable);
        sleep(INTERVAL).await;
    }
}
