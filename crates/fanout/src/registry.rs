//! Who follows what: the scopes that exist, the index that leads to them, and the client that each session belongs to.
//!
//! One lock, held for look-ups only: never while filters are evaluated or frames are made. It also holds the position up to
//! which transactions are being routed: whoever joins is told it, and reads everything up to it elsewhere. In the same
//! moment in which the router says what it is about to route, it takes over who came and went; so each scope is either
//! told to read the transaction elsewhere, or in the index when that is asked. That holds however long the routing then takes,
//! and whoever comes or goes meanwhile. The index has a lock of its own, which nobody takes but the router.
//!
//! What subscriptions cost in memory is counted here, by scope and by session, and bounded: beyond it nobody enters.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use waldelta_wal::{Change, Code, Position, TableName};

use crate::ScopeReading;
use crate::closing::Closing;
use crate::index::{Found, Index, Moves, Number, Which, Work};
use crate::pace::Pace;
use crate::scope::{Budget, Scope, cost};
use crate::subscription::Selection;

/// Bytes of ready frames that all scopes keep together at most.
const FRAMES_BYTES_MAX: usize = 256 << 20;

/// Bytes that subscriptions may take for each session that may be there: most take a small part of it.
const SUBSCRIPTIONS_BYTES_PER_SESSION: usize = 32 << 10;
/// So much they may take together, however few sessions there may be.
const SUBSCRIPTIONS_BYTES_MIN: usize = 64 << 20;
/// One session may have this part of what all may have.
const SESSION_SHARE: usize = 16;

/// The scopes and clients that exist.
pub(crate) struct Registry {
    state: Mutex<State>,
    /// The router has it for as long as it runs.
    index: tokio::sync::Mutex<Index>,
    scope_bytes_max: usize,
    budget: Arc<Budget>,
    /// Bytes that subscriptions may still take.
    room: Arc<Semaphore>,
    session_bytes_max: usize,
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
    /// By key.
    clients: HashMap<Arc<str>, Present>,
    /// The keys of the clients that have an id: of several subjects, several.
    keys: HashMap<Arc<str>, Vec<Arc<str>>>,
    attachments: u64,
}

/// A scope that has sessions.
struct Entered {
    scope: Arc<Scope>,
    number: Number,
    sessions: usize,
    /// What it costs beside its frames.
    _room: OwnedSemaphorePermit,
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
    /// What it is known by among all clients: see [`crate::clients::key`].
    pub key: Arc<str>,
    /// What it is known by as an author.
    pub id: Arc<str>,
    /// Whose it is, where clients authenticate.
    pub subject: Option<Arc<str>>,
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
    client: Client,
    number: u64,
    /// What the session keeps of its subscriptions.
    _room: OwnedSemaphorePermit,
}

/// Why a session does not enter a scope: what its subscriptions would cost in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoRoom {
    /// More than one session may have, whoever else is there.
    #[error("the subscriptions of one session are too large")]
    Alone,
    /// More than is left beside the others.
    #[error("the subscriptions of all sessions together are too large")]
    Together,
}

impl NoRoom {
    /// The stable code that it shows as.
    pub(crate) fn code(self) -> Code {
        match self {
            NoRoom::Alone => Code::SubscriptionsTooLarge,
            NoRoom::Together => Code::TooManySubscriptions,
        }
    }

    /// How the session ends.
    pub(crate) fn closing(self) -> Closing {
        match self {
            NoRoom::Alone => Closing::NotAllowed(self.code()),
            NoRoom::Together => Closing::TooMany(self.code()),
        }
    }
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
    /// Tables that were not changed before, as far as is known.
    pub new: Vec<TableName>,
    /// Its authors who are connected, each with its scope.
    pub authors: Vec<(Client, Arc<Scope>)>,
    /// What finding them took.
    pub work: Work,
}

impl Registry {
    /// Begins with nothing routed but what lies at or below `from`. Scopes keep `scope_bytes_max` bytes of frames each, and
    /// subscriptions may cost what goes with so many sessions.
    pub(crate) fn new(from: Position, scope_bytes_max: usize, sessions_max: usize) -> Self {
        let all = sessions_max.saturating_mul(SUBSCRIPTIONS_BYTES_PER_SESSION);
        Self::with_room(from, scope_bytes_max, all.clamp(SUBSCRIPTIONS_BYTES_MIN, Semaphore::MAX_PERMITS))
    }

    fn with_room(from: Position, scope_bytes_max: usize, room: usize) -> Self {
        let state = State { target: from, routed: from, ..State::default() };
        Registry {
            state: Mutex::new(state),
            index: tokio::sync::Mutex::default(),
            scope_bytes_max,
            budget: Arc::new(Budget::new(FRAMES_BYTES_MAX)),
            room: Arc::new(Semaphore::new(room)),
            session_bytes_max: room / SESSION_SHARE,
        }
    }

    /// The index, for the one who routes.
    pub(crate) async fn index(&self) -> tokio::sync::MutexGuard<'_, Index> {
        self.index.lock().await
    }

    /// Enters a scope, making it if it is the first, as the session of a client. An older session of the same client is
    /// ended; one that is itself older than the client's newest is ended too.
    ///
    /// # Errors
    /// Where what the subscriptions cost has no room. Then nothing has changed.
    pub(crate) fn attach(
        self: &Arc<Self>,
        selection: &Selection,
        client: &Client,
    ) -> Result<Attachment, NoRoom> {
        let (of_session, of_scope) = (cost::of_session(selection), cost::of_scope(selection));
        let of_grant = cost::of_grant(selection.grant());
        if (of_session + of_grant).max(of_scope) > self.session_bytes_max {
            return Err(NoRoom::Alone);
        }
        let mut state = self.lock();
        let of_own_grant = if state.shares_grant(selection) { 0 } else { of_grant };
        let room = self.take(of_session + of_own_grant)?;
        let scope = match state.enter(selection) {
            Some(scope) => scope,
            None => state.make(selection, self.scope_bytes_max, &self.budget, self.take(of_scope)?),
        };
        state.attachments += 1;
        let (joined_at, number) = (state.target, state.attachments);
        let newest =
            state.clients.get(&client.key).is_none_or(|other| other.client.session <= client.session);
        if newest {
            let present = Present { client: client.clone(), scope: scope.clone(), attachment: number };
            let before = state.come(present);
            if let Some(before) = before.filter(|before| before.client.session != client.session) {
                before.client.replaced.cancel();
            }
        } else {
            client.replaced.cancel();
        }
        drop(state);
        let (registry, client) = (self.clone(), client.clone());
        Ok(Attachment { scope, joined_at, registry, client, number, _room: room })
    }

    fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, NoRoom> {
        let bytes = u32::try_from(bytes).map_err(|_| NoRoom::Alone)?;
        self.room.clone().try_acquire_many_owned(bytes).map_err(|_| NoRoom::Together)
    }

    /// Says that a transaction is about to be routed, and finds out where to. The index is this registry's.
    pub(crate) async fn destinations(
        &self,
        index: &mut Index,
        position: Position,
        subject: Subject<'_>,
        authors: &HashSet<&str>,
        pace: &mut Pace,
    ) -> Destinations {
        let (moves, authors) = {
            let mut state = self.lock();
            state.target = state.target.max(position);
            (std::mem::take(&mut state.moves), state.present(authors))
        };
        index.apply(moves, pace).await;
        let Found { scopes, new, work } = match subject {
            Subject::Unknown => index.everybody(),
            Subject::Tables { tables, messages } => index.of_tables(tables, messages, pace).await,
            Subject::Changes(changes) => index.concerned(changes, pace).await,
        };
        Destinations { scopes, new, authors, work }
    }

    /// A session lacks these tables: it looks at the next change of each, whatever row that is of.
    pub(crate) fn awaits(&self, tables: &[u32]) {
        self.lock().moves.awaits(tables);
    }

    /// Routing begins. Should it have been given up before in the middle of a transaction, which some scopes then have and others
    /// have not, their sessions read it elsewhere.
    pub(crate) fn begin(&self) {
        let given_up = {
            let state = self.lock();
            (state.target > state.routed).then_some(state.target)
        };
        if let Some(target) = given_up {
            self.cut(target);
        }
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
        // In the order in which they were made, so that who waits for a page to be read does so in an order that is no chance.
        let scopes: BTreeMap<Number, Arc<Scope>> =
            state.scopes.values().map(|entered| (entered.number, entered.scope.clone())).collect();
        drop(state);
        scopes.values().for_each(|scope| scope.cut(floor));
        self.routed_to(floor);
    }

    /// What is held by nobody any more is forgotten, when everybody has gone; what is not, otherwise.
    #[cfg(test)]
    pub(crate) fn holds_nothing(&self) -> Result<(), String> {
        let state = self.lock();
        let left = (state.scopes.len(), state.clients.len(), state.keys.len());
        let frames = self.budget.taken().0;
        let room = self.room.available_permits() / SESSION_SHARE;
        match left == (0, 0, 0) && frames == 0 && room == self.session_bytes_max {
            true => Ok(()),
            false => {
                Err(format!("left of sessions: {left:?}, {frames} bytes of frames, {room} bytes of room"))
            }
        }
    }

    /// The scopes in the order in which they were made. Filters are printed outside of the lock.
    pub(crate) fn readings(&self) -> Vec<ScopeReading> {
        let state = self.lock();
        let scopes =
            state.scopes.values().map(|entered| (entered.number, (entered.scope.clone(), entered.sessions)));
        let scopes: BTreeMap<Number, (Arc<Scope>, usize)> = scopes.collect();
        drop(state);
        let follows = |scope: &Scope| {
            let each =
                scope.selection.subscriptions().iter().map(|subscription| match &subscription.filter {
                    Some(filter) => format!("{} where {filter}", subscription.table),
                    None => subscription.table.to_string(),
                });
            each.collect::<Vec<_>>().join("; ")
        };
        let reading = |(scope, sessions): &(Arc<Scope>, usize)| ScopeReading {
            follows: follows(scope),
            sessions: *sessions,
            held_bytes: scope.held_bytes(),
        };
        scopes.values().map(reading).collect()
    }

    /// How many scopes there are.
    pub(crate) fn scopes(&self) -> usize {
        self.lock().scopes.len()
    }

    /// Bytes of frames that all scopes keep ready.
    pub(crate) fn held_bytes(&self) -> usize {
        self.budget.taken_bytes()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Enters the scope of this selection, if there is one.
    fn enter(&mut self, selection: &Selection) -> Option<Arc<Scope>> {
        let entered = self.scopes.get_mut(selection)?;
        entered.sessions += 1;
        Some(entered.scope.clone())
    }

    /// Whether a session of this selection keeps no grant beside that of its scope.
    fn shares_grant(&self, selection: &Selection) -> bool {
        let known = self.scopes.get_key_value(selection);
        known.is_none_or(|(known, _)| known.grant().is_same(selection.grant()))
    }

    /// Makes a scope, and enters it.
    fn make(
        &mut self,
        selection: &Selection,
        bytes_max: usize,
        budget: &Arc<Budget>,
        room: OwnedSemaphorePermit,
    ) -> Arc<Scope> {
        let selection = Arc::new(selection.clone());
        let scope = Arc::new(Scope::new(selection.clone(), self.target, bytes_max, budget));
        self.scopes_made += 1;
        let number = self.scopes_made;
        self.scopes.insert(selection, Entered { scope: scope.clone(), number, sessions: 1, _room: room });
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

    /// A client is here; its session before, if there was one.
    fn come(&mut self, present: Present) -> Option<Present> {
        let Client { key, id, .. } = &present.client;
        if !self.clients.contains_key(key) {
            self.keys.entry(id.clone()).or_default().push(key.clone());
        }
        self.clients.insert(key.clone(), present)
    }

    fn go(&mut self, client: &Client) {
        self.clients.remove(&client.key);
        if let Some(keys) = self.keys.get_mut(&client.id) {
            keys.retain(|key| *key != client.key);
            if keys.is_empty() {
                self.keys.remove(&client.id);
            }
        }
    }

    /// Those of these clients, by their ids, who are connected, with their scopes.
    fn present(&self, ids: &HashSet<&str>) -> Vec<(Client, Arc<Scope>)> {
        let keys = ids.iter().filter_map(|id| self.keys.get(*id)).flatten();
        let present = keys.filter_map(|key| self.clients.get(key));
        present.map(|present| (present.client.clone(), present.scope.clone())).collect()
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        state.leave(&self.scope);
        if state.clients.get(&self.client.key).is_some_and(|present| present.attachment == self.number) {
            state.go(&self.client);
        }
    }
}

#[cfg(test)]
mod tests;
