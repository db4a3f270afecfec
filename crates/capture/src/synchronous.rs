//! Whether the source takes us for a synchronous standby: then its applications' commits wait for us, which nobody wants of
//! something that keeps history. It is only said, in status and log; nothing is changed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;
use waldelta_source::Source;
use waldelta_wal::Code;

use crate::start::APPLICATION_NAME;
use crate::status::Status;
use crate::{Error, questions};

/// The walsender has its place among the standbys this long after its start.
const FIRST_LOOK_AFTER: Duration = Duration::from_secs(1);
/// The setting can change while we stream.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// Looks for as long as it is polled, and tells the log when it is so, and when it is over.
pub(crate) async fn watch(
    source: &Source,
    client: Arc<Client>,
    walsender_pid: i32,
    status: &Status,
) -> Infallible {
    // Of the connection before.
    status.set_commits_wait(false);
    let name = source.target.application_name().unwrap_or(APPLICATION_NAME);
    let mut was_synchronous = false;
    let mut wait = FIRST_LOOK_AFTER;
    loop {
        tokio::time::sleep(std::mem::replace(&mut wait, LOOK_INTERVAL)).await;
        match questions::is_synchronous_standby(&client, walsender_pid, name).await {
            Ok(is_synchronous) => {
                status.set_commits_wait(is_synchronous);
                if is_synchronous != std::mem::replace(&mut was_synchronous, is_synchronous) {
                    tell(is_synchronous, name);
                }
            }
            Err(error) => tracing::debug!(error = Error::chain(&error), "look whether commits wait for us"),
        }
    }
}

fn tell(is_synchronous: bool, name: &str) {
    let code = Code::SynchronousStandby;
    if is_synchronous {
        tracing::warn!(
            code = code.as_str(),
            application_name = name,
            fix = code.explanation().fix,
            "commits at the source wait for this replication connection"
        );
    } else {
        tracing::info!(code = code.as_str(), "commits at the source no longer wait for this connection");
    }
}
