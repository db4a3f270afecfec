//! `GET /v1/changes`: what comes after a cursor, as one page of JSON; with `wait`, as a long poll.
//!
//! A client of this is always catching up: its own changes are in the page, marked `own`.

mod request;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use waldelta_history::{Page, Part, ReadLimit};
use waldelta_wal::{Code, Operation, Position};

use super::problem::Problem;
use crate::error::Error;
use crate::inner::Inner;
use crate::session::delivery::{Delivery, Recipient};
use crate::start::Reset;
use crate::stretch::Stretch;
use crate::subscription::reset_table;
use crate::wire::client::After;
use crate::wire::json::write_text;
use crate::wire::server;

/// Bytes of images in one answer, about.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of images read at once.
const READ_BYTES_MAX: usize = 256 * 1024;
/// Changes that are looked through for one answer: where few are wanted, the answer comes with a cursor to go on from.
const SCANNED_MAX: usize = 50_000;

pub(crate) async fn changes(State(inner): State<Arc<Inner>>, uri: Uri) -> Response {
    match answer(&inner, &uri).await {
        Ok(body) => {
            let json = HeaderValue::from_static("application/json");
            (
                [(header::CONTENT_TYPE, json), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))],
                body,
            )
                .into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

async fn answer(inner: &Inner, uri: &Uri) -> Result<Vec<u8>, Problem> {
    let request = request::parse(uri)?;
    let (after, known_head) = begin(inner, request.after).await?;
    let waits = !request.wait.is_zero();
    // As many may wait as sessions may be connected.
    let _permit = match waits {
        true => Some(inner.polls.try_acquire().map_err(|_| {
            Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                Code::TooManySessions,
                "too many requests wait already",
            )
        })?),
        false => None,
    };
    let deadline = tokio::time::Instant::now() + request.wait;
    let mut heads = inner.history.feed().watch();
    let mut answer = Answer::new(after);
    loop {
        let head = heads.borrow_and_update().cursor().max(known_head);
        answer.fill(inner, &request, head).await?;
        let nothing = answer.changes == 0 && answer.transactions.is_empty() && !answer.has_more;
        if !(nothing && waits) {
            return Ok(answer.body(head));
        }
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => return Ok(answer.body(head)),
            () = inner.closing.cancelled() => return Ok(answer.body(head)),
            changed = heads.changed() => if changed.is_err() { return Ok(answer.body(head)) },
        }
    }
}

/// Where the page begins, after the cursor or at the oldest change there is; and the head.
async fn begin(inner: &Inner, after: Option<After>) -> Result<(Position, Position), Problem> {
    let cursor = match after {
        None => None,
        Some(After::Cursor(cursor)) => Some(Some(cursor)),
        Some(After::Lsn(lsn)) => Some(inner.history.cursor_of_lsn(lsn).await.map_err(unavailable)?),
    };
    let extent = inner.extent(cursor.flatten()).await.map_err(|error| Problem::unavailable(&error))?;
    let resumed = match cursor {
        None => Ok(extent.floor),
        Some(Some(cursor)) => extent.resume(cursor, false),
        Some(None) => Err(Reset::EpochChanged),
    };
    resumed.map(|after| (after, extent.head)).map_err(not_resumable)
}

fn not_resumable(reason: Reset) -> Problem {
    let detail = format!("the cursor cannot be resumed: {}", reason.as_str());
    Problem::new(StatusCode::GONE, Code::CursorNotResumable, detail)
}

fn unavailable(error: waldelta_history::Error) -> Problem {
    Problem::unavailable(&Error::from(error))
}

/// An answer that is being filled.
struct Answer {
    /// Everything up to here is in it or was looked through.
    at: Position,
    /// The last cursor that is told in it.
    told: Position,
    /// Frames, as the WebSocket has them.
    transactions: Vec<axum::extract::ws::Utf8Bytes>,
    /// Shapes that tables have from a place in it on.
    schemas: Vec<axum::extract::ws::Utf8Bytes>,
    /// Places up to which changes of a table do not add up to its rows.
    resets: Vec<axum::extract::ws::Utf8Bytes>,
    changes: usize,
    scanned: usize,
    bytes: usize,
    has_more: bool,
}

impl Answer {
    fn new(after: Position) -> Self {
        Answer {
            at: after,
            told: after,
            transactions: Vec::new(),
            schemas: Vec::new(),
            resets: Vec::new(),
            changes: 0,
            scanned: 0,
            bytes: 0,
            has_more: false,
        }
    }

    /// Reads up to `head` or to the bounds of the answer.
    async fn fill(
        &mut self,
        inner: &Inner,
        request: &request::Request,
        head: Position,
    ) -> Result<(), Problem> {
        // Shapes are told where they change, beside the transactions.
        let mut delivery = Delivery::without_shapes();
        if !self.at.is_whole() {
            // The page before told a part of this transaction: the client waits for its end.
            delivery.goes_on();
        }
        self.has_more = self.at < head;
        while self.has_more
            && self.changes < request.limit
            && self.bytes < ANSWER_BYTES_MAX
            && self.scanned < SCANNED_MAX
        {
            let stretch = Stretch::after(self.at, head, &inner.history).await.map_err(unavailable)?;
            let upto = match stretch {
                Stretch::Upto(upto) => upto,
                Stretch::Seam(seam) => {
                    self.at = seam;
                    self.has_more = self.at < head;
                    continue;
                }
                // Another history has begun meanwhile. What is there is told; the next request learns of it.
                Stretch::Lost if self.has_frames() => return Ok(()),
                Stretch::Lost => return Err(not_resumable(Reset::EpochChanged)),
            };
            let changes_max = u32::try_from(request.limit - self.changes).unwrap_or(u32::MAX);
            let limit = ReadLimit { changes_max, bytes_max: READ_BYTES_MAX };
            let page = {
                let _permit = inner.reads.acquire().await;
                inner.history.read_after(self.at, upto, limit).await
            };
            inner.metrics.catch_up_reads.increment(1);
            self.take(page.map_err(unavailable)?, upto, request, &mut delivery)?;
            self.has_more = self.at < head;
        }
        Ok(())
    }

    fn has_frames(&self) -> bool {
        !(self.transactions.is_empty() && self.schemas.is_empty() && self.resets.is_empty())
    }

    fn take(
        &mut self,
        page: Page,
        upto: Position,
        request: &request::Request,
        delivery: &mut Delivery,
    ) -> Result<(), Problem> {
        let page_ends = !page.has_more || page.parts.is_empty();
        for part in page.parts {
            self.scanned += part.changes.len();
            self.take_shapes(&part, request);
            self.take_resets(&part, request);
            let to = Recipient {
                client_id: &request.client_id,
                gets_own: true,
                selection: &request.selection,
                prev: self.told,
            };
            let told = delivery
                .frames(to, &part.head, &part.changes, part.last)
                .map_err(|error| Problem::unavailable(&Error::from(error)))?;
            let whole = part.head.position();
            self.at = match part.changes.last() {
                Some(change) if !part.last => Position { index: change.seq, ..whole },
                _ => whole,
            };
            self.changes += part.changes.iter().filter(|change| request.selection.wants(change)).count();
            if told.has_tx {
                self.told = self.at;
                self.bytes += told.frames.iter().map(|frame| frame.len()).sum::<usize>();
                self.transactions.extend(told.frames);
            }
        }
        if page_ends {
            self.at = upto.max(self.at);
        }
        Ok(())
    }

    fn take_resets(&mut self, part: &Part, request: &request::Request) {
        for change in part.changes.iter().filter(|change| request.selection.wants(change)) {
            if let Some(table) = reset_table(change) {
                let cursor = Position { index: change.seq, ..part.head.position() };
                let frame = server::reset_at(cursor, &table);
                self.bytes += frame.len();
                self.resets.push(frame);
            }
        }
    }

    fn take_shapes(&mut self, part: &Part, request: &request::Request) {
        let of_shape = part.changes.iter().filter(|change| change.operation == Operation::Schema);
        for change in of_shape.filter(|change| request.selection.wants(change)) {
            if let Some(table) = &change.table {
                let cursor = Position { index: change.seq, ..part.head.position() };
                let frame = server::schema_at(cursor, table);
                self.bytes += frame.len();
                self.schemas.push(frame);
            }
        }
    }

    fn body(&self, head: Position) -> Vec<u8> {
        let lists =
            [("transactions", &self.transactions), ("schemas", &self.schemas), ("resets", &self.resets)];
        let frames: usize = lists.iter().map(|(_, frames)| frames.len()).sum();
        let mut body = Vec::with_capacity(self.bytes + frames + 256);
        body.push(b'{');
        for (name, frames) in lists {
            write_text(&mut body, format_args!("\"{name}\":["));
            for (index, frame) in frames.iter().enumerate() {
                if index > 0 {
                    body.push(b',');
                }
                body.extend_from_slice(frame.as_bytes());
            }
            body.extend_from_slice(b"],");
        }
        let more = self.has_more;
        write_text(
            &mut body,
            format_args!("\"cursor\":\"{}\",\"head\":\"{head}\",\"has_more\":{more}}}\n", self.at),
        );
        body
    }
}
