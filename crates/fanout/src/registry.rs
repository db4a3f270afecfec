//! Who follows what: the scopes that exist, the index that leads to them, and the client that each session belongs to.
//!
//! One lock, held for look-ups only: never while filters are evaluated or frames are made. It also holds the position up to
//! which transactions are being routed: whoever joins is told it, and reads everything up to it elsewhere. In the same
//! moment in which the router says what it is about to route, it takes over who came and went; so each scope is either
//! told to read the transaction elsewhere, or in the index when that is asked. The index has a lock of its own, which nobody
//! takes but the router.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use waldelta_wal::{Change, Position, TableName};

use crate::index::{Found, Index, Moves, Number, Which, Work};
use crate::scope::{Budget, Scope};
use crate::subscription::Selection;

/// Bytes of ready frames that all scopes keep together at most.
const FRAMES_BYTES_MAX: usize = 256 << 20;

/// The scopes and clients that exist.
pub(crate) struct Registry {
    state: Mutex<State>,
    /// Locked before `state` where both are.
    index: Mutex<Index>,
    scope_bytes_max: usize,
    budget: Arc<Budget>,
}

#[derive(Default)]
struct State {
    /// Routing has begun for everything up to here.
    target: Position,
    /// Routing is done for everything up to here.
    routed: Position,
    scopes: HashMap<Arc<Selection>, Entered>,
    /// Scopes that the index is to be told of.
    moves: Moves,
    scopes_made: Number,
    clients: HashMap<Arc<str>, Present>,
    attachments: u64,
}

/// A scope that has sessions.
struct Entered {
    scope: Arc<Scope>,
    number: Number,
    sessions: usize,
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

/// What a transaction is about, as far as it is known.
#[derive(Clone, Copy)]
pub(crate) enum Subject<'a> {
    /// Nothing is known.
    Unknown,
    /// Its tables, and whether there may be logical messages in it.
    Tables { tables: &'a [TableName], messages: bool },
    /// All of its changes.
    Changes(&'a [Change]),
}

/// Where a transaction goes.
#[derive(Default)]
pub(crate) struct Destinations {
    /// The scopes that it concerns, each once, with the changes that do.
    pub scopes: Vec<(Arc<Scope>, Which)>,
    /// Its authors who are connected, each with its scope.
    pub authors: Vec<(Client, Arc<Scope>)>,
    /// What finding them took.
    pub work: Work,
}

impl Registry {
    /// Begins with nothing routed but what lies at or below `from`.
    pub(crate) fn new(from: Position, scope_bytes_max: usize) -> Self {
        let state = State { target: from, routed: from, ..State::default() };
        let budget = Arc::new(Budget::new(FRAMES_BYTES_MAX));
        Registry { state: Mutex::new(state), index: Mutex::default(), scope_bytes_max, budget }
    }

    /// Enters a scope, making it if it is the first, as the session of a client. An older session of the same client is
    /// ended; one that is itself older than the client's newest is ended too.
    pub(crate) fn attach(self: &Arc<Self>, selection: &Selection, client: &Client) -> Attachment {
        let mut state = self.lock();
        state.attachments += 1;
        let (joined_at, number) = (state.target, state.attachments);
        let scope = state.enter(selection, self.scope_bytes_max, &self.budget);
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

    /// Says that a transaction is about to be routed, and where to.
    pub(crate) fn destinations<'a>(
        &self,
        position: Position,
        subject: Subject<'_>,
        authors: impl Iterator<Item = &'a str>,
    ) -> Destinations {
        // Nothing that is done under it can panic.
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let (moves, authors) = {
            let mut state = self.lock();
            state.target = state.target.max(position);
            (std::mem::take(&mut state.moves), state.present(authors))
        };
        index.apply(moves);
        let Found { scopes, work } = match subject {
            Subject::Unknown => index.everybody(),
            Subject::Tables { tables, messages } => index.of_tables(tables, messages),
            Subject::Changes(changes) => index.concerned(changes),
        };
        Destinations { scopes, authors, work }
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
        let scopes: Vec<_> = state.scopes.values().map(|entered| entered.scope.clone()).collect();
        drop(state);
        scopes.iter().for_each(|scope| scope.cut(floor));
        self.routed_to(floor);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, selection: &Selection, scope_bytes_max: usize, budget: &Arc<Budget>) -> Arc<Scope> {
        if let Some(entered) = self.scopes.get_mut(selection) {
            entered.sessions += 1;
            return entered.scope.clone();
        }
        let selection = Arc::new(selection.clone());
        let scope = Arc::new(Scope::new(selection.clone(), self.target, scope_bytes_max, budget));
        self.scopes_made += 1;
        let number = self.scopes_made;
        self.scopes.insert(selection, Entered { scope: scope.clone(), number, sessions: 1 });
        self.moves.enter(number, scope.clone());
        scope
    }

    fn leave(&mut self, scope: &Scope) {
        let Some(entered) = self.scopes.get_mut(&scope.selection) else { return };
        entered.sessions -= 1;
        if entered.sessions == 0 {
            self.moves.leave(entered.number);
            self.scopes.remove(&scope.selection);
        }
    }

    /// Those of these clients who are connected, each once, with its scope.
    fn present<'a>(&self, clients: impl Iterator<Item = &'a str>) -> Vec<(Client, Arc<Scope>)> {
        let mut found: Vec<(Client, Arc<Scope>)> = Vec::new();
        for id in clients {
            let known = found.iter().any(|(client, _)| *client.id == *id);
            if let Some(present) = self.clients.get(id).filter(|_| !known) {
                found.push((present.client.clone(), present.scope.clone()));
            }
        }
        found
    }
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

    fn about(tables: &[TableName]) -> Subject<'_> {
        Subject::Tables { tables, messages: false }
    }

    fn scopes(registry: &Registry, lsn: u64, subject: Subject<'_>) -> Vec<Arc<Scope>> {
        let found = registry.destinations(position(lsn), subject, std::iter::empty());
        found.scopes.into_iter().map(|(scope, _)| scope).collect()
    }

    #[test]
    fn equal_selections_share_a_scope_until_the_last_leaves() {
        let registry = Arc::new(Registry::new(position(10), 1 << 20));
        let a = registry.attach(&selection(&["t", "*"]), &client("a", 1));
        let b = registry.attach(&selection(&["t", "*"]), &client("b", 2));
        assert!(Arc::ptr_eq(&a.scope, &b.scope));
        let other = registry.attach(&selection(&["u"]), &client("c", 3));
        let of_t = scopes(&registry, 11, about(&[name("t"), name("x")]));
        assert_eq!(of_t.len(), 1, "once, though two patterns and two tables lead to it");
        assert!(Arc::ptr_eq(&of_t[0], &a.scope));
        let messages = Subject::Tables { tables: &[], messages: true };
        assert_eq!(scopes(&registry, 11, messages).len(), 1, "messages go to who follows everything");
        assert!(scopes(&registry, 11, about(&[])).is_empty());
        drop(a);
        assert_eq!(scopes(&registry, 12, Subject::Unknown).len(), 2);
        drop((b, other, of_t));
        assert!(scopes(&registry, 13, Subject::Unknown).is_empty());
        assert!(registry.index.lock().unwrap().is_empty() && registry.lock().clients.is_empty());
    }

    #[test]
    fn who_comes_and_goes_between_transactions_is_not_kept() {
        let registry = Arc::new(Registry::new(position(10), 1 << 20));
        for session in 0..100 {
            drop(registry.attach(&selection(&["t"]), &client("a", session)));
        }
        assert!(registry.lock().moves.is_empty());
        let stays = registry.attach(&selection(&["t"]), &client("a", 100));
        assert_eq!(scopes(&registry, 11, Subject::Unknown).len(), 1);
        let tail = Arc::downgrade(&stays.scope);
        drop(stays);
        assert!(tail.upgrade().is_none(), "the index does not keep the frames of a scope that is gone");
        let again = registry.attach(&selection(&["t"]), &client("a", 101));
        let found = scopes(&registry, 12, Subject::Unknown);
        assert!(found.len() == 1 && Arc::ptr_eq(&found[0], &again.scope));
    }

    #[test]
    fn whoever_joins_is_told_what_may_have_been_routed_without_it() {
        let registry = Arc::new(Registry::new(position(10), 1 << 20));
        let a = registry.attach(&selection(&["t"]), &client("a", 1));
        assert_eq!(a.joined_at, position(10));
        let of_t = [name("t")];
        let found = registry.destinations(position(20), about(&of_t), ["a", "a", "z"].into_iter());
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
        let found = registry.destinations(position(11), about(&[]), ["a"].into_iter());
        assert_eq!(found.authors[0].0.session, 2, "the old one's end does not take the new one away");
        let late = client("a", 1);
        let _late = registry.attach(&selection(&["u"]), &late);
        assert!(late.replaced.is_cancelled(), "an older session does not come back");
        drop(second);
    }
}
