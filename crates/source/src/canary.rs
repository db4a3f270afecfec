//! The canary: a row of our own in the publication, whose update has to arrive.
//!
//! A logical message would still arrive when the publication is gone; a row does not.

use tokio_postgres::Client;

use crate::Error;

/// Updates the one row of `waldelta.canary`, in a transaction of its own. Returns whether there is such a row.
///
/// # Errors
/// [`Error::Query`]; with SQLSTATE 42P01 or 42501 where there is no such table or no right to it.
pub async fn beat_canary(client: &Client) -> Result<bool, Error> {
    let beaten = client.execute(include_str!("../../../sql/source/canary_beat.sql"), &[]).await;
    beaten.map(|rows| rows == 1).map_err(|source| Error::Query { what: "update the canary", source })
}
