//! Backlogs: what a slot that nobody has read holds. Three kinds of work, each in a database of its own.

use std::path::Path;

use tokio::process::Command;
use tokio_postgres::Client;

use crate::clusters::Clusters;
use crate::process;

/// Kinds of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// pgbench's standard transactions: three updates and an insert each.
    Tpcb,
    /// Transactions of a thousand small rows.
    Bulk,
    /// Updates of rows of 250 bytes with all of the old row, a hundred a transaction.
    Updates,
}

/// The three.
pub(crate) const KINDS: [Kind; 3] = [Kind::Tpcb, Kind::Bulk, Kind::Updates];

const BULK_ROWS: u32 = 1_000;
const UPDATED_ROWS: u32 = 100;
/// Rows of the table that they are of.
const WIDE_ROWS: u32 = 20_000;
const PGBENCH_CLIENTS: u32 = 4;
const PGBENCH_SCALE: u32 = 10;

/// One, with the slot that contenders get copies of.
pub(crate) struct Backlog {
    pub database: String,
    pub slot: String,
    /// Where it ends.
    pub end: String,
    pub changes: u64,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Tpcb => "tpcb",
            Kind::Bulk => "bulk",
            Kind::Updates => "upd",
        }
    }

    /// Its changes at full size.
    fn changes(self) -> u32 {
        match self {
            Kind::Tpcb => 800_000,
            Kind::Bulk => 1_000_000,
            Kind::Updates => 300_000,
        }
    }

    /// Its tables in the database behind the URL, with what they have before.
    pub(crate) async fn create(self, clusters: &Clusters, url: &str, client: &Client) -> anyhow::Result<()> {
        let sql = match self {
            Kind::Tpcb => {
                let scale = PGBENCH_SCALE.to_string();
                pgbench(clusters, url, &["--initialize", "--quiet", "--scale", &scale]).await?;
                // A table without key is not captured unless that is asked for.
                "ALTER TABLE pgbench_history ADD COLUMN id bigserial PRIMARY KEY".to_owned()
            }
            Kind::Bulk => "CREATE TABLE small (id bigint PRIMARY KEY, owner int, note text)".to_owned(),
            Kind::Updates => format!(
                "CREATE TABLE wide (id int PRIMARY KEY, a int, b bigint, c numeric(12,2), d timestamptz, e text, f text);
                 ALTER TABLE wide REPLICA IDENTITY FULL;
                 INSERT INTO wide SELECT n, n, n * 1000, n / 7.0, now(), repeat('e', 90), repeat('f', 90)
                   FROM generate_series(1, {WIDE_ROWS}) n"
            ),
        };
        Ok(client.batch_execute(&sql).await?)
    }

    /// The database that a backlog of it is in.
    pub(crate) fn database(self) -> String {
        format!("backlog_{}", self.name())
    }

    /// About `scale` of its work at full size; how many changes there are.
    pub(crate) async fn work(self, clusters: &Clusters, source: &Client, scale: f64) -> anyhow::Result<u64> {
        let wanted = (f64::from(self.changes()) * scale) as u32;
        match self {
            Kind::Tpcb => transactions(clusters, &clusters.source_url(&self.database()), wanted).await,
            Kind::Bulk => inserts(source, wanted).await,
            Kind::Updates => updates(source, wanted).await,
        }
    }
}

impl Backlog {
    /// One of a kind, about `scale` of its full size.
    pub(crate) async fn write(
        binary: &Path,
        clusters: &Clusters,
        kind: Kind,
        scale: f64,
    ) -> anyhow::Result<Self> {
        let database = kind.database();
        let create =
            async |source: &Client| kind.create(clusters, &clusters.source_url(&database), source).await;
        let work = async |source: &Client| kind.work(clusters, source, scale).await;
        Self::of(binary, clusters, &database, create, work).await
    }

    /// Any other: tables are created and published, then comes the slot, and work on them, which says how many changes it was.
    pub(crate) async fn of(
        binary: &Path,
        clusters: &Clusters,
        database: &str,
        create: impl AsyncFnOnce(&Client) -> anyhow::Result<()>,
        work: impl AsyncFnOnce(&Client) -> anyhow::Result<u64>,
    ) -> anyhow::Result<Self> {
        let slot = format!("{database}_untouched");
        clusters.create_source(database).await?;
        // It is only to be there: nobody waits for the disk.
        let hasty = format!("ALTER DATABASE {database} SET synchronous_commit = off");
        clusters.source(database).await?.batch_execute(&hasty).await?;
        let source = clusters.source(database).await?;
        create(&source).await?;
        clusters.initialise(binary, database, &slot).await?;
        let changes = work(&source).await?;
        let end = emit_end(&source).await?;
        source.batch_execute("CHECKPOINT").await?;
        Ok(Backlog { database: database.to_owned(), slot, end, changes })
    }

    /// Drops its slots and its database.
    pub(crate) async fn drop(self, clusters: &Clusters) -> anyhow::Result<()> {
        clusters.drop_slot(&self.database, &self.slot).await?;
        clusters.drop_source(&self.database).await?;
        // The slot's name is that of the history it was made with.
        clusters.drop_history(&self.slot).await
    }
}

/// A place that everything committed so far lies before, where something has reached the disk: whoever reads gets there.
pub(crate) async fn emit_end(source: &Client) -> anyhow::Result<String> {
    let end = "SET synchronous_commit = on; SELECT pg_logical_emit_message(true, 'bench', 'end')";
    source.batch_execute(end).await?;
    Ok(source.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await?.get(0))
}

/// pgbench's standard transactions; how many changes there are.
async fn transactions(clusters: &Clusters, url: &str, wanted: u32) -> anyhow::Result<u64> {
    let each = (wanted / 4 / PGBENCH_CLIENTS).max(1);
    let (clients, each_text) = (PGBENCH_CLIENTS.to_string(), each.to_string());
    let run = ["--no-vacuum", "--client", &clients, "--jobs", "2", "--transactions", &each_text];
    pgbench(clusters, url, &run).await?;
    Ok(u64::from(each * PGBENCH_CLIENTS * 4))
}

async fn inserts(source: &Client, wanted: u32) -> anyhow::Result<u64> {
    let transactions = (wanted / BULK_ROWS).max(1);
    for from in (0..transactions).map(|number| number * BULK_ROWS) {
        let to = from + BULK_ROWS - 1;
        let insert = format!(
            "INSERT INTO small SELECT n, n % 1000, 'note ' || n FROM generate_series({from}, {to}) n"
        );
        source.batch_execute(&insert).await?;
    }
    Ok(u64::from(transactions * BULK_ROWS))
}

async fn updates(source: &Client, wanted: u32) -> anyhow::Result<u64> {
    let transactions = (wanted / UPDATED_ROWS).max(1);
    for from in (0..transactions).map(|number| number * UPDATED_ROWS % WIDE_ROWS + 1) {
        let to = from + UPDATED_ROWS - 1;
        let update = format!("UPDATE wide SET a = a + 1, d = now() WHERE id BETWEEN {from} AND {to}");
        source.batch_execute(&update).await?;
    }
    Ok(u64::from(transactions * UPDATED_ROWS))
}

async fn pgbench(clusters: &Clusters, url: &str, args: &[&str]) -> anyhow::Result<()> {
    let mut pgbench = Command::new(&clusters.pgbench);
    process::run("pgbench", pgbench.args(args).arg(url)).await?;
    Ok(())
}
