//! The router: follows the feed and puts each transaction, framed once per scope, into the tails of the scopes concerned.
//!
//! It owns no truth: should it fall behind the feed, the tails are cut and the sessions read history. Whom a transaction
//! concerns is found by the index; sessions that it does not concern are not woken, and take the router's position for
//! theirs when they tell a heartbeat.
//!
//! It lets others have their turn in the middle of a transaction. Sessions come and go meanwhile, as they do on other workers
//! anyway: who comes is told that the transaction is under way and reads it elsewhere, also where its scope is given it later;
//! who goes leaves a scope behind that nobody reads. Transactions are routed one after the other.

mod framing;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use framing::{Unframed, Whole};
use tokio::sync::MutexGuard;
use tokio_util::sync::CancellationToken;
use waldelta_history::{Entry, Feed, Large, Transaction};
use waldelta_wal::{Author, Operation, STAGE, TableName, TransactionHead, chain_text};

use crate::clock;
use crate::index::{Index, Which, Work};
use crate::metrics::Metrics;
use crate::pace::{CHANGE_BYTES, Pace};
use crate::registry::{Client, Destinations, Registry, Subject};
use crate::scope::{Content, Item, SchemaFrame, Scope};
use crate::subscription::reset_table;
use crate::wire::Utf8Bytes;
use crate::wire::server::NotText;
use crate::wire::transaction::{self, Envelope, TxAuthor};

/// Bytes of images taken from the feed at once.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// What a transaction counts as, whatever is in it.
const TRANSACTION_BYTES: usize = 256;

/// Routes until `stop` is cancelled; then nobody is left to whom the rest would matter.
pub(crate) async fn run(feed: &Feed, registry: &Registry, metrics: &Metrics, stop: &CancellationToken) {
    let routing = async {
        let index = registry.index().await;
        Router { registry, index, pace: Pace::new(), unfollowed: 0 }.follow(feed, metrics).await;
    };
    stop.run_until_cancelled(routing).await;
}

struct Router<'a> {
    registry: &'a Registry,
    index: MutexGuard<'a, Index>,
    pace: Pace,
    /// Transactions that concerned nobody, since that was told last.
    unfollowed: u64,
}

/// A scope that a transaction goes to.
struct Destination {
    scope: Arc<Scope>,
    /// The changes that concern it.
    which: Which,
    /// Authors of the transaction who are connected with it.
    authors: Vec<Client>,
}

impl Router<'_> {
    /// Routes what comes, without end.
    async fn follow(&mut self, feed: &Feed, metrics: &Metrics) {
        self.registry.begin();
        let mut heads = feed.watch();
        loop {
            // Read before the entries: what is not among them then does not exist up to here.
            let head = heads.borrow_and_update().cursor();
            self.route_available(feed, metrics).await;
            self.registry.routed_to(head);
            if heads.changed().await.is_err() {
                return;
            }
        }
    }

    /// Routes what the feed has.
    async fn route_available(&mut self, feed: &Feed, metrics: &Metrics) {
        loop {
            match feed.after(self.registry.routed(), BATCH_BYTES_MAX) {
                Ok(entries) if entries.is_empty() => return,
                Ok(entries) => {
                    for entry in &entries {
                        let work = self.route(entry).await;
                        self.registry.routed_to(entry.position());
                        metrics.routed.increment(1);
                        metrics.filter_lookups.increment(work.lookups);
                        metrics.filter_evaluations.increment(work.evaluations);
                    }
                    metrics.unfollowed.increment(std::mem::take(&mut self.unfollowed));
                    self.pace.wake();
                }
                Err(behind) => {
                    tracing::debug!(floor = %behind.floor, "the router fell behind the feed; sessions read history");
                    self.registry.cut(behind.floor);
                }
            }
        }
    }

    /// Routes an entry, and says what finding out whom it concerns took.
    async fn route(&mut self, entry: &Entry) -> Work {
        tracing::trace!(target: STAGE, stage = "routing");
        self.pace.did(TRANSACTION_BYTES).await;
        match entry {
            Entry::Whole(transaction) => self.route_whole(transaction).await,
            Entry::Large(large) => self.route_large(large).await,
        }
    }

    /// Routes a transaction that has to be read from history: to the scopes that follow its tables, so that their sessions read
    /// it, and to its authors elsewhere, who are told that it is durable and nothing else. Its rows are not here, so filters
    /// play no role.
    async fn route_large(&mut self, large: &Large) -> Work {
        let authors = large.touched.as_ref().map_or(&[][..], |touched| &touched.authors);
        let subject = match &large.touched {
            // Where it has messages is not known: who follows everything reads it.
            Some(touched) => Subject::Tables { tables: &touched.tables, messages: true },
            // Whom it concerns is not known without reading it: everybody reads it.
            None => Subject::Unknown,
        };
        let ids = authors.iter().map(|author| &*author.client_id).collect();
        let found = self.find(&large.head, subject, &ids).await;
        for destination in &found.destinations {
            self.pace.did(CHANGE_BYTES).await;
            let scope = &destination.scope;
            if destination.which != Which::NONE {
                push_large(scope, &large.head, &mut self.pace);
                continue;
            }
            let own = destination.authors.iter();
            let own = own.map(|client| Ok((client.key.clone(), empty_frame(scope, large, authors)?)));
            match own.collect::<Result<_, NotText>>() {
                Ok(own) => push(scope, &large.head, Content::AuthorsOnly, own, Vec::new(), &mut self.pace),
                Err(NotText) => push_large(scope, &large.head, &mut self.pace),
            }
        }
        found.wake_authors();
        found.work
    }

    /// Routes a transaction whose changes are here.
    async fn route_whole(&mut self, transaction: &Transaction) -> Work {
        let Transaction { head, changes } = transaction;
        let authors = changes.iter().filter_map(|change| change.author.as_deref());
        let ids = authors.map(|author| &*author.client_id).collect();
        let found = self.find(head, Subject::Changes(changes), &ids).await;
        let resets: Vec<_> = changes.iter().filter_map(reset_table).collect();
        let reshaped = changes.iter().filter(|change| change.operation == Operation::Schema);
        let reshaped: Vec<_> = reshaped.filter_map(|change| Some(&change.table.as_ref()?.name)).collect();
        let whole =
            Whole { head, changes, author: TxAuthor::of(changes), origin: transaction::origin_of(changes) };
        for destination in &found.destinations {
            let scope = &destination.scope;
            self.pace.did(CHANGE_BYTES * (1 + resets.len() + reshaped.len())).await;
            let is_reset = |table: &TableName| scope.selection.matches(table);
            // By another shape it may be seen, or may not be seen any more.
            let may_be_reset =
                |table: &TableName| is_reset(table) && scope.selection.grant().depends_on_shape(table);
            let mut shaped = reshaped.iter().copied().chain(&found.new);
            if resets.iter().any(is_reset) || shaped.any(may_be_reset) {
                // Each of its sessions has to find out by itself what it needs.
                push_large(scope, head, &mut self.pace);
                continue;
            }
            if let Err(unframed) = framing::frame_and_push(destination, &whole, &mut self.pace).await {
                match unframed {
                    Unframed::NotText(NotText) => {
                        tracing::warn!(lsn = %head.commit_lsn, "an image in the feed is not UTF-8; sessions read history");
                    }
                    Unframed::Misfit(misfit) => {
                        tracing::debug!(
                            misfit = chain_text(&misfit),
                            "a table's shape has changed under a subscription; its sessions end"
                        );
                    }
                }
                push_large(scope, head, &mut self.pace);
            }
        }
        found.wake_authors();
        found.work
    }

    /// Finds where a transaction goes. An author is told even where nothing of it concerns its scope.
    async fn find(&mut self, head: &TransactionHead, subject: Subject<'_>, authors: &HashSet<&str>) -> Found {
        let found =
            self.registry.destinations(&mut self.index, head.position(), subject, authors, &mut self.pace);
        let Destinations { scopes, new, authors, work } = found.await;
        let destination = |(scope, which)| Destination { scope, which, authors: Vec::new() };
        let mut destinations: Vec<Destination> = scopes.into_iter().map(destination).collect();
        let of_scopes = destinations.iter().map(|destination| Arc::as_ptr(&destination.scope));
        let mut places: HashMap<*const Scope, usize> = match authors.is_empty() {
            true => HashMap::new(),
            false => of_scopes.zip(0..).collect(),
        };
        for (client, scope) in authors {
            let place = *places.entry(Arc::as_ptr(&scope)).or_insert(destinations.len());
            if place == destinations.len() {
                destinations.push(destination((scope, Which::NONE)));
            }
            destinations[place].authors.push(client);
        }
        self.unfollowed += u64::from(destinations.is_empty());
        Found { destinations, new, work }
    }
}

/// Where a transaction goes, and what finding that out took.
struct Found {
    destinations: Vec<Destination>,
    new: Vec<TableName>,
    work: Work,
}

impl Found {
    fn wake_authors(&self) {
        let authors = self.destinations.iter().flat_map(|destination| &destination.authors);
        authors.for_each(|client| client.wake.notify_one());
    }
}

/// The frame by which an author learns that a transaction is durable of which nothing concerns its scope.
fn empty_frame(scope: &Scope, large: &Large, authors: &[Arc<Author>]) -> Result<Utf8Bytes, NotText> {
    let author = match authors {
        // Who wrote something of which nothing may be seen is nobody's to know.
        _ if !scope.selection.grant().is_everything() => TxAuthor::Nobody,
        [one] => TxAuthor::One(one),
        _ => TxAuthor::Several,
    };
    let (head, prev) = (&large.head, scope.newest());
    let cursor = head.position();
    let envelope = Envelope { head, cursor, prev, own: true, author, origin: None, part: None, last: true };
    transaction::encode(&envelope, std::iter::empty())
}

/// Has the sessions read the transaction by themselves.
fn push_large(scope: &Arc<Scope>, head: &TransactionHead, pace: &mut Pace) {
    push(scope, head, Content::Large, Vec::new(), Vec::new(), pace);
}

fn push(
    scope: &Arc<Scope>,
    head: &TransactionHead,
    content: Content,
    own: Vec<(Arc<str>, Utf8Bytes)>,
    schemas: Vec<SchemaFrame>,
    pace: &mut Pace,
) {
    let (position, prev) = (head.position(), scope.newest());
    let (routed_at, committed_at_us) = (clock::now(), head.committed_at_us);
    let packed = OnceLock::new();
    let item = Item { position, prev, content, own, schemas, routed_at, committed_at_us, packed };
    if scope.push(item) {
        pace.gave(scope);
    }
}

/// Routes a transaction whose changes are here, without letting others have their turn.
#[cfg(any(test, feature = "guard"))]
pub(crate) fn route_whole(registry: &Registry, transaction: &Transaction) -> Work {
    use futures_util::FutureExt;

    let routed = async {
        let (index, pace) = (registry.index().await, Pace::of(usize::MAX));
        let mut router = Router { registry, index, pace, unfollowed: 0 };
        let work = router.route_whole(transaction).await;
        router.pace.wake();
        work
    };
    routed.now_or_never().expect("it waits for nobody")
}

#[cfg(test)]
mod tests;
