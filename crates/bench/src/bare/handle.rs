//! A reference server as the bench drives it.

use std::net::SocketAddr;

use anyhow::Context;
use clap::ValueEnum;

use super::Kind;
use crate::driven::Driven;

/// A server of its own, which ends when this is dropped.
pub(crate) struct Bare {
    process: Driven,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Bare {
    /// Starts it on a free port.
    pub(crate) async fn start(kind: Kind) -> anyhow::Result<Self> {
        let kind = kind.to_possible_value().context("a kind")?;
        let process = Driven::start(&["bare", kind.get_name()])?;
        let address = process.ask("where").await?.parse().context("where it listens")?;
        Ok(Bare { process, address })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Makes what it writes from now on: so many frames, each with so many bytes inside. Returns once it knows so many sockets.
    pub(crate) async fn make_ready(&self, frames: u64, bytes: u64, sockets: u64) -> anyhow::Result<()> {
        let command = format!("ready {frames} {bytes}");
        while self.process.ask(&command).await?.parse::<u64>().context("how many sockets")? < sockets {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Has it write that to each of its sockets, at once.
    pub(crate) async fn write(&self) -> anyhow::Result<()> {
        self.process.ask("write").await.map(drop)
    }
}
