//! Frames from the client, and the beginning of a session.

use super::*;
use crate::start::Start;
use crate::wire::client::Hello;
use crate::wire::server::Welcome;

impl Session {
    pub(super) fn frame(&mut self, frame: Result<ClientFrame, Refusal>, now: Now, out: &mut Vec<Action>) {
        self.control(now, out);
        if self.phase == Phase::Closing {
            return;
        }
        let awaiting = self.phase == Phase::AwaitingHello;
        match frame {
            Ok(ClientFrame::Unknown) => {}
            Ok(ClientFrame::Hello(hello)) if awaiting => self.hello(hello, now, out),
            Ok(ClientFrame::Hello(_)) => self.misplaced("hello may come only once", out),
            Ok(_) if awaiting => self.misplaced("hello must come first", out),
            Ok(ClientFrame::Ping(n)) => out.push(Action::Send(server::pong(n))),
            Ok(ClientFrame::Auth(token)) => self.auth(token, out),
            Ok(ClientFrame::Ack(after)) => self.acknowledge(after, out),
            Ok(ClientFrame::Subscribe(more)) => self.queue(SubscriptionChange::Add(more), out),
            Ok(ClientFrame::Unsubscribe(ids)) => self.queue(SubscriptionChange::Remove(ids), out),
            Err(refusal) => self.refuse(&refusal, awaiting, out),
        }
    }

    /// It lives; but who pings without end keeps others waiting as one does who says something without end.
    pub(super) fn control(&mut self, now: Now, out: &mut Vec<Action>) {
        self.heard_at = now.instant;
        if self.too_many_frames(now) {
            self.fail(Code::TooManyFrames, Closing::TooMany(Code::TooManyFrames), out);
        }
    }

    /// A frame that is not understood ends the session; a subscription or cursor that is not accepted only before hello.
    fn refuse(&mut self, refusal: &Refusal, awaiting: bool, out: &mut Vec<Action>) {
        let closing = match refusal.code {
            Code::FrameTooLarge => Closing::FrameTooLarge,
            Code::FrameInvalid => Closing::Refused(Code::FrameInvalid),
            code if awaiting => Closing::Refused(code),
            code => {
                let subscription = refusal.subscription.as_deref();
                out.push(Action::Send(server::error(code, &refusal.message, subscription, false)));
                return;
            }
        };
        self.fail_with(refusal.code, &refusal.message, refusal.subscription.as_deref(), closing, out);
    }

    fn misplaced(&mut self, message: &str, out: &mut Vec<Action>) {
        self.fail_with(Code::FrameInvalid, message, None, Closing::Refused(Code::FrameInvalid), out);
    }

    fn too_many_frames(&mut self, now: Now) -> bool {
        if now.instant > self.frames.0 + FRAMES_WINDOW {
            self.frames = (now.instant, 0);
        }
        self.frames.1 += 1;
        self.frames.1 > FRAMES_MAX
    }

    /// The client is let in: what it follows begins.
    pub(super) fn follow(&mut self, hello: Hello, grant: Grant, now: Now, out: &mut Vec<Action>) {
        self.snapshot_welcome = hello.snapshot;
        // A snapshot that broke off goes on only for a client that has nothing else.
        self.snapshot_from = hello.snapshot_from.filter(|_| hello.after.is_none());
        // Without a cursor it has nothing.
        self.access_before = hello.access.filter(|_| hello.after.is_some());
        self.selection = Selection::new(hello.subscriptions, grant);
        self.phase = Phase::Resolving;
        // The scope is entered before the head is read: nothing can fall between.
        out.push(Action::Attach(self.selection.clone()));
        self.ask_frontier(now, out);
        out.push(Action::Resolve(hello.after));
    }

    pub(super) fn begin(
        &mut self,
        extent: Extent,
        after: Option<Option<Position>>,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        if self.phase != Phase::Resolving {
            return;
        }
        let start = self.start_with(extent.start(after, self.snapshot_welcome));
        if let Start::Refuse(reason) = start {
            let message =
                format!("the cursor cannot be resumed ({}) and a snapshot is not wanted", reason.as_str());
            self.fail_with(Code::CursorNotResumable, &message, None, Closing::NotResumable, out);
            return;
        }
        self.come_back(&start);
        out.push(Action::Send(server::welcome(&Welcome {
            session: &session_name(self.seat.number),
            subprotocol: self.subprotocol,
            head: extent.head,
            floor: extent.floor,
            snapshot: matches!(start, Start::Snapshot(_)),
            heartbeat: self.rules.heartbeat_interval,
            access: &self.access(),
        })));
        match start {
            Start::Resume(from) => {
                (self.cursor, self.at, self.told) = (from, from, from);
                self.phase = Phase::CatchingUp;
                self.change_subscriptions(out);
            }
            Start::Snapshot(reason) => self.begin_anew(reason, &extent, out),
            Start::Refuse(_) => {}
        }
        self.warn_of_expiry(now, out);
    }
}

/// A session's name for people.
pub(crate) fn session_name(number: u64) -> String {
    format!("s{number}")
}
