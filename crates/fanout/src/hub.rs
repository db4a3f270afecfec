//! The router: follows the feed and puts each transaction, framed once per scope, into the tails of the scopes concerned.
//!
//! It owns no truth: should it fall behind the feed, the tails are cut and the sessions read history. Whom a transaction
//! concerns is found by the index; sessions that it does not concern are not woken, and take the router's position for
//! theirs when they tell a heartbeat.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::ws::Utf8Bytes;
use tokio_util::sync::CancellationToken;
use waldelta_history::{Entry, Feed, Large, Transaction};
use waldelta_wal::{Author, Change, Table, TransactionHead};

use crate::index::{Which, Work};
use crate::metrics::Metrics;
use crate::registry::{Client, Destinations, Registry, Subject};
use crate::scope::{Content, Item, Look, SchemaFrame, Scope};
use crate::subscription::{Misfit, Telling, is_message, is_told, reset_table};
use crate::wire::server::NotText;
use crate::wire::transaction::{self, Envelope, Told, TxAuthor};

/// Bytes of images taken from the feed at once.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// A transaction with more bytes of images than this is not kept ready: sessions read it in parts.
const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// So many scopes are given frames, about, before the sockets of this worker have their turn.
const TURN_SCOPES: u64 = 1024;

/// Routes until `stop` is cancelled.
pub(crate) async fn run(feed: &Feed, registry: &Registry, metrics: &Metrics, stop: &CancellationToken) {
    let mut heads = feed.watch();
    loop {
        // Read before the entries: what is not among them then does not exist up to here.
        let head = heads.borrow_and_update().cursor();
        if route_available(feed, registry, metrics, stop).await {
            registry.routed_to(head);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = heads.changed() => if changed.is_err() { return },
        }
    }
}

/// Routes what the feed has; false when stopped before its end.
async fn route_available(
    feed: &Feed,
    registry: &Registry,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> bool {
    while !stop.is_cancelled() {
        match feed.after(registry.routed(), BATCH_BYTES_MAX) {
            Ok(entries) if entries.is_empty() => return true,
            Ok(entries) => {
                let mut scopes = 0;
                for entry in &entries {
                    let work = route(registry, entry);
                    registry.routed_to(entry.position());
                    metrics.routed.increment(1);
                    metrics.filter_lookups.increment(work.lookups);
                    metrics.filter_evaluations.increment(work.evaluations);
                    scopes += work.scopes;
                    if scopes >= TURN_SCOPES {
                        // The rest is taken from the feed again.
                        break;
                    }
                }
            }
            Err(behind) => {
                tracing::debug!(floor = %behind.floor, "the router fell behind the feed; sessions read history");
                registry.cut(behind.floor);
            }
        }
        // Making frames computes: let the sockets of this worker have their turn.
        tokio::task::yield_now().await;
    }
    false
}

/// Routes an entry, and says what finding out whom it concerns took.
fn route(registry: &Registry, entry: &Entry) -> Work {
    match entry {
        Entry::Whole(transaction) => route_whole(registry, transaction),
        Entry::Large(large) => route_large(registry, large),
    }
}

/// Routes a transaction that has to be read from history: to the scopes that follow its tables, so that their sessions read
/// it, and to its authors elsewhere, who are told that it is durable and nothing else. Its rows are not here, so filters
/// play no role.
fn route_large(registry: &Registry, large: &Large) -> Work {
    let authors = large.touched.as_ref().map_or(&[][..], |touched| &touched.authors);
    let subject = match &large.touched {
        // Where it has messages is not known: who follows everything reads it.
        Some(touched) => Subject::Tables { tables: &touched.tables, messages: true },
        // Whom it concerns is not known without reading it: everybody reads it.
        None => Subject::Unknown,
    };
    let ids = authors.iter().map(|author| &*author.client_id);
    let found = registry.destinations(large.head.position(), subject, ids);
    for (scope, _) in &found.scopes {
        push_large(scope, &large.head);
    }
    // Those that have it, and then those of authors that have got it.
    let mut told: HashSet<*const Scope> = found.scopes.iter().map(|(scope, _)| Arc::as_ptr(scope)).collect();
    for (_, scope) in &found.authors {
        if !told.insert(Arc::as_ptr(scope)) {
            continue;
        }
        let own = found.authors.iter().filter(|(_, other)| Arc::ptr_eq(other, scope));
        let own = own.map(|(client, _)| Ok((client.id.clone(), empty_frame(scope, large, authors)?)));
        match own.collect::<Result<_, NotText>>() {
            Ok(own) => push(scope, &large.head, Content::AuthorsOnly, own, Vec::new()),
            Err(NotText) => push_large(scope, &large.head),
        }
    }
    for (client, _) in &found.authors {
        client.wake.notify_one();
    }
    found.work
}

/// The frame by which an author learns that a transaction is durable of which nothing concerns its scope.
fn empty_frame(scope: &Scope, large: &Large, authors: &[Arc<Author>]) -> Result<Utf8Bytes, NotText> {
    let author = match authors {
        [one] => TxAuthor::One(one),
        _ => TxAuthor::Several,
    };
    let (head, prev) = (&large.head, scope.newest());
    let cursor = head.position();
    let envelope = Envelope { head, cursor, prev, own: true, author, origin: None, part: None, last: true };
    transaction::encode(&envelope, std::iter::empty())
}

/// Routes a transaction whose changes are here, and says what finding out whom they concern took.
pub(crate) fn route_whole(registry: &Registry, transaction: &Transaction) -> Work {
    let mut ids: Vec<&str> = Vec::new();
    for author in transaction.changes.iter().filter_map(|change| change.author.as_deref()) {
        if !ids.contains(&author.client_id.as_str()) {
            ids.push(&author.client_id);
        }
    }
    let subject = Subject::Changes(&transaction.changes);
    let Destinations { mut scopes, authors, work } =
        registry.destinations(transaction.head.position(), subject, ids.into_iter());
    // An author is told even where nothing of it concerns its scope.
    let mut known: HashSet<*const Scope> = scopes.iter().map(|(scope, _)| Arc::as_ptr(scope)).collect();
    for (_, scope) in &authors {
        if known.insert(Arc::as_ptr(scope)) {
            scopes.push((scope.clone(), Which::NONE));
        }
    }
    let resets: Vec<_> = transaction.changes.iter().filter_map(reset_table).collect();
    let whole = Whole {
        head: &transaction.head,
        changes: &transaction.changes,
        author: TxAuthor::of(&transaction.changes),
        origin: transaction::origin_of(&transaction.changes),
    };
    for (scope, which) in &scopes {
        if resets.iter().any(|table| scope.selection.matches(table)) {
            // Each of its sessions has to find out by itself what it needs.
            push_large(scope, &transaction.head);
            continue;
        }
        let mut own = authors.iter().filter(|(_, other)| Arc::ptr_eq(other, scope)).map(|(client, _)| client);
        if let Err(unframed) = frame_and_push(scope, &whole, which, &mut own) {
            match unframed {
                Unframed::NotText(NotText) => {
                    tracing::warn!(lsn = %transaction.head.commit_lsn, "an image in the feed is not UTF-8; sessions read history");
                }
                Unframed::Misfit(misfit) => {
                    let misfit: &dyn std::error::Error = &misfit;
                    tracing::debug!(
                        misfit,
                        "a table's shape has changed under a subscription; its sessions end"
                    );
                }
            }
            push_large(scope, &transaction.head);
        }
    }
    for (client, _) in &authors {
        client.wake.notify_one();
    }
    work
}

/// A transaction, looked through once for all scopes.
struct Whole<'a> {
    head: &'a TransactionHead,
    changes: &'a [Change],
    author: TxAuthor<'a>,
    origin: Option<&'a str>,
}

/// No frame of a transaction can be shared: each session of the scope finds out by itself why.
#[derive(Debug, thiserror::Error)]
enum Unframed {
    #[error("make a frame")]
    NotText(#[from] NotText),
    #[error("find out how a table looks")]
    Misfit(#[from] Misfit),
}

fn frame_and_push(
    scope: &Arc<Scope>,
    transaction: &Whole<'_>,
    which: &Which,
    authors: &mut dyn Iterator<Item = &Client>,
) -> Result<(), Unframed> {
    let looks = looks(scope, which.of(transaction.changes))?;
    let (told, schemas) = told(&looks, which.of(transaction.changes));
    if too_large(&told) || changes_shape(&schemas) {
        push_large(scope, transaction.head);
        return Ok(());
    }
    let frame = |own: Option<&Client>| -> Result<Utf8Bytes, NotText> {
        let position = transaction.head.position();
        let envelope = Envelope {
            head: transaction.head,
            cursor: position,
            prev: scope.newest(),
            own: own.is_some(),
            author: transaction.author,
            origin: transaction.origin,
            part: None,
            last: true,
        };
        let gets_own = own.is_none_or(|client| client.gets_own(transaction.head.xid));
        let told = told.iter().filter(|told| gets_own || !is_by(told.change, own));
        transaction::encode_told(&envelope, told)
    };
    let content = if told.is_empty() {
        Content::AuthorsOnly
    } else if told.iter().all(|told| told.telling == Telling::Shape) {
        Content::Shapes
    } else {
        Content::Frame(frame(None)?)
    };
    let own = authors
        .map(|client| Ok((client.id.clone(), frame(Some(client))?)))
        .collect::<Result<Vec<_>, NotText>>()?;
    // The index says whom a change may concern: where nothing is told, nobody is woken.
    if !told.is_empty() || !own.is_empty() {
        push(scope, transaction.head, content, own, schemas);
    }
    Ok(())
}

/// Whether it is told as one of the changes of a transaction.
fn is_change(change: &Change) -> bool {
    is_told(change) && (change.table.is_some() || is_message(change))
}

/// The tables of a transaction that a scope selects, and messages, each with how it looks there.
type Looks<'a> = Vec<(Option<&'a Arc<Table>>, Arc<Look>)>;

fn same_table(one: Option<&Arc<Table>>, other: Option<&Arc<Table>>) -> bool {
    one.map(Arc::as_ptr) == other.map(Arc::as_ptr)
}

/// How the tables of changes look to a scope.
fn looks<'a>(scope: &Scope, changes: impl Iterator<Item = &'a Change>) -> Result<Looks<'a>, Misfit> {
    let mut seen: Vec<Option<&Arc<Table>>> = Vec::new();
    let mut looks = Looks::new();
    for change in changes {
        let table = change.table.as_ref();
        if is_change(change) && !seen.iter().any(|other| same_table(*other, table)) {
            seen.push(table);
            looks.extend(scope.look(table)?.map(|look| (table, look)));
        }
    }
    Ok(looks)
}

/// Those of the changes that are told to a scope, and what is told of the shapes of their tables, each once.
fn told<'a>(
    looks: &'a Looks<'a>,
    changes: impl Iterator<Item = &'a Change>,
) -> (Vec<Told<'a>>, Vec<SchemaFrame>) {
    let (mut told, mut schemas): (Vec<_>, Vec<SchemaFrame>) = (Vec::new(), Vec::new());
    for change in changes.filter(|change| is_change(change)) {
        let look = looks.iter().find(|(table, _)| same_table(*table, change.table.as_ref()));
        let Some((_, look)) = look else { continue };
        let Some(telling) = look.route.telling(change) else { continue };
        told.push(Told { change, route: &look.route, telling });
        if let Some(schema) = &look.schema
            && !schemas.iter().any(|known| (known.oid, known.version) == (schema.oid, schema.version))
        {
            schemas.push(schema.clone());
        }
    }
    (told, schemas)
}

fn is_by(change: &Change, client: Option<&Client>) -> bool {
    match (&change.author, client) {
        (Some(author), Some(client)) => *author.client_id == *client.id,
        _ => false,
    }
}

fn too_large(told: &[Told<'_>]) -> bool {
    told.iter().map(|told| transaction::image_bytes(told.change)).sum::<usize>() > FRAME_BYTES_MAX
}

/// Whether a table has two shapes here: the `schema` frame between them needs the transaction in parts. A change that
/// tells a shape has it already.
fn changes_shape(schemas: &[SchemaFrame]) -> bool {
    schemas
        .iter()
        .enumerate()
        .any(|(index, schema)| schemas[..index].iter().any(|other| other.oid == schema.oid))
}

/// Has the sessions read the transaction by themselves.
fn push_large(scope: &Arc<Scope>, head: &TransactionHead) {
    push(scope, head, Content::Large, Vec::new(), Vec::new());
}

fn push(
    scope: &Arc<Scope>,
    head: &TransactionHead,
    content: Content,
    own: Vec<(Arc<str>, Utf8Bytes)>,
    schemas: Vec<SchemaFrame>,
) {
    let (position, prev) = (head.position(), scope.newest());
    scope.push(Item { position, prev, content, own, schemas, routed_at: Instant::now() });
}

#[cfg(test)]
mod tests;
