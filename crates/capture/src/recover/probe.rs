//! Streams from the slot for a moment, to see whether it can be decoded. What comes is dropped, and the slot is told nothing
//! but what is durable, so it comes again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postgres_protocol::message::backend::COPY_DATA_TAG;
use waldelta_source::Plugin;
use waldelta_source::catalog;
use waldelta_wal::{EndLsn, Envelope, Lsn, chain_text};

use crate::Config;
use crate::start::APPLICATION_NAME;
use crate::walsender::{self, ClientEncoding, Connection, Frames, Streaming, Timing};

/// For how long it is streamed at most.
const PROBE_TIME_MAX: Duration = Duration::from_secs(3);

/// Streams from `durable` on until the source has no more, or the time is over.
///
/// # Errors
/// What the walsender ends with.
pub(super) async fn stream(config: &Config, durable: EndLsn) -> Result<(), walsender::Error> {
    let source = &config.source;
    // Nobody knows here which tables wal2json would be asked for; nor has it publications that could be missing.
    if source.plugin != Plugin::Pgoutput {
        return Ok(());
    }
    // It was asked a moment ago. If it does not answer now, there is nothing to be seen.
    let Ok(client) = source.connect().await else { return Ok(()) };
    let Ok(identity) = catalog::identity(&client).await else { return Ok(()) };
    let (target, encoding) = (source.target.clone(), ClientEncoding::of_server(&identity.encoding));
    let (slot, publication) = (source.slot.clone(), source.publication.clone());
    let copy = walsender::on_thread(move || {
        let connection = Connection::open(&target, APPLICATION_NAME, encoding)?;
        connection.start_replication(&slot, &publication, durable)
    })
    .await?;
    let timing = Timing::new(config.feedback_interval, None, config.stall_timeout);
    let mut streaming = Streaming::start(copy, timing, durable, Arc::default())?;
    let ended = tokio::time::timeout(PROBE_TIME_MAX, async {
        while let Some(block) = streaming.receive().await {
            if has_all(block, identity.wal_end) {
                return false;
            }
        }
        true
    });
    if ended.await == Ok(true) {
        return streaming.outcome().await;
    }
    if let Err(error) = streaming.finish().await {
        tracing::debug!(error = chain_text(&error), "end the probe");
    }
    Ok(())
}

/// Whether a keepalive says that everything up to `wal_end` was sent.
fn has_all(block: Bytes, wal_end: Lsn) -> bool {
    let mut frames = Frames::new(block);
    while let Some(frame) = frames.next_frame() {
        let is_data = frame.tag == COPY_DATA_TAG;
        if let (true, Ok(Envelope::Keepalive { end, .. })) = (is_data, Envelope::parse(frame.body))
            && end.0 >= wal_end
        {
            return true;
        }
    }
    false
}
