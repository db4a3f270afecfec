//! Accepting connections, as many as may be, all in the one task that serves the console: it is for a few people.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::FutureExt;
use futures_util::stream::FuturesUnordered;
use pgwire::tokio::process_socket;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::handler::{Console, Door, Handlers};
use crate::{Config, Model};

/// What PostgreSQL's clients say that they speak over TLS.
const ALPN: &[u8] = b"postgresql";
/// The system could not accept: it is tried again after this.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves a console until `stop`; connections that are open then end with it.
pub async fn serve<M: Model>(listener: TcpListener, config: Config, model: M, stop: CancellationToken) {
    let console = Arc::new(Console {
        model: Arc::new(model),
        users: (!config.users.are(&BTreeMap::new())).then_some(config.users),
        wants_tls: config.tls.is_some(),
        pids: Default::default(),
    });
    let handlers = Handlers { door: Arc::new(Door::new(console.clone())), console };
    let serving = async {
        let mut connections = FuturesUnordered::new();
        loop {
            let has_room = connections.len() < config.connections_max;
            tokio::select! {
                accepted = listener.accept(), if has_room => match accepted {
                    Ok((socket, _)) => {
                        let tls = config.tls.as_ref().map(|tls| acceptor(&tls()));
                        let connection = process_socket(socket, tls, handlers.clone());
                        // A task of its own would outlive the stop; and one that panics ends only itself.
                        connections.push(Box::pin(std::panic::AssertUnwindSafe(connection).catch_unwind()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the console cannot accept a connection");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                Some(ended) = connections.next(), if !connections.is_empty() => match ended {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "a connection to the console has ended"),
                    Err(_) => tracing::error!("a connection to the console has failed"),
                },
            }
        }
    };
    stop.run_until_cancelled(serving).await;
}

fn acceptor(config: &ServerConfig) -> TlsAcceptor {
    let mut config = config.clone();
    config.alpn_protocols = vec![ALPN.to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use sqlx::{Connection, Row};
    use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

    use super::*;
    use crate::testing::Fixed;
    use crate::{Command, User, Users};

    /// Of the password `pencil`.
    const PENCIL: &str = "SCRAM-SHA-256$4096:YmpMy87nXj1Llta2JadlBA==$DSSzRmv5DTilbgQXzsNV9vHW6EF/R/DdeQw1dK398Yk=:YX7RwYrVVIPLThC4GxDpQHOlgPangG1X53YUecFHsKU=";

    struct Served {
        address: std::net::SocketAddr,
        asked: Arc<Fixed>,
        users: Users,
        stop: CancellationToken,
        serving: tokio::task::JoinSet<()>,
    }

    async fn served(users: &[(&str, bool)]) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let users = Users::new(by_name(users));
        let config = Config { users: users.clone(), tls: None, connections_max: 4 };
        let (asked, stop, mut serving) =
            (Arc::new(Fixed::default()), CancellationToken::new(), tokio::task::JoinSet::new());
        serving.spawn(serve(listener, config, asked.clone(), stop.clone()));
        Served { address, asked, users, stop, serving }
    }

    fn by_name(users: &[(&str, bool)]) -> BTreeMap<String, User> {
        let user = |(name, is_admin): &(&str, bool)| {
            ((*name).to_owned(), User { verifier: PENCIL.parse().unwrap(), is_admin: *is_admin })
        };
        users.iter().map(user).collect()
    }

    async fn connect(served: &mut Served, who: &str) -> Result<Client, tokio_postgres::Error> {
        let url = format!("host=127.0.0.1 port={} dbname=waldelta {who}", served.address.port());
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        served.serving.spawn(async {
            let _ = connection.await;
        });
        Ok(client)
    }

    fn texts(messages: &[SimpleQueryMessage]) -> Vec<String> {
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at).unwrap_or("-")).collect::<Vec<_>>().join(" "))
            }
            _ => None,
        });
        rows.collect()
    }

    #[tokio::test]
    async fn a_driver_asks_in_both_protocols() {
        let mut served = served(&[]).await;
        let client = connect(&mut served, "user=anybody").await.unwrap();
        let answer = client.simple_query("-- all\nSHOW clients; SELECT 1; ; BEGIN; COMMIT").await.unwrap();
        assert_eq!(
            texts(&answer),
            ["s-1 catching_up 10 7.25 f", "s-2 live 20 0.5 f", "s-3 live 30 - t", "1"]
        );
        assert!(
            texts(&client.simple_query("SHOW HELP").await.unwrap()).iter().any(|row| row.starts_with("KILL"))
        );
        let columns = client
            .simple_query("SELECT column_name FROM information_schema.columns ORDER BY ordinal_position")
            .await;
        assert_eq!(texts(&columns.unwrap()), ["session", "state", "sent", "lag", "own"]);

        let rows = client
            .query("SELECT session, sent, lag, own, now() FROM clients WHERE state = $1 AND sent > $2 ORDER BY sent LIMIT $3", &[
                &"live", &10i64, &1i64,
            ])
            .await
            .unwrap();
        let [row] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!(
            (row.get::<_, &str>(0), row.get::<_, i64>(1), row.get::<_, f64>(2), row.get::<_, bool>(3)),
            ("s-2", 20, 0.5, false)
        );
        assert_eq!(row.get::<_, SystemTime>(4), SystemTime::UNIX_EPOCH + Duration::from_secs(86_400));
        let refused = client.query("SELECT nothing FROM clients", &[]).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42703");
        let hint = refused.as_db_error().unwrap().hint().unwrap();
        assert!(hint.contains("session, state"), "{hint}");
        let refused = client.simple_query("DROP TABLE clients").await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "0A000");
        assert!(client.query("SELECT 1", &[]).await.is_ok(), "it goes on after an error");
        served.stop.cancel();
    }

    #[tokio::test]
    async fn sqlx_asks_too() {
        let served = served(&[]).await;
        let url = format!("postgresql://somebody@{}/waldelta?sslmode=disable", served.address);
        let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
        let rows = sqlx::query("SELECT session, sent FROM clients WHERE sent >= $1 ORDER BY sent DESC")
            .bind(20i64)
            .fetch_all(&mut connection)
            .await
            .unwrap();
        let told: Vec<(String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        assert_eq!(told, [("s-3".to_owned(), 30), ("s-2".to_owned(), 20)]);
        connection.close().await.unwrap();
    }

    #[tokio::test]
    async fn users_show_a_password_and_only_administrators_give_commands() {
        let mut served = served(&[("ops", true), ("grafana", false)]).await;
        for wrong in ["user=ops password=wrong", "user=nobody password=pencil", "user=ops"] {
            assert!(connect(&mut served, wrong).await.is_err(), "{wrong}");
        }
        let looks = connect(&mut served, "user=grafana password=pencil").await.unwrap();
        assert_eq!(
            texts(&looks.simple_query("SELECT current_user, count(*) FROM clients").await.unwrap()),
            ["grafana 3"]
        );
        for command in ["PAUSE", "RESUME", "RELOAD", "KILL 's-1'"] {
            let refused = looks.simple_query(command).await.unwrap_err();
            assert_eq!(refused.code().unwrap().code(), "42501", "{command}");
        }
        assert!(served.asked.0.lock().unwrap().is_empty());
        let ops = connect(&mut served, "user=ops password=pencil").await.unwrap();
        assert_eq!(
            texts(&ops.simple_query("PAUSE; KILL 's-1'").await.unwrap()),
            ["it is done", "it is done"]
        );
        let asked = served.asked.0.lock().unwrap().clone();
        assert_eq!(
            asked,
            [(Command::Pause, "ops".to_owned()), (Command::Kill("s-1".to_owned()), "ops".to_owned())]
        );
    }

    #[tokio::test]
    async fn other_users_are_taken_while_it_is_served_and_hold_for_connections_that_are_open() {
        let mut served = served(&[("ops", true), ("grafana", false)]).await;
        let ops = connect(&mut served, "user=ops password=pencil").await.unwrap();
        let looks = connect(&mut served, "user=grafana password=pencil").await.unwrap();
        served.users.take(by_name(&[("ops", false), ("anna", true)]));
        assert_eq!(ops.simple_query("PAUSE").await.unwrap_err().code().unwrap().code(), "42501");
        assert_eq!(texts(&ops.simple_query("SELECT 1").await.unwrap()), ["1"]);
        let gone = looks.simple_query("SHOW clients").await.unwrap_err();
        assert_eq!(gone.code().unwrap().code(), "28000");
        assert!(connect(&mut served, "user=grafana password=pencil").await.is_err());
        let anna = connect(&mut served, "user=anna password=pencil").await.unwrap();
        assert_eq!(texts(&anna.simple_query("PAUSE").await.unwrap()), ["it is done"]);
    }
}
