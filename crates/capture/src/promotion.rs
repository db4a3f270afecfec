//! A standby can change its timeline under a stream that goes on: because it is promoted, or because the primary that it
//! follows is another one now. Places in the WAL go on counting, and the stream says nothing of it.
//!
//! So of a standby nothing is stored until it has said that it was still on the timeline of the epoch after that was received.
//! What it has replayed on that timeline is of that timeline. When it says another, capture ends, and finds its durable end at
//! or below the place where the timelines part; then the new epoch goes on from there by itself.

use waldelta_source::Source;
use waldelta_source::catalog::Identity;

use crate::Error;
use crate::start::APPLICATION_NAME;
use crate::walsender::{self, ClientEncoding, Connection};

/// The timeline that a standby was on when capture began, and a connection to ask whether it still is: only the replication
/// protocol tells.
pub(crate) struct Timeline {
    connection: Option<Connection>,
    captured: u32,
}

impl Timeline {
    /// `None` for a primary: its timeline ends with its connections.
    pub(crate) async fn of(
        source: &Source,
        identity: &Identity,
        captured: u32,
    ) -> Result<Option<Self>, walsender::Error> {
        if !identity.is_standby {
            return Ok(None);
        }
        let (target, encoding) = (source.target.clone(), ClientEncoding::of_server(&identity.encoding));
        let open = move || Connection::open(&target, APPLICATION_NAME, encoding);
        let connection = Some(walsender::on_thread(open).await?);
        Ok(Some(Timeline { connection, captured }))
    }

    /// Whether everything that was received up to now is of the timeline.
    ///
    /// # Errors
    /// [`Error::TimelineLeft`] when that is not sure. After any error it has no connection any more.
    pub(crate) async fn check(&mut self) -> Result<(), Error> {
        let captured = self.captured;
        let Some(mut connection) = self.connection.take() else {
            return Err(walsender::Error::Closed.into());
        };
        let asked = walsender::on_thread(move || {
            let system = connection.identify_system()?;
            Ok((connection, system.timeline))
        });
        let (connection, found) = asked.await?;
        if found != captured {
            return Err(Error::TimelineLeft { captured, found });
        }
        self.connection = Some(connection);
        Ok(())
    }
}

/// The timeline of a standby, which its catalog only knows late; of a primary, what the catalog says.
pub(crate) async fn timeline(source: &Source, identity: &Identity) -> Result<u32, walsender::Error> {
    if !identity.is_standby {
        return Ok(identity.timeline);
    }
    let (target, encoding) = (source.target.clone(), ClientEncoding::of_server(&identity.encoding));
    let asked = walsender::on_thread(move || {
        Connection::open(&target, APPLICATION_NAME, encoding)?.identify_system()
    });
    Ok(asked.await?.timeline)
}
