//! What is kept of clients while they are away: the last cursor that each acknowledged, and when it was here.
//!
//! No stream depends on it: a client says by itself where it goes on from. Rows are kept until somebody has them forgotten; how
//! often they are written is the caller's to bound.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{ConnectOptions, Connection, Row};
use waldelta_wal::Position;

use crate::pool::connect_options;
use crate::sql_row::{optional_time_us_at, time_us_at};
use crate::{Error, History};

const RECORD_ACKS: &str = include_str!("../../../sql/queries/record_acks.sql");
const NOTE_CLIENTS: &str = include_str!("../../../sql/queries/note_clients.sql");
const LIST_CLIENTS: &str = include_str!("../../../sql/queries/list_clients.sql");
const ACKED: &str = "SELECT cursor FROM waldelta.clients WHERE client_id = $1";
const FORGET_CLIENTS: &str = include_str!("../../../sql/queries/forget_clients.sql");

/// Key of the advisory lock of whoever has clients forgotten: "WALDELTC".
const FORGET_LOCK_KEY: i64 = 0x5741_4C44_454C_5443;
/// Clients that are looked at in one SQL transaction.
const STRETCH: i64 = 1_000;
/// Pause between two of them.
const PAUSE: Duration = Duration::from_millis(20);

/// A client that is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientNote<'a> {
    /// Its id.
    pub client_id: &'a str,
    /// What it speaks.
    pub protocol: &'a str,
    /// What its program calls itself.
    pub user_agent: Option<&'a str>,
}

/// What is known of a client. Times are microseconds since 1970-01-01 UTC, by the history database's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownClient {
    /// Its id.
    pub client_id: String,
    /// The last cursor that it acknowledged.
    pub acked: Option<Position>,
    /// When it last acknowledged one.
    pub acked_at_us: Option<i64>,
    /// When it was last here, to the minute or so.
    pub seen_at_us: i64,
    /// When it was here for the first time.
    pub first_seen_at_us: i64,
    /// What it spoke last, as it was noted.
    pub protocol: Option<String>,
    /// What its program called itself last.
    pub user_agent: Option<String>,
}

impl History {
    /// Records the last cursor that a client has acknowledged. A lower one than is known changes nothing but the time.
    pub async fn record_ack(&self, client_id: &str, cursor: Position) -> Result<(), Error> {
        self.record_acks(&[(client_id, cursor)]).await
    }

    /// The same for several clients in one statement, each of them once: all are recorded or none.
    pub async fn record_acks(&self, acks: &[(&str, Position)]) -> Result<(), Error> {
        let ids: Vec<&str> = acks.iter().map(|(client_id, _)| *client_id).collect();
        let cursors: Vec<String> = acks.iter().map(|(_, cursor)| cursor.to_string()).collect();
        let recorded = sqlx::query(RECORD_ACKS).bind(ids).bind(cursors).execute(self.pool()).await;
        recorded.map(|_| ()).map_err(Error::RecordAck)
    }

    /// Notes that clients are here, each of them once. Whoever was noted within the minute is not written again.
    pub async fn note_clients(&self, clients: &[ClientNote<'_>]) -> Result<(), Error> {
        let ids: Vec<&str> = clients.iter().map(|client| client.client_id).collect();
        let protocols: Vec<&str> = clients.iter().map(|client| client.protocol).collect();
        let agents: Vec<Option<&str>> = clients.iter().map(|client| client.user_agent).collect();
        let noted = sqlx::query(NOTE_CLIENTS).bind(ids).bind(protocols).bind(agents).execute(self.pool());
        noted.await.map(|_| ()).map_err(Error::NoteClients)
    }

    /// Tells whoever listens to this channel in history's database.
    pub async fn announce(&self, channel: &str, payload: &str) -> Result<(), Error> {
        let told = sqlx::query("SELECT pg_notify($1, $2)").bind(channel).bind(payload).execute(self.pool());
        told.await.map(|_| ()).map_err(Error::Announce)
    }

    /// The last cursor that a client has acknowledged.
    pub async fn acked(&self, client_id: &str) -> Result<Option<Position>, Error> {
        let cursor: Option<Option<String>> = sqlx::query_scalar(ACKED)
            .bind(client_id)
            .fetch_optional(self.pool())
            .await
            .map_err(|source| Error::Read { what: "a client's cursor", source })?;
        cursor.flatten().as_deref().map(position).transpose()
    }

    /// The clients that were here last, newest first, `limit` at most.
    pub async fn clients(&self, limit: u32) -> Result<Vec<KnownClient>, Error> {
        let failed = |source| Error::Read { what: "clients", source };
        let rows = sqlx::query(LIST_CLIENTS).bind(i64::from(limit)).fetch_all(self.pool()).await;
        rows.map_err(failed)?.iter().map(|row| known(row).map_err(failed)?).collect()
    }

    /// Forgets the clients that were not here for so long: a stretch after the other, with pauses, on a connection of its own.
    /// How many; `None` where another process is at it.
    pub async fn forget_clients(&self, unseen_for: Duration) -> Result<Option<u64>, Error> {
        let options = connect_options(&self.config().target, "waldelta-history-forget");
        let mut connection = options.connect().await.map_err(Error::ForgetClients)?;
        // It ends with the connection.
        let is_ours: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
            .bind(FORGET_LOCK_KEY)
            .fetch_one(&mut connection)
            .await
            .map_err(Error::ForgetClients)?;
        if !is_ours {
            return Ok(None);
        }
        let (mut after, mut forgotten) = (Some(String::new()), 0);
        while let Some(from) = after {
            let stretch = sqlx::query(FORGET_CLIENTS)
                .bind(from)
                .bind(STRETCH)
                .bind(unseen_for.as_secs_f64())
                .fetch_one(&mut connection)
                .await
                .map_err(Error::ForgetClients)?;
            after = stretch.try_get(0).map_err(Error::ForgetClients)?;
            forgotten += stretch.try_get::<i64, _>(1).map_err(Error::ForgetClients)?.unsigned_abs();
            tokio::time::sleep(PAUSE).await;
        }
        connection.close().await.map_err(Error::ForgetClients)?;
        Ok(Some(forgotten))
    }
}

fn known(row: &PgRow) -> Result<Result<KnownClient, Error>, sqlx::Error> {
    let acked = match row.try_get::<Option<&str>, _>(1)?.map(position).transpose() {
        Ok(acked) => acked,
        Err(error) => return Ok(Err(error)),
    };
    Ok(Ok(KnownClient {
        client_id: row.try_get(0)?,
        acked,
        acked_at_us: optional_time_us_at(row, 2)?,
        seen_at_us: time_us_at(row, 3)?,
        first_seen_at_us: time_us_at(row, 4)?,
        protocol: row.try_get(5)?,
        user_agent: row.try_get(6)?,
    }))
}

fn position(cursor: &str) -> Result<Position, Error> {
    cursor.parse().map_err(|_| Error::Corrupt { what: "a client's cursor".to_owned() })
}
