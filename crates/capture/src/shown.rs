//! What the source shows, for whoever removes history: what is not shown yet stays.

use std::error::Error as StdError;

use futures_util::future::BoxFuture;
use waldelta_history::Shown;
use waldelta_source::{Source, snapshot};
use waldelta_wal::PgSnapshot;

/// Asks this source, over a connection of its own.
pub struct ShownAt(pub Source);

impl Shown for ShownAt {
    fn now(&self) -> BoxFuture<'_, Result<PgSnapshot, Box<dyn StdError + Send + Sync>>> {
        Box::pin(async { Ok(snapshot::visible_now(&self.0).await?) })
    }
}
