//! A service that begins with a slot and a history of its own, which go with it.

use crate::Bench;
use crate::service::Service;

/// One that captures.
pub(crate) struct Fresh<'a> {
    pub service: Service,
    bench: &'a Bench,
    database: &'a str,
    slot: String,
}

impl<'a> Fresh<'a> {
    /// Starts it on a published source database; returns when it captures.
    pub(crate) async fn start(bench: &'a Bench, database: &'a str) -> anyhow::Result<Self> {
        let slot = format!("{database}_ours");
        bench.clusters.create_slot(database, &slot).await?;
        bench.clusters.create_history(&slot).await?;
        let service = on(bench, database, &slot).await?;
        service.ready().await?;
        Ok(Fresh { service, bench, database, slot })
    }

    /// The name of its history, and of its slot.
    pub(crate) fn history(&self) -> &str {
        &self.slot
    }

    /// Ends it as a crash would. The source has noticed when this returns: a slot has one reader.
    pub(crate) async fn crash(&mut self) -> anyhow::Result<()> {
        self.service.kill().await?;
        self.bench.clusters.until_inactive(self.database, &self.slot).await
    }

    /// Starts it again with what it had; returns as soon as the process is there.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        self.service = on(self.bench, self.database, &self.slot).await?;
        Ok(())
    }

    /// Stops it, and drops what it had.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        self.service.stop().await?;
        self.bench.clusters.drop_slot(self.database, &self.slot).await?;
        self.bench.clusters.drop_history(&self.slot).await
    }

    /// Stops it, and keeps its history under another name.
    pub(crate) async fn leave(self, history: &str) -> anyhow::Result<()> {
        self.service.stop().await?;
        self.bench.clusters.drop_slot(self.database, &self.slot).await?;
        let rename = format!("ALTER DATABASE {} RENAME TO {history}", self.slot);
        Ok(self.bench.clusters.history("postgres").await?.batch_execute(&rename).await?)
    }
}

async fn on(bench: &Bench, database: &str, slot: &str) -> anyhow::Result<Service> {
    let (source, history) = (bench.clusters.source_url(database), bench.clusters.history_url(slot));
    Service::start(&bench.binary, &source, &history, slot).await
}
