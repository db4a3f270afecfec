//! One row over time: its versions, and the row as of a place.
//!
//! It is known by its key; a table by its object id, so that its versions are found under the name it has now whatever it was called
//! then. A change of the key ends the row under its old key and begins it under the new one; each names the other.

mod as_of;
mod image;
mod key;
mod state;
mod versions;

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use waldelta_wal::{Code, Table, TableName};

use super::place::unavailable;
use super::problem::Problem;
use crate::inner::Inner;
use crate::wire::json::{write_string, write_text};

type Names = Result<Path<(String, String)>, PathRejection>;

/// `GET /v1/rows/{table}/{key}/history`
pub(super) async fn history(State(inner): State<Arc<Inner>>, names: Names, uri: Uri) -> Response {
    let answer = async {
        let query = versions::Query::parse(pairs(&uri)?)?;
        let subject = Subject::find(&inner, names).await?;
        versions::read(&inner, &subject, &query).await
    };
    respond(answer.await)
}

/// `GET /v1/rows/{table}/{key}`
pub(super) async fn row(State(inner): State<Arc<Inner>>, names: Names, uri: Uri) -> Response {
    let answer = async {
        let query = as_of::Query::parse(pairs(&uri)?)?;
        let subject = Subject::find(&inner, names).await?;
        as_of::read(&inner, &subject, &query).await
    };
    respond(answer.await)
}

fn respond(answer: Result<Vec<u8>, Problem>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    match answer {
        Ok(body) => (headers, body).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// The row that a request is about.
struct Subject {
    table: Arc<Table>,
    /// Compact JSON array of the key's values, as changes have it.
    key: String,
}

impl Subject {
    async fn find(inner: &Inner, names: Names) -> Result<Self, Problem> {
        let Path((table, key)) = names.map_err(|_| invalid("the path cannot be read"))?;
        let name: TableName = table.parse().map_err(|error| invalid(format!("{error}")))?;
        let table = inner.history.table_named(&name).await.map_err(unavailable)?.ok_or_else(|| {
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

/// The query string, in order.
fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, Problem> {
    let query = Query::<Vec<(String, String)>>::try_from_uri(uri);
    query.map(|Query(pairs)| pairs).map_err(|_| invalid("the query string cannot be read"))
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::bad_request(Code::RequestInvalid, detail)
}
