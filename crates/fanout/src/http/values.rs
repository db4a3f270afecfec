//! `GET /v1/values/{cursor}/{data|old}/{column}`: a value that was too large for a frame, whole, from history.
//!
//! What a position holds never changes, so the answer may be kept for good. It is in memory while it is on its way: how many
//! are is bounded, see [`transfer`].

pub(crate) mod transfer;

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use waldelta_history::ReadLimit;
use waldelta_wal::{Change, Code, EndLsn, Operation, Position};

use super::asker::Asker;
use super::etag::Tag;
use super::lens::Lens;
use super::problem::Problem;
use super::term::{self, Term};
use crate::error::Error;
use crate::inner::Inner;
use crate::wire::json;
use crate::wire::oversize::Image;

pub(crate) async fn value(
    State(inner): State<Arc<Inner>>,
    Extension(asker): Extension<Asker>,
    path: Result<Path<(String, String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Response {
    let answer = answer(&inner, &asker, path, &headers).await;
    // It may have waited long.
    if let Some(code) = Term::of(&inner, &asker).over() {
        return term::problem(code).into_response();
    }
    match answer {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn answer(
    inner: &Inner,
    asker: &Asker,
    path: Result<Path<(String, String, String)>, PathRejection>,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let Path((cursor, image, column)) = path.map_err(|_| invalid("the path cannot be read"))?;
    let position = cursor.parse::<Position>().ok().filter(|position| !position.is_whole());
    let position =
        position.ok_or_else(|| invalid("the path names no change: its cursor has the change's index"))?;
    let image = Image::from_name(&image).ok_or_else(|| invalid("an image is `data` or `old`"))?;
    let place = inner.values.take().await.ok_or_else(|| {
        let detail = "too many values are being fetched already";
        asker.too_many(&inner.audit, "", Code::TooManySessions, detail)
    })?;
    let change = change_at(inner, position).await.map_err(|error| Problem::unavailable(&error))?;
    let change = match change {
        Some(change) => change,
        None => return Err(missing(inner, position).await),
    };
    let sight = Lens::new(&asker.grant).look(&change);
    let (found, is_seen) = match image {
        Image::Data => (change.data.as_ref(), sight.after),
        Image::Old => (change.old_data.as_ref(), sight.before),
    };
    // Who sees nothing of the change is not told that it is there.
    if !(has_images(change.operation) && (sight.before || sight.after)) {
        return Err(missing(inner, position).await);
    }
    let found = found.filter(|_| is_seen && sight.has(&column));
    let value = found.and_then(|image| value_of(image, &column));
    let value = value.ok_or_else(|| not_found("the change has no such value"))?;
    drop(change);

    let tag = Tag::of(&value, asker).await;
    if tag.is_known(headers) {
        return Ok((StatusCode::NOT_MODIFIED, tag.headers()).into_response());
    }
    let own: [(HeaderName, HeaderValue); 2] = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CONTENT_LENGTH, HeaderValue::from(value.len())),
    ];
    Ok((tag.headers(), own, Body::from_stream(inner.values.begin(place, value))).into_response())
}

/// The change at a position, if history has it.
async fn change_at(inner: &Inner, position: Position) -> Result<Option<Change>, Error> {
    let whole = Position::whole(position.epoch, position.commit_lsn);
    let after = match position.index.checked_sub(1) {
        Some(index) => Position { index, ..position },
        None => Position::before(position.epoch, EndLsn(position.commit_lsn)),
    };
    let one = ReadLimit { changes_max: 1, bytes_max: 1 };
    let page = inner.history.read_after(after, whole, one).await?;
    let changes = page.parts.into_iter().flat_map(|part| part.changes);
    Ok(changes.into_iter().find(|change| change.seq == position.index))
}

/// Whether what a change holds are values of a row, or a message: what others hold is history's own.
fn has_images(operation: Operation) -> bool {
    match operation {
        Operation::Insert
        | Operation::Update
        | Operation::Delete
        | Operation::Baseline
        | Operation::Message => true,
        Operation::Truncate | Operation::Schema | Operation::Reset | Operation::Skip => false,
    }
}

/// The value of a column as history prints it. A copy: the other columns of the row are not kept while it is on its way.
fn value_of(image: &Bytes, column: &str) -> Option<Bytes> {
    let mut name = Vec::with_capacity(column.len() + 2);
    json::write_string(&mut name, column);
    let (_, value) = json::members(image).find(|(other, _)| *other == name)?;
    Some(Bytes::copy_from_slice(value))
}

/// Why there is no change at a position: it is no longer there, or it never was.
async fn missing(inner: &Inner, position: Position) -> Problem {
    match inner.extent(None).await {
        Ok(extent) if position <= extent.floor => {
            Problem::new(StatusCode::GONE, Code::ValueNotFound, "history no longer has the change")
        }
        Ok(_) => not_found("history has no such change"),
        Err(error) => Problem::unavailable(&error),
    }
}

fn invalid(detail: &str) -> Problem {
    Problem::bad_request(Code::RequestInvalid, detail)
}

fn not_found(detail: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, Code::ValueNotFound, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_the_name_of_its_column() {
        let image = Bytes::from_static(br#"{"id": 1, "a \"b\"\n": [1, {"id": 2}], "ab": null}"#);
        for (column, value) in [
            ("id", Some("1")),
            ("a \"b\"\n", Some(r#"[1, {"id": 2}]"#)),
            ("ab", Some("null")),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(value_of(&image, column).as_deref(), value.map(str::as_bytes), "{column:?}");
        }
    }
}
