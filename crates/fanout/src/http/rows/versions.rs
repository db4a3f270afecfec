//! The versions of a row in a stretch of history, and with them the patches that lead from one to the next and back.

use waldelta_history::{Reads, RowChange, RowEntry, RowHistory};
use waldelta_wal::{Operation, Position};

use super::image::{Image, write_patch};
use super::seen::{self, Found};
use super::state::{Cut, SEARCH, State, has_key, is_searched};
use super::turn::Turn;
use super::{Reading, Subject, invalid};
use crate::error::Error;
use crate::http::asker::Asker;
use crate::http::lens::{Lens, Sight};
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
/// What is read at once for one answer, but for the searches: a query for each epoch.
pub(super) const PAGE: Reads = Reads { queries: 200, bytes: ANSWER_BYTES_MAX };
/// Entries that are read at once where not all of them may be told.
pub(super) const ENTRIES_AT_ONCE: usize = 250;

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
///
/// To who may not see all rows, it goes on over what they do not see, however much that is, and ends where the last version that
/// they do see is, or where all was looked through: neither whether there is anything beside it nor where that stands is told.
pub(super) async fn read(
    inner: &Inner,
    asker: &Asker,
    subject: &Subject,
    query: &Query,
) -> Result<Reading, Problem> {
    let mut lens = Lens::new(&asker.grant);
    let after = match query.from {
        Some(place) => Some(place.resolve(inner, Edge::From).await?.0),
        None => None,
    };
    let upto = match query.to {
        Some(place) => place.resolve(inner, Edge::To).await?.0,
        None => inner.extent(None).await.map_err(|error| Problem::unavailable(&error))?.head,
    };
    let mut turn = Turn::wait(inner, asker).await;
    let rows = inner.history.rows(subject.table.oid).await.map_err(unavailable)?;
    let hides = lens.hides();
    let at_once = if hides { ENTRIES_AT_ONCE } else { query.limit };
    let pruned = rows.pruned().filter(|_| after.is_none());
    let mut versions = Versions::new(subject, query, hides, pruned);
    let (mut from, mut is_first) = (after, true);
    loop {
        turn.again().await?;
        let mut reads = PAGE;
        let page = rows.versions(&subject.key, from, upto, at_once, &mut reads).await.map_err(unavailable)?;
        if let Some(after) = after.filter(|_| is_first && (hides || !page.entries.is_empty())) {
            versions.begin(seen::at(&rows, &subject.key, after, &mut lens, &mut turn).await?);
        }
        is_first = false;
        let mut is_cut = false;
        for entry in &page.entries {
            tokio::task::yield_now().await;
            let taken = versions.take(&rows, entry, &lens.look_at(Some(entry))).await;
            is_cut = !taken.map_err(|error| Problem::unavailable(&error))?;
            if is_cut {
                break;
            }
        }
        if is_cut || !page.has_more || !hides {
            return Ok(versions.end(page.through, page.has_more, is_cut));
        }
        from = Some(page.through);
    }
}

/// An answer that is being written.
struct Versions<'a> {
    subject: &'a Subject,
    query: &'a Query,
    /// Whether who asks may not see all rows.
    hides: bool,
    out: Vec<u8>,
    count: usize,
    /// The row as history has it; `None` behind what is not seen: it is looked for where that is needed.
    state: Option<State>,
    /// As who asks sees it: what is not told changes nothing of that.
    seen: State,
    /// The same as it was told.
    told: Option<Image>,
    /// Where the answer ends if it ends now.
    end: Option<Position>,
    /// What may still be read to put rows together.
    search: Reads,
}

impl<'a> Versions<'a> {
    /// `pruned`: what befell the row up to there is no longer known.
    fn new(subject: &'a Subject, query: &'a Query, hides: bool, pruned: Option<Position>) -> Self {
        let mut out = Vec::with_capacity(1024);
        super::write_subject(&mut out, subject);
        if let Some(floor) = pruned {
            write_text(&mut out, format_args!(",\"pruned\":\"{floor}\""));
        }
        out.extend_from_slice(b",\"versions\":[");
        Versions {
            subject,
            query,
            hides,
            out,
            count: 0,
            state: Some(State::Absent),
            seen: State::Absent,
            told: None,
            end: None,
            search: SEARCH,
        }
    }

    /// The row where the answer begins.
    fn begin(&mut self, found: Found) {
        self.told = document(&found.seen, None);
        (self.state, self.seen) = (Some(found.state), found.seen);
    }

    /// Takes the next entry, of which so much is seen; whether there was room for it.
    async fn take(&mut self, rows: &RowHistory<'_>, entry: &RowEntry, sight: &Sight) -> Result<bool, Error> {
        let key = &self.subject.key;
        if let RowEntry::Change(it) = entry
            && is_of_row(entry)
            && !is_seen(it, key, sight)
        {
            self.state = None;
            return Ok(true);
        }
        let is_searched = is_of_search(entry) || self.state.is_none();
        let next = State::after(rows, key, entry, self.state.as_ref(), &mut self.search).await?;
        // All rows are then what this one is.
        let seen = if self.hides && is_of_row(entry) { next.seen(sight) } else { next.clone() };
        let is_told = is_of_row(entry) || seen != State::Absent || self.seen != State::Absent;
        if is_told {
            // The next answer has as much for it alone.
            let is_beyond = self.end.is_some() && next.cut().is_some() && is_searched;
            // What was read is bounded, but values that did not change are told with each version.
            if is_beyond || self.out.len() >= ANSWER_BYTES_MAX || self.count >= self.query.limit {
                return Ok(false);
            }
            self.write(entry, &seen, sight);
        }
        self.end = Some(entry.position());
        self.state = Some(next.behind(entry));
        self.seen = seen.behind(entry);
        self.told = self.told.take().filter(|_| self.seen.image().is_some());
        Ok(true)
    }

    fn write(&mut self, entry: &RowEntry, seen: &State, sight: &Sight) {
        if self.count > 0 {
            self.out.push(b',');
        }
        self.count += 1;
        let document = document(seen, Some(entry));
        write_version(&mut self.out, self.subject, entry, sight);
        write_document(&mut self.out, seen, document.as_ref());
        if self.query.patch {
            self.out.extend_from_slice(b",\"patch\":");
            write_patch(&mut self.out, self.told.as_ref(), document.as_ref());
            self.out.extend_from_slice(b",\"reverse\":");
            write_patch(&mut self.out, document.as_ref(), self.told.as_ref());
        }
        self.out.push(b'}');
        self.told = document;
    }

    fn end(mut self, through: Position, has_more: bool, is_cut: bool) -> Reading {
        let (has_more, end) = (has_more || is_cut, self.end.filter(|_| is_cut).unwrap_or(through));
        write_text(&mut self.out, format_args!("],\"cursor\":\"{end}\",\"has_more\":{has_more}}}\n"));
        Reading { body: self.out, count: u64::try_from(self.count).unwrap_or(u64::MAX), through: end }
    }
}

/// Whether a change of the row under this key is seen: the row is seen under it before the change, or after it.
pub(super) fn is_seen(it: &RowChange, key: &str, sight: &Sight) -> bool {
    match has_key(it, key) {
        true => sight.after || sight.before && it.moved_from.is_none(),
        false => sight.before,
    }
}

/// Whether the entry is of one row alone.
fn is_of_row(entry: &RowEntry) -> bool {
    matches!(entry, RowEntry::Change(it) if it.change.row_key.is_some())
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
pub(super) fn write_version(out: &mut Vec<u8>, subject: &Subject, entry: &RowEntry, sight: &Sight) {
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
        // As in the stream, too: it leaves what may be seen, or comes into it.
        Operation::Update if !sight.after => "delete",
        Operation::Update if !sight.before => "insert",
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
    if let Some(author) = change.author.as_ref().filter(|_| sight.author) {
        out.extend_from_slice(b",\"client_id\":");
        write_string(out, &author.client_id);
        if let Some(metadata) = &author.metadata {
            // As jsonb printed it.
            out.extend_from_slice(b",\"metadata\":");
            out.extend_from_slice(metadata.as_bytes());
        }
    }
    if has_key
        && sight.before
        && let Some(key) = moved_from
    {
        write_text(out, format_args!(",\"moved_from\":{key}"));
    }
    if !has_key
        && sight.after
        && let (Operation::Update, Some(key)) = (change.operation, &change.row_key)
    {
        out.extend_from_slice(b",\"moved_to\":");
        out.extend_from_slice(key);
    }
    if has_key {
        write_names(out, "flagged", change.flagged.iter().filter(|name| sight.has(name)));
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
        Query::parse(crate::http::query::pairs(&uri, &[])?)
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
