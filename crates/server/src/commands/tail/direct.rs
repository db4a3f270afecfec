//! History read with no service in between: `tail` is the only client of a client side of its own, over a pipe in this process.
//!
//! Nothing is written, the replication slot is not touched, and the source is asked for snapshots only. Whoever may read the database may read
//! all of it: rules and tokens are for those who come to a service.

use anyhow::Context;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::DuplexStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use waldelta_access::Access;
use waldelta_fanout::Fanout;
use waldelta_wal::Code;

use crate::cli::Options;
use crate::config::Config;
use crate::failure::Failure;
use crate::service::{follow, open_history_as_it_is};

/// What is on its way through the pipe at most.
const PIPE_BYTES: usize = 256 * 1024;
/// The host that requests name.
pub(super) const AUTHORITY: &str = "localhost";
/// The parts that write: who is connected, and who was turned away.
const WRITERS: [&str; 2] = ["clients", "audit"];

/// A history that is open. Dropping it ends all that reads it.
pub(super) struct Direct {
    app: Router,
    tasks: JoinSet<()>,
}

impl Direct {
    /// Opens history, and follows it from now on.
    pub(super) async fn open(options: &Options) -> anyhow::Result<Self> {
        let config = Config::load(options)?.without_access();
        let mut source = config.source()?;
        let history = open_history_as_it_is(&config.history()?, &mut source).await.context("open history")?;
        if history.captured().await.context("read where history is")?.is_none() {
            return Err(Failure::error(Code::HistoryNotBegun, "there is nothing to read yet"));
        }
        let access = Access::new(config.access()?, history.clone());
        let fanout = Fanout::new(config.fanout()?, history.clone(), source, access);
        let (mut tasks, never) = (JoinSet::new(), CancellationToken::new());
        tasks.spawn({
            let never = never.clone();
            async move { drop(follow(history, never).await) }
        });
        for part in fanout.parts(never).into_iter().filter(|part| !WRITERS.contains(&part.name)) {
            tasks.spawn(part.run);
        }
        Ok(Direct { app: fanout.router(), tasks })
    }

    /// A connection to it.
    pub(super) fn connect(&mut self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let service = TowerToHyperService::new(self.app.clone());
        let serving = http1::Builder::new().serve_connection(TokioIo::new(theirs), service).with_upgrades();
        self.tasks.spawn(async move {
            if let Err(error) = serving.await {
                tracing::debug!(%error, "a connection ended");
            }
        });
        ours
    }
}
