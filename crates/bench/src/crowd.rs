//! The service with what it takes to measure it with thousands of clients: a source whose tables are written a transaction at a
//! time, history in another cluster, and a configuration that lets them all come from one address.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use tokio_postgres::Client;

use crate::Bench;
use crate::clusters::Clusters;
use crate::process;
use crate::service::Service;
use crate::swarm::Group;

/// All else is as it is by default. Who opens thousands of connections in each turn is not what these limits are for.
const CONFIG: &str = "[limits]\nrequests_per_second_max = 1000000\nrequests_burst_max = 1000000\n";

/// A running service that clients can follow.
pub(crate) struct Crowd<'a> {
    binary: &'a Path,
    clusters: &'a Clusters,
    /// Of the source; what else is made for the measure is named after it.
    database: &'static str,
    source: Client,
    service: Option<Service>,
}

impl<'a> Crowd<'a> {
    /// Makes a source with these tables, and starts the service on it.
    pub(crate) async fn start(
        bench: &'a Bench,
        database: &'static str,
        tables: &str,
    ) -> anyhow::Result<Crowd<'a>> {
        let (binary, clusters) = (&*bench.binary, &bench.clusters);
        clusters.create_source(database).await?;
        let source = clusters.source(database).await?;
        source.batch_execute(tables).await?;
        let mut crowd = Crowd { binary, clusters, database, source, service: None };
        clusters.initialise(binary, database, &crowd.slot()).await?;
        clusters.create_history(&crowd.history()).await?;
        // What commits only counts once it is flushed, with the last of what is committed at once.
        crowd.source.batch_execute("SET synchronous_commit = off").await?;
        crowd.restart().await?;
        Ok(crowd)
    }

    /// Begins with a fresh process of the service, which has nothing in memory.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await?;
        let config =
            std::env::temp_dir().join(format!("waldelta-{}-{}.toml", self.database, std::process::id()));
        std::fs::write(&config, CONFIG)?;
        let service = Service::start_with(
            self.binary,
            &self.clusters.source_url(self.database),
            &self.clusters.history_url(&self.history()),
            &self.slot(),
            &["--config".as_ref(), config.as_os_str()],
        )
        .await?;
        let ready = service.ready().await;
        std::fs::remove_file(&config)?;
        ready?;
        self.service = Some(service);
        Ok(())
    }

    /// Stops the service; everything else stays.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        match self.service.take() {
            Some(service) => service.stop().await,
            None => Ok(()),
        }
    }

    /// Stops the service, and removes what was made for the measure.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        self.stop().await?;
        let (slot, history) = (self.slot(), self.history());
        self.clusters.drop_slot(self.database, &slot).await?;
        self.clusters.drop_source(self.database).await?;
        self.clusters.drop_history(&history).await
    }

    fn slot(&self) -> String {
        format!("{}_slot", self.database)
    }

    /// The database of history.
    pub(crate) fn history(&self) -> String {
        format!("{}_history", self.database)
    }

    fn service(&self) -> anyhow::Result<&Service> {
        self.service.as_ref().context("the service is stopped")
    }

    /// Of the service's process.
    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        self.service()?.pid()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.service()?.address())
    }

    /// Time of the service on the processors, in seconds.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        process::cpu_seconds(self.pid()?)
    }

    /// Clients of it that begin now.
    pub(crate) fn group(&self, name: &str, count: u64, subscription: &str) -> anyhow::Result<Group> {
        Ok(Group::new(name, self.address()?, count, subscription))
    }

    /// Commits transactions of this author, one for each of the statements, and flushes them together: whoever reads the WAL gets
    /// all of them at once.
    pub(crate) async fn commit(&self, author: &str, statements: &[String]) -> anyhow::Result<()> {
        let mut sql = String::new();
        for (number, statement) in statements.iter().enumerate() {
            let flush =
                if number + 1 == statements.len() { "SET LOCAL synchronous_commit = on;" } else { "" };
            sql += &format!("BEGIN; {flush} SELECT waldelta.set_client('{author}'); {statement}; COMMIT;");
        }
        Ok(self.source.batch_execute(&sql).await?)
    }
}
