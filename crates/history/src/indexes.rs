//! The indexes that partitions lack because they are older than the index: built in the background, one after the other.
//!
//! A migration makes an index of `change_history` on the parent alone, in a moment. A partition that is made later gets its own
//! when it is attached, empty. For those that are there it is built here with CREATE INDEX CONCURRENTLY, beside which appends and
//! readers go on, and then attached. What is left to be done is read from the catalog alone, so whoever comes next takes up what
//! was cut off: the index that is not valid is dropped and built again. An advisory lock makes it one process at a time.
//!
//! Until no partition lacks any, the history of rows and positions by time are refused ([`Error::IndexesMissing`]): without them
//! each such question would read whole partitions, minutes of work beside the build that it delays. Nothing is taken away by
//! that, because both came with these indexes. Streams, pages, snapshots and the clients that are known need none of them.
//!
//! Which indexes there are is not decided here: migrations say that.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sqlx::Row;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;
use waldelta_wal::chain_text;

use crate::{Error, History, long};

const MISSING: &str = include_str!("../../../sql/queries/missing_indexes.sql");

/// Key of the advisory lock under which indexes are built: "WALDELTI".
const LOCK_KEY: i64 = 0x5741_4C44_454C_5449;
/// While another process builds, and after a failure, it is looked again after this long.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// And after failures, each of which doubles it, this long at most.
const LOOK_AGAIN_AFTER_MAX: Duration = Duration::from_secs(600);
/// What could not be attached is tried again after this long, then after twice as long, up to the bound.
const ATTACH_AGAIN_AFTER: Duration = Duration::from_secs(1);
const ATTACH_AGAIN_AFTER_MAX: Duration = Duration::from_secs(60);

/// No timeout of the database's or the role's cuts a build, which takes what it takes. Workers would take from the source's load
/// where history is in the same server.
const SETTINGS: &[(&str, &str)] = &[
    ("search_path", "pg_catalog"),
    ("client_encoding", "UTF8"),
    ("default_transaction_read_only", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("max_parallel_maintenance_workers", "0"),
];
/// Attaching waits for the COPY that is under way into the partition, and whoever reads it would wait behind that: not for long.
const ATTACH_PATIENCE: &str = "SET lock_timeout = '100ms'";
const PATIENCE: &str = "SET lock_timeout = 0";
/// What not every server knows: that a build ends with the process that wanted it, and a timeout that came with PostgreSQL 17.
const END_WITH_CLIENT: &str = "SET client_connection_check_interval = '5s'";
const NO_TIMEOUT: &str =
    "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'";

/// An index that a partition lacks.
struct Missing {
    name: String,
    /// What is there of it; `Some(false)`: a build was cut off.
    is_valid: Option<bool>,
    build: String,
    remove: String,
    attach: String,
}

/// What came of a look.
enum Outcome {
    /// Nothing is missing.
    Whole,
    /// Another process builds.
    Elsewhere,
}

impl History {
    /// Builds the indexes that partitions lack, or waits until another process has; until none is missing or `stop` is
    /// cancelled. What fails is told in the log and tried again.
    pub async fn build_indexes(&self, stop: CancellationToken) {
        let mut pause = LOOK_AGAIN_AFTER;
        while let Some(outcome) = stop.run_until_cancelled(Box::pin(self.build_missing())).await {
            match outcome {
                Ok(Outcome::Whole) => return,
                Ok(Outcome::Elsewhere) => {
                    tracing::debug!("another process builds the indexes of history");
                    pause = LOOK_AGAIN_AFTER;
                }
                Err(error) => {
                    tracing::warn!(
                        error = chain_text(&error),
                        "the indexes of history could not be built; trying again"
                    );
                    // A build that fails late has read a partition for nothing.
                    pause = (pause * 2).min(LOOK_AGAIN_AFTER_MAX);
                }
            }
            stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
    }

    /// Refused while a partition lacks an index: for questions that would read whole partitions without.
    pub(crate) async fn require_indexes(&self) -> Result<(), Error> {
        // Once there they stay: a partition that comes later has its own from the beginning.
        if self.inner.has_indexes.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.unbuilt().await? {
            0 => {
                self.inner.has_indexes.store(true, Ordering::Relaxed);
                Ok(())
            }
            missing => Err(Error::IndexesMissing { missing }),
        }
    }

    /// How many have yet to be built. One that is not attached yet serves its partition.
    async fn unbuilt(&self) -> Result<usize, Error> {
        let failed = |source| Error::Read { what: "the indexes of history", source };
        let rows = sqlx::query(MISSING).fetch_all(self.pool()).await.map_err(failed)?;
        let valid: Result<Vec<Option<bool>>, _> = rows.iter().map(|row| row.try_get("is_valid")).collect();
        Ok(valid.map_err(failed)?.into_iter().filter(|valid| *valid != Some(true)).count())
    }

    async fn build_missing(&self) -> Result<Outcome, Error> {
        let failed = |source| Error::Read { what: "the indexes of history", source };
        let known = sqlx::query(MISSING).fetch_optional(self.pool()).await.map_err(failed)?;
        if known.is_none() {
            return Ok(Outcome::Whole);
        }
        let target = &self.config().target;
        // The guard, so that a stop does not wait for what is being built.
        let (client, _guard) =
            target.connect_guarded("waldelta-history-indexes", SETTINGS).await.map_err(Error::Connect)?;
        // Where the server cannot notice that, a build of a process that is gone goes on to its end, and is kept.
        let _ = client.batch_execute(END_WITH_CLIENT).await;
        client.batch_execute(NO_TIMEOUT).await.map_err(Error::Ask)?;
        // It does not wait for the lock: whoever waits in a statement has a snapshot, and the build waits for every older one.
        let locked = client.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK_KEY]).await;
        if !locked.map_err(Error::Ask)?.get::<_, bool>(0) {
            return Ok(Outcome::Elsewhere);
        }
        let (begun, mut pause) = (Instant::now(), ATTACH_AGAIN_AFTER);
        let mut left = missing(&client).await?;
        let count = left.len();
        tracing::info!(
            count,
            "indexes of history are built in the background; until then the history of rows is not served"
        );
        while !left.is_empty() {
            for index in &left {
                build(&client, index).await?;
            }
            left = missing(&client).await?;
            if !left.is_empty() {
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(ATTACH_AGAIN_AFTER_MAX);
            }
        }
        tracing::info!(count, seconds = begun.elapsed().as_secs(), "all indexes of history are there");
        Ok(Outcome::Whole)
    }
}

async fn missing(client: &Client) -> Result<Vec<Missing>, Error> {
    let rows = client.query(MISSING, &[]).await.map_err(Error::Ask)?;
    let missing = rows.iter().map(|row| Missing {
        name: row.get("name"),
        is_valid: row.get("is_valid"),
        build: row.get("build"),
        remove: row.get("remove"),
        attach: row.get("attach"),
    });
    Ok(missing.collect())
}

/// Builds one as far as it is not, and attaches it unless somebody is in the way.
async fn build(client: &Client, index: &Missing) -> Result<(), Error> {
    let name = &index.name;
    let failed = |source| Error::BuildIndex { name: name.clone(), source };
    if index.is_valid == Some(false) {
        tracing::info!(index = name, "an index that was not finished is built again");
        client.batch_execute(&index.remove).await.map_err(failed)?;
    }
    if index.is_valid != Some(true) {
        let until = format!("{name} is built");
        long::told(&until, client.batch_execute(&index.build)).await.map_err(failed)?;
        tracing::debug!(index = name, "built");
    }
    client.batch_execute(ATTACH_PATIENCE).await.map_err(failed)?;
    let attached = client.batch_execute(&index.attach).await;
    client.batch_execute(PATIENCE).await.map_err(failed)?;
    match attached {
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(()),
        attached => attached.map_err(failed),
    }
}
