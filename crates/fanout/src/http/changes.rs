//! `GET /v1/changes`: what comes after a cursor, as one page of JSON; with `wait`, as a long poll.
//!
//! A client of this is always catching up: its own changes are in the page, marked `own`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use waldelta_history::{Page, ReadLimit};
use waldelta_wal::{Code, Position};

use super::problem::Problem;
use crate::error::Error;
use crate::inner::Inner;
use crate::session::delivery::{Delivery, Recipient};
use crate::start::Extent;
use crate::subscription::{Selection, Subscription};
use crate::wire::client::After;
use crate::wire::json::write_text;

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
            ([(header::CONTENT_TYPE, json), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], body)
                .into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

async fn answer(inner: &Inner, uri: &Uri) -> Result<Vec<u8>, Problem> {
    let request = request::parse(uri)?;
    let extent = inner.extent().await.map_err(|error| Problem::unavailable(&error))?;
    let after = begin(inner, extent, request.after).await?;
    let waits = !request.wait.is_zero();
    // As many may wait as sessions may be connected.
    let _permit = match waits {
        true => Some(inner.polls.try_acquire().map_err(|_| {
            Problem::new(StatusCode::TOO_MANY_REQUESTS, Code::TooManySessions, "too many requests wait already")
        })?),
        false => None,
    };
    let deadline = tokio::time::Instant::now() + request.wait;
    let mut heads = inner.history.feed().watch();
    let mut answer = Answer::new(after);
    loop {
        let head = heads.borrow_and_update().cursor().max(extent.head);
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

/// Where the page begins: after the cursor, or at the oldest change there is.
async fn begin(inner: &Inner, extent: Extent, after: Option<After>) -> Result<Position, Problem> {
    let cursor = match after {
        None => return Ok(extent.floor),
        Some(After::Cursor(cursor)) => Some(cursor),
        Some(After::Lsn(lsn)) => {
            inner.history.cursor_of_lsn(lsn).await.map_err(|error| Problem::unavailable(&Error::from(error)))?
        }
    };
    let reason = match cursor.map(|cursor| extent.resume(cursor, false)) {
        Some(Ok(position)) => return Ok(position),
        Some(Err(reason)) => reason.as_str(),
        None => "epoch_changed",
    };
    Err(Problem::new(StatusCode::GONE, Code::CursorNotResumable, format!("the cursor cannot be resumed: {reason}")))
}

/// An answer that is being filled.
struct Answer {
    /// Everything up to here is in it or was looked through.
    at: Position,
    /// The last cursor that is told in it.
    told: Position,
    /// Frames, as the WebSocket has them.
    transactions: Vec<axum::extract::ws::Utf8Bytes>,
    changes: usize,
    scanned: usize,
    bytes: usize,
    has_more: bool,
}

impl Answer {
    fn new(after: Position) -> Self {
        Answer { at: after, told: after, transactions: Vec::new(), changes: 0, scanned: 0, bytes: 0, has_more: false }
    }

    /// Reads up to `head` or to the bounds of the answer.
    async fn fill(&mut self, inner: &Inner, request: &request::Request, head: Position) -> Result<(), Problem> {
        // Shapes are not told here, and parts are cut by pages alone.
        let mut delivery = Delivery::without_shapes();
        self.has_more = self.at < head;
        while self.has_more
            && self.changes < request.limit
            && self.bytes < ANSWER_BYTES_MAX
            && self.scanned < SCANNED_MAX
        {
            let changes_max = u32::try_from(request.limit - self.changes).unwrap_or(u32::MAX);
            let limit = ReadLimit { changes_max, bytes_max: READ_BYTES_MAX };
            let page = {
                let _permit = inner.reads.acquire().await;
                inner.history.read_after(self.at, head, limit).await
            };
            inner.metrics.catch_up_reads.increment(1);
            let page = page.map_err(|error| Problem::unavailable(&Error::from(error)))?;
            self.take(page, head, request, &mut delivery)?;
        }
        Ok(())
    }

    fn take(
        &mut self,
        page: Page,
        head: Position,
        request: &request::Request,
        delivery: &mut Delivery,
    ) -> Result<(), Problem> {
        self.has_more = page.has_more && !page.parts.is_empty();
        for part in page.parts {
            self.scanned += part.changes.len();
            let to = Recipient {
                client_id: &request.client_id,
                gets_own: true,
                selection: &request.selection,
                prev: self.told,
            };
            let frames = delivery
                .frames(to, &part.head, &part.changes, part.last)
                .map_err(|error| Problem::unavailable(&Error::from(error)))?;
            let whole = part.head.position();
            self.at = match part.changes.last() {
                Some(change) if !part.last => Position { index: change.seq, ..whole },
                _ => whole,
            };
            if !frames.is_empty() {
                self.told = self.at;
                self.changes += part.changes.iter().filter(|change| request.wants(change)).count();
                self.bytes += frames.iter().map(|frame| frame.len()).sum::<usize>();
                self.transactions.extend(frames);
            }
        }
        if !self.has_more {
            self.at = head.max(self.at);
        }
        Ok(())
    }

    fn body(&self, head: Position) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.bytes + self.transactions.len() + 256);
        body.extend_from_slice(b"{\"transactions\":[");
        for (index, frame) in self.transactions.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            body.extend_from_slice(frame.as_bytes());
        }
        let more = self.has_more;
        write_text(&mut body, format_args!("],\"cursor\":\"{}\",\"head\":\"{head}\",\"has_more\":{more}}}\n", self.at));
        body
    }
}

mod request {
    //! The query string.

    use super::*;
    use crate::subscription::Pattern;
    use waldelta_wal::Change;

    const LIMIT_DEFAULT: usize = 100;
    const LIMIT_MAX: usize = 10_000;
    const WAIT_MAX: Duration = Duration::from_secs(60);
    const TABLES_MAX: usize = 100;

    pub(super) struct Request {
        pub after: Option<After>,
        pub limit: usize,
        pub selection: Selection,
        pub wait: Duration,
        pub client_id: String,
    }

    impl Request {
        pub(super) fn wants(&self, change: &Change) -> bool {
            change.table.as_ref().is_some_and(|table| self.selection.matches(&table.name))
        }
    }

    /// Reads the query; what is not known is refused, so that a misspelt filter does not give everything.
    pub(super) fn parse(uri: &Uri) -> Result<Request, Problem> {
        let mut request =
            Request { after: None, limit: LIMIT_DEFAULT, selection: Selection::default(), wait: Duration::ZERO, client_id: String::new() };
        let mut tables = Vec::new();
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| Problem::bad_request(Code::RequestInvalid, "the query string cannot be read"))?;
        for (name, value) in pairs {
            match name.as_str() {
                "after" => {
                    let after = value.parse::<After>();
                    request.after = Some(after.map_err(|refusal| Problem::bad_request(refusal.code, refusal.message))?);
                }
                "limit" => request.limit = limit(&value)?,
                "table" if tables.len() < TABLES_MAX => tables.push(table(&value, tables.len())?),
                "table" => return Err(invalid("`table` comes too often")),
                "wait" => request.wait = wait(&value)?,
                "client_id" => request.client_id = value,
                "since" | "where" => {
                    let detail = format!("`{name}` is not supported by this version; leave it out");
                    return Err(Problem::bad_request(Code::NotSupportedYet, detail));
                }
                _ => return Err(invalid("unknown parameter; there are after, limit, table, wait and client_id")),
            }
        }
        if tables.is_empty() {
            tables.push(Subscription { id: "0".into(), table: Pattern::All, old: true });
        }
        request.selection = Selection::new(tables);
        Ok(request)
    }

    fn table(value: &str, index: usize) -> Result<Subscription, Problem> {
        let table = value.parse().map_err(|error| invalid(format!("`table`: {error}, schema.* or *")))?;
        Ok(Subscription { id: index.to_string(), table, old: true })
    }

    fn limit(value: &str) -> Result<usize, Problem> {
        match value.parse() {
            Ok(limit @ 1..=LIMIT_MAX) => Ok(limit),
            _ => Err(invalid(format!("`limit` must be a number from 1 to {LIMIT_MAX}"))),
        }
    }

    /// `20s`, `500ms`, or a number of seconds.
    fn wait(value: &str) -> Result<Duration, Problem> {
        let (digits, unit): (&str, fn(u64) -> Duration) = match (value.strip_suffix("ms"), value.strip_suffix('s')) {
            (Some(digits), _) => (digits, Duration::from_millis),
            (None, Some(digits)) => (digits, Duration::from_secs),
            (None, None) => (value, Duration::from_secs),
        };
        match digits.parse().map(unit) {
            Ok(wait) if wait <= WAIT_MAX => Ok(wait),
            _ => Err(invalid(format!("`wait` must be a time such as 20s or 500ms, at most {}s", WAIT_MAX.as_secs()))),
        }
    }

    fn invalid(detail: impl Into<String>) -> Problem {
        Problem::bad_request(Code::RequestInvalid, detail)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn read(query: &str) -> Result<Request, Problem> {
            parse(&format!("/v1/changes?{query}").parse().unwrap())
        }

        #[test]
        fn reads_what_is_documented() {
            let request =
                read("after=0%2F16B3748&limit=5&table=public.*&table=other.t&wait=1500ms&client_id=web-7").unwrap();
            assert_eq!(request.after, Some(After::Lsn("0/16B3748".parse().unwrap())));
            assert_eq!((request.limit, request.wait), (5, Duration::from_millis(1_500)));
            assert_eq!((request.selection.subscriptions().len(), request.client_id.as_str()), (2, "web-7"));
            assert_eq!(read("wait=20").unwrap().wait, read("wait=20s").unwrap().wait);
            assert!(read("").unwrap().selection.matches(&"any.table".parse().unwrap()));
        }

        #[test]
        fn refuses_what_it_does_not_know() {
            for (query, code) in [
                ("after=x", Code::CursorInvalid),
                ("limit=0", Code::RequestInvalid),
                ("limit=10001", Code::RequestInvalid),
                ("wait=61s", Code::RequestInvalid),
                ("wait=-1s", Code::RequestInvalid),
                ("wait=99999999999999999999", Code::RequestInvalid),
                ("table=a%20b", Code::RequestInvalid),
                ("tabel=t", Code::RequestInvalid),
                ("where=a", Code::NotSupportedYet),
                ("since=now", Code::NotSupportedYet),
            ] {
                assert_eq!(read(query).err().map(|problem| problem.code), Some(code), "{query}");
            }
        }
    }
}
