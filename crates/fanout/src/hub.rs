//! The router: follows the feed and puts each transaction, framed once per scope, into the tails of the scopes concerned.
//!
//! It owns no truth: should it fall behind the feed, the tails are cut and the sessions read history.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::ws::Utf8Bytes;
use tokio_util::sync::CancellationToken;
use waldelta_history::{Entry, Feed, Large, Transaction};
use waldelta_wal::{Author, Change, Operation, Position, Table, TableName, TransactionHead};

use crate::metrics::Metrics;
use crate::registry::{Client, Destinations, Registry, Subjects};
use crate::scope::{Content, Item, Scope};
use crate::subscription::{Route, is_message, is_told, reset_table};
use crate::wire::server::NotText;
use crate::wire::transaction::{self, Envelope, TxAuthor};

/// Bytes of images taken from the feed at once.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// A transaction with more bytes of images than this is not kept ready: sessions read it in parts.
const FRAME_BYTES_MAX: usize = 1024 * 1024;

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
                for entry in &entries {
                    route(registry, entry);
                    registry.routed_to(entry.position());
                }
                metrics.routed.increment(entries.len() as u64);
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

fn route(registry: &Registry, entry: &Entry) {
    match entry {
        Entry::Whole(transaction) => route_whole(registry, transaction),
        Entry::Large(large) => route_large(registry, large),
    }
}

/// Routes a transaction that has to be read from history: to the scopes that it concerns, so that their sessions read it,
/// and to its authors elsewhere, who are told that it is durable and nothing else.
fn route_large(registry: &Registry, large: &Large) {
    let position = large.head.position();
    let Some(touched) = &large.touched else {
        // Whom it concerns is not known without reading it: everybody reads it.
        for scope in &registry.destinations(position, None, std::iter::empty()).scopes {
            push(scope, &large.head, Content::Large, Vec::new(), Vec::new());
        }
        return;
    };
    // Where it has messages is not known: who follows everything reads it.
    let subjects = Subjects { tables: touched.tables.iter().collect(), messages: true };
    let authors = touched.authors.iter().map(|author| &*author.client_id);
    let Destinations { scopes, authors } = registry.destinations(position, Some(&subjects), authors);
    for scope in &scopes {
        push(scope, &large.head, Content::Large, Vec::new(), Vec::new());
    }
    // Those that have it, and then those of authors that have got it.
    let mut told: HashSet<*const Scope> = scopes.iter().map(Arc::as_ptr).collect();
    for (_, scope) in &authors {
        if !told.insert(Arc::as_ptr(scope)) {
            continue;
        }
        let own = authors.iter().filter(|(_, other)| Arc::ptr_eq(other, scope));
        let own =
            own.map(|(client, _)| Ok((client.id.clone(), empty_frame(scope, large, &touched.authors)?)));
        match own.collect::<Result<_, NotText>>() {
            Ok(own) => push(scope, &large.head, Content::AuthorsOnly, own, Vec::new()),
            Err(NotText) => push(scope, &large.head, Content::Large, Vec::new(), Vec::new()),
        }
    }
    for (client, _) in &authors {
        client.wake.notify_one();
    }
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

pub(crate) fn route_whole(registry: &Registry, transaction: &Transaction) {
    let resets: Vec<TableName> = transaction.changes.iter().filter_map(reset_table).collect();
    let mut subjects = Subjects::default();
    for change in &transaction.changes {
        subjects.messages |= is_message(change);
        if let Some(table) = &change.table
            && is_told(change)
            && !subjects.tables.contains(&&table.name)
        {
            subjects.tables.push(&table.name);
        }
    }
    subjects.tables.extend(&resets);
    let mut authors: Vec<&str> = Vec::new();
    for author in transaction.changes.iter().filter_map(|change| change.author.as_deref()) {
        if !authors.contains(&author.client_id.as_str()) {
            authors.push(&author.client_id);
        }
    }
    let position = transaction.head.position();
    let Destinations { mut scopes, authors } =
        registry.destinations(position, Some(&subjects), authors.into_iter());
    // An author is told even where nothing of it concerns its scope.
    let concerned = scopes.len();
    for (_, scope) in &authors {
        if !scopes.iter().any(|other| Arc::ptr_eq(other, scope)) {
            scopes.push(scope.clone());
        }
    }
    for (index, scope) in scopes.iter().enumerate() {
        if resets.iter().any(|table| scope.selection.matches(table)) {
            // Each of its sessions has to find out by itself what it needs.
            push(scope, &transaction.head, Content::Large, Vec::new(), Vec::new());
            continue;
        }
        let mut own = authors.iter().filter(|(_, other)| Arc::ptr_eq(other, scope)).map(|(client, _)| client);
        if let Err(NotText) = frame_and_push(scope, transaction, index < concerned, &mut own) {
            tracing::warn!(lsn = %transaction.head.commit_lsn, "an image in the feed is not UTF-8; sessions read history");
            push(scope, &transaction.head, Content::Large, Vec::new(), Vec::new());
        }
    }
    for (client, _) in &authors {
        client.wake.notify_one();
    }
}

/// A change that concerns a scope, and how its table looks there, as an index.
struct Concerned<'a> {
    change: &'a Change,
    route: usize,
}

fn frame_and_push(
    scope: &Scope,
    transaction: &Transaction,
    concerned: bool,
    authors: &mut dyn Iterator<Item = &Client>,
) -> Result<(), NotText> {
    let mut routes: Vec<(Option<&Table>, Option<Route>)> = Vec::new();
    let mut changes = Vec::new();
    for change in transaction.changes.iter().filter(|_| concerned) {
        let table = change.table.as_deref();
        if !is_told(change) || table.is_none() && !is_message(change) {
            continue;
        }
        let same = |other: Option<&Table>| other.map(std::ptr::from_ref) == table.map(std::ptr::from_ref);
        let known = routes.iter().position(|(other, _)| same(*other));
        let route = known.unwrap_or_else(|| {
            routes.push((table, scope.selection.route(table.map(|table| &table.name))));
            routes.len() - 1
        });
        if routes[route].1.is_some() {
            changes.push(Concerned { change, route });
        }
    }
    let tables: Vec<&Table> =
        routes.iter().filter(|(_, route)| route.is_some()).filter_map(|(table, _)| *table).collect();
    if too_large(&changes) || changes_shape(&tables) {
        push(scope, &transaction.head, Content::Large, Vec::new(), Vec::new());
        return Ok(());
    }
    let frame = |own: Option<&Client>| -> Result<Utf8Bytes, NotText> {
        let position = transaction.head.position();
        let envelope = Envelope {
            head: &transaction.head,
            cursor: position,
            prev: scope.newest(),
            own: own.is_some(),
            author: TxAuthor::of(&transaction.changes),
            origin: transaction::origin_of(&transaction.changes),
            part: None,
            last: true,
        };
        let gets_own = own.is_none_or(|client| client.gets_own(transaction.head.xid));
        let told = changes.iter().filter(|change| gets_own || !is_by(change.change, own));
        let told = told.filter_map(|found| {
            Some((found.change, routes.get(found.route).and_then(|(_, route)| route.as_ref())?))
        });
        transaction::encode(&envelope, told)
    };
    let content = if changes.is_empty() {
        Content::AuthorsOnly
    } else if changes.iter().all(|found| found.change.operation == Operation::Schema) {
        Content::Shapes
    } else {
        Content::Frame(frame(None)?)
    };
    let own = authors
        .map(|client| Ok((client.id.clone(), frame(Some(client))?)))
        .collect::<Result<Vec<_>, NotText>>()?;
    push(scope, &transaction.head, content, own, tables.iter().map(|table| scope.schema(table)).collect());
    Ok(())
}

fn is_by(change: &Change, client: Option<&Client>) -> bool {
    match (&change.author, client) {
        (Some(author), Some(client)) => *author.client_id == *client.id,
        _ => false,
    }
}

fn too_large(changes: &[Concerned<'_>]) -> bool {
    let length = |image: &Option<bytes::Bytes>| image.as_ref().map_or(0, bytes::Bytes::len);
    let bytes = |found: &Concerned<'_>| length(&found.change.data) + length(&found.change.old_data);
    changes.iter().map(bytes).sum::<usize>() > FRAME_BYTES_MAX
}

/// Whether a table has two shapes here: the `schema` frame between them needs the transaction in parts. A change that
/// tells a shape has it already.
fn changes_shape(tables: &[&Table]) -> bool {
    tables.iter().enumerate().any(|(index, table)| {
        tables[..index].iter().any(|other| other.oid == table.oid && other.version != table.version)
    })
}

fn push(
    scope: &Scope,
    head: &TransactionHead,
    content: Content,
    own: Vec<(Arc<str>, Utf8Bytes)>,
    mut schemas: Vec<crate::scope::SchemaFrame>,
) {
    let position: Position = head.position();
    schemas.dedup_by_key(|schema| (schema.oid, schema.version));
    scope.push(Item { position, prev: scope.newest(), content, own, schemas, routed_at: Instant::now() });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use waldelta_history::Touched;

    use super::*;
    use crate::registry::Attachment;
    use crate::scope::Item;
    use crate::subscription::Selection;
    use crate::testing::{change, head, message, position, reset_change, schema_change, subscription, table};

    fn attach(registry: &Arc<Registry>, id: &str, table: &str) -> Attachment {
        let client = Client {
            id: id.into(),
            session: 1,
            include_own: false,
            frontier: Arc::new(AtomicU64::new(u64::MAX)),
            wake: Arc::default(),
            replaced: CancellationToken::new(),
        };
        registry.attach(&Selection::new(vec![subscription("s", table)]), &client)
    }

    fn large(lsn: u64, touched: Option<Touched>) -> Entry {
        Entry::Large(Arc::new(Large { head: head(lsn, 3), touched }))
    }

    fn items(attachment: &Attachment, after: u64) -> Vec<Arc<Item>> {
        attachment.scope.read(position(after), usize::MAX).expect("the scope has what is after it")
    }

    #[test]
    fn a_large_transaction_goes_to_the_scopes_concerned_and_to_its_authors() {
        let registry = Arc::new(Registry::new(position(10), 1 << 20));
        let [reader, both, other, author, again] =
            [("reader", "t"), ("both", "t"), ("other", "u"), ("author", "v"), ("again", "v")]
                .map(|(id, table)| attach(&registry, id, table));
        let mut others = other.scope.watch();
        others.mark_unchanged();
        let named = |id: &str| Arc::new(Author { client_id: id.into(), metadata: None });
        let touched = Touched {
            tables: vec!["t".parse().unwrap(), "not_followed".parse().unwrap()],
            authors: ["author", "both", "again", "gone"].map(named).into(),
        };
        route(&registry, &large(20, Some(touched)));
        registry.routed_to(position(20));

        for concerned in [&reader, &both] {
            let items = items(concerned, 10);
            assert_eq!((items.len(), items[0].position), (1, position(20)));
            assert_eq!(items[0].content, Content::Large);
        }
        // Nothing keeps the others from taking the router's position for theirs.
        assert!(items(&other, 10).is_empty() && !others.has_changed().unwrap());
        assert_eq!(registry.routed(), position(20));
        let told = items(&author, 10);
        assert_eq!((told.len(), &told[0].content), (1, &Content::AuthorsOnly));
        let mut ids: Vec<_> = told[0].own.iter().map(|(id, _)| &**id).collect();
        ids.sort_unstable();
        assert_eq!(ids, ["again", "author"], "{}", again.scope.newest());
        for (_, frame) in &told[0].own {
            let frame: serde_json::Value = serde_json::from_str(frame).unwrap();
            assert_eq!(frame["cursor"], position(20).to_string());
            assert_eq!(frame["prev"], position(10).to_string());
            assert_eq!((&frame["own"], &frame["last"]), (&true.into(), &true.into()));
            assert_eq!(frame["changes"], serde_json::json!([]));
        }

        let messages = Touched { tables: Vec::new(), authors: Vec::new() };
        let everything = attach(&registry, "everything", "*");
        route(&registry, &large(25, Some(messages)));
        assert_eq!(items(&everything, 20)[0].content, Content::Large, "there may be messages in it");
        assert!(items(&reader, 20).is_empty());

        route(&registry, &large(30, None));
        for anybody in [&reader, &other, &author] {
            let items = items(anybody, 20);
            assert_eq!((items.len(), &items[0].content), (1, &Content::Large));
        }
    }

    #[test]
    fn a_shape_goes_to_the_scopes_of_its_table_and_a_message_to_those_of_everything() {
        let registry = Arc::new(Registry::new(position(10), 1 << 20));
        let [t, u, everything] =
            [("a", "t"), ("b", "u"), ("c", "*")].map(|(id, table)| attach(&registry, id, table));
        let (one, two) = (Arc::new(table("t")), Arc::new(Table { version: 2, ..table("t") }));
        let routed = |lsn, xid, changes: Vec<Change>| {
            route_whole(&registry, &Transaction { head: head(lsn, xid), changes });
            [&t, &u, &everything].map(|scope| items(scope, lsn - 1).first().cloned())
        };
        let versions = |item: &Option<Arc<Item>>| -> Vec<u32> {
            item.iter().flat_map(|item| &item.schemas).map(|schema| schema.version).collect()
        };
        let [of_t, of_u, of_all] = routed(20, 5, vec![schema_change(0, &two)]);
        assert_eq!((versions(&of_t), versions(&of_all), of_u.is_none()), (vec![2], vec![2], true));
        assert_eq!(of_t.unwrap().content, Content::Shapes);
        let [of_t, ..] = routed(30, 6, vec![schema_change(0, &two), change(1, Operation::Insert, &two, 1)]);
        assert_eq!(versions(&of_t), [2]);
        assert!(
            matches!(&of_t.unwrap().content, Content::Frame(_)),
            "with rows of this shape alone: a ready frame"
        );
        let [of_t, ..] = routed(40, 7, vec![change(0, Operation::Insert, &one, 1), schema_change(1, &two)]);
        assert_eq!(of_t.unwrap().content, Content::Large, "between two shapes it is cut");
        let [of_t, of_u, of_all] = routed(50, 0, vec![message(0, "hello")]);
        assert!(of_t.is_none() && of_u.is_none());
        let Content::Frame(frame) = &of_all.unwrap().content else { panic!("no frame") };
        let frame: serde_json::Value = serde_json::from_str(frame).unwrap();
        assert_eq!(
            (&frame["xid"], &frame["changes"][0]["op"]),
            (&serde_json::Value::Null, &"message".into())
        );
        assert_eq!(registry.destinations(position(60), None, std::iter::empty()).scopes.len(), 3);
    }

    #[test]
    fn a_reset_is_read_by_the_sessions_that_follow_its_table() {
        let registry = Arc::new(Registry::new(position(10), 1 << 20));
        let [t, u, everything] =
            [("a", "t"), ("b", "u"), ("c", "*")].map(|(id, table)| attach(&registry, id, table));
        let of_u = Arc::new(table("u"));
        let mixed = vec![change(0, Operation::Insert, &of_u, 1), reset_change(1, "t")];
        route_whole(&registry, &Transaction { head: head(20, 5), changes: mixed });
        for concerned in [&t, &everything] {
            assert_eq!(items(concerned, 10)[0].content, Content::Large);
        }
        let Content::Frame(frame) = &items(&u, 10)[0].content else { panic!("no frame") };
        let frame: serde_json::Value = serde_json::from_str(frame).unwrap();
        assert_eq!(frame["changes"].as_array().unwrap().len(), 1, "{frame}");

        let alone = Transaction { head: head(30, 6), changes: vec![reset_change(0, "t")] };
        route_whole(&registry, &alone);
        assert!(items(&u, 20).is_empty());
        assert_eq!((items(&t, 20).len(), items(&everything, 20).len()), (1, 1));
    }

    #[test]
    fn what_was_left_out_concerns_nobody() {
        let registry = Arc::new(Registry::new(position(10), 1 << 20));
        let everything = attach(&registry, "a", "*");
        let skipped = change(0, Operation::Skip, &Arc::new(table("t")), 1);
        let nowhere = Change { operation: Operation::Skip, ..message(1, "hello") };
        route_whole(&registry, &Transaction { head: head(20, 5), changes: vec![skipped, nowhere] });
        assert!(items(&everything, 10).is_empty());
    }
}
