//! The pool's connections, and how long an answer is waited for.
//!
//! A host that is gone without a word (packets into nowhere, a machine that stands still) closes no connection: the kernel would
//! wait for a quarter of an hour, and where nothing is on its way for ever. Meanwhile each question would hold a connection, and
//! soon everybody would wait for one. So a connection that has not answered for a while is thrown away, and what was asked has
//! failed as if the connection had been lost. Nothing else distinguishes it from a question that is only slow: none that is
//! asked here takes so long, because all are bounded in what they read.
//!
//! How long a free connection is waited for, and a new one, is `connect_timeout` of the URL. What writes has connections of its
//! own, see `link`.

use std::io::ErrorKind;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgPool, PgPoolOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Connection, Either, Error, Execute, Executor, PgConnection, Postgres, SqlStr, Transaction};
use waldelta_wal::chain_text;

/// An answer, or the next row of it, comes within this time or not at all.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// A connection that is given back shows within this time that it is ready: also what was on its way when nobody wanted it any
/// more has to be read first.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// How often the server looks, while it works on an answer, whether anybody waits for it.
const LOOK_FOR_CLIENT: &str = "SET client_connection_check_interval = '3s'";

/// The pool. What is asked of it directly is read whole: for what may be large there is [`Self::acquire`].
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    pool: PgPool,
    answer_within: Duration,
}

impl Pool {
    /// Of a pool whose connections are [given back in time](giving_back_in_time).
    pub(crate) fn new(pool: PgPool) -> Self {
        Pool { pool, answer_within: ANSWER_WITHIN }
    }

    /// A connection for several questions; the answers are waited for with [`answer`].
    pub(crate) async fn acquire(&self) -> Result<PoolConnection<Postgres>, Error> {
        self.pool.acquire().await
    }

    /// A transaction; the answers are waited for with [`answer`].
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Postgres>, Error> {
        within(self.answer_within, self.pool.begin()).await
    }
}

/// Makes a pool throw away connections that do not answer when they are given back. Without it the pool would wait for
/// them for as long as the kernel does, and count them as its own.
///
/// What is thrown away ends at the server too, as far as the server can tell, although it still works on an answer.
pub(crate) fn giving_back_in_time(options: PgPoolOptions) -> PgPoolOptions {
    options.after_release(|connection, _| Box::pin(is_ready(connection))).after_connect(|connection, _| {
        Box::pin(async {
            // Not every server's machine can. Where the connection is lost already, whoever uses it is told.
            if let Err(error) = connection.execute(LOOK_FOR_CLIENT).await {
                tracing::debug!(
                    error = chain_text(&error),
                    "history's server does not look whether its client is there"
                );
            }
            Ok(())
        })
    })
}

async fn is_ready(connection: &mut PgConnection) -> Result<bool, Error> {
    within(READY_WITHIN, connection.ping()).await.map(|()| true)
}

/// Waits for an answer over a connection, but not for ever.
pub(crate) async fn answer<T>(asked: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    within(ANSWER_WITHIN, asked).await
}

async fn within<T>(time: Duration, asked: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout(time, asked).await {
        Ok(answer) => answer,
        Err(_late) => Err(Error::Io(ErrorKind::TimedOut.into())),
    }
}

/// A connection that is late is not waited for when it is given back either.
fn judged<T>(connection: &mut PoolConnection<Postgres>, answer: Result<T, Error>) -> Result<T, Error> {
    if matches!(&answer, Err(Error::Io(error)) if error.kind() == ErrorKind::TimedOut) {
        connection.close_on_drop();
    }
    answer
}

impl<'p> Executor<'p> for &'p Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let all = async move {
            let mut connection = self.acquire().await?;
            let mut parts = connection.fetch_many(query);
            let mut answer = Vec::new();
            let ended = loop {
                match within(self.answer_within, parts.try_next()).await {
                    Ok(Some(part)) => answer.push(Ok(part)),
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            drop(parts);
            judged(&mut connection, ended).map(|()| stream::iter(answer))
        };
        stream::once(all).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        async move {
            let mut connection = self.acquire().await?;
            let answer = within(self.answer_within, connection.fetch_optional(query)).await;
            judged(&mut connection, answer)
        }
        .boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'p: 'e,
    {
        async move {
            let mut connection = self.acquire().await?;
            let answer = within(self.answer_within, connection.prepare_with(sql, parameters)).await;
            judged(&mut connection, answer)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
