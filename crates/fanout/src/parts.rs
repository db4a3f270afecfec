//! What runs on the client side beside the tasks of sockets: a few parts, each of which may be given a task of its own, so that
//! none waits for another one that computes.
//!
//! It spawns nothing: whoever has several tasks takes the parts, whoever has one runs them together.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::inner::Inner;
use crate::{hub, snapshots};

/// A part of the client side. All of them are to run, at the same time.
pub struct Part {
    /// For people, and for whoever waits for one of them.
    pub name: &'static str,
    /// Its work.
    pub run: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// The parts; the first lets the sessions go when `stop` is cancelled, and ends when all others have ended.
pub(crate) fn of(inner: &Arc<Inner>, stop: CancellationToken) -> [Part; 7] {
    let (ended, others) = (CancellationToken::new(), TaskTracker::new());
    let part = |name, run: Pin<Box<dyn Future<Output = ()> + Send>>| Part {
        name,
        run: others.track_future(run).boxed(),
    };
    let [router, frontier, reading, pages, clients, audit] = [(); 6].map(|()| (inner.clone(), ended.clone()));
    [
        Part { name: "fanout", run: let_go(inner.clone(), stop, ended, others.clone()).boxed() },
        part(
            "router",
            async move {
                let (inner, ended) = router;
                // Without them, of each the next change is looked at by everybody.
                let known = inner.log.tables().await.unwrap_or_default();
                inner.registry.index().await.meet(known.iter().map(|table| table.oid));
                hub::run(inner.history.feed(), &inner.registry, &inner.metrics, &ended).await;
            }
            .boxed(),
        ),
        part(
            "frontier",
            async move {
                let (inner, ended) = frontier;
                inner.frontier.run(&*inner.origin, &ended).await;
            }
            .boxed(),
        ),
        part(
            "snapshots",
            async move {
                let (inner, ended) = reading;
                snapshots::run(&inner, &ended).await;
            }
            .boxed(),
        ),
        part(
            "pages",
            async move {
                let (inner, ended) = pages;
                inner.pages.read_ahead(&*inner.log, &ended).await;
            }
            .boxed(),
        ),
        part(
            "clients",
            async move {
                let (inner, ended) = clients;
                inner.clients.run(&*inner.clientele, &inner.sessions, &ended).await;
            }
            .boxed(),
        ),
        part(
            "audit",
            async move {
                let (inner, ended) = audit;
                inner.audit.run(&inner.history, &ended).await;
            }
            .boxed(),
        ),
    ]
}

/// Lets the sessions go when `stop` is cancelled, and then has the other parts end.
async fn let_go(inner: Arc<Inner>, stop: CancellationToken, ended: CancellationToken, others: TaskTracker) {
    stop.cancelled().await;
    inner.leaving.begin(inner.sessions.count(), inner.config.drain);
    inner.tracker.close();
    inner.tracker.wait().await;
    ended.cancel();
    others.close();
    others.wait().await;
}
