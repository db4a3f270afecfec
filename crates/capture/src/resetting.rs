//! Tells the source's WAL that tables begin anew. Which ones, and when, is not decided here.

use tokio_postgres::Client;
use waldelta_wal::{RESET_PREFIX, Reset};

use crate::Error;

/// Tables of one message: far fewer than are read of one.
const TABLES_MAX: usize = 1_000;

/// Resets tables, by transactional messages at the source: what history has of them up to there does not count any more.
/// Readers that come to that place read them afresh, and the gaps that are open there are closed.
///
/// `client` must be able to write: that of [`connect_primary`](waldelta_source::Source::connect_primary). When this returns,
/// the messages are committed.
///
/// # Errors
/// [`Error::Query`]: some of them may be committed then. To reset a table again does no harm.
pub async fn reset_tables(client: &Client, tables: &[Reset]) -> Result<(), Error> {
    for tables in tables.chunks(TABLES_MAX) {
        client
            .execute(
                include_str!("../../../sql/source/emit_reset.sql"),
                &[&RESET_PREFIX, &Reset::message(tables)],
            )
            .await
            .map_err(|source| Error::Query { what: "emit the message that resets tables", source })?;
    }
    Ok(())
}
