//! Which connection of a client is the newest, for processes that serve clients of one history: each writes whose connections
//! came to it, and learns of those that came to another.
//!
//! What decides is a number that the database counts: clocks of processes are compared nowhere. Whoever is replaced is told by
//! a notification. One that was lost, with the connection that listens, is made up for by asking.

use sqlx::Row;
use sqlx::postgres::PgListener;

use crate::{ClientNote, Error, History};

const DRAW: &str = include_str!("../../../sql/queries/draw_connections.sql");
const RAISE: &str = include_str!("../../../sql/queries/raise_connections.sql");
const TAKE: &str = include_str!("../../../sql/queries/take_clients.sql");
const TAKEN_ELSEWHERE: &str = include_str!("../../../sql/queries/taken_elsewhere.sql");

/// Channel on which it is told that a client has a newer connection, which came to another process than the one before. The
/// payload: the connection's number, a blank, the client's id.
const CHANNEL: &str = "waldelta_clients";

/// A client that is here by a connection with this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberedClient<'a> {
    /// What is noted of it.
    pub note: ClientNote<'a>,
    /// From [`History::draw_connections`].
    pub connection: i64,
}

/// The newest connection of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewestConnection {
    /// The client's id.
    pub client_id: String,
    /// The connection's number: a higher one is newer.
    pub connection: i64,
}

/// Hears of connections that came to another process than the client's one before.
pub struct ConnectionListener {
    listener: PgListener,
}

impl History {
    /// Lets numbers go on above those that are in use, where history was moved without its sequence. Done before the first is
    /// drawn.
    pub async fn raise_connections(&self) -> Result<(), Error> {
        sqlx::query(RAISE).execute(self.pool()).await.map_err(Error::TakeClients)?;
        Ok(())
    }

    /// Numbers for so many connections, rising, each above all that any process has drawn before.
    pub async fn draw_connections(&self, count: usize) -> Result<Vec<i64>, Error> {
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        sqlx::query_scalar(DRAW).bind(count).fetch_all(self.pool()).await.map_err(Error::TakeClients)
    }

    /// Writes that the newest connections of these clients, each of them once, came to this process, and tells the processes that
    /// had them before. Gives the ids of those for which it is so: the others have a newer connection elsewhere.
    pub async fn take_clients(
        &self,
        process: i64,
        clients: &[NumberedClient<'_>],
    ) -> Result<Vec<String>, Error> {
        let notes = || clients.iter().map(|client| client.note);
        let taken = sqlx::query(TAKE)
            .bind(notes().map(|note| note.client_id).collect::<Vec<_>>())
            .bind(notes().map(|note| note.protocol).collect::<Vec<_>>())
            .bind(notes().map(|note| note.user_agent).collect::<Vec<_>>())
            .bind(clients.iter().map(|client| client.connection).collect::<Vec<_>>())
            .bind(process)
            .bind(CHANNEL)
            .fetch_all(self.pool())
            .await
            .map_err(Error::TakeClients)?;
        taken.iter().map(|row| row.try_get(0).map_err(Error::TakeClients)).collect()
    }

    /// Those of these clients whose newest connection came to another process than this.
    pub async fn taken_elsewhere(
        &self,
        process: i64,
        client_ids: &[&str],
    ) -> Result<Vec<NewestConnection>, Error> {
        let failed = |source| Error::Read { what: "the newest connections of clients", source };
        let found = sqlx::query(TAKEN_ELSEWHERE).bind(client_ids).bind(process).fetch_all(self.pool()).await;
        let newest = |row: &sqlx::postgres::PgRow| {
            Ok(NewestConnection { client_id: row.try_get(0)?, connection: row.try_get(1)? })
        };
        found.map_err(failed)?.iter().map(|row| newest(row).map_err(failed)).collect()
    }

    /// Begins to listen for connections that come to other processes, on a connection of its own. What came before is asked for
    /// with [`Self::taken_elsewhere`] when it listens.
    pub async fn listen_for_connections(&self) -> Result<ConnectionListener, Error> {
        let listener = self.listener("waldelta-history-clients", CHANNEL).await.map_err(Error::Listen)?;
        Ok(ConnectionListener { listener })
    }
}

impl ConnectionListener {
    /// The next that is heard of. `None`: its connection was lost and made again, and what came between is to be asked for.
    pub async fn next(&mut self) -> Result<Option<NewestConnection>, Error> {
        loop {
            let Some(told) = self.listener.try_recv().await.map_err(Error::Listen)? else { return Ok(None) };
            // Anybody may notify: what has another form says nothing.
            if let Some(newest) = parse(told.payload()) {
                return Ok(Some(newest));
            }
        }
    }
}

fn parse(payload: &str) -> Option<NewestConnection> {
    let (connection, client_id) = payload.split_once(' ')?;
    Some(NewestConnection { client_id: client_id.to_owned(), connection: connection.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_a_number_and_an_id_that_may_have_blanks() {
        let newest = |client_id: &str, connection| {
            Some(NewestConnection { client_id: client_id.to_owned(), connection })
        };
        assert_eq!(parse("7 web-7"), newest("web-7", 7));
        assert_eq!(parse("9223372036854775807 a b\n c"), newest("a b\n c", i64::MAX));
        for nonsense in ["", "7", "web-7", "7x web", "99999999999999999999 web"] {
            assert_eq!(parse(nonsense), None, "{nonsense}");
        }
    }
}
