//! Which server takes writes, where the one that is captured is a standby: the one that is named as its primary, if it is that.
//!
//! It is asked with every connection, because roles change: a standby that was promoted is its own primary from then on,
//! whatever is still named, and what was the primary before it may go on writing a history that nobody follows. A snapshot
//! taken there, or a canary beaten there, would be of another world than the stream.

use tokio_postgres::Client;
use waldelta_pgconn::Target;

use crate::ask::ask_one;
use crate::{Error, Source, catalog};

/// The server that takes writes.
pub(crate) struct Primary<'a> {
    pub(crate) target: &'a Target,
    /// What the standby says of itself, where the target is to be its primary.
    followed: Option<Followed>,
}

struct Followed {
    system_id: u64,
    /// The standby is on this timeline, or on a newer one.
    timeline: u32,
}

/// Finds it. Where no primary is named, or what is captured was promoted, it is what is captured.
pub(crate) async fn of(source: &Source) -> Result<Primary<'_>, Error> {
    const WHAT: &str = "ask whether the source is a standby";
    let Some(named) = &source.primary else { return Ok(Primary { target: &source.target, followed: None }) };
    let client = source.connect().await?;
    let answer = ask_one(&client, WHAT, include_str!("../../../sql/source/standby.sql"), &[]).await?;
    if !answer.read::<bool>("is_standby")? {
        return Ok(Primary { target: &source.target, followed: None });
    }
    let timeline = u32::try_from(answer.read::<i64>("timeline")?)
        .map_err(|_| Error::Unreadable { what: WHAT, column: "timeline" })?;
    // SQL has no unsigned numbers: the bits are the same.
    let system_id = answer.read::<i64>("system_identifier")?.cast_unsigned();
    Ok(Primary { target: named, followed: Some(Followed { system_id, timeline }) })
}

impl Primary<'_> {
    /// Whether the server of this connection, which is to the target, can be what the standby follows.
    pub(crate) async fn check(&self, client: &Client) -> Result<(), Error> {
        let Some(followed) = &self.followed else { return Ok(()) };
        let found = catalog::identity(client).await?;
        let why = if found.is_standby {
            "it is a standby itself"
        } else if found.system_id != followed.system_id {
            "it is of another cluster"
        } else if found.timeline < followed.timeline {
            "it is on a timeline that the standby has left"
        } else {
            return Ok(());
        };
        Err(Error::NotThePrimary { why })
    }
}
