//! Two private PostgreSQL clusters for a run: the source, and one for history, so that writing history makes no WAL that
//! the contenders have to read past.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tokio::process::Command;
use tokio_postgres::{Client, NoTls};
use waldelta_pglocal::{Cluster, Environment, Options, Storage, Wanted, find};

use crate::process;

/// Within this time somebody who was started streams.
const STREAM_TIMEOUT: Duration = Duration::from_secs(60);

/// The clusters and how to reach them; stopped and removed when dropped.
pub(crate) struct Clusters {
    source: Cluster,
    history: Cluster,
    /// Version of PostgreSQL.
    pub version: String,
    /// Port of the source.
    pub source_port: u16,
    /// Superuser of both.
    pub user: &'static str,
    /// The reference of those who read WAL.
    pub pg_recvlogical: PathBuf,
    /// PostgreSQL's load generator.
    pub pgbench: PathBuf,
    psql: PathBuf,
}

impl Clusters {
    /// Starts both.
    #[expect(clippy::disallowed_methods, reason = "a program of its own reads its own environment")]
    pub(crate) fn start() -> anyhow::Result<Self> {
        let environment = Environment { path: std::env::var("PATH").ok().map(Into::into), home: None };
        let binaries = find(&Wanted::default(), &environment).context("find PostgreSQL")?;
        let pg_recvlogical = binaries.program("pg_recvlogical");
        anyhow::ensure!(pg_recvlogical.exists(), "{} is needed as the reference", pg_recvlogical.display());
        let start = || {
            let mut options = Options::new(binaries.clone(), Storage::Ephemeral(std::env::temp_dir()));
            options.settings =
                [("shared_buffers", "512MB"), ("max_wal_size", "8GB"), ("max_slot_wal_keep_size", "-1")]
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .to_vec();
            Cluster::start(options).context("start a private PostgreSQL")
        };
        let (source, history) = (start()?, start()?);
        Ok(Clusters {
            version: binaries.version.to_string(),
            source_port: source.port(),
            user: "postgres",
            pg_recvlogical,
            pgbench: binaries.program("pgbench"),
            psql: binaries.program("psql"),
            source,
            history,
        })
    }

    /// URL of a source database.
    pub(crate) fn source_url(&self, database: &str) -> String {
        self.source.url(database)
    }

    /// URL of a history database.
    pub(crate) fn history_url(&self, database: &str) -> String {
        self.history.url(database)
    }

    /// A connection to a source database.
    pub(crate) async fn source(&self, database: &str) -> anyhow::Result<Client> {
        connect(&self.source_url(database)).await
    }

    /// A connection to a history database.
    pub(crate) async fn history(&self, database: &str) -> anyhow::Result<Client> {
        connect(&self.history_url(database)).await
    }

    /// Creates a source database.
    pub(crate) async fn create_source(&self, database: &str) -> anyhow::Result<()> {
        Ok(self.source("postgres").await?.batch_execute(&format!("CREATE DATABASE {database}")).await?)
    }

    /// Creates a history database.
    pub(crate) async fn create_history(&self, database: &str) -> anyhow::Result<()> {
        Ok(self.history("postgres").await?.batch_execute(&format!("CREATE DATABASE {database}")).await?)
    }

    /// Creates a history database as one that nobody uses is.
    pub(crate) async fn copy_history(&self, from: &str, to: &str) -> anyhow::Result<()> {
        let sql = format!("CREATE DATABASE {to} TEMPLATE {from}");
        Ok(self.history("postgres").await?.batch_execute(&sql).await?)
    }

    /// Drops a source database.
    pub(crate) async fn drop_source(&self, database: &str) -> anyhow::Result<()> {
        let sql = format!("DROP DATABASE {database} WITH (FORCE)");
        Ok(self.source("postgres").await?.batch_execute(&sql).await?)
    }

    /// The process that all others of the source belong to.
    pub(crate) async fn source_pid(&self) -> anyhow::Result<u32> {
        let backend = self.source("postgres").await?.query_one("SELECT pg_backend_pid()", &[]).await?;
        process::parent(backend.get::<_, i32>(0).cast_unsigned())
    }

    /// Has psql do something in a history database.
    pub(crate) async fn psql(&self, history: &str, command: &str) -> anyhow::Result<()> {
        self.psql_at(&self.history_url(history), command).await
    }

    /// Has psql do something in any database; what it gives is discarded.
    pub(crate) async fn psql_at(&self, url: &str, command: &str) -> anyhow::Result<()> {
        let quiet = ["--no-psqlrc", "--quiet", "--output=/dev/null", "--set=ON_ERROR_STOP=1"];
        let mut psql = Command::new(&self.psql);
        psql.args(quiet).args(["--command", command]).arg(url);
        process::run("psql", &mut psql).await?;
        Ok(())
    }

    /// Drops a history database.
    pub(crate) async fn drop_history(&self, database: &str) -> anyhow::Result<()> {
        let sql = format!("DROP DATABASE {database} WITH (FORCE)");
        Ok(self.history("postgres").await?.batch_execute(&sql).await?)
    }

    /// Publishes every table of a source database and creates the untouched slot that contenders get copies of.
    pub(crate) async fn initialise(&self, binary: &Path, database: &str, slot: &str) -> anyhow::Result<()> {
        let history = format!("{database}_untouched");
        self.create_history(&history).await?;
        let mut init = Command::new(binary);
        init.args(["init", "--apply", "--slot", slot, "--database-url", &self.source_url(database)])
            .args(["--history-url", &self.history_url(&history)]);
        process::run("waldelta init", &mut init).await?;
        Ok(())
    }

    /// A fresh copy of an untouched slot.
    pub(crate) async fn copy_slot(&self, database: &str, from: &str, to: &str) -> anyhow::Result<()> {
        let source = self.source(database).await?;
        source.execute("SELECT pg_copy_logical_replication_slot($1, $2)", &[&from, &to]).await?;
        Ok(())
    }

    /// A slot of what commits from now on.
    pub(crate) async fn create_slot(&self, database: &str, slot: &str) -> anyhow::Result<()> {
        let source = self.source(database).await?;
        source.execute("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", &[&slot]).await?;
        Ok(())
    }

    /// Waits until somebody reads a slot.
    pub(crate) async fn until_active(&self, database: &str, slot: &str) -> anyhow::Result<()> {
        let source = self.source(database).await?;
        let active = "SELECT active_pid IS NOT NULL FROM pg_replication_slots WHERE slot_name = $1";
        let active = source.prepare(active).await?;
        let looking = async {
            while !source.query_one(&active, &[&slot]).await?.get::<_, bool>(0) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(STREAM_TIMEOUT, looking).await.with_context(|| format!("nobody reads {slot}"))?
    }

    /// Waits until nobody reads a slot.
    pub(crate) async fn until_inactive(&self, database: &str, slot: &str) -> anyhow::Result<()> {
        let source = self.source(database).await?;
        let inactive = "SELECT active_pid IS NULL FROM pg_replication_slots WHERE slot_name = $1";
        while !source.query_one(inactive, &[&slot]).await?.get::<_, bool>(0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Drops a slot as soon as its walsender is gone.
    pub(crate) async fn drop_slot(&self, database: &str, slot: &str) -> anyhow::Result<()> {
        self.until_inactive(database, slot).await?;
        self.source(database).await?.execute("SELECT pg_drop_replication_slot($1)", &[&slot]).await?;
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "the driver of a connection lives as long as its client")]
async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.context("connect")?;
    tokio::spawn(connection);
    Ok(client)
}
