//! `GET /v1/changes`: what comes after a place, as one page of JSON (with `wait`, as a long poll), as an event stream, or as lines.
//!
//! A client of this is always catching up: its own changes are told, marked `own`.

mod cut;
mod follow;
mod page;
pub(in crate::http) mod request;
mod stream;

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use waldelta_wal::{Code, Position};

use self::request::{Form, Request};
use super::asker::Asker;
use super::place::{not_resumable, unavailable};
use super::problem::Problem;
use super::stream::user_agent;
use super::term::Term;
use crate::clients::Visit;
use crate::inner::Inner;
use crate::limits::SessionShare;
use crate::session::delivery::Undeliverable;
use crate::start::Reset;
use crate::subscription::{Misfit, Pattern};
use crate::wire::client::After;

pub(crate) async fn changes(
    State(inner): State<Arc<Inner>>,
    Extension(asker): Extension<Asker>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let request =
        request::parse(&uri, &headers, &asker.grant).and_then(|request| match &*request.client_id {
            "" => Ok(request),
            client_id => asker.check_client_id(&inner.audit, client_id).map(|()| request),
        });
    let request = match request {
        Ok(request) => request,
        Err(problem) => return problem.into_response(),
    };
    let form = request.form;
    match answer(inner.clone(), &asker, request, &headers).await {
        Ok(response) => response,
        // At any other status a browser's `EventSource` gives up for good.
        Err(problem) if form == Form::EventStream && problem.may_be_retried() => {
            stream::come_back(&problem, inner.retry_ms(inner.number()))
        }
        Err(problem) => problem.into_response(),
    }
}

async fn answer(
    inner: Arc<Inner>,
    asker: &Asker,
    request: Request,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let waits = request.form != Form::Page || !request.wait.is_zero();
    let seat = if waits { Some(Seat::take(inner.clone(), asker, &request.client_id)?) } else { None };
    fits(&inner, &request).await?;
    let (after, head) = begin(&inner, &request).await?;
    let visit = visit(asker, &request, headers);
    if let Some(visit) = &visit {
        inner.clients.visited(visit.clone());
    }
    match seat {
        Some(seat) if request.form != Form::Page => {
            let stays = Stays { seat, term: Term::of(&inner, asker), visit };
            Ok(stream::respond(stays, request, after, head))
        }
        _ => page::respond(&inner, asker, &request, headers, after, head).await,
    }
}

/// That the client was here, where it says which it is.
fn visit(asker: &Asker, request: &Request, headers: &HeaderMap) -> Option<Visit> {
    let key = Some(&*request.client_id).filter(|client_id| !client_id.is_empty());
    let key = key.map(|client_id| asker.key(client_id))?;
    Some(Visit { key, protocol: request.form.name(), user_agent: user_agent(headers) })
}

/// Who stays: its place, for how long it may, and what is noted of it now and then.
struct Stays {
    seat: Seat,
    term: Term,
    visit: Option<Visit>,
}

/// A place among those that wait: as many may as sessions may be connected, and of one address, subject and tenant as many as may
/// have sessions, counted together with these.
struct Seat {
    inner: Arc<Inner>,
    _share: SessionShare,
}

impl Seat {
    fn take(inner: Arc<Inner>, asker: &Asker, client_id: &str) -> Result<Self, Problem> {
        if inner.closing.is_cancelled() {
            let detail = "the service is stopping";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, Code::Stopping, detail));
        }
        let share = asker.share(&inner.quotas, &inner.audit, client_id)?;
        match inner.polls.try_acquire() {
            Ok(permit) => permit.forget(),
            Err(_) => {
                let detail = "too many requests wait already";
                return Err(asker.too_many(&inner.audit, client_id, Code::TooManySessions, detail));
            }
        }
        Ok(Seat { inner, _share: share })
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
    match resumed {
        Ok(after) => Ok((after, extent.head)),
        Err(Reset::HistoryPruned) if inner.history.pruned().await.map_err(unavailable)?.is_some() => {
            Err(Problem::pruned(extent.floor))
        }
        Err(reason) => Err(not_resumable(reason)),
    }
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
