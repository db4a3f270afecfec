//! A database of one test's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::canonical::canonical;
use crate::cluster::TestCluster;
use crate::route::Route;
use crate::shared;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);
const REMOVE_TIMEOUT: Duration = Duration::from_secs(60);
const REMOVE_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Leaves room for a suffix in a slot's name, which has 63 bytes at most.
const HINT_BYTES_MAX: usize = 28;

/// Connects as superuser; the connection works in the background until the client is dropped.
#[expect(clippy::disallowed_methods, reason = "a test's connection ends with the test")]
pub async fn connect(url: &str) -> Client {
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, tokio_postgres::connect(url, NoTls));
    let connected =
        connecting.await.unwrap_or_else(|_| panic!("connect to {url}: no answer in {CONNECT_TIMEOUT:?}"));
    let (client, connection) = connected.unwrap_or_else(|error| panic!("connect to {url}: {error:?}"));
    tokio::spawn(async move {
        // Tests that end the connection on purpose see it in the client.
        let _ = connection.await;
    });
    client
}

/// An empty database. Dropping it removes it, with its replication slots and whoever is connected to it.
///
/// The server is shared: creating a slot waits for the open transactions of all databases. A test that keeps one open
/// for more than a moment belongs on a [`TestCluster`] of its own.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    url: String,
    admin_url: String,
    client: Mutex<Option<Arc<Client>>>,
    cluster: Option<TestCluster>,
}

impl TestDatabase {
    /// A new database on the PostgreSQL that tests share. `hint` makes its name recognisable.
    pub async fn create(hint: &str) -> Self {
        // The first user of a process may have to start the server.
        let admin_url = tokio::task::spawn_blocking(|| shared::url("postgres")).await.unwrap();
        Self::create_at(&admin_url, hint, "", None).await
    }

    /// As [`Self::create`], in another encoding, such as `LATIN1` or `SQL_ASCII`.
    pub async fn create_in_encoding(hint: &str, encoding: &str) -> Self {
        let admin_url = tokio::task::spawn_blocking(|| shared::url("postgres")).await.unwrap();
        // The locale C goes with every encoding.
        let options = format!("TEMPLATE template0 LOCALE 'C' ENCODING '{encoding}'");
        Self::create_at(&admin_url, hint, &options, None).await
    }

    /// A new database in a cluster of the test's own.
    pub async fn create_on(cluster: &TestCluster, hint: &str) -> Self {
        Self::create_at(&cluster.url("postgres"), hint, "", Some(cluster.clone())).await
    }

    /// The same with options of `CREATE DATABASE`, such as `TABLESPACE small`.
    pub async fn create_on_with(cluster: &TestCluster, hint: &str, options: &str) -> Self {
        Self::create_at(&cluster.url("postgres"), hint, options, Some(cluster.clone())).await
    }

    /// The database of the same name in another cluster of the test's own: a copy, or a standby.
    pub fn on(&self, cluster: &TestCluster) -> Self {
        TestDatabase {
            name: self.name.clone(),
            url: cluster.url(&self.name),
            admin_url: cluster.url("postgres"),
            client: Mutex::default(),
            cluster: Some(cluster.clone()),
        }
    }

    /// The same database, from now on reached by this route, wherever it leads.
    #[must_use]
    pub fn through(mut self, route: &Route) -> Self {
        self.url = format!("postgresql://postgres@127.0.0.1:{}/{}", route.port(), self.name);
        self.client = Mutex::default();
        self
    }

    async fn create_at(admin_url: &str, hint: &str, options: &str, cluster: Option<TestCluster>) -> Self {
        static CREATED: AtomicU32 = AtomicU32::new(0);
        let admin = connect(admin_url).await;
        loop {
            let number = CREATED.fetch_add(1, Ordering::Relaxed);
            let name = format!("t_{}_{}_{number}", plain(hint), std::process::id());
            match admin.batch_execute(&format!("CREATE DATABASE {name} {options}")).await {
                Ok(()) => {
                    let server = admin_url.strip_suffix("/postgres").unwrap_or(admin_url);
                    let url = format!("{server}/{name}");
                    let admin_url = admin_url.to_owned();
                    return TestDatabase { name, url, admin_url, client: Mutex::default(), cluster };
                }
                // Left by a killed test whose process id is in use again.
                Err(error) if error.code() == Some(&SqlState::DUPLICATE_DATABASE) => {}
                Err(error) => panic!("create database {name}: {error:?}"),
            }
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its URL, as superuser over TCP.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A name for a replication slot that no other test uses. Slots belong to the whole server.
    pub fn slot(&self, suffix: &str) -> String {
        format!("{}_{}", self.name, plain(suffix))
    }

    /// A new connection.
    pub async fn client(&self) -> Client {
        connect(&self.url).await
    }

    /// Runs statements on a connection that is kept for it, each in a transaction of its own unless they say BEGIN.
    pub async fn exec(&self, sql: &str) {
        let done = self.kept().await.batch_execute(sql).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// The rows of a query, each column as PostgreSQL prints it.
    pub async fn query(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let answer = self.kept().await.simple_query(sql).await;
        let messages = answer.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
            }
            _ => None,
        });
        rows.collect()
    }

    /// The only column of the only row of a query.
    pub async fn query_text(&self, sql: &str) -> String {
        let rows = self.query(sql).await;
        match &rows[..] {
            [row] if row.len() == 1 => row[0].clone().unwrap_or_else(|| panic!("{sql}: NULL")),
            _ => panic!("{sql}: expected one value, got {rows:?}"),
        }
    }

    /// The rows of a query as JSON objects, in the query's order. Numbers beyond a double lose digits here.
    pub async fn query_json(&self, sql: &str) -> Vec<Value> {
        let rows = self.query(&format!("SELECT to_jsonb(q)::text FROM ({sql}) q")).await;
        let parse = |text: &String| serde_json::from_str(text).unwrap();
        rows.iter().map(|row| row[0].as_ref().map_or(Value::Null, parse)).collect()
    }

    /// The server's major version. A test that does not apply to it prints why and returns.
    pub async fn server_major(&self) -> u32 {
        self.query_text("SHOW server_version_num").await.parse::<u32>().unwrap() / 10_000
    }

    async fn kept(&self) -> Arc<Client> {
        let mut kept = self.client.lock().await;
        match &*kept {
            // A connection that was cut is known to be only when it is used.
            Some(client) if client.simple_query("").await.is_ok() => client.clone(),
            // Not yet, or the server was restarted.
            _ => kept.insert(Arc::new(self.client().await)).clone(),
        }
    }
}

/// The rows of a table as the source would say them, in the form that [`Replica::rows`](crate::Replica::rows) has.
/// `table` is an SQL expression, so that tests can select columns and rows: `(SELECT a FROM t WHERE b)`.
pub async fn source_rows(client: &Client, table: &str) -> Vec<String> {
    let sql = format!("SELECT to_jsonb(source_row)::text FROM {table} AS source_row");
    let rows = client.query(&sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let mut rows: Vec<String> = rows.iter().map(|row| canonical(row.get(0)).unwrap()).collect();
    rows.sort();
    rows
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if self.cluster.is_some() {
            // It goes with its cluster.
            return;
        }
        // With a runtime of its own: the test's one may be in the middle of its own end.
        let (admin_url, name) = (self.admin_url.clone(), self.name.clone());
        let removal = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(remove(&admin_url, &name))
        });
        let removed = removal.join();
        if !std::thread::panicking() {
            removed.unwrap().unwrap();
        }
    }
}

/// Removes a database with its slots. A server that is down takes them along.
#[expect(clippy::disallowed_methods, reason = "the connection ends with this runtime")]
async fn remove(admin_url: &str, name: &str) -> Result<(), String> {
    let Ok((admin, connection)) = tokio_postgres::connect(admin_url, NoTls).await else { return Ok(()) };
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let deadline = Instant::now() + REMOVE_TIMEOUT;
    let mut last = String::new();
    while Instant::now() < deadline {
        match try_remove(&admin, name).await {
            Ok(()) => return Ok(()),
            Err(_) if admin.is_closed() => return Ok(()),
            Err(error) => last = format!("{error:?}"),
        }
        sleep(REMOVE_POLL_INTERVAL).await;
    }
    Err(format!("remove database {name}: {last}"))
}

async fn try_remove(admin: &Client, name: &str) -> Result<(), tokio_postgres::Error> {
    // Nobody may come back while we are at it: the part under test reconnects.
    admin.execute("UPDATE pg_database SET datallowconn = false WHERE datname = $1", &[&name]).await?;
    let ours = "FROM pg_replication_slots WHERE database = $1";
    admin.query(&format!("SELECT pg_terminate_backend(active_pid) {ours} AND active"), &[&name]).await?;
    admin.query(&format!("SELECT pg_drop_replication_slot(slot_name) {ours}"), &[&name]).await?;
    admin.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await
}

/// A name that needs no quotes, in SQL and in a slot's name.
fn plain(hint: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    hint.chars().map(plain).take(HINT_BYTES_MAX).collect()
}
