//! The versions of a row in a stretch of history, and with them the patches that lead from one to the next and back.

use waldelta_history::{Reads, RowChange, RowEntry};
use waldelta_wal::Operation;

use super::image::{Image, write_patch};
use super::state::{Cut, SEARCH, State, has_key, is_searched};
use super::{Subject, invalid};
use crate::error::Error;
use crate::http::place::{Edge, Place, unavailable};
use crate::http::problem::Problem;
use crate::inner::Inner;
use crate::wire::json::{write_names, write_string, write_text};
use crate::wire::oversize;
use crate::wire::timestamp::Timestamp;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;
/// Bytes of images in one answer, about.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What is read for one answer, but for the searches: a query for each epoch.
const PAGE: Reads = Reads { queries: 200, bytes: ANSWER_BYTES_MAX };

/// What is asked for.
#[derive(Debug, PartialEq)]
pub(super) struct Query {
    from: Option<Place>,
    to: Option<Place>,
    limit: usize,
    patch: bool,
}

impl Query {
    pub(super) fn parse(pairs: Vec<(String, String)>) -> Result<Self, Problem> {
        let mut query = Query { from: None, to: None, limit: LIMIT_DEFAULT, patch: false };
        for (name, value) in pairs {
            match name.as_str() {
                "from" => query.from = Some(value.parse()?),
                "to" => query.to = Some(value.parse()?),
                "limit" => match value.parse() {
                    Ok(limit @ 1..=LIMIT_MAX) => query.limit = limit,
                    _ => return Err(invalid(format!("`limit` must be a number from 1 to {LIMIT_MAX}"))),
                },
                "patch" if value == "rfc6902" => query.patch = true,
                "patch" => return Err(invalid("`patch` must be rfc6902")),
                _ => return Err(invalid("unknown parameter; there are from, to, limit and patch")),
            }
        }
        Ok(query)
    }
}

/// The answer: versions oldest first. It ends before what goes beyond the bounds, of which there is at least one version; the next
/// answer goes on with that.
pub(super) async fn read(inner: &Inner, subject: &Subject, query: &Query) -> Result<Vec<u8>, Problem> {
    let after = match query.from {
        Some(place) => Some(place.resolve(inner, Edge::From).await?.0),
        None => None,
    };
    let upto = match query.to {
        Some(place) => place.resolve(inner, Edge::To).await?.0,
        None => inner.extent(None).await.map_err(|error| Problem::unavailable(&error))?.head,
    };
    let key = &subject.key;
    let _permit = inner.reads.acquire().await;
    let failed = |error: Error| Problem::unavailable(&error);
    let rows = inner.history.rows(subject.table.oid).await.map_err(unavailable)?;
    let (mut reads, mut begin, mut search) = (PAGE, SEARCH, SEARCH);
    let page = rows.versions(key, after, upto, query.limit, &mut reads).await.map_err(unavailable)?;
    let mut state = match after {
        Some(after) if !page.entries.is_empty() => {
            State::at(&rows, key, after, &mut begin).await.map_err(failed)?.0
        }
        _ => State::Absent,
    };
    let mut told = document(&state, None);
    let mut out = Vec::with_capacity(1024);
    super::write_subject(&mut out, subject);
    out.extend_from_slice(b",\"versions\":[");
    let mut is_first = true;
    let mut end = None;
    let mut is_cut = false;
    for entry in &page.entries {
        // What was read is bounded, but values that did not change are told with each version.
        is_cut = out.len() >= ANSWER_BYTES_MAX;
        if is_cut {
            break;
        }
        tokio::task::yield_now().await;
        let next = State::after(&rows, key, entry, Some(&state), &mut search).await.map_err(failed)?;
        // The next answer has as much for it alone.
        is_cut = end.is_some() && next.cut().is_some() && is_of_search(entry);
        if is_cut {
            break;
        }
        end = Some(entry.position());
        let concerns = next != State::Absent || state != State::Absent || !is_of_all_rows(entry);
        if !concerns {
            continue;
        }
        if !is_first {
            out.push(b',');
        }
        is_first = false;
        let document = document(&next, Some(entry));
        write_version(&mut out, subject, entry);
        write_document(&mut out, &next, document.as_ref());
        if query.patch {
            out.extend_from_slice(b",\"patch\":");
            write_patch(&mut out, told.as_ref(), document.as_ref());
            out.extend_from_slice(b",\"reverse\":");
            write_patch(&mut out, document.as_ref(), told.as_ref());
        }
        out.push(b'}');
        state = next.behind(entry);
        told = document.filter(|_| state.image().is_some());
    }
    let has_more = page.has_more || is_cut;
    let end = end.filter(|_| is_cut).unwrap_or(page.through);
    write_text(&mut out, format_args!("],\"cursor\":\"{end}\",\"has_more\":{has_more}}}\n"));
    Ok(out)
}

/// Whether the entry says nothing of a row that is not there.
fn is_of_all_rows(entry: &RowEntry) -> bool {
    match entry {
        RowEntry::Gap { .. } => true,
        RowEntry::Change(it) => it.change.row_key.is_none(),
    }
}

/// Whether the row at the entry does not follow from the one before.
fn is_of_search(entry: &RowEntry) -> bool {
    matches!(entry, RowEntry::Change(it) if is_searched(it))
}

/// The row as it is told: what is too large is replaced. A value that the entry itself told can be fetched.
pub(super) fn document(state: &State, entry: Option<&RowEntry>) -> Option<Image> {
    let image = state.image()?;
    let json = image.to_json();
    if !oversize::is_replaced(&json) {
        return Some(image.clone());
    }
    let own = entry.and_then(|entry| match entry {
        RowEntry::Change(it) if it.change.unchanged.is_empty() => {
            Some((entry.position(), oversize::Image::Data))
        }
        _ => None,
    });
    Some(Image::new(&oversize::bounded(&json, own), image.missing()))
}

/// Writes the row, or null, and what of it is not known.
pub(super) fn write_document(out: &mut Vec<u8>, state: &State, document: Option<&Image>) {
    out.extend_from_slice(b",\"data\":");
    match document {
        Some(image) => out.extend_from_slice(&image.to_json()),
        None => out.extend_from_slice(b"null"),
    }
    write_names(out, "unchanged", state.image().map_or(&[][..], Image::missing).iter());
    if let Some(Cut { key, at }) = state.cut() {
        write_text(out, format_args!(",\"cut\":{{\"key\":{key},\"at\":\"{at}\"}}"));
    }
}

/// Writes an object that is left open: when, by whom and how the row came to be so.
pub(super) fn write_version(out: &mut Vec<u8>, subject: &Subject, entry: &RowEntry) {
    let position = entry.position();
    write_text(out, format_args!("{{\"cursor\":\"{position}\""));
    let it = match entry {
        RowEntry::Change(it) => it,
        RowEntry::Gap { until, .. } => {
            out.extend_from_slice(b",\"op\":\"gap\"");
            if let Some(until) = until {
                write_text(out, format_args!(",\"until\":\"{until}\""));
            }
            return;
        }
    };
    let RowChange { head, change, moved_from, in_gap } = &**it;
    write_text(out, format_args!(",\"lsn\":\"{}\",\"xid\":", head.commit_lsn));
    match head.xid {
        // Of a row that was there before history began.
        0 => out.extend_from_slice(b"null"),
        xid => write_text(out, format_args!("{xid}")),
    }
    write_text(out, format_args!(",\"ts\":\"{}\"", Timestamp(head.committed_at_us)));
    let has_key = has_key(it, &subject.key);
    let op = match change.operation {
        // As in the stream: another key is another row.
        Operation::Update if !has_key => "delete",
        Operation::Update if moved_from.is_some() => "insert",
        operation => operation.as_str(),
    };
    write_text(out, format_args!(",\"op\":\"{op}\""));
    if let Some(table) = &change.table {
        out.extend_from_slice(b",\"table\":");
        write_string(out, &table.name.to_string());
    }
    if let Some(origin) = &change.origin {
        out.extend_from_slice(b",\"origin\":");
        write_string(out, origin);
    }
    if let Some(author) = &change.author {
        out.extend_from_slice(b",\"client_id\":");
        write_string(out, &author.client_id);
        if let Some(metadata) = &author.metadata {
            // As jsonb printed it.
            out.extend_from_slice(b",\"metadata\":");
            out.extend_from_slice(metadata.as_bytes());
        }
    }
    if has_key && let Some(key) = moved_from {
        write_text(out, format_args!(",\"moved_from\":{key}"));
    }
    if !has_key && let (Operation::Update, Some(key)) = (change.operation, &change.row_key) {
        out.extend_from_slice(b",\"moved_to\":");
        out.extend_from_slice(key);
    }
    if has_key {
        write_names(out, "flagged", change.flagged.iter());
    }
    if *in_gap {
        out.extend_from_slice(b",\"in_gap\":true");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waldelta_wal::Code;

    fn parse(query: &str) -> Result<Query, Problem> {
        let uri = format!("/v1/rows/t/7/history?{query}").parse().unwrap();
        Query::parse(super::super::pairs(&uri)?)
    }

    #[test]
    fn the_query_is_read_and_what_is_not_known_refused() {
        let query = parse("from=1970-01-01T00:00:01Z&limit=5&patch=rfc6902").unwrap();
        assert_eq!(query, Query { from: Some(Place::Time(1_000_000)), to: None, limit: 5, patch: true });
        for (query, code) in [
            ("limit=0", Code::RequestInvalid),
            ("limit=1001", Code::RequestInvalid),
            ("patch=merge", Code::RequestInvalid),
            ("form=0/1", Code::RequestInvalid),
            ("to=x", Code::CursorInvalid),
        ] {
            assert_eq!(parse(query).map_err(|problem| problem.code), Err(code), "{query}");
        }
    }
}
