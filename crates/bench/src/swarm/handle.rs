//! The process of the clients, as the bench drives it.

use anyhow::Context;

use super::Group;
use crate::driven::Driven;
use crate::process;

/// The clients of a measure, and those of its reference.
pub(crate) struct Swarm(Driven);

/// What the clients have received since they began, and what it took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    /// `tx` frames.
    pub transactions: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Reads that brought something.
    pub reads: u64,
    /// Connections that ended before they were to.
    pub lost: u64,
    /// Of the clients' process, in seconds.
    pub cpu_seconds: f64,
}

impl Counted {
    /// What has come since.
    pub(crate) fn since(self, before: Counted) -> Counted {
        Counted {
            transactions: self.transactions - before.transactions,
            bytes: self.bytes - before.bytes,
            reads: self.reads - before.reads,
            lost: self.lost - before.lost,
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
        }
    }
}

impl Swarm {
    /// Starts the process; it has no clients yet.
    pub(crate) fn start() -> anyhow::Result<Self> {
        Driven::start(&["clients"]).map(Swarm)
    }

    /// Connects a group and waits until each of it is live; seconds that it took.
    pub(crate) async fn open(&self, group: &Group) -> anyhow::Result<f64> {
        let answer = self.0.ask(&format!("open {}", serde_json::to_string(group)?)).await?;
        answer.parse().with_context(|| format!("open: {answer}"))
    }

    /// Ends the connections of a group.
    pub(crate) async fn close(&self, name: &str) -> anyhow::Result<()> {
        self.0.ask(&format!("close {name}")).await.map(drop)
    }

    /// Waits until so many transactions have come since the process began.
    pub(crate) async fn wait(&self, transactions: u64) -> anyhow::Result<()> {
        self.0.ask(&format!("wait {transactions}")).await.map(drop)
    }

    pub(crate) async fn counted(&self) -> anyhow::Result<Counted> {
        let answer = self.0.ask("counted").await?;
        let numbers: Vec<u64> = answer.split(' ').filter_map(|number| number.parse().ok()).collect();
        let [transactions, bytes, reads, lost] = numbers[..] else { anyhow::bail!("counted: {answer}") };
        let cpu_seconds = process::cpu_seconds(self.0.pid())?;
        Ok(Counted { transactions, bytes, reads, lost, cpu_seconds })
    }

    /// Fails where connections ended meanwhile.
    pub(crate) async fn ensure_all_stayed(&self, got: Counted) -> anyhow::Result<()> {
        anyhow::ensure!(got.lost == 0, "{} connections ended meanwhile: {}", got.lost, self.why().await?);
        Ok(())
    }

    /// Why the last connection ended that was not to.
    pub(crate) async fn why(&self) -> anyhow::Result<String> {
        self.0.ask("why").await
    }
}
