//! The stream as an event stream (`text/event-stream`, the HTML standard, "Server-sent events") or as lines of JSON.
//!
//! The web server asks for the next piece when the client has taken the one before, so no more than that is in memory. A client
//! that takes nothing is let go by the listener, which bounds how long its socket may stand still.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;
use waldelta_history::Head;
use waldelta_wal::{Code, Position};

use super::follow::{Follower, Read, Told, kind_of};
use super::request::{Form, Request};
use super::{Seat, Stays};
use crate::clients::{NOTE_EVERY, Visit};
use crate::http::problem::Problem;
use crate::http::term::{self, Term};
use crate::start::Reset;
use crate::wire::json::write_text;
use crate::wire::server;

/// For a proxy that would otherwise gather an answer before it hands it on.
const UNBUFFERED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

/// Answers with everything after `after`; `head` is where history ends at least.
pub(super) fn respond(stays: Stays, request: Request, after: Position, head: Position) -> Response {
    let kind = match request.form {
        Form::EventStream => "text/event-stream",
        Form::Page | Form::Lines => "application/x-ndjson",
    };
    let stream = Stream::new(stays, request, after, head);
    let pieces = futures_util::stream::unfold(stream, |mut stream| async move {
        stream.next().await.map(|piece| (Ok::<_, Infallible>(piece), stream))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        UNBUFFERED,
    ];
    (headers, Body::from_stream(pieces)).into_response()
}

/// An event stream that ends at once, and tells why and when to come back.
pub(super) fn come_back(problem: &Problem, retry_ms: u64) -> Response {
    let body = format!(": {}\nretry: {retry_ms}\n\n", problem.code.as_str());
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, body).into_response()
}

/// A client that follows.
struct Stream {
    seat: Seat,
    follower: Follower,
    /// For how long whoever follows may.
    term: Term,
    visit: Option<Visit>,
    noted_at: Instant,
    form: Form,
    heads: watch::Receiver<Head>,
    /// When it ends, once it has caught up; never for an event stream.
    until: Option<Instant>,
    /// When something has to be sent again, so that nobody on the way takes the connection for dead.
    quiet_until: Instant,
    /// The last cursor that the client was told.
    cursor: Position,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    CatchingUp,
    Live,
    Ended,
}

impl Stream {
    fn new(stays: Stays, request: Request, after: Position, head: Position) -> Self {
        let Stays { seat, term, visit } = stays;
        let inner = Arc::clone(&seat.inner);
        let now = Instant::now();
        Stream {
            form: request.form,
            heads: inner.history.feed().watch(),
            until: (request.form == Form::Lines).then(|| now + request.wait),
            quiet_until: now + inner.config.heartbeat_interval,
            cursor: after,
            phase: Phase::Opening,
            follower: Follower::new(inner, request, after, head),
            term,
            visit,
            noted_at: now,
            seat,
        }
    }

    /// What is to be sent next; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        self.note();
        match self.phase {
            Phase::Ended => return None,
            Phase::Opening => {
                self.phase = Phase::CatchingUp;
                if self.form == Form::EventStream {
                    return Some(self.opening());
                }
            }
            Phase::CatchingUp | Phase::Live => {}
        }
        loop {
            if self.seat.inner.closing.is_cancelled() {
                return Some(self.stop());
            }
            // Also where there is always more: the source may be quicker than the client.
            if self.phase == Phase::Live && self.until.is_some_and(|until| until <= Instant::now()) {
                return self.finish();
            }
            // Noted as seen before reading: what comes meanwhile wakes it again.
            self.heads.borrow_and_update();
            let read = self.follower.read().await;
            if let Some(code) = self.term.over() {
                return Some(self.fail(&term::problem(code)));
            }
            match read {
                Ok(Read::Some(told)) if !told.is_empty() => return Some(self.write(&told)),
                Ok(Read::Some(_)) if self.quiet_until <= Instant::now() => return Some(self.beat()),
                Ok(Read::Some(_)) => continue,
                Ok(Read::Exhausted) => {}
                Ok(Read::Lost(reason)) => return Some(self.lose(reason)),
                Err(problem) => return Some(self.fail(&problem)),
            }
            let has_caught_up = self.follower.has_caught_up();
            if has_caught_up && self.phase == Phase::CatchingUp {
                self.phase = Phase::Live;
                let at = self.follower.position();
                return Some(self.write(&[Told { frame: server::live(at), cursor: Some(at) }]));
            }
            let until = self.until.filter(|_| has_caught_up);
            if until.is_some_and(|until| until <= Instant::now()) {
                return self.finish();
            }
            let wake = until.map_or(self.quiet_until, |until| until.min(self.quiet_until));
            tokio::select! {
                () = self.seat.inner.closing.cancelled() => {}
                // Looked at above.
                _over = self.term.ends() => {}
                changed = self.heads.changed() => if changed.is_err() { return Some(self.stop()) },
                () = tokio::time::sleep_until(wake) => if self.quiet_until <= Instant::now() {
                    return Some(self.beat());
                },
            }
        }
    }

    /// The client is still here.
    fn note(&mut self) {
        if let Some(visit) = &self.visit
            && self.noted_at.elapsed() >= NOTE_EVERY
        {
            self.noted_at = Instant::now();
            self.seat.inner.clients.visited(visit.clone());
        }
    }

    /// The time that was asked for is over.
    fn finish(&mut self) -> Option<Bytes> {
        self.phase = Phase::Ended;
        (self.cursor < self.follower.position()).then(|| self.beat())
    }

    /// When to come back after a break is told at once: those who are cut off together do not come back together.
    fn opening(&mut self) -> Bytes {
        let mut out = Vec::new();
        write_text(&mut out, format_args!("retry: {}\n\n", self.retry_ms()));
        out.into()
    }

    /// The client takes note of the cursor, where that has moved; else it only sees that somebody is there.
    fn beat(&mut self) -> Bytes {
        let at = self.follower.position();
        if self.form == Form::EventStream && at == self.cursor {
            self.quiet_until = Instant::now() + self.seat.inner.config.heartbeat_interval;
            return Bytes::from_static(b": waiting\n\n");
        }
        self.write(&[Told { frame: server::heartbeat(at, now_us()), cursor: Some(at) }])
    }

    fn stop(&mut self) -> Bytes {
        self.phase = Phase::Ended;
        match self.form {
            Form::EventStream => {
                let mut out = Vec::new();
                let retry_ms = self.retry_ms();
                write_text(&mut out, format_args!(": {}\nretry: {retry_ms}\n\n", Code::Stopping.as_str()));
                out.into()
            }
            Form::Page | Form::Lines => {
                let frame = server::goaway(self.retry_ms());
                self.write(&[Told { frame, cursor: None }])
            }
        }
    }

    fn lose(&mut self, reason: Reset) -> Bytes {
        self.phase = Phase::Ended;
        self.write(&[Told { frame: server::reset(reason), cursor: None }])
    }

    fn fail(&mut self, problem: &Problem) -> Bytes {
        self.phase = Phase::Ended;
        let frame = server::error(problem.code, &problem.detail, None, true);
        self.write(&[Told { frame, cursor: None }])
    }

    fn write(&mut self, told: &[Told]) -> Bytes {
        self.quiet_until = Instant::now() + self.seat.inner.config.heartbeat_interval;
        let mut out = Vec::with_capacity(told.iter().map(|one| one.frame.len() + 80).sum());
        for one in told {
            self.cursor = one.cursor.unwrap_or(self.cursor);
            match self.form {
                Form::EventStream => write_event(&mut out, one),
                Form::Page | Form::Lines => {
                    write_in_a_line(&mut out, &one.frame);
                    out.push(b'\n');
                }
            }
        }
        let metrics = &self.seat.inner.metrics;
        metrics.frames.increment(told.len() as u64);
        metrics.bytes.increment(out.len() as u64);
        out.into()
    }

    fn retry_ms(&self) -> u64 {
        let inner = &self.seat.inner;
        inner.retry_ms(inner.number())
    }
}

fn write_event(out: &mut Vec<u8>, Told { frame, cursor }: &Told) {
    if let Some(cursor) = cursor {
        write_text(out, format_args!("id: {cursor}\n"));
    }
    write_text(out, format_args!("event: {}\ndata: ", kind_of(frame)));
    write_in_a_line(out, frame);
    out.extend_from_slice(b"\n\n");
}

/// A value of type json is told as it was written, with its line breaks: outside of strings, where a blank is as good.
fn write_in_a_line(out: &mut Vec<u8>, frame: &str) {
    let from = out.len();
    out.extend_from_slice(frame.as_bytes());
    out[from..].iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
}

/// For people: no client compares it with anything.
#[expect(clippy::disallowed_methods, reason = "a connection owns its time, as a session's socket does")]
fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::position;

    #[test]
    fn an_event_is_a_frame_with_its_type_and_cursor() {
        let mut out = Vec::new();
        write_event(&mut out, &Told { frame: server::live(position(7)), cursor: Some(position(7)) });
        write_event(&mut out, &Told { frame: "{\"type\":\"tx\",\r\n\"a\":\"\\n\"}".into(), cursor: None });
        let expected = "id: 00000001-0000000000000007-ffffffff\nevent: live\n\
             data: {\"type\":\"live\",\"cursor\":\"00000001-0000000000000007-ffffffff\"}\n\n\
             event: tx\ndata: {\"type\":\"tx\",  \"a\":\"\\n\"}\n\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
