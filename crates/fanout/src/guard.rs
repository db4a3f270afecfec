//! What `make guard` counts of the fan-out: whom a transaction concerns, and the bytes that a socket is given of it. It is in no
//! release.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;
use waldelta_history::Transaction;
use waldelta_wal::{Epoch, Lsn, Position};

use crate::hub::route_whole;
use crate::registry::{Attachment, Client, NoRoom, Registry};
use crate::rules::Grant;
use crate::scope::Content;
use crate::session::socket::{Socket, WebSocket};
use crate::subscription::{Pattern, Selection, Subscription};

/// Bytes of ready frames that a scope keeps: little, so that from the second transaction on each new one ends an old one.
const SCOPE_BYTES_MAX: usize = 4 * 1024;
/// Bytes that a session reads of them at once.
const READ_BYTES_MAX: usize = 64 * 1024;

/// Clients, each of a scope of its own, and the socket of the first one.
pub struct Clients {
    registry: Arc<Registry>,
    attached: Vec<Attachment>,
    socket: WebSocket<Wire>,
    sent_bytes: Arc<AtomicUsize>,
    /// Up to here the first one has got everything.
    seen: Position,
}

impl Clients {
    /// A client for each filter on all tables of the name; one that follows all rows where a filter is empty.
    pub fn following(table: &str, filters: impl IntoIterator<Item = String>) -> Self {
        let registry = Arc::new(Registry::new(position(0), SCOPE_BYTES_MAX, 10_000));
        let attach = |(number, filter): (u64, String)| {
            let subscription = Subscription {
                filter: (!filter.is_empty()).then(|| filter.parse().expect("a filter")),
                ..Subscription::new("s", Pattern::Table(table.parse().expect("a table's name")))
            };
            attach(&registry, number, subscription).expect("room for a client")
        };
        let attached = (1..).zip(filters).map(attach).collect();
        let sent_bytes = Arc::new(AtomicUsize::new(0));
        let socket = at_once(WebSocket::over(Wire { sent_bytes: sent_bytes.clone() }, READ_BYTES_MAX));
        Clients { registry, attached, socket, sent_bytes, seen: position(0) }
    }

    /// Routes the transaction as the next one, and says how many scopes it may concern.
    pub fn route(&mut self, transaction: &mut Transaction) -> u64 {
        let head = &mut transaction.head;
        head.commit_lsn = Lsn(self.registry.routed().commit_lsn.0 + 1);
        let position = head.position();
        let work = route_whole(&self.registry, transaction);
        self.registry.routed_to(position);
        work.scopes
    }

    /// Has the first client's frames packed, and counts the bytes of those that are.
    pub fn pack(&mut self) -> usize {
        let scope = &self.attached[0].scope;
        let items = scope.read(self.seen, READ_BYTES_MAX).unwrap_or_default();
        scope.pack(&items);
        self.seen = items.last().map_or(self.seen, |item| item.position);
        items.iter().filter_map(|item| item.packed()).map(|packed| packed.len()).sum()
    }

    /// Gives the first client's socket what it has not got yet, and counts the bytes.
    pub fn send(&mut self) -> usize {
        let before = self.sent_bytes.load(Ordering::Relaxed);
        let items = self.attached[0].scope.read(self.seen, READ_BYTES_MAX).unwrap_or_default();
        for item in items {
            self.seen = item.position;
            if let Content::Frame(frame) = &item.content {
                self.socket.feed(frame.clone());
            }
        }
        at_once(self.socket.flush()).expect("the wire takes everything");
        self.sent_bytes.load(Ordering::Relaxed) - before
    }
}

fn attach(registry: &Arc<Registry>, number: u64, subscription: Subscription) -> Result<Attachment, NoRoom> {
    let id: Arc<str> = format!("client {number}").into();
    let client = Client {
        key: id.clone(),
        id,
        subject: None,
        session: number,
        include_own: false,
        frontier: Arc::new(AtomicU64::new(u64::MAX)),
        wake: Arc::default(),
        replaced: CancellationToken::new(),
    };
    registry.attach(&Selection::new(vec![subscription], Grant::everything()), &client)
}

fn position(lsn: u64) -> Position {
    Position::whole(Epoch(1), Lsn(lsn))
}

fn at_once<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("it waits for nobody")
}

/// Takes everything, like a socket whose client reads, and says nothing.
struct Wire {
    sent_bytes: Arc<AtomicUsize>,
}

impl Wire {
    fn take(&self, bytes: usize) -> Poll<io::Result<usize>> {
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
        Poll::Ready(Ok(bytes))
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.take(bytes.len())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.take(slices.iter().map(|slice| slice.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
