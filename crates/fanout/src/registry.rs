//! Who follows what: the scopes that exist, the tables that lead to them, and the client that each session belongs to.
//!
//! One lock, held for lookups only, never while frames are made. It also holds the position up to which transactions are
//! being routed: whoever joins is told it, and reads everything up to it elsewhere.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use waldelta_wal::{Position, TableName};

use crate::scope::Scope;
use crate::subscription::{Pattern, Selection};

/// The scopes and clients that exist.
pub(crate) struct Registry {
    state: Mutex<State>,
    scope_bytes_max: usize,
}

#[derive(Default)]
struct State {
    /// Routing has begun for everything up to here.
    target: Position,
    /// Routing is done for everything up to here.
    routed: Position,
    scopes: HashMap<Selection, (Arc<Scope>, usize)>,
    by_pattern: HashMap<Pattern, Vec<Arc<Scope>>>,
    clients: HashMap<Arc<str>, Present>,
    attachments: u64,
}

/// A connected client and where its session listens.
struct Present {
    client: Client,
    scope: Arc<Scope>,
    /// Number of the attachment, so that an older one of the same session does not take this away.
    attachment: u64,
}

/// What the router must know of a connected client.
#[derive(Clone)]
pub(crate) struct Client {
    pub id: Arc<str>,
    /// Number of its session; a higher one is newer.
    pub session: u64,
    /// Its own changes are delivered always.
    pub include_own: bool,
    /// Transactions with ids below began before the client connected: it may not have them, so they are delivered to
    /// their author too. The highest number until it is known.
    pub frontier: Arc<AtomicU64>,
    /// Wakes the session for what concerns only it.
    pub wake: Arc<Notify>,
    /// Ends the session because a newer one of the same client has come.
    pub replaced: CancellationToken,
}

impl Client {
    /// Whether its own changes in this transaction are told to it.
    pub(crate) fn gets_own(&self, xid: u64) -> bool {
        self.include_own || xid < self.frontier.load(Ordering::Acquire)
    }
}

/// A session's place in a scope; leaves it when dropped.
pub(crate) struct Attachment {
    pub scope: Arc<Scope>,
    /// Everything after this position reaches the session through the scope; what is before may have been routed
    /// without it.
    pub joined_at: Position,
    registry: Arc<Registry>,
    client: Arc<str>,
    number: u64,
}

/// What a transaction is about.
#[derive(Default)]
pub(crate) struct Subjects<'a> {
    /// Its tables, by every name that they have in it.
    pub tables: Vec<&'a TableName>,
    /// Whether there are logical messages in it.
    pub messages: bool,
}

/// Where a transaction goes.
#[derive(Default)]
pub(crate) struct Destinations {
    /// The scopes that it concerns.
    pub scopes: Vec<Arc<Scope>>,
    /// Its authors who are connected, each with its scope.
    pub authors: Vec<(Client, Arc<Scope>)>,
}

impl Registry {
    /// Begins with nothing routed but what lies at or below `from`.
    pub(crate) fn new(from: Position, scope_bytes_max: usize) -> Self {
        let state = State { target: from, routed: from, ..State::default() };
        Registry { state: Mutex::new(state), scope_bytes_max }
    }

    /// Enters a scope, making it if it is the first, as the session of a client. An older session of the same client is
    /// ended; one that is itself older than the client's newest is ended too.
    pub(crate) fn attach(self: &Arc<Self>, selection: &Selection, client: &Client) -> Attachment {
        let mut state = self.lock();
        state.attachments += 1;
        let (joined_at, number) = (state.target, state.attachments);
        let scope = state.enter(selection, self.scope_bytes_max);
        let newest = state.clients.get(&client.id).is_none_or(|other| other.client.session <= client.session);
        if newest {
            let present = Present { client: client.clone(), scope: scope.clone(), attachment: number };
            let before = state.clients.insert(client.id.clone(), present);
            if let Some(before) = before.filter(|before| before.client.session != client.session) {
                before.client.replaced.cancel();
            }
        } else {
            client.replaced.cancel();
        }
        drop(state);
        Attachment { scope, joined_at, registry: self.clone(), client: client.id.clone(), number }
    }

    /// Says that a transaction is about to be routed, and where to. `subjects: None` when they are not known: it then
    /// concerns every scope.
    pub(crate) fn destinations<'a>(
        &self,
        position: Position,
        subjects: Option<&Subjects<'_>>,
        authors: impl Iterator<Item = &'a str>,
    ) -> Destinations {
        let mut state = self.lock();
        state.target = state.target.max(position);
        let mut found = Destinations::default();
        match subjects {
            None => found.scopes.extend(state.scopes.values().map(|(scope, _)| scope.clone())),
            Some(subjects) => state.collect(subjects, &mut found.scopes),
        }
        for author in authors {
            let known = found.authors.iter().any(|(client, _)| *client.id == *author);
            if let Some(present) = state.clients.get(author).filter(|_| !known) {
                found.authors.push((present.client.clone(), present.scope.clone()));
            }
        }
        found
    }

    /// Says that everything up to `position` has been routed.
    pub(crate) fn routed_to(&self, position: Position) {
        let mut state = self.lock();
        state.routed = state.routed.max(position);
        state.target = state.target.max(position);
    }

    /// Everything up to here is in the tails of the scopes concerned. Read it before a tail: what the tail then does not
    /// have at or below it, does not exist.
    pub(crate) fn routed(&self) -> Position {
        self.lock().routed
    }

    /// Forgets what the scopes have: transactions up to `floor` were not all routed.
    pub(crate) fn cut(&self, floor: Position) {
        let mut state = self.lock();
        state.target = state.target.max(floor);
        let scopes: Vec<_> = state.scopes.values().map(|(scope, _)| scope.clone()).collect();
        drop(state);
        scopes.iter().for_each(|scope| scope.cut(floor));
        self.routed_to(floor);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, selection: &Selection, scope_bytes_max: usize) -> Arc<Scope> {
        if let Some((scope, uses)) = self.scopes.get_mut(selection) {
            *uses += 1;
            return scope.clone();
        }
        let scope = Arc::new(Scope::new(selection.clone(), self.target, scope_bytes_max));
        self.scopes.insert(selection.clone(), (scope.clone(), 1));
        for pattern in patterns(selection) {
            self.by_pattern.entry(pattern.clone()).or_default().push(scope.clone());
        }
        scope
    }

    fn leave(&mut self, scope: &Arc<Scope>) {
        let Some((_, uses)) = self.scopes.get_mut(&scope.selection) else { return };
        *uses -= 1;
        if *uses > 0 {
            return;
        }
        self.scopes.remove(&scope.selection);
        for pattern in patterns(&scope.selection) {
            if let Some(scopes) = self.by_pattern.get_mut(pattern) {
                scopes.retain(|other| !Arc::ptr_eq(other, scope));
                if scopes.is_empty() {
                    self.by_pattern.remove(pattern);
                }
            }
        }
    }

    /// The scopes that select any of these, each once.
    fn collect(&self, subjects: &Subjects<'_>, into: &mut Vec<Arc<Scope>>) {
        let of_table =
            |table: &&TableName| [Pattern::Schema(table.schema.clone()), Pattern::Table((*table).clone())];
        let anything = subjects.messages || !subjects.tables.is_empty();
        let patterns =
            anything.then_some(Pattern::All).into_iter().chain(subjects.tables.iter().flat_map(of_table));
        let mut seen = HashSet::new();
        for pattern in patterns {
            let scopes = self.by_pattern.get(&pattern).into_iter().flatten();
            into.extend(scopes.filter(|scope| seen.insert(Arc::as_ptr(scope))).cloned());
        }
    }
}

/// The patterns of a selection, each once.
fn patterns(selection: &Selection) -> HashSet<&Pattern> {
    selection.subscriptions().iter().map(|subscription| &subscription.table).collect()
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        state.leave(&self.scope);
        if state.clients.get(&self.client).is_some_and(|present| present.attachment == self.number) {
            state.clients.remove(&self.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{position, subscription};

    fn client(id: &str, session: u64) -> Client {
        Client {
            id: id.into(),
            session,
            include_own: false,
            frontier: Arc::new(AtomicU64::new(u64::MAX)),
            wake: Arc::default(),
            replaced: CancellationToken::new(),
        }
    }

    fn selection(tables: &[&str]) -> Selection {
        Selection::new(
            tables.iter().enumerate().map(|(n, table)| subscription(&n.to_string(), table)).collect(),
        )
    }

    fn name(name: &str) -> TableName {
        name.parse().unwrap()
    }

    fn about<'a>(tables: &[&'a TableName]) -> Subjects<'a> {
        Subjects { tables: tables.to_vec(), messages: false }
    }

    #[test]
    fn equal_selections_share_a_scope_until_the_last_leaves() {
        let registry = Arc::new(Registry::new(position(10), 1 << 20));
        let a = registry.attach(&selection(&["t", "*"]), &client("a", 1));
        let b = registry.attach(&selection(&["t", "*"]), &client("b", 2));
        assert!(Arc::ptr_eq(&a.scope, &b.scope));
        let other = registry.attach(&selection(&["u"]), &client("c", 3));
        let (t, x) = (name("t"), name("x"));
        let found = registry.destinations(position(11), Some(&about(&[&t, &x])), std::iter::empty());
        assert_eq!(found.scopes.len(), 1, "once, though two patterns and two tables lead to it");
        assert!(Arc::ptr_eq(&found.scopes[0], &a.scope));
        let messages = Subjects { messages: true, ..Subjects::default() };
        for (subjects, scopes) in [(messages, 1), (about(&[]), 0)] {
            let found = registry.destinations(position(11), Some(&subjects), std::iter::empty());
            assert_eq!(found.scopes.len(), scopes, "messages go to who follows everything");
        }
        drop(a);
        assert_eq!(registry.destinations(position(12), None, std::iter::empty()).scopes.len(), 2);
        drop((b, other, found));
        assert!(registry.destinations(position(13), None, std::iter::empty()).scopes.is_empty());
        assert!(registry.lock().by_pattern.is_empty() && registry.lock().clients.is_empty());
    }

    #[test]
    fn whoever_joins_is_told_what_may_have_been_routed_without_it() {
        let registry = Arc::new(Registry::new(position(10), 1 << 20));
        let a = registry.attach(&selection(&["t"]), &client("a", 1));
        assert_eq!(a.joined_at, position(10));
        let t = name("t");
        let found = registry.destinations(position(20), Some(&about(&[&t])), ["a", "a", "z"].into_iter());
        assert_eq!(found.authors.len(), 1);
        let b = registry.attach(&selection(&["u"]), &client("b", 2));
        assert_eq!((b.joined_at, registry.routed()), (position(20), position(10)), "20 is under way");
        registry.routed_to(position(30));
        assert_eq!(registry.attach(&selection(&["u"]), &client("c", 3)).joined_at, position(30));
    }

    #[test]
    fn the_newest_session_of_a_client_wins() {
        let registry = Arc::new(Registry::new(position(10), 1 << 20));
        let (old, new) = (client("a", 1), client("a", 2));
        let first = registry.attach(&selection(&["t"]), &old);
        let again = registry.attach(&selection(&["t"]), &old);
        drop(first);
        assert!(!old.replaced.is_cancelled(), "the same session with other subscriptions is no newer one");
        let second = registry.attach(&selection(&["t"]), &new);
        assert!(old.replaced.is_cancelled() && !new.replaced.is_cancelled());
        drop(again);
        let found = registry.destinations(position(11), Some(&about(&[])), ["a"].into_iter());
        assert_eq!(found.authors[0].0.session, 2, "the old one's end does not take the new one away");
        let late = client("a", 1);
        let _late = registry.attach(&selection(&["u"]), &late);
        assert!(late.replaced.is_cancelled(), "an older session does not come back");
        drop(second);
    }
}
