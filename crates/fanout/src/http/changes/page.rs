//! One page of changes as JSON. With `wait` it is held until there is something.
//!
//! What is below the head never changes. A page that was asked for from a cursor, and that ends before the head, is the same for
//! everybody at any time: it may be kept for good. That the source did not keep what it tells (an epoch that ended before it)
//! changes nothing of that: the cursor at its end cannot be gone on from then, which is no page's to say.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use waldelta_history::{Page, Part, ReadLimit};
use waldelta_wal::{Operation, Position};

use super::request::Request;
use super::{cut, misfit, undeliverable};
use crate::http::asker::Asker;
use crate::http::etag::Tag;
use crate::http::place::{not_resumable, unavailable};
use crate::http::problem::Problem;
use crate::http::term::{self, Term};
use crate::inner::Inner;
use crate::session::delivery::{Delivery, Recipient};
use crate::shapes::Shapes;
use crate::start::Reset;
use crate::stretch::Stretch;
use crate::subscription::reset_table;
use crate::wire::json::write_text;
use crate::wire::{Utf8Bytes, server};

/// Bytes of images in one answer, about.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of images read at once.
const READ_BYTES_MAX: usize = 256 * 1024;
/// Changes read at once, where not more are wanted.
const READ_CHANGES_MAX: usize = 1_000;
/// Changes that are looked through for one answer: where few are wanted, the answer comes with a cursor to go on from.
const SCANNED_MAX: usize = 50_000;

/// Answers with the page after `after`; `known_head` is where history ends at least.
pub(super) async fn respond(
    inner: &Inner,
    asker: &Asker,
    request: &Request,
    headers: &HeaderMap,
    after: Position,
    known_head: Position,
) -> Result<Response, Problem> {
    let (answer, head) = fill(inner, asker, request, after, known_head).await?;
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if !(answer.has_more && answer.is_certain && request.is_of_a_fixed_place()) {
        let kept_by_nobody = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        return Ok(([kind, kept_by_nobody], answer.body(Some(head))).into_response());
    }
    let body = answer.body(None);
    let tag = Tag::of(&body, asker).await;
    // The same URL is a stream, too.
    let by_form = [(header::VARY, HeaderValue::from_static("Accept"))];
    if tag.is_known(headers) {
        return Ok((StatusCode::NOT_MODIFIED, tag.headers(), by_form).into_response());
    }
    Ok((tag.headers(), by_form, [kind], body).into_response())
}

async fn fill(
    inner: &Inner,
    asker: &Asker,
    request: &Request,
    after: Position,
    known_head: Position,
) -> Result<(Answer, Position), Problem> {
    let waits = !request.wait.is_zero();
    let deadline = tokio::time::Instant::now() + request.wait;
    let mut heads = inner.history.feed().watch();
    let mut term = Term::of(inner, asker);
    let mut answer = Answer::new(after);
    loop {
        if let Some(code) = term.over() {
            return Err(term::problem(code));
        }
        let head = heads.borrow_and_update().cursor().max(known_head);
        answer.fill(inner, request, head).await?;
        let nothing = !answer.has_frames() && !answer.has_more;
        if !(nothing && waits) {
            return Ok((answer, head));
        }
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => return Ok((answer, head)),
            code = term.ends() => return Err(term::problem(code)),
            () = inner.closing.cancelled() => return Ok((answer, head)),
            changed = heads.changed() => if changed.is_err() { return Ok((answer, head)) },
        }
    }
}

/// An answer that is being filled.
struct Answer {
    /// Everything up to here is in it or was looked through.
    at: Position,
    /// The last cursor that is told in it.
    told: Position,
    /// Frames, as the WebSocket has them.
    transactions: Vec<Utf8Bytes>,
    /// Shapes that tables have from a place in it on.
    schemas: Vec<Utf8Bytes>,
    /// Places up to which changes of a table do not add up to its rows.
    resets: Vec<Utf8Bytes>,
    changes: usize,
    scanned: usize,
    /// Changes that were asked for at once last.
    asked: usize,
    bytes: usize,
    has_more: bool,
    /// Whether it ends where it does because of its own bounds alone.
    is_certain: bool,
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
            asked: 0,
            bytes: 0,
            has_more: false,
            is_certain: true,
        }
    }

    /// Reads up to `head` or to the bounds of the answer.
    async fn fill(&mut self, inner: &Inner, request: &Request, head: Position) -> Result<(), Problem> {
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
                Stretch::Lost if self.has_frames() => {
                    self.is_certain = false;
                    return Ok(());
                }
                Stretch::Lost => return Err(not_resumable(Reset::EpochChanged)),
            };
            // As many as are wanted, and twice as many each time that too few of them were.
            self.asked = (self.asked * 2).min(READ_CHANGES_MAX).max(request.limit - self.changes);
            let changes_max = u32::try_from(self.asked).unwrap_or(u32::MAX);
            let limit = ReadLimit { changes_max, bytes_max: READ_BYTES_MAX };
            let page = {
                let _permit = inner.reads.acquire().await;
                inner.history.read_after(self.at, upto, limit).await
            };
            inner.metrics.catch_up_reads.increment(1);
            let page = page.map_err(unavailable)?;
            let changes = page.parts.iter().flat_map(|part| &part.changes);
            let shapes = Shapes::of_changed(inner, request.selection.grant(), changes).await;
            let shapes = shapes.map_err(|error| Problem::unavailable(&error))?;
            self.take(page, upto, request, &shapes, &mut delivery)?;
            self.has_more = self.at < head;
        }
        Ok(())
    }

    fn has_frames(&self) -> bool {
        !(self.transactions.is_empty() && self.schemas.is_empty() && self.resets.is_empty())
    }

    /// Takes what was read, up to the change that fills the answer.
    fn take(
        &mut self,
        page: Page,
        upto: Position,
        request: &Request,
        shapes: &Shapes,
        delivery: &mut Delivery,
    ) -> Result<(), Problem> {
        let page_ends = !page.has_more || page.parts.is_empty();
        let mut parts = page.parts.into_iter();
        let mut is_cut = false;
        while self.changes < request.limit
            && let Some(mut part) = parts.next()
        {
            let fits = cut::fitting(&part.changes, request.limit - self.changes, &request.selection);
            let fits = fits.map_err(|error| misfit(&error))?;
            is_cut = fits < part.changes.len();
            part.last &= !is_cut;
            part.changes.truncate(fits);
            self.scanned += part.changes.len();
            self.take_shapes(&part, request)?;
            self.take_resets(&part, request, shapes);
            let to = Recipient {
                client_id: &request.client_id,
                gets_own: true,
                selection: &request.selection,
                prev: self.told,
            };
            let told = delivery.frames(to, &part.head, &part.changes, part.last).map_err(undeliverable)?;
            let whole = part.head.position();
            self.at = match part.changes.last() {
                Some(change) if !part.last => Position { index: change.seq, ..whole },
                _ => whole,
            };
            self.changes += told.changes;
            if let Some(cursor) = told.cursor {
                self.told = cursor;
                self.bytes += told.frames.iter().map(|frame| frame.len()).sum::<usize>();
                self.transactions.extend(told.frames);
            }
        }
        if page_ends && !is_cut && parts.as_slice().is_empty() {
            self.at = upto.max(self.at);
        }
        Ok(())
    }

    fn take_resets(&mut self, part: &Part, request: &Request, shapes: &Shapes) {
        for change in part.changes.iter().filter(|change| request.selection.wants(change)) {
            // Whether it is named or not: so it was counted when the page was cut.
            self.changes += usize::from(reset_table(change).is_some());
            if let Some((_, table)) = shapes.reset_by(&request.selection, change) {
                let cursor = Position { index: change.seq, ..part.head.position() };
                let frame = server::reset_at(cursor, &table);
                self.bytes += frame.len();
                self.resets.push(frame);
            }
        }
    }

    fn take_shapes(&mut self, part: &Part, request: &Request) -> Result<(), Problem> {
        let of_shape = part.changes.iter().filter(|change| change.operation == Operation::Schema);
        for change in of_shape {
            if let Some(table) = &change.table
                && let Some(route) = request.selection.route(Some(table)).map_err(|error| misfit(&error))?
            {
                let cursor = Position { index: change.seq, ..part.head.position() };
                let frame = server::schema_at(cursor, table, route.projection());
                self.bytes += frame.len();
                self.schemas.push(frame);
            }
        }
        Ok(())
    }

    /// The head is left out of a page that may be kept: it would be an old one.
    fn body(&self, head: Option<Position>) -> Vec<u8> {
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
        write_text(&mut body, format_args!("\"cursor\":\"{}\",", self.at));
        if let Some(head) = head {
            write_text(&mut body, format_args!("\"head\":\"{head}\","));
        }
        write_text(&mut body, format_args!("\"has_more\":{}}}\n", self.has_more));
        body
    }
}
