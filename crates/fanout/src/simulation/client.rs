//! A client: it comes, reads in its own manner, breaks off, and comes back from where it was or from an older copy. In the end it
//! stays until it has everything, and until the service lets it go.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};
use tokio_util::sync::CancellationToken;
use waldelta_testkit::Dice;

use super::copy::{Connection, Copy, Follows, Seen, Told};
use super::network::{self, Conditions, End, Link};
use super::world::{HEARTBEAT, WRITE_TIMEOUT, World};

/// One that reads, and whose network is no bottleneck, gets what is durable within this time, whoever else does not.
const DELAY_MAX: Duration = Duration::from_millis(2_500);
/// One that does not read is let go within this time: it is silent for three heartbeats, which is found out at the next, and
/// may be told why, and may answer that, for two seconds each.
const LET_GO_WITHIN: Duration =
    Duration::from_secs(4 * HEARTBEAT.as_secs() + WRITE_TIMEOUT.as_secs() + 2 * 2 + 1);

/// How it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Prompt,
    /// With a pause before each frame.
    Slow(Duration),
    /// With one pause before this frame.
    Stalls(u64, Duration),
    /// Not at all from this frame on.
    Never(u64),
}

/// How its connection ends, where it is not the service that ends it.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    Cut,
    Vanishes,
    Closes,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Report {
    /// Of everything that it was told, and when.
    pub hash: u64,
    pub connections: u64,
    pub let_go: u64,
    pub older_copies: u64,
    pub seen: Seen,
}

impl Report {
    /// Notes what a client was told, and when.
    fn trace(&mut self, at: Duration, what: &[u8]) {
        let mut hasher = DefaultHasher::new();
        (self.hash, at, what).hash(&mut hasher);
        self.hash = hasher.finish();
    }

    pub(super) fn add(&mut self, other: Report) {
        self.trace(Duration::ZERO, &other.hash.to_le_bytes());
        self.connections += other.connections;
        self.let_go += other.let_go;
        self.older_copies += other.older_copies;
        self.add_seen(other.seen);
    }

    fn add_seen(&mut self, seen: Seen) {
        let all = &mut self.seen;
        all.frames += seen.frames;
        all.transactions += seen.transactions;
        all.parts += seen.parts;
        all.snapshots += seen.snapshots;
        all.resets += seen.resets;
        all.left_out += seen.left_out;
        all.own_told += seen.own_told;
        all.shown += seen.shown;
        all.told_live += seen.told_live;
    }
}

/// Lives until the service has let it go for good; what was wrong otherwise.
pub(super) async fn run(world: Arc<World>, number: u64) -> Result<Report, String> {
    let mut dice = Dice::of(world.model.seed, &format!("client {number}"));
    let (follows, include_own) = (*dice.pick(&Follows::ALL), dice.once_in(4));
    let copy = Copy::new(format!("c{number}"), follows, include_own);
    let mut client = Client {
        world,
        number,
        dice,
        copy,
        older: None,
        report: Report::default(),
        has_all: false,
        is_wide: false,
        prompt_since: Instant::now(),
        stopping: CancellationToken::new(),
    };
    let wait = client.dice.ms(0, 1_500);
    tokio::time::sleep(wait).await;
    loop {
        if let Some(older) = client.older.clone()
            && client.dice.once_in(4)
            && !client.world.settles.is_cancelled()
        {
            client.copy = older;
            client.report.older_copies += 1;
        }
        let is_over = client.connect().await.map_err(|wrong| format!("client {number}: {wrong}"))?;
        if is_over {
            return Ok(client.report);
        }
        let wait = client.dice.ms(1, 700);
        tokio::time::sleep(wait).await;
    }
}

struct Client {
    world: Arc<World>,
    number: u64,
    dice: Dice,
    copy: Copy,
    /// What it had before.
    older: Option<Copy>,
    report: Report,
    /// It has everything that there will be.
    has_all: bool,
    /// Its network takes what there is at once.
    is_wide: bool,
    /// Since when it reads at once, if it does: what was there before may have waited for it.
    prompt_since: Instant,
    /// Cancelled when the process stops that serves it.
    stopping: CancellationToken,
}

type Socket = WebSocketStream<End>;

impl Client {
    fn manner(&mut self) -> Manner {
        if self.world.settles.is_cancelled() {
            return Manner::Prompt;
        }
        match self.dice.roll(10) {
            0 => Manner::Slow(self.dice.ms(1, 150)),
            1 => Manner::Stalls(self.dice.roll(30), self.dice.ms(300, 2_500)),
            2 => Manner::Never(self.dice.roll(30)),
            _ => Manner::Prompt,
        }
    }

    /// One connection; whether it was the last.
    async fn connect(&mut self) -> Result<bool, String> {
        let conditions = Conditions {
            delay_ms: *self.dice.pick(&[(0, 0), (1, 5), (5, 60), (20, 100)]),
            buffer_bytes: *self.dice.pick(&[300, 2_000, 16_384]),
            piece_bytes: *self.dice.pick(&[50, 1_000, 4_096]),
        };
        self.is_wide = conditions.buffer_bytes > 10_000 || conditions.delay_ms.1 == 0;
        let manner = self.manner();
        self.prompt_since = Instant::now();
        let (service, mine, link) = network::connect(conditions, &mut self.dice);
        let mut on = Connection::new(self.copy.at);
        let Some(stopping) = self.world.serve(service) else { return Ok(self.world.has_stopped()) };
        self.stopping = stopping;
        self.report.connections += 1;
        self.world.tell(|| format!("client {} comes, {manner:?}, {conditions:?}", self.number));
        let mut socket = WebSocketStream::from_raw_socket(mine, Role::Client, None).await;
        // What does not fit goes when it is read on.
        let _ = socket.send(Message::text(self.copy.hello().to_string())).now_or_never();
        let over = self.follow(&mut socket, &link, &mut on, manner).await;
        self.report.add_seen(on.seen);
        over
    }

    async fn follow(
        &mut self,
        socket: &mut Socket,
        link: &Link,
        on: &mut Connection,
        mut manner: Manner,
    ) -> Result<bool, String> {
        let mut until = Some(Instant::now() + self.dice.ms(20, 6_000));
        loop {
            if self.world.settles.is_cancelled() {
                if manner != Manner::Prompt {
                    self.prompt_since = Instant::now();
                }
                (until, manner) = (None, Manner::Prompt);
            }
            self.arrive()?;
            match manner {
                Manner::Slow(pause) => tokio::time::sleep(pause).await,
                Manner::Stalls(frame, pause) if frame == on.seen.frames => {
                    tokio::time::sleep(pause).await;
                    manner = Manner::Stalls(u64::MAX, pause);
                }
                Manner::Never(frame) if frame <= on.seen.frames => return self.never_reads(link).await,
                _ => {}
            }
            let settles = self.world.settles.clone();
            let message = tokio::select! {
                biased;
                () = settles.cancelled(), if until.is_some() => continue,
                () = tokio::time::sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {
                    self.leave(socket, link).await;
                    return Ok(false);
                }
                message = socket.next() => message,
            };
            match message {
                Some(Ok(Message::Text(text))) => self.take(socket, on, manner, &text)?,
                Some(Ok(Message::Close(close))) => {
                    let code = close.map_or(0, |close| u16::from(close.code));
                    self.report.trace(self.world.time(), &code.to_le_bytes());
                    // Its answer has to go.
                    let rest = async { while let Some(Ok(_)) = socket.next().await {} };
                    let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
                    return self.closed(code, manner);
                }
                Some(Ok(_)) => {}
                // Over a narrow network the last word may not have got through either.
                Some(Err(_)) | None if manner == Manner::Prompt && self.is_wide => {
                    return Err(format!("the connection has ended without a word: {message:?}"));
                }
                Some(Err(_)) | None => return Ok(false),
            }
        }
    }

    fn take(
        &mut self,
        socket: &mut Socket,
        on: &mut Connection,
        manner: Manner,
        text: &str,
    ) -> Result<(), String> {
        self.report.trace(self.world.time(), text.as_bytes());
        self.world.tell(|| format!("client {} at {:?}: {text}", self.number, self.copy.at));
        let was_live = on.live;
        let Told::Transaction(position) = self.copy.take(on, &self.world.model, text)? else { return Ok(()) };
        let durable = self.world.model.at(position).and_then(|commit| commit.durable.get().copied());
        if let (Some(durable), Some(live), Manner::Prompt) = (durable, was_live, manner)
            && durable > live.max(self.prompt_since)
            && self.is_wide
        {
            let delay = Instant::now() - durable;
            if delay > DELAY_MAX {
                return Err(format!("{position} came {delay:?} after it was durable"));
            }
        }
        if self.dice.once_in(8) {
            self.older = Some(self.copy.clone());
        }
        if self.dice.once_in(8) {
            let ack = serde_json::json!({"type": "ack", "cursor": position.to_string()});
            let _ = socket.send(Message::text(ack.to_string())).now_or_never();
        }
        Ok(())
    }

    /// Once it has everything, that is so.
    fn arrive(&mut self) -> Result<(), String> {
        let Some(end) = self.world.end.get().filter(|_| !self.has_all) else { return Ok(()) };
        if self.copy.at >= Some(*end) && self.copy.is_exact() {
            self.copy.check(&self.world.model)?;
            self.has_all = true;
            self.world.arrived(self.number);
        }
        Ok(())
    }

    async fn never_reads(&mut self, link: &Link) -> Result<bool, String> {
        let let_go = tokio::time::timeout(LET_GO_WITHIN, link.let_go.cancelled()).await;
        self.report.let_go += 1;
        self.report.trace(self.world.time(), b"let go");
        let_go.map(|()| false).map_err(|_| "one that does not read is not let go".to_owned())
    }

    async fn leave(&mut self, socket: &mut Socket, link: &Link) {
        match *self.dice.pick(&[Leaves::Cut, Leaves::Cut, Leaves::Vanishes, Leaves::Closes]) {
            Leaves::Cut => link.cut(),
            Leaves::Vanishes => socket.get_mut().vanish(),
            Leaves::Closes => {
                let _ = tokio::time::timeout(Duration::from_secs(1), socket.close(None)).await;
            }
        }
    }

    fn closed(&self, code: u16, manner: Manner) -> Result<bool, String> {
        match code {
            1012 if self.world.has_stopped() && self.has_all => Ok(true),
            1012 if self.stopping.is_cancelled() => Ok(false),
            // A database was out of reach, or a snapshot had to wait for too long.
            1013 => Ok(false),
            // To take in a run of frames may take longer than it may over a narrow network.
            4418 if manner != Manner::Prompt || !self.is_wide => Ok(false),
            _ => Err(format!("closed with {code}, {manner:?}")),
        }
    }
}
