//! Who writes history, as a process sees it that only reads it.
//!
//! It is for people: nothing is decided by it. Who may write, the lease and its token decide.

use std::time::Duration;

use sqlx::Row;

use crate::lease::LOCK_KEY;
use crate::{CAPTURE_ID, Error, History};

const WHO_WRITES: &str = include_str!("../../../sql/queries/who_writes.sql");

/// Who writes history, or wrote it last. Times are by the clock of history's server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writing {
    /// What the instance calls itself that writes, or that was the last to; `None`: none ever did.
    pub holder: Option<String>,
    /// Whether one writes now.
    pub is_there: bool,
    /// How long the lease has not been renewed, which a writer that is well does every five seconds.
    pub silent: Option<Duration>,
    /// How long the durable end has not moved.
    pub unmoved: Duration,
}

impl History {
    /// Who writes; `None` where history has not begun.
    pub async fn writing(&self) -> Result<Option<Writing>, Error> {
        let failed = |source| Error::Read { what: "who writes", source };
        let row = sqlx::query(WHO_WRITES).bind(CAPTURE_ID).bind(LOCK_KEY).fetch_optional(self.pool()).await;
        let Some(row) = row.map_err(failed)? else { return Ok(None) };
        let span = |ms: i64| Duration::from_millis(ms.unsigned_abs());
        Ok(Some(Writing {
            holder: row.try_get("holder").map_err(failed)?,
            is_there: row.try_get("is_there").map_err(failed)?,
            silent: row.try_get::<Option<i64>, _>("silent_ms").map_err(failed)?.map(span),
            unmoved: span(row.try_get("moved_ms").map_err(failed)?),
        }))
    }
}
