//! A load beside what is measured: rows that come at a rate, from a process of their own.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context;
use tokio::process::{Child, Command};

use crate::clusters::Clusters;

/// The table that they go to.
pub(crate) const CREATE_TABLE: &str =
    "CREATE TABLE filler (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner int, note text)";
/// Rows of one transaction.
const ROWS: u32 = 100;
const CLIENTS: &str = "2";

/// pgbench, until it is ended.
pub(crate) struct Filling {
    child: Child,
    script: PathBuf,
}

impl Filling {
    /// So many rows a second into [`CREATE_TABLE`].
    pub(crate) fn start(clusters: &Clusters, database: &str, rate: f64) -> anyhow::Result<Self> {
        let script = std::env::temp_dir().join(format!("waldelta-bench-{}.sql", std::process::id()));
        let insert = "INSERT INTO filler (owner, note) SELECT n % 1000, 'note ' || n FROM generate_series(1,";
        std::fs::write(&script, format!("{insert} {ROWS}) n;\n")).context("write a script for pgbench")?;
        let child = Command::new(&clusters.pgbench)
            .args(["--no-vacuum", "--time=3600", "--client", CLIENTS, "--file"])
            .arg(&script)
            .arg(format!("--rate={:.2}", rate / f64::from(ROWS)))
            .arg(clusters.source_url(database))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("start pgbench")?;
        Ok(Filling { child, script })
    }

    /// Returns when nothing comes any more.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("end pgbench")
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.script);
    }
}

/// Rows that have come so far.
pub(crate) async fn filled(source: &tokio_postgres::Client) -> anyhow::Result<f64> {
    let last: i64 = source.query_one("SELECT last_value FROM filler_id_seq", &[]).await?.get(0);
    Ok(last as f64)
}
