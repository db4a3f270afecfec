//! One row over time: its versions, and the row as of a place.
//!
//! It is known by its key; a table by its object id, so that its versions are found under the name it has now whatever it was called
//! then. A change of the key ends the row under its old key and begins it under the new one; each names the other.
//!
//! Who may see some rows alone is told of a row while it is one of them: one that comes to be is as if inserted, one that ceases to be as if
//! deleted, and one that never was is not there.

mod as_of;
mod image;
mod key;
mod seen;
mod state;
mod turn;
mod versions;

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use waldelta_wal::{Code, Position, Table, TableName};

use super::asker::Asker;
use super::place::unavailable;
use super::problem::Problem;
use super::query;
use super::term::{self, Term};
use crate::inner::Inner;
use crate::wire::json::{write_string, write_text};

type Names = Result<Path<(String, String)>, PathRejection>;

/// `GET /v1/rows/{table}/{key}/history`
pub(super) async fn history(
    State(inner): State<Arc<Inner>>,
    Extension(asker): Extension<Asker>,
    names: Names,
    uri: Uri,
) -> Response {
    let answer = async {
        let query = versions::Query::parse(query::pairs(&uri, &[])?)?;
        let subject = Subject::find(&inner, &asker, names).await?;
        let read = versions::read(&inner, &asker, &subject, &query).await?;
        read.audited(&inner, &asker, &subject, "versions").await
    };
    respond(&inner, &asker, answer.await)
}

/// `GET /v1/rows/{table}/{key}`
pub(super) async fn row(
    State(inner): State<Arc<Inner>>,
    Extension(asker): Extension<Asker>,
    names: Names,
    uri: Uri,
) -> Response {
    let answer = async {
        let query = as_of::Query::parse(query::pairs(&uri, &[])?)?;
        let subject = Subject::find(&inner, &asker, names).await?;
        let read = as_of::read(&inner, &asker, &subject, &query).await?;
        read.audited(&inner, &asker, &subject, "as_of").await
    };
    respond(&inner, &asker, answer.await)
}

fn respond(inner: &Inner, asker: &Asker, answer: Result<Vec<u8>, Problem>) -> Response {
    // It may have waited long: whether anything is there is told as little as what is.
    if let Some(code) = Term::of(inner, asker).over() {
        return term::problem(code).into_response();
    }
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    match answer {
        Ok(body) => (headers, body).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// What was read for an answer.
struct Reading {
    body: Vec<u8>,
    /// Versions or states that are told.
    count: u64,
    /// Up to where history was read.
    through: Position,
}

impl Reading {
    /// The body, once the audit has it that it was read.
    async fn audited(
        self,
        inner: &Inner,
        asker: &Asker,
        subject: &Subject,
        read: &'static str,
    ) -> Result<Vec<u8>, Problem> {
        let table = subject.table.name.to_string();
        let told = inner.audit.row_history_read(asker.who(), &table, read, self.count, Some(self.through));
        told.await
            .map_err(|code| Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, code.explanation().title))?;
        Ok(self.body)
    }
}

/// The row that a request is about.
struct Subject {
    table: Arc<Table>,
    /// Compact JSON array of the key's values, as changes have it.
    key: String,
}

impl Subject {
    /// A table that may not be seen is one that is not there, whether by the name that it had or by the one that it has; and so is
    /// one that its rule does not fit.
    async fn find(inner: &Inner, asker: &Asker, names: Names) -> Result<Self, Problem> {
        let Path((table, key)) = names.map_err(|_| invalid("the path cannot be read"))?;
        let name: TableName = table.parse().map_err(|error| invalid(format!("{error}")))?;
        let known = inner.history.table_named(&name).await.map_err(unavailable)?;
        let is_permitted =
            |table: &Arc<Table>| asker.grant.has(&name) && asker.grant.permission(table).is_some();
        let table = known.filter(is_permitted).ok_or_else(|| {
            let detail = format!("history has no table {name}");
            Problem::new(StatusCode::NOT_FOUND, Code::TableNotCaptured, detail)
        })?;
        let key = key::parse(&key, &table)?;
        Ok(Subject { table, key })
    }
}

/// Writes what an answer begins with: an object that is left open.
fn write_subject(out: &mut Vec<u8>, subject: &Subject) {
    out.extend_from_slice(b"{\"table\":");
    write_string(out, &subject.table.name.to_string());
    write_text(out, format_args!(",\"key\":{}", subject.key));
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::bad_request(Code::RequestInvalid, detail)
}
