//! What is found at the source, before every start and when capture has stopped. It changes nothing.

use tokio_postgres::Client;
use waldelta_history::{Captured, History};
use waldelta_source::Source;
use waldelta_source::catalog::{self, Identity};
use waldelta_wal::EndLsn;

use super::decide::{Fork, Found};
use crate::start::APPLICATION_NAME;
use crate::walsender::{self, ClientEncoding, Connection, System};
use crate::{Error, questions};

/// Looks at everything that says whether capture can go on at `durable`.
pub(crate) async fn look(
    source: &Source,
    client: &Client,
    history: &History,
    captured: &Captured,
    durable: EndLsn,
) -> Result<Found, Error> {
    let identity = catalog::identity(client).await?;
    let same_cluster = identity.system_id == captured.system_id;
    let (mut timeline, mut fork) = (identity.timeline, Fork::Same);
    let mut epoch_start = EndLsn::default();
    // Of a standby, only a replication connection knows the timeline.
    if same_cluster && (identity.is_standby || timeline != captured.timeline) {
        (timeline, fork) = ask_timeline(source, &identity, captured.timeline).await?;
        let lineage = history.lineage().await?;
        epoch_start = lineage.epochs().last().map_or(epoch_start, |span| span.start);
    }
    let slot = catalog::slot(client, &source.slot).await?;
    let is_ahead =
        slot.as_ref().is_some_and(|slot| slot.confirmed.is_some_and(|confirmed| confirmed > durable));
    let slot_was_used = is_ahead && questions::slot_was_used(client, &source.slot).await?;
    let publication = match questions::publication(client, &source.publication).await {
        Ok(publication) => Some(publication),
        Err(Error::PublicationMissing { .. }) => None,
        Err(error) => return Err(error),
    };
    Ok(Found { identity, timeline, fork, epoch_start, slot, slot_was_used, publication, undecodable: false })
}

/// The timeline of the server, and where `ours` was left by it.
async fn ask_timeline(source: &Source, identity: &Identity, ours: u32) -> Result<(u32, Fork), Error> {
    let target = source.target.clone();
    let encoding = ClientEncoding::of_server(&identity.encoding);
    let (System { system_id, timeline }, history_file) = walsender::on_thread(move || {
        let mut connection = Connection::open(&target, APPLICATION_NAME, encoding)?;
        let system = connection.identify_system()?;
        let has_fork = system.timeline != ours;
        let file = if has_fork { connection.timeline_history(system.timeline)? } else { None };
        Ok((system, file))
    })
    .await?;
    if system_id != identity.system_id {
        return Err(Error::SourceChanged {
            what: "system identifier",
            stored: identity.system_id,
            found: system_id,
        });
    }
    if timeline == ours {
        return Ok((timeline, Fork::Same));
    }
    let fork = match history_file.as_deref().map(|file| walsender::fork_of(ours, file)) {
        Some(Some(fork)) => Fork::At(fork),
        Some(None) => Fork::Unrelated,
        // The first timeline comes from nowhere; of any other the file is gone.
        None if timeline <= 1 => Fork::Unrelated,
        None => Fork::Unknown,
    };
    Ok((timeline, fork))
}
