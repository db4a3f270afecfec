//! What a session does: a state machine without sockets, clocks or databases. Events go in, actions come out.
//!
//! ```text
//! hello ─► Hydrating (snapshot) ─► CatchingUp (feed, history) ⇄ Live (tail of the scope) ─► Closing
//!              ▲     a table is added or reset    │
//!              └──────────────────────────────────┘
//! ```
//!
//! The cursor only grows, and what lies between two cursors has been handed over whole: that is all that resuming needs.

mod acknowledging;
mod fitting;
mod hello;
mod hydrating;
mod identity;
mod permission;
mod reading;
mod subscribing;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use acknowledging::Acks;
use bytes::Bytes;
use fitting::Fitted;
pub(crate) use hello::session_name;
use identity::Expiry;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use waldelta_access::{self as access, Identity};
use waldelta_wal::{Code, EndLsn, Position, TableName};

use super::delivery::Delivery;
use super::hydrate::{Order, Step};
use super::private::PrivateRead;
use crate::closing::Closing;
use crate::metrics::LeftOut;
use crate::registry::Client;
use crate::rules::Grant;
use crate::scope::{Behind, Item};
use crate::shapes::{Shapes, Shown};
use crate::spread;
use crate::start::{Extent, Reset};
use crate::subscription::{Selection, Subscription};
use crate::wire::client::{After, ClientFrame, Hello, Refusal, SnapshotFrom, Token};
use crate::wire::server;
use crate::wire::{Subprotocol, Utf8Bytes};

/// Frames that a client may send in [`FRAMES_WINDOW`].
const FRAMES_MAX: u32 = 1_000;
const FRAMES_WINDOW: Duration = Duration::from_secs(10);
/// A client that gives no sign of life for this many heartbeat intervals is gone.
const SILENT_INTERVALS: u32 = 3;

/// The bounds and times that a session keeps.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub hello_timeout: Duration,
    pub heartbeat_interval: Duration,
    /// From when on the moments are counted at which sessions beat together.
    pub beats_from: Instant,
    pub frontier_timeout: Duration,
    pub subscriptions_max: usize,
}

impl Rules {
    /// The next moment for a beat.
    fn beat_at_or_after(&self, at: Instant) -> Instant {
        spread::together(at, self.beats_from, self.heartbeat_interval)
    }
}

/// The time at which something happens: for waiting, and for people.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub instant: Instant,
    /// Microseconds since 1970.
    pub unix_us: i64,
}

/// What happens to a session.
pub(crate) enum Event {
    /// A frame from the client, or why it is none.
    Frame(Result<ClientFrame, Refusal>),
    /// A ping or a pong from the client.
    Control,
    /// Another sign of life: that it takes in what it is sent.
    Heard,
    /// The client has gone.
    Gone,
    /// The time of [`Session::deadline`] has come.
    Tick,
    /// The token is verified, or not accepted.
    Authenticated(Result<Admitted, access::Refusal>),
    /// Its subject or tenant has as many sessions as it may.
    TooMany(Closing),
    /// The token is not good any longer.
    Unauthorized(access::Refusal),
    /// Something else may be seen from now on.
    Regranted(Grant),
    /// The same, while what it may not see any more waits to be written.
    PermissionChanged,
    /// The tables that there are.
    Tables(Result<Arc<Shapes>, Code>),
    /// The scope was entered; what lies at or below this position may have been routed without the session.
    Attached(Position),
    /// What history has, and the cursor asked for; see [`Extent::start`].
    Resolved(Result<(Extent, Option<Option<Position>>), Code>),
    /// The client's frontier is known now.
    FrontierKnown,
    /// A snapshot goes on.
    Hydration(Step),
    /// The tail of the scope was read, and the router's position before that.
    Tail { items: Result<Vec<Arc<Item>>, Behind>, routed: Position },
    /// Feed or history was read.
    Private(Result<PrivateRead, Code>),
    /// There may be something new.
    Woken,
    /// The acknowledged cursor was recorded.
    Recorded(Result<Position, Code>),
    /// The service stops, and it is this session's turn; when its client should come back.
    Stop { retry_ms: u64 },
    /// A newer session of the same client has come.
    Replaced,
    /// The socket took no bytes for too long.
    WriteTimedOut,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Send(Utf8Bytes),
    /// The same in the smaller form.
    SendPacked(Bytes),
    Ping,
    /// Find out who presents this token.
    Authenticate(Token),
    /// Find out which tables there are.
    ListTables,
    /// Enter the scope of this selection and leave the one before.
    Attach(Selection),
    /// Find out where the session begins.
    Resolve(Option<After>),
    /// Ask the source for the client's frontier.
    AskFrontier,
    /// Read a snapshot; one that runs is given up.
    Hydrate(Order),
    /// Record the acknowledged cursor.
    Record(Position),
    /// Say why and end.
    Close(Closing),
}

/// What the session wants to read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Nothing,
    /// The tail of its scope, after this position.
    Tail(Position),
    /// Feed or history, after this position.
    Private(Position),
}

/// What a session waits for when it has read everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listens {
    Nothing,
    Scope,
    Head,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    AwaitingHello,
    /// Its token is being verified.
    Authenticating,
    Resolving,
    Hydrating,
    CatchingUp,
    Live,
    /// Something else may be seen, and it is not known yet which tables that concerns.
    Granting,
    Closing,
}

/// Who comes, as far as the request has said it.
pub(crate) enum Entrance {
    /// Nobody has to say who they are: what everybody may see.
    Open(Grant),
    Known(Admitted),
    /// `hello` has to say it.
    Closed,
}

/// Who has been verified, and what they may see.
pub(crate) struct Admitted {
    pub identity: Arc<Identity>,
    pub grant: Grant,
}

/// What a session is before its client is known.
#[derive(Clone)]
pub(crate) struct Seat {
    /// Its number; a higher one is newer.
    pub number: u64,
    pub wake: Arc<Notify>,
    /// A newer session of the same client has come, or an operator lets it go.
    pub replaced: CancellationToken,
}

/// One session.
pub(crate) struct Session {
    rules: Rules,
    seat: Seat,
    subprotocol: Subprotocol,
    phase: Phase,
    entrance: Entrance,
    /// What waits for its token to be verified.
    hello: Option<Box<Hello>>,
    is_verifying: bool,
    identity: Option<Arc<Identity>>,
    expiry: Option<Expiry>,
    client: Option<Client>,
    /// What its copy is of, as it says.
    access_before: Option<String>,
    /// What may be seen from now on, until it is known which tables that concerns.
    granting: Option<Grant>,
    /// The client is told what its copy is of once the snapshot has ended.
    is_access_untold: bool,
    snapshot_welcome: bool,
    /// What the client has of a snapshot that broke off.
    snapshot_from: Option<SnapshotFrom>,
    /// What was durable when it came.
    durable: Position,
    selection: Selection,
    /// Which tables it has, of those whose rules may not fit them.
    shown: Shown,
    /// It lacks other tables than before.
    lacks_others: bool,
    fitted: Fitted,
    /// While a snapshot of some tables is taken: why.
    late: Option<Late>,
    delivery: Delivery,
    /// Everything up to here was handed over; always the end of a transaction.
    cursor: Position,
    /// Reading goes on after here; inside a transaction while its parts are sent.
    at: Position,
    /// The last cursor that the client was told.
    told: Position,
    /// From here on the scope's tail knows this session.
    joined_at: Position,
    been_live: bool,
    /// Questions for the client's frontier that are not answered yet.
    frontier_asked: u32,
    frontier_by: Instant,
    /// Everything there was has been read.
    idle: bool,
    reading: bool,
    changes: VecDeque<SubscriptionChange>,
    acks: Acks,
    hello_by: Instant,
    heard_at: Instant,
    beat_at: Instant,
    beat_due: bool,
    /// Nothing was sent since the last beat but the heartbeat itself.
    quiet: bool,
    /// Heartbeats that the event in hand has led to.
    beats: usize,
    frames: (Instant, u32),
}

/// Why a snapshot of some tables is taken, on the cursor where the stream is.
enum Late {
    /// They were added while connected; the selection without them.
    Added { before: Selection },
    /// They were reset, for this reason, by a snapshot of this position or a later one.
    Reset { reason: Reset, tables: BTreeSet<TableName>, at_least: Position },
}

/// A change of subscriptions that waits for the end of a snapshot or of a transaction.
enum SubscriptionChange {
    Add(Vec<Subscription>),
    Remove(Vec<String>),
}

impl Session {
    pub(crate) fn new(rules: Rules, seat: Seat, entrance: Entrance, now: Now) -> Self {
        let instant = now.instant;
        Session {
            hello_by: instant + rules.hello_timeout,
            // Those who come together do not all beat together: the first beat comes in the second half of an interval.
            beat_at: rules.beat_at_or_after(
                instant
                    + rules.heartbeat_interval / 2
                    + spread::part(seat.number, rules.heartbeat_interval / 2),
            ),
            rules,
            seat,
            subprotocol: Subprotocol::default(),
            phase: Phase::AwaitingHello,
            entrance,
            hello: None,
            is_verifying: false,
            identity: None,
            expiry: None,
            client: None,
            access_before: None,
            granting: None,
            is_access_untold: false,
            snapshot_welcome: true,
            snapshot_from: None,
            durable: Position::default(),
            selection: Selection::default(),
            shown: Shown::default(),
            lacks_others: false,
            fitted: Fitted::default(),
            late: None,
            delivery: Delivery::default(),
            cursor: Position::default(),
            at: Position::default(),
            told: Position::default(),
            joined_at: Position::default(),
            been_live: false,
            frontier_asked: 0,
            frontier_by: instant,
            idle: false,
            reading: false,
            changes: VecDeque::new(),
            acks: Acks::default(),
            heard_at: instant,
            beat_due: false,
            quiet: true,
            beats: 0,
            frames: (instant, 0),
        }
    }

    /// The same for a client that speaks this.
    pub(crate) fn speaking(self, subprotocol: Subprotocol) -> Self {
        Session { subprotocol, ..self }
    }

    /// Takes an event in and adds what is to be done to `out`.
    pub(crate) fn apply(&mut self, event: Event, now: Now, out: &mut Vec<Action>) {
        let sent_before = out.len();
        self.beats = 0;
        match event {
            _ if self.phase == Phase::Closing => {}
            Event::Gone => self.end(Closing::Gone, out),
            Event::Stop { retry_ms } => self.stop(retry_ms, out),
            Event::Replaced => self.fail(Code::ClientReplaced, Closing::Replaced, out),
            Event::WriteTimedOut => self.end(Closing::TooSlow, out),
            Event::Control => self.control(now, out),
            Event::Heard => self.heard_at = now.instant,
            Event::Frame(frame) => self.frame(frame, now, out),
            Event::Tick => self.tick(now, out),
            Event::Authenticated(verified) => self.authenticated(verified, now, out),
            Event::TooMany(closing) => self.fail(closing.code().unwrap_or(Code::Internal), closing, out),
            Event::Unauthorized(refusal) => self.turn_away(refusal, out),
            Event::Regranted(grant) => self.regrant(grant, out),
            Event::PermissionChanged => self.permission_changed(out),
            Event::Tables(tables) => self.tables_listed(tables, out),
            Event::Attached(joined_at) => self.joined_at = joined_at,
            Event::Resolved(Ok((extent, after))) => self.begin(extent, after, now, out),
            Event::Resolved(Err(code)) => self.fail(code, Closing::TryLater(code), out),
            Event::FrontierKnown => {
                self.frontier_asked = self.frontier_asked.saturating_sub(1);
                self.idle = false;
            }
            Event::Hydration(step) => self.hydrated(step, now, out),
            Event::Tail { items, routed } => self.take_tail(items, routed, now, out),
            Event::Private(read) => self.take_private(read, now, out),
            Event::Woken => self.idle = false,
            Event::Recorded(recorded) => self.recorded(recorded, out),
        }
        let is_sent = |action: &&Action| matches!(action, Action::Send(_) | Action::SendPacked(_));
        let sent = out[sent_before..].iter().filter(is_sent).count();
        // A heartbeat counts as quiet: else every second one would be left out.
        self.quiet &= sent == self.beats;
    }

    /// What to read next. The caller says with [`Session::reading`] that it has begun.
    pub(crate) fn want(&self) -> Want {
        let reads = matches!(self.phase, Phase::CatchingUp | Phase::Live) && !self.idle && !self.reading;
        match (reads, self.shares()) {
            (false, _) => Want::Nothing,
            (true, true) => Want::Tail(self.at),
            (true, false) => Want::Private(self.at),
        }
    }

    /// A private read has begun.
    pub(crate) fn reading(&mut self) {
        self.reading = true;
    }

    /// What to wait for beside the client, timers and operations that run.
    pub(crate) fn listens(&self) -> Listens {
        match self.phase {
            Phase::CatchingUp | Phase::Live if self.shares() => Listens::Scope,
            Phase::CatchingUp | Phase::Live if !self.reading => Listens::Head,
            _ => Listens::Nothing,
        }
    }

    /// When [`Event::Tick`] is due.
    pub(crate) fn deadline(&self) -> Instant {
        let due = match self.phase {
            Phase::AwaitingHello => self.hello_by,
            Phase::CatchingUp if self.idle && !self.knows_frontier() => self.beat_at.min(self.frontier_by),
            _ => self.beat_at,
        };
        self.expiry_due().map_or(due, |expiry| due.min(expiry))
    }

    /// The state's name for operators.
    pub(crate) fn state(&self) -> &'static str {
        match self.phase {
            Phase::AwaitingHello | Phase::Authenticating | Phase::Resolving => "connecting",
            Phase::Hydrating => "hydrating",
            Phase::CatchingUp | Phase::Granting => "catching_up",
            Phase::Live => "live",
            Phase::Closing => "closing",
        }
    }

    /// The tables that it lacks, once after each time that they have become others.
    pub(crate) fn take_lacking(&mut self) -> Option<Shown> {
        std::mem::take(&mut self.lacks_others).then(|| self.shown.clone()).filter(Shown::lacks_any)
    }

    /// What the client was not told since this was last asked.
    pub(crate) fn take_left_out(&mut self) -> Option<LeftOut> {
        Some(std::mem::take(&mut self.delivery.left_out)).filter(|left_out| *left_out != LeftOut::default())
    }

    /// Whether it is known where it begins.
    pub(crate) fn has_begun(&self) -> bool {
        !matches!(self.phase, Phase::AwaitingHello | Phase::Authenticating | Phase::Resolving)
    }

    pub(crate) fn client(&self) -> Option<&Client> {
        self.client.as_ref()
    }

    pub(crate) fn cursor(&self) -> Position {
        self.cursor
    }

    pub(crate) fn acked(&self) -> Option<Position> {
        self.acks.recorded
    }

    /// Finds out, once more, which transactions began before now: the client may not have what it did in them.
    fn ask_frontier(&mut self, now: Now, out: &mut Vec<Action>) {
        self.frontier_asked += 1;
        self.frontier_by = now.instant + self.rules.frontier_timeout;
        out.push(Action::AskFrontier);
    }

    fn knows_frontier(&self) -> bool {
        self.frontier_asked == 0
    }

    /// Whether the shared tail is what it reads: live, nothing to be left out, and known to the tail.
    fn shares(&self) -> bool {
        self.phase == Phase::Live
            && self.delivery.overlaps.is_empty()
            && self.at.is_whole()
            && self.at >= self.joined_at
    }

    fn tick(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.phase == Phase::AwaitingHello {
            if now.instant >= self.hello_by {
                self.fail(Code::HelloMissing, Closing::HelloMissing, out);
            }
            return;
        }
        if self.is_expired(now) {
            return self.turn_away(access::Refusal::Expired, out);
        }
        self.warn_of_expiry(now, out);
        if now.instant >= self.frontier_by && !self.knows_frontier() {
            self.idle = false;
        }
        if now.instant < self.beat_at {
            return;
        }
        if now.instant > self.heard_at + self.rules.heartbeat_interval * SILENT_INTERVALS {
            self.end(Closing::TooSlow, out);
            return;
        }
        self.beat_at += self.rules.heartbeat_interval;
        if self.beat_at <= now.instant {
            // It was held up for long.
            self.beat_at = self.rules.beat_at_or_after(now.instant + self.rules.heartbeat_interval);
        }
        out.push(Action::Ping);
        // The cursor to tell is found by reading once more.
        self.beat_due = self.quiet;
        self.quiet = true;
        self.idle &= !self.beat_due;
    }

    /// Tells the cursor when nothing else has told it for a while.
    fn beat(&mut self, now: Now, out: &mut Vec<Action>) {
        let between = self.at.is_whole() && !self.delivery.is_inside();
        if self.beat_due && between && matches!(self.phase, Phase::CatchingUp | Phase::Live) {
            self.beat_due = false;
            self.tell_cursor(now, out);
        }
    }

    fn tell_cursor(&mut self, now: Now, out: &mut Vec<Action>) {
        self.told = self.cursor;
        self.beats += 1;
        out.push(Action::Send(server::heartbeat(self.cursor, now.unix_us)));
    }

    fn stop(&mut self, retry_ms: u64, out: &mut Vec<Action>) {
        out.push(Action::Send(server::goaway(retry_ms)));
        self.end(Closing::Stopping, out);
    }

    /// Ends with an `error` frame that says why.
    fn fail(&mut self, code: Code, closing: Closing, out: &mut Vec<Action>) {
        self.fail_with(code, code.explanation().title, None, closing, out);
    }

    fn fail_with(
        &mut self,
        code: Code,
        message: &str,
        subscription: Option<&str>,
        closing: Closing,
        out: &mut Vec<Action>,
    ) {
        out.push(Action::Send(server::error(code, message, subscription, true)));
        self.end(closing, out);
    }

    fn end(&mut self, closing: Closing, out: &mut Vec<Action>) {
        self.phase = Phase::Closing;
        out.push(Action::Close(closing));
    }
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod interleaving;
#[cfg(test)]
mod tests;
