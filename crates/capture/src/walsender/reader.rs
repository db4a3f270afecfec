//! The thread that reads the walsender: takes messages off the socket, hands them on in blocks, and reports the durable
//! end on its own timer, whatever happens behind it.
//!
//! The loop: report if it is due; hand on what was read, and while nobody takes it, wait without reading (the kernel's
//! buffers fill and the walsender waits: that is back-pressure); else read. It understands keepalives, errors and notices;
//! everything else is for the loop behind the channel.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use postgres_protocol::message::backend as tag;
use postgres_protocol::message::frontend;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use waldelta_wal::{Envelope, STAGE, StatusUpdate};

use super::connection::CopyBoth;
use super::error::Error;
use super::frames::{FrameBuffer, Frames};
use super::link::{Demand, Link};
use super::server_error::ServerError;
use super::socket::Socket;
use super::streaming::Timing;

/// How long a read waits when something may have to be reported soon, and when not.
pub(super) const READ_WAIT: Duration = Duration::from_millis(10);
pub(super) const READ_WAIT_IDLE: Duration = Duration::from_millis(100);
/// Something was handed on less than this ago, so the durable end is about to move.
const LIVELY_TIME: Duration = Duration::from_millis(500);
/// Reports of a moved durable end keep this distance: each makes the source write its slot's state.
const REPORT_GAP: Duration = Duration::from_millis(10);
/// The walsender sends each message in a packet of its own and wakes us for each. While history is being written nothing
/// read could be stored at once, so a short wait costs no latency and makes many reads one: this part of what the append has lasted,
/// because it is likely to last as long again, within these bounds.
const COALESCE_PART: u32 = 8;
const COALESCE_WAIT_MIN: Duration = Duration::from_micros(50);
const COALESCE_WAIT_MAX: Duration = Duration::from_millis(1);
/// A read that gave less than this did not find a full buffer.
const SHORT_READ_BYTES: usize = 16 << 10;
/// How long the server may take to end the streaming when asked to.
pub(super) const FINISH_TIME_MAX: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Reader {
    socket: Socket,
    incoming: FrameBuffer,
    link: Arc<Link>,
    blocks: mpsc::Sender<Bytes>,
    progress: Arc<AtomicU64>,
    timing: Timing,
    /// Read, not handed on yet.
    pending: Option<Bytes>,
    /// Ends the connection as soon as `pending` is handed on.
    ending: Option<Error>,
    reply_due: bool,
    read_wait: Duration,
    heard_at: Instant,
    handed_on_at: Instant,
    reported_at: Option<Instant>,
    /// Since when nobody takes `pending`, and what history had accepted then.
    blocked: Option<(Instant, u64)>,
}

impl Reader {
    pub(super) fn new(
        copy: CopyBoth,
        timing: Timing,
        link: Arc<Link>,
        blocks: mpsc::Sender<Bytes>,
        progress: Arc<AtomicU64>,
    ) -> Self {
        let now = Instant::now();
        Reader {
            socket: copy.socket,
            incoming: copy.incoming,
            link,
            blocks,
            progress,
            timing,
            pending: (!copy.first.is_empty()).then_some(copy.first),
            ending: None,
            reply_due: false,
            read_wait: Duration::ZERO,
            heard_at: now,
            handed_on_at: now,
            reported_at: None,
            blocked: None,
        }
    }

    /// Reads until the end, whichever it is.
    pub(super) fn run(mut self) -> Result<(), Error> {
        if let Some(first) = self.pending.take() {
            self.pending = self.look_through(first)?;
        }
        match self.stream() {
            // What an aborted socket says is of no interest.
            Err(_) if self.link.demand() == Demand::Abort => Ok(()),
            outcome => outcome,
        }
    }

    fn stream(&mut self) -> Result<(), Error> {
        loop {
            match self.link.demand() {
                Demand::Stream => {}
                Demand::Finish => return self.finish(),
                Demand::Abort => return Ok(()),
            }
            if self.is_report_due() {
                self.report()?;
            }
            if let Some(block) = self.pending.take() {
                match self.blocks.try_send(block) {
                    Ok(()) => self.note_handed_on(),
                    Err(TrySendError::Full(block)) => {
                        self.pending = Some(block);
                        self.wait_for_room()?;
                        continue;
                    }
                    Err(TrySendError::Closed(_)) => return Ok(()),
                }
            }
            if let Some(error) = self.ending.take() {
                return Err(error);
            }
            self.read()?;
        }
    }

    fn note_handed_on(&mut self) {
        let now = Instant::now();
        self.handed_on_at = now;
        if self.blocked.take().is_some() {
            // While the socket was not read nothing could be heard.
            self.heard_at = now;
        }
    }

    fn wait_for_room(&mut self) -> Result<(), Error> {
        let (now, progress) = (Instant::now(), self.progress.load(Ordering::Relaxed));
        match self.blocked {
            Some((since, seen)) if seen == progress => {
                let stalled = now - since;
                if stalled > self.timing.stall_max {
                    let stalled_ms = u64::try_from(stalled.as_millis()).unwrap_or(u64::MAX);
                    return Err(Error::Stalled { stalled_ms });
                }
            }
            _ => self.blocked = Some((now, progress)),
        }
        thread::park_timeout(READ_WAIT);
        Ok(())
    }

    fn read(&mut self) -> Result<(), Error> {
        let lively = self.handed_on_at.elapsed() < LIVELY_TIME || self.link.durable() != self.link.reported();
        let wait = if lively { READ_WAIT } else { READ_WAIT_IDLE.min(self.timing.report_interval) };
        let failed = |source| Error::Io { what: "read the walsender", source };
        if wait != self.read_wait {
            self.socket.set_read_timeout(wait).map_err(failed)?;
            self.read_wait = wait;
        }
        let count = match self.socket.read(self.incoming.spare()) {
            Ok(0) => return Err(Error::Closed),
            Ok(count) => count,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => return self.check_silence(),
                ErrorKind::Interrupted => return Ok(()),
                _ => return Err(failed(error)),
            },
        };
        self.heard_at = Instant::now();
        tracing::trace!(target: STAGE, stage = "received");
        self.incoming.note_read(count)?;
        if let Some(block) = self.incoming.take_whole() {
            self.pending = self.look_through(block)?;
        }
        if count < SHORT_READ_BYTES
            && let Some(lasts) = self.link.append_lasts()
        {
            thread::sleep((lasts / COALESCE_PART).clamp(COALESCE_WAIT_MIN, COALESCE_WAIT_MAX));
        }
        Ok(())
    }

    fn check_silence(&self) -> Result<(), Error> {
        let silent = self.heard_at.elapsed();
        if silent <= self.timing.silence_max {
            return Ok(());
        }
        Err(Error::Silent { silent_ms: u64::try_from(silent.as_millis()).unwrap_or(u64::MAX) })
    }

    /// Looks for what concerns the connection itself. What is left of the block may be handed on.
    fn look_through(&mut self, block: Bytes) -> Result<Option<Bytes>, Error> {
        let mut frames = Frames::new(block.clone());
        let mut end = block.len();
        loop {
            let begin = frames.at();
            let Some(frame) = frames.next_frame() else { break };
            match (frame.tag, frame.body.first()) {
                (tag::COPY_DATA_TAG, Some(b'k')) => {
                    if let Envelope::Keepalive { reply_requested: true, .. } = Envelope::parse(frame.body)? {
                        self.reply_due = true;
                    }
                }
                (tag::COPY_DATA_TAG, _) => {}
                (tag::ERROR_RESPONSE_TAG, _) => {
                    let source = ServerError::parse(frame.body);
                    // While streaming, "undefined object" is the publication; slots are looked up before.
                    self.ending = Some(if source.is("42704") {
                        Error::Publication(source)
                    } else {
                        Error::Streaming(source)
                    });
                }
                (tag::NOTICE_RESPONSE_TAG, _) => {
                    let notice = ServerError::parse(frame.body);
                    tracing::warn!(%notice, "the walsender says");
                    // From 18 on a missing publication is only a warning, and its changes are skipped for good. A
                    // keepalive behind it would say that there was nothing, and the slot would move past them.
                    if notice.severity == "WARNING" && (notice.is("55000") || notice.is("42704")) {
                        self.ending = Some(Error::Publication(notice));
                        end = begin;
                        break;
                    }
                }
                (tag::COPY_DONE_TAG | tag::COMMAND_COMPLETE_TAG, _) => {
                    self.ending.get_or_insert(Error::Closed);
                }
                _ => {}
            }
        }
        Ok((end > 0).then(|| block.slice(..end)))
    }

    fn is_report_due(&self) -> bool {
        let Some(reported_at) = self.reported_at else { return true };
        let since = reported_at.elapsed();
        self.reply_due
            || since >= self.timing.report_interval
            || (since >= REPORT_GAP && self.link.durable() != self.link.reported())
    }

    /// Tells the slot the durable end, and nothing else as flushed.
    fn report(&mut self) -> Result<(), Error> {
        let durable = self.link.durable();
        let update = StatusUpdate {
            written: self.link.received().max(durable),
            flushed: durable,
            applied: durable,
            at_us: wall_clock_us(),
            // A walsender that was told never to ask would never be heard of.
            reply_requested: self.heard_at.elapsed() > self.timing.silence_max / 2,
        };
        let mut message = BytesMut::new();
        let failed = |source| Error::Io { what: "report the durable end", source };
        frontend::CopyData::new(&update.encode()[..]).map_err(failed)?.write(&mut message);
        self.socket.write_all(&message).and_then(|()| self.socket.flush()).map_err(failed)?;
        self.link.set_reported(durable);
        self.reported_at = Some(Instant::now());
        self.reply_due = false;
        fail::fail_point!("capture::after_feedback");
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.report()?;
        let failed = |source| Error::Io { what: "end the streaming", source };
        let mut message = BytesMut::new();
        frontend::copy_done(&mut message);
        self.socket.write_all(&message).and_then(|()| self.socket.flush()).map_err(failed)?;
        self.socket.set_read_timeout(READ_WAIT).map_err(failed)?;
        let begun = Instant::now();
        // What still comes is dropped: it is sent again next time. Closing earlier could lose the last report.
        while begun.elapsed() < FINISH_TIME_MAX && !self.drop_until_ready()? {}
        message.clear();
        frontend::terminate(&mut message);
        self.socket.write_all(&message).and_then(|()| self.socket.flush()).map_err(failed)
    }

    /// Whether the server is done with the command.
    fn drop_until_ready(&mut self) -> Result<bool, Error> {
        match self.socket.read(self.incoming.spare()) {
            Ok(0) => return Err(Error::Closed),
            Ok(count) => self.incoming.note_read(count)?,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => return Ok(false),
                _ => return Err(Error::Io { what: "end the streaming", source: error }),
            },
        }
        let mut frames = self.incoming.take_whole().map(Frames::new).unwrap_or_default();
        while let Some(frame) = frames.next_frame() {
            if frame.tag == tag::READY_FOR_QUERY_TAG {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[expect(clippy::disallowed_methods, reason = "the protocol wants our time; nobody decides anything by it")]
fn wall_clock_us() -> i64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
