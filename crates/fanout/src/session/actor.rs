//! The loop around one socket: turns what happens into events, and performs the actions that the state machine returns.
//!
//! ```text
//!  socket ──frame──┐                         ┌── write (bounded in time)
//!  tail, feed ─────┼─► Session::apply ─► actions ── attach, read, record, hydrate
//!  timers, stop ───┘                         └── operations that run ──► events
//! ```
//!
//! It decides nothing. One task writes to the socket, so frames have one order.

mod operations;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};
use waldelta_access::Identity;
use waldelta_history::Head;
use waldelta_wal::{Code, Position, STAGE};

use self::operations::failed;
use super::gate::Gate;
use super::hydrate::Step;
use super::outbox::{self, Outgoing, Unwritten};
use super::private;
use super::socket::{Incoming, Socket};
use super::state::{
    Action, Admitted, Entrance, Event, Listens, Now, Rules, Seat, Session, Want, session_name,
};
use super::watching::{self, Watching};
use crate::audit::Who;
use crate::clock;
use crate::closing::Closing;
use crate::inner::{Inner, Listed};
use crate::metrics::StateGauge;
use crate::registry::{Attachment, NoRoom};
use crate::sessions::{Entry, Whose};
use crate::subscription::Selection;
use crate::wire::client::{self, Refusal};
use crate::wire::{Subprotocol, server};

/// Bytes read from a tail at once.
const BATCH_BYTES_MAX: usize = 64 * 1024;
/// Readings of a tail before it is looked whether anything else has happened: one for what a session was woken for, and one that
/// finds nothing more. To wait for everything at once costs more than both.
const READS_MAX: usize = 2;
/// A client that is let go may take this long to answer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves one client until it is gone or let go. `identity` is who it is, where its request has said so.
pub(crate) async fn run<S: Socket>(
    inner: Arc<Inner>,
    socket: S,
    listed: Listed,
    identity: Option<Arc<Identity>>,
    subprotocol: Subprotocol,
) {
    Actor::new(inner, socket, listed, identity, subprotocol).run().await;
}

/// Lets a client go that is not admitted.
pub(crate) async fn turn_away<S: Socket>(inner: &Inner, mut socket: S, closing: Closing) {
    close(&mut socket, closing, inner.retry_ms(inner.number())).await;
}

async fn close<S: Socket>(socket: &mut S, closing: Closing, retry_ms: u64) {
    if let Some(code) = closing.close_code() {
        let reason = closing.reason(retry_ms);
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, socket.close(code, reason)).await;
    }
}

/// What comes from behind the gate.
enum Behind {
    Event(Event),
    Incoming(Incoming),
}

struct Actor<S> {
    inner: Arc<Inner>,
    socket: S,
    session: Session,
    subprotocol: Subprotocol,
    watching: Watching,
    /// Behind it is all that may happen but the stream.
    gate: Gate,
    /// What is behind the gate is to be asked for anew, because the session is not what it was.
    is_altered: bool,
    seat: Seat,
    listed: Listed,
    gauge: StateGauge,
    attachment: Option<Attachment>,
    scope_changed: Option<watch::Receiver<()>>,
    head_changed: watch::Receiver<Head>,
    operations: FuturesUnordered<BoxFuture<'static, Event>>,
    /// What came of operations while frames were written.
    done: VecDeque<Event>,
    steps: Option<mpsc::Receiver<Step>>,
    /// Ends when its connection has a number among those of all processes.
    numbered: Option<oneshot::Receiver<()>>,
    /// The last thing taken was a frame from the client: now it is the stream's turn.
    client_was_last: bool,
    /// It was let in, and told where it begins.
    has_begun: bool,
    /// When the oldest frame that waits to be written was found durable, and when it was committed by the source's clock.
    oldest: Option<(Instant, i64)>,
    sent_bytes: u64,
}

impl<S: Socket> Actor<S> {
    fn new(
        inner: Arc<Inner>,
        socket: S,
        listed: Listed,
        identity: Option<Arc<Identity>>,
        subprotocol: Subprotocol,
    ) -> Self {
        // Before anything is looked at that may change.
        let watching = Watching::new(&inner);
        let seat = listed.seat();
        let config = &inner.config;
        let rules = Rules {
            hello_timeout: config.hello_timeout,
            heartbeat_interval: config.heartbeat_interval,
            beats_from: inner.began,
            frontier_timeout: config.frontier_timeout,
            subscriptions_max: config.subscriptions_max,
        };
        let entrance = match identity {
            Some(identity) => Entrance::Known(Admitted { grant: inner.grant(Some(&identity)), identity }),
            None if inner.access.is_required() => Entrance::Closed,
            None => Entrance::Open(inner.grant(None)),
        };
        Actor {
            session: Session::new(rules, seat.clone(), entrance, now(&inner)).speaking(subprotocol),
            subprotocol,
            watching,
            gate: Gate::new(),
            is_altered: false,
            head_changed: inner.history.feed().watch(),
            inner,
            socket,
            seat,
            listed,
            gauge: StateGauge::new("connecting"),
            attachment: None,
            scope_changed: None,
            operations: FuturesUnordered::new(),
            done: VecDeque::new(),
            steps: None,
            numbered: None,
            client_was_last: false,
            has_begun: false,
            oldest: None,
            sent_bytes: 0,
        }
    }

    async fn run(mut self) {
        let mut actions = Vec::new();
        let mut timer = Box::pin(tokio::time::sleep_until(self.session.deadline().into()));
        let mut interruption = pin!(self.interruption());
        let closing = loop {
            if std::mem::take(&mut self.is_altered) {
                interruption.set(self.interruption());
                self.gate.open();
            }
            let deadline = self.session.deadline().into();
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
                self.gate.open();
            }
            let event = self.next_event(timer.as_mut(), interruption.as_mut()).await;
            let closing = self.take_in(event, &mut actions).await;
            if let Some(closing) = closing {
                break closing;
            }
            self.note();
        };
        self.attachment = None;
        self.note();
        self.tell_of_refusal(closing);
        if matches!(closing, Closing::TooSlow) {
            self.inner.metrics.evictions.increment(1);
        }
        tracing::debug!(
            session = session_name(self.seat.number),
            client_id = self.session.client().map(|client| &*client.id),
            subject = self.session.client().and_then(|client| client.subject.as_deref()),
            code = closing.code().map(Code::as_str),
            cursor = %self.session.cursor(),
            "session ended"
        );
        let retry_ms = self.inner.retry_ms(self.seat.number);
        close(&mut self.socket, closing, retry_ms).await;
    }

    /// Does what an event leads to, and hands over what the tail has by then.
    async fn take_in(&mut self, event: Event, actions: &mut Vec<Action>) -> Option<Closing> {
        let mut event = self.admitted(event);
        for reads in 0.. {
            self.session.apply(event, self.now(), actions);
            // Before it reads on: what is routed until then it reads by itself.
            if let Some(shown) = self.session.take_lacking() {
                self.inner.registry.awaits(shown.left_out());
            }
            if let Some(left_out) = self.session.take_left_out() {
                self.inner.metrics.left_out(left_out);
            }
            let may_read = reads < READS_MAX;
            // A ping waits for what the tail has: who gets nothing else gets a heartbeat in the same moment, and both in one write.
            let waits =
                may_read && is_nothing_but_a_ping(actions) && matches!(self.session.want(), Want::Tail(_));
            if !waits && let Some(closing) = self.perform(actions).await {
                return Some(closing);
            }
            match self.session.want() {
                Want::Tail(after) if may_read => event = self.read_tail(after),
                _ => break,
            }
        }
        None
    }

    /// Ends the session, or what it is told: stopping comes first. Owned, so that it can be waited for while other things happen.
    fn interruption(&self) -> impl Future<Output = Event> + Send + use<S> {
        let (inner, seat, mut watching) = (self.inner.clone(), self.seat.clone(), self.watching.clone());
        let entry = self.listed.entry();
        let is_let_in = self.session.client().is_some();
        let (identity, grant) = (self.session.identity().cloned(), self.session.grant().cloned());
        let until = self.session.expires_at();
        async move {
            let (access, policy) = watching.parts();
            let identity = identity.as_ref();
            tokio::select! {
                biased;
                () = inner.leaving.turn_of(seat.number) => {
                    Event::Stop { retry_ms: inner.retry_ms(seat.number) }
                }
                () = seat.replaced.cancelled() => ended(&entry, &inner, &seat),
                refusal = Watching::refused(access, &inner.access, identity, until), if is_let_in => {
                    Event::Unauthorized(refusal)
                }
                grant = Watching::regranted(policy, identity, grant.as_ref()), if is_let_in => {
                    Event::Regranted(grant)
                }
                () = seat.wake.notified() => Event::Woken,
            }
        }
    }

    /// What happens next. A busy stream and a busy client take turns.
    async fn next_event(
        &mut self,
        timer: Pin<&mut tokio::time::Sleep>,
        interruption: Pin<&mut impl Future<Output = Event>>,
    ) -> Event {
        let tail = match self.session.want() {
            Want::Tail(after) => Some(after),
            Want::Private(after) => {
                self.begin_private_read(after);
                None
            }
            Want::Nothing => None,
        };
        let clients_turn = tail.is_none() || !self.client_was_last;
        let listens = self.session.listens();
        let Actor { gate, socket, operations, done, steps, .. } = self;
        let behind = async {
            tokio::select! {
                biased;
                event = interruption => Behind::Event(event),
                // Before the client, which may never be silent.
                () = timer => Behind::Event(Event::Tick),
                incoming = socket.receive(), if clients_turn => Behind::Incoming(incoming),
                Some(event) = async { done.pop_front() } => Behind::Event(event),
                Some(event) = operations.next(), if !operations.is_empty() => Behind::Event(event),
                Some(step) = next_step(steps.as_mut()) => Behind::Event(Event::Hydration(step)),
            }
        };
        let event = tokio::select! {
            biased;
            behind = gate.pass(behind) => {
                self.is_altered = true;
                match behind {
                    Behind::Event(event) => event,
                    Behind::Incoming(incoming) => {
                        self.client_was_last = true;
                        self.incoming(incoming)
                    }
                }
            }
            () = std::future::ready(()), if tail.is_some() => self.read_tail(tail.unwrap_or_default()),
            () = changed(self.scope_changed.as_mut()), if listens == Listens::Scope => Event::Woken,
            () = changed(Some(&mut self.head_changed)), if listens == Listens::Head => Event::Woken,
        };
        if !clients_turn {
            // It was not asked.
            self.gate.open();
        }
        event
    }

    /// Who has been verified is looked at once more, in the moment in which it counts: the rules, and what was revoked, may have
    /// changed meanwhile.
    fn admitted(&mut self, event: Event) -> Event {
        let Event::Authenticated(Ok(Admitted { identity, .. })) = event else { return event };
        if let Err(refusal) = watching::holds(&self.inner.access, Some(&identity)) {
            return Event::Authenticated(Err(refusal));
        }
        if let Err(closing) = self.listed.identify(&identity) {
            return Event::TooMany(closing);
        }
        Event::Authenticated(Ok(Admitted { grant: self.inner.grant(Some(&identity)), identity }))
    }

    /// The audit counts those who did not come in.
    fn tell_of_refusal(&self, closing: Closing) {
        let is_refusal =
            matches!(closing, Closing::Unauthorized(_) | Closing::NotAllowed(_) | Closing::TooMany(_));
        if let Some(code) = closing.code().filter(|_| is_refusal && !self.has_begun) {
            let client_id = self.session.client().map(|client| &*client.id);
            let identity = self.session.identity().map(Arc::as_ref);
            self.inner.audit.refused(Who { identity, client_id, address: self.listed.address() }, code);
        }
    }

    fn stop(&self) -> Event {
        Event::Stop { retry_ms: self.inner.retry_ms(self.seat.number) }
    }

    fn incoming(&self, incoming: Incoming) -> Event {
        let config = &self.inner.config;
        match incoming {
            Incoming::Gone => Event::Gone,
            Incoming::Alive => Event::Control,
            Incoming::Binary => {
                Event::Frame(Err(Refusal::new(Code::FrameInvalid, "frames are text, not binary".to_owned())))
            }
            Incoming::Malformed(code) => Event::Frame(Err(Refusal::new(
                code,
                "what came is no WebSocket message, or too large".to_owned(),
            ))),
            Incoming::Text(text) if text.len() > config.client_frame_bytes_max => {
                let message =
                    format!("{} bytes, and {} are allowed", text.len(), config.client_frame_bytes_max);
                Event::Frame(Err(Refusal::new(Code::FrameTooLarge, message)))
            }
            Incoming::Text(text) => Event::Frame(client::parse(&text, config.subscriptions_max)),
        }
    }

    fn read_tail(&mut self, after: Position) -> Event {
        self.client_was_last = false;
        let Some(attachment) = &self.attachment else { return Event::Woken };
        // Both before the reading: what comes after it wakes the session again, and what the tail then does not have at
        // or below the router's position does not exist.
        if let Some(changed) = &mut self.scope_changed {
            changed.mark_unchanged();
        }
        let routed = self.inner.registry.routed();
        let items = attachment.scope.read(after, BATCH_BYTES_MAX);
        if let Ok(items) = &items
            && self.subprotocol.takes_packed()
        {
            attachment.scope.pack(items);
        }
        let oldest = items.as_ref().ok().and_then(|items| items.first());
        self.oldest = oldest.map(|item| (item.routed_at, item.committed_at_us));
        Event::Tail { items, routed }
    }

    fn begin_private_read(&mut self, after: Position) {
        self.session.reading();
        self.is_altered = true;
        self.gate.open();
        // Before the reading: what comes after it wakes the session again.
        self.head_changed.mark_unchanged();
        let (inner, grant) = (self.inner.clone(), self.session.grant().cloned().unwrap_or_default());
        self.operations.push(Box::pin(async move {
            let read = private::read(&inner, after, &grant).await;
            Event::Private(read.map_err(|error| failed("read history for a session", &error)))
        }));
    }

    /// Performs actions in their order; frames that follow each other are written together.
    async fn perform(&mut self, actions: &mut Vec<Action>) -> Option<Closing> {
        let mut outbox = Vec::new();
        let mut closing = None;
        for action in actions.drain(..) {
            self.is_altered |= !matches!(action, Action::Send(_) | Action::SendPacked(_));
            match action {
                Action::Send(frame) => outbox.push(Outgoing::Frame(frame)),
                Action::SendPacked(packed) => outbox.push(Outgoing::Packed(packed)),
                Action::Ping => outbox.push(Outgoing::Ping),
                Action::Attach(selection) => {
                    if let Err(no_room) = self.attach(&selection) {
                        let code = no_room.code();
                        let frame = server::error(code, code.explanation().title, None, true);
                        outbox.push(Outgoing::Frame(frame));
                        closing = Some(no_room.closing());
                        break;
                    }
                }
                Action::Authenticate(token) => self.authenticate(token),
                Action::ListTables => self.list_tables(),
                Action::Resolve(after) => self.resolve(after),
                Action::AskFrontier => self.ask_frontier(),
                Action::Hydrate(order) => self.hydrate(order),
                Action::Record(cursor) => self.record(cursor),
                Action::Close(reason) => closing = Some(reason),
            }
        }
        match self.write(outbox, closing.is_some()).await {
            None => closing,
            // The frames that could not be written are lost with the connection; the client resumes from its cursor.
            Some(interruption) => {
                if matches!(interruption, Event::Unauthorized(_) | Event::PermissionChanged) {
                    self.socket.retract();
                }
                let mut last_words = Vec::new();
                self.session.apply(interruption, self.now(), &mut last_words);
                let frames = last_words.iter().filter_map(|action| match action {
                    Action::Send(frame) => Some(Outgoing::Frame(frame.clone())),
                    _ => None,
                });
                self.write(frames.collect(), true).await;
                let reason = last_words.iter().find_map(|action| match action {
                    Action::Close(reason) => Some(*reason),
                    _ => None,
                });
                closing.or(reason).or(Some(Closing::Gone))
            }
        }
    }

    /// Writes frames, bounded in time; tells what came in between. The `last` frames of a session are only tried.
    async fn write(&mut self, outbox: Vec<Outgoing>, last: bool) -> Option<Event> {
        if outbox.is_empty() {
            return None;
        }
        tracing::trace!(target: STAGE, stage = "writing");
        let frames = outbox.len() as u64;
        let bytes = outbox.iter().map(Outgoing::len).sum::<usize>() as u64;
        let timeout = if last { CLOSE_TIMEOUT } else { self.inner.config.write_timeout };
        let (leaving, replaced) = (&self.inner.leaving, &self.seat.replaced);
        let (identity, grant) = (self.session.identity(), self.session.grant());
        let (access, policy) = self.watching.parts();
        let until = self.session.expires_at();
        let is_watched = !last && self.session.client().is_some();
        let mut had_to_wait = false;
        let written = tokio::select! {
            biased;
            written = outbox::write_all(&mut self.socket, outbox, timeout, &mut had_to_wait) => written,
            never = keep_on(&mut self.operations, &mut self.done) => match never {},
            () = leaving.turn_of(self.seat.number), if !last => return Some(self.stop()),
            () = replaced.cancelled(), if !last => {
                return Some(ended(&self.listed.entry(), &self.inner, &self.seat));
            }
            refusal = Watching::refused(access, &self.inner.access, identity, until), if is_watched => {
                return Some(Event::Unauthorized(refusal));
            }
            _ = Watching::regranted(policy, identity, grant), if is_watched => return Some(Event::PermissionChanged),
        };
        match written {
            Err(Unwritten::TimedOut) => return Some(Event::WriteTimedOut),
            Err(Unwritten::Broken) => return Some(Event::Gone),
            Ok(()) => {}
        }
        if had_to_wait {
            self.is_altered = true;
            // It made room by reading. Its pong may stand behind megabytes that it has yet to read.
            self.session.apply(Event::Heard, self.now(), &mut Vec::new());
        }
        self.inner.metrics.frames.increment(frames);
        self.inner.metrics.bytes.increment(bytes);
        self.sent_bytes += bytes;
        if let Some((routed_at, committed_at_us)) = self.oldest.take() {
            let latency = clock::now().saturating_duration_since(routed_at);
            self.inner.metrics.delivered(latency, self.inner.clock.unix_us().saturating_sub(committed_at_us));
        }
        None
    }

    /// Enters the scope of a selection; where there is no room for it, the session ends.
    fn attach(&mut self, selection: &Selection) -> Result<(), NoRoom> {
        let Some(client) = self.session.client() else { return Ok(()) };
        let attachment = match self.inner.registry.attach(selection, client) {
            // What it has until now is given back first: it may want less.
            Err(NoRoom::Together) if self.attachment.take().is_some() => {
                self.inner.registry.attach(selection, client)?
            }
            attached => attached?,
        };
        self.numbered = self.listed.belongs_to(client).or(self.numbered.take());
        self.scope_changed = Some(attachment.scope.watch());
        let joined_at = attachment.joined_at;
        self.attachment = Some(attachment);
        self.session.apply(Event::Attached(joined_at), self.now(), &mut Vec::new());
        Ok(())
    }

    fn now(&self) -> Now {
        now(&self.inner)
    }

    /// Shows operators where the session is.
    fn note(&mut self) {
        self.gauge.change(self.session.state());
        if self.session.has_begun() {
            self.listed.arrived();
        }
        self.has_begun |= self.session.has_begun() && self.session.state() != "closing";
        self.listed.note(|standing| {
            // Whose it is it says once.
            if standing.client.is_none() {
                standing.client = self.session.client().map(Whose::of);
            }
            standing.state = self.session.state();
            standing.cursor = self.session.cursor();
            standing.acked = self.session.acked();
            standing.sent_bytes = self.sent_bytes;
        });
    }
}

fn is_nothing_but_a_ping(actions: &[Action]) -> bool {
    actions.iter().all(|action| matches!(action, Action::Ping))
}

/// Why a session ends that somebody else has ended.
fn ended(entry: &Entry, inner: &Inner, seat: &Seat) -> Event {
    match entry.is_dismissed() {
        true => Event::Stop { retry_ms: inner.retry_ms(seat.number) },
        false => Event::Replaced,
    }
}

/// Lets operations go on, without end: one that reads history may hold what other sessions wait for, and the client may be slow.
async fn keep_on(
    operations: &mut FuturesUnordered<BoxFuture<'static, Event>>,
    done: &mut VecDeque<Event>,
) -> Infallible {
    while let Some(event) = operations.next().await {
        done.push_back(event);
    }
    std::future::pending().await
}

/// The next step of the snapshot that runs; never, when none runs.
async fn next_step(steps: Option<&mut mpsc::Receiver<Step>>) -> Option<Step> {
    match steps {
        Some(steps) => steps.recv().await,
        None => std::future::pending().await,
    }
}

/// Resolves when the value changes; never, when there is none or its owner is gone.
async fn changed<T>(watched: Option<&mut watch::Receiver<T>>) {
    let known = match watched {
        Some(watched) => watched.changed().await.is_ok(),
        None => false,
    };
    if !known {
        std::future::pending::<()>().await;
    }
}

fn now(inner: &Inner) -> Now {
    Now { instant: clock::now(), unix_us: inner.clock.unix_us() }
}
