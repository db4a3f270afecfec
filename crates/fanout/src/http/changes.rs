//! `GET /v1/changes`: what comes after a place, as one page of JSON (with `wait`, as a long poll), as an event stream, or as lines.
//!
//! A client of this is always catching up: its own changes are told, marked `own`.

mod cut;
mod follow;
mod page;
pub(in crate::http) mod request;
mod stream;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use waldelta_wal::{Code, Position};

use self::request::{Form, Request};
use super::place::{not_resumable, unavailable};
use super::problem::Problem;
use crate::inner::Inner;
use crate::session::delivery::Undeliverable;
use crate::start::Reset;
use crate::subscription::{Misfit, Pattern};
use crate::wire::client::After;

pub(crate) async fn changes(State(inner): State<Arc<Inner>>, uri: Uri, headers: HeaderMap) -> Response {
    let request = match request::parse(&uri, &headers) {
        Ok(request) => request,
        Err(problem) => return problem.into_response(),
    };
    let form = request.form;
    match answer(inner.clone(), request, &headers).await {
        Ok(response) => response,
        // At any other status a browser's `EventSource` gives up for good.
        Err(problem) if form == Form::EventStream && problem.may_be_retried() => {
            stream::come_back(&problem, inner.retry_ms(inner.number()))
        }
        Err(problem) => problem.into_response(),
    }
}

async fn answer(inner: Arc<Inner>, request: Request, headers: &HeaderMap) -> Result<Response, Problem> {
    let waits = request.form != Form::Page || !request.wait.is_zero();
    let seat = if waits { Some(Seat::take(inner.clone())?) } else { None };
    fits(&inner, &request).await?;
    let (after, head) = begin(&inner, &request).await?;
    match seat {
        Some(seat) if request.form != Form::Page => Ok(stream::respond(seat, request, after, head)),
        _ => page::respond(&inner, &request, headers, after, head).await,
    }
}

/// A place among those that wait: as many may as sessions may be connected.
struct Seat {
    inner: Arc<Inner>,
}

impl Seat {
    fn take(inner: Arc<Inner>) -> Result<Self, Problem> {
        if inner.closing.is_cancelled() {
            let detail = "the service is stopping";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, Code::Stopping, detail));
        }
        match inner.polls.try_acquire() {
            Ok(permit) => permit.forget(),
            Err(_) => {
                let detail = "too many requests wait already";
                return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, Code::TooManySessions, detail));
            }
        }
        Ok(Seat { inner })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.inner.polls.add_permits(1);
    }
}

/// Where the answer begins, and the head: after the cursor, before the first change at or after the time, else at the oldest
/// change there is.
async fn begin(inner: &Inner, request: &Request) -> Result<(Position, Position), Problem> {
    let cursor = match request.after {
        None => None,
        Some(After::Cursor(cursor)) => Some(Some(cursor)),
        Some(After::Lsn(lsn)) => Some(inner.history.cursor_of_lsn(lsn).await.map_err(unavailable)?),
    };
    let extent = inner.extent(cursor.flatten()).await.map_err(|error| Problem::unavailable(&error))?;
    let resumed = match (cursor, request.since) {
        (Some(Some(cursor)), _) => extent.resume(cursor, false),
        (Some(None), _) => Err(Reset::EpochChanged),
        (None, None) => Ok(extent.floor),
        (None, Some(since)) => {
            let found = inner.history.position_before_time(since, extent.floor, extent.head).await;
            Ok(found.map_err(unavailable)?)
        }
    };
    resumed.map(|after| (after, extent.head)).map_err(not_resumable)
}

/// Whether filter and columns fit the table as it is now: else the client learns of it only where the first change is.
async fn fits(inner: &Inner, request: &Request) -> Result<(), Problem> {
    for subscription in request.selection.subscriptions() {
        if let Pattern::Table(name) = &subscription.table
            && (subscription.filter.is_some() || subscription.columns.is_some())
            && let Some(table) = inner.history.table_named(name).await.map_err(unavailable)?
        {
            request.selection.route(Some(&table)).map_err(|error| misfit(&error))?;
        }
    }
    Ok(())
}

fn misfit(error: &Misfit) -> Problem {
    Problem::bad_request(Code::FilterInvalid, error.message())
}

/// The answer to a client that cannot be told of a transaction.
fn undeliverable(error: Undeliverable) -> Problem {
    match error {
        Undeliverable::Misfit(error) => misfit(&error),
        Undeliverable::NotText(error) => Problem::unavailable(&error.into()),
    }
}
