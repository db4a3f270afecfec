//! `GET /v1/snapshot`: the rows of tables as lines of JSON, out of the same readings that sessions share.
//!
//! The frames are those of the WebSocket, each on a line. The answer is named by its snapshot: who has it is told so as long as
//! no other one would be sent. One that breaks off has no `snapshot_end`.

mod encoding;
mod request;

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::OwnedSemaphorePermit;
use waldelta_wal::{Code, Position};

use self::encoding::{Coding, Encoder};
use super::asker::Asker;
use super::problem::Problem;
use super::term::Term;
use crate::inner::Inner;
use crate::limits::SessionShare;
use crate::session::hydrate::{self, Failure, Order};
use crate::snapshots::{self, Follower, Told};
use crate::subscription::{Part, Pattern, Selection, Tables};
use crate::wire::server;

/// Caches ask each time whether it is still current.
const REVALIDATED: HeaderValue = HeaderValue::from_static("private, no-cache");
const LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");

pub(crate) async fn snapshot(
    State(inner): State<Arc<Inner>>,
    Extension(asker): Extension<Asker>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    match answer(&inner, &asker, &uri, &headers).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn answer(
    inner: &Arc<Inner>,
    asker: &Asker,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let selection = request::parse(uri, &asker.grant)?;
    are_there(&selection)?;
    let coding = Coding::accepted(headers);
    let share = asker.share(&inner.quotas, &inner.audit, "")?;
    let permit = inner.snapshots.downloads.clone().try_acquire_owned().map_err(|_| {
        let detail = "too many snapshots are on their way already";
        asker.too_many(&inner.audit, "", Code::TooManySessions, detail)
    })?;
    let extent = inner.extent(None).await.map_err(|error| Problem::unavailable(&error))?;
    let order = Order {
        tables: Tables { selection: selection.clone(), part: Part::All },
        at_least: extent.floor.max(Position { epoch: extent.head.epoch, ..Position::default() }),
        head: extent.head,
        from: None,
    };
    let feed = inner.history.feed();
    snapshots::hear_of(order.head, feed).await;
    let gaps = hydrate::open_gaps(inner).await.map_err(problem)?;
    if let Some(id) = inner.snapshots.current(&order, feed, &gaps)
        && coding.is_known(&id, headers)
    {
        return Ok((StatusCode::NOT_MODIFIED, common(&id, coding)).into_response());
    }
    let mut follower = inner.snapshots.follow(&order, feed, &gaps).map_err(problem)?;
    let first = tokio::select! {
        first = follower.next() => first,
        () = inner.closing.cancelled() => {
            let detail = "the service is stopping";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, Code::Stopping, detail));
        }
    };
    let begun = match first {
        Told::Begun(begun, _) => begun,
        Told::Failed(failure) => return Err(problem(failure)),
        Told::Shape(_) | Told::Rows(_) | Told::Ended(..) => {
            let detail = "the snapshot has no beginning";
            return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, detail));
        }
    };
    let begin = server::snapshot_begin(begun.cursor, &begun.id, 0, &begun.tables);
    let answer = Answer {
        inner: inner.clone(),
        follower,
        selection,
        encoder: Encoder::new(coding),
        term: Term::of(inner, asker),
        begin: Some(begin.as_str().to_owned()),
        has_ended: false,
        _permit: permit,
        _share: share,
    };
    let mut response = (common(&begun.id, coding), Body::from_stream(lines(answer))).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, LINES);
    if let Some(name) = coding.name() {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    Ok(response)
}

fn common(id: &str, coding: Coding) -> [(header::HeaderName, HeaderValue); 3] {
    [
        (header::ETAG, coding.etag(id)),
        (header::CACHE_CONTROL, REVALIDATED),
        (header::VARY, HeaderValue::from_static("accept-encoding")),
    ]
}

/// A table that may not be seen is one that is not there.
fn are_there(selection: &Selection) -> Result<(), Problem> {
    for subscription in selection.subscriptions() {
        if let Pattern::Table(table) = &subscription.table
            && !selection.grant().has(table)
        {
            return Err(not_captured(&table.to_string()));
        }
    }
    Ok(())
}

fn not_captured(table: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, Code::TableNotCaptured, format!("{table} is not captured"))
}

fn problem(failure: Failure) -> Problem {
    match failure {
        Failure::ForNow { code, message } => Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, message),
        Failure::NotCaptured { table, .. } => not_captured(&table),
        Failure::Misfit(misfit) => Problem::bad_request(Code::FilterInvalid, misfit.message()),
        Failure::TooSlow => {
            let detail = "the snapshot could not be read in time";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, Code::SnapshotsBusy, detail)
        }
    }
}

/// An answer on its way.
struct Answer {
    inner: Arc<Inner>,
    follower: Follower,
    selection: Selection,
    encoder: Encoder,
    term: Term,
    /// The first line, until it is sent.
    begin: Option<String>,
    has_ended: bool,
    _permit: OwnedSemaphorePermit,
    _share: SessionShare,
}

/// It ends before its end: the connection breaks, so that no client takes it for whole.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the service is stopping")]
    Stopping,
    #[error("who asked for it may not see it any more")]
    Over,
    #[error("the snapshot failed")]
    Failed,
    #[error("make a line of a snapshot")]
    Line(#[from] std::io::Error),
}

fn lines(answer: Answer) -> impl Stream<Item = Result<Bytes, Broken>> + Send {
    stream::try_unfold(answer, |mut answer| async move {
        // Kept small: web servers move it around.
        let bytes = Box::pin(answer.next()).await?;
        Ok(bytes.map(|bytes| (bytes, answer)))
    })
}

impl Answer {
    /// The next bytes of the body; `None` after the last.
    async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        if let Some(begin) = self.begin.take() {
            return Ok(Some(self.encoder.line(&begin).await?));
        }
        if self.has_ended {
            return Ok(None);
        }
        let told = tokio::select! {
            told = self.follower.next() => told,
            () = self.inner.closing.cancelled() => return Err(Broken::Stopping),
        };
        if self.term.over().is_some() {
            return Err(Broken::Over);
        }
        let bytes = match told {
            Told::Shape(table) => {
                let schema = snapshots::schema(&self.selection, &table).map_err(|_misfit| Broken::Failed)?;
                // The snapshot is of what its reader may see: it has no other tables.
                self.encoder.line(&schema.ok_or(Broken::Failed)?).await?
            }
            Told::Rows(chunk) => self.encoder.chunk(&chunk).await?,
            Told::Ended(begun, whole) => {
                self.has_ended = true;
                self.inner.metrics.snapshots.increment(1);
                let end = server::snapshot_end(begun.cursor, whole.consistent_at, &whole.sums);
                self.encoder.last_line(&end).await?
            }
            Told::Begun(..) | Told::Failed(_) => return Err(Broken::Failed),
        };
        Ok(Some(bytes))
    }
}
