//! A row as of a place in history.

use axum::http::StatusCode;
use waldelta_history::{Reads, RowChange, RowEntry, RowHistory};
use waldelta_wal::{Code, Operation, Position};

use super::seen;
use super::state::{Cut, State, has_key};
use super::turn::Turn;
use super::versions::{document, write_document, write_version};
use super::{Reading, Subject, invalid};
use crate::http::asker::Asker;
use crate::http::lens::Lens;
use crate::http::place::{Edge, Place, unavailable};
use crate::http::problem::Problem;
use crate::inner::Inner;
use crate::start::Extent;
use crate::wire::json::write_text;

/// The first that befell a row after a place: a query for each epoch.
const NEXT: Reads = Reads { queries: 200, bytes: 1 };

/// What is asked for: the head, where no place is named.
#[derive(Debug, PartialEq)]
pub(super) struct Query {
    at: Option<Place>,
}

impl Query {
    pub(super) fn parse(pairs: Vec<(String, String)>) -> Result<Self, Problem> {
        let mut query = Query { at: None };
        for (name, value) in pairs {
            match name.as_str() {
                "at" => query.at = Some(value.parse()?),
                _ => return Err(invalid("unknown parameter; there is `at`")),
            }
        }
        Ok(query)
    }
}

/// The answer: the row, and the version that it is.
pub(super) async fn read(
    inner: &Inner,
    asker: &Asker,
    subject: &Subject,
    query: &Query,
) -> Result<Reading, Problem> {
    let mut lens = Lens::new(&asker.grant);
    let (at, extent) = match query.at {
        Some(place) => place.resolve(inner, Edge::To).await?,
        None => {
            let extent = inner.extent(None).await.map_err(|error| Problem::unavailable(&error))?;
            (extent.head, extent)
        }
    };
    reaches_back(inner, subject, at, &extent).await?;
    let mut turn = Turn::wait(inner, asker).await;
    // The gaps are read after the place was found: of everything up to it they are known.
    let rows = inner.history.rows(subject.table.oid).await.map_err(unavailable)?;
    let found = seen::at(&rows, &subject.key, at, &mut lens, &mut turn).await?;
    let (state, sight) = (found.seen, found.sight);
    let entry = match (&state, found.entry) {
        (State::Present(..), Some(entry)) => entry,
        (State::Unknown, _) => {
            return Err(unknown(
                "rows of the table changed before then, or around then, in a way that history has no changes of",
            ));
        }
        (State::Unread(Cut { at, .. }), _) => {
            return Err(unknown(&format!("nothing befell the row after {at}: ask for it as of that place")));
        }
        (_, None) if existed(&rows, subject, &mut lens, at, extent.head).await? => {
            return Err(unknown("the row was there, and history has it only from a later change on"));
        }
        // What it was is told by changes that are no longer there, or it never was: nobody knows.
        (_, None) if rows.pruned().is_some() => {
            return Err(Problem::pruned(rows.pruned().unwrap_or_default()));
        }
        _ => {
            let detail = "there was no row with this key, as far as history knows";
            return Err(Problem::new(StatusCode::NOT_FOUND, Code::RowNotFound, detail));
        }
    };
    let mut out = Vec::with_capacity(1024);
    super::write_subject(&mut out, subject);
    write_text(&mut out, format_args!(",\"at\":\"{at}\""));
    write_document(&mut out, &state, document(&state, Some(&entry)).as_ref());
    out.extend_from_slice(b",\"version\":");
    write_version(&mut out, subject, &entry, &sight);
    out.extend_from_slice(b"}}\n");
    Ok(Reading { body: out, count: 1, through: at })
}

/// Whether history knows the table's rows then.
async fn reaches_back(
    inner: &Inner,
    subject: &Subject,
    at: Position,
    extent: &Extent,
) -> Result<(), Problem> {
    // Rows from before history stand at its beginning, each at an index of its own.
    let at = Position::whole(at.epoch, at.commit_lsn);
    if let Some(pruned) = inner.history.pruned().await.map_err(unavailable)?
        && at < pruned.upto
    {
        return Err(Problem::pruned(pruned.upto));
    }
    // What was stored before a gap is still there, in an epoch of its own.
    if at.epoch == extent.floor.epoch && at < extent.floor {
        return Err(unknown("history no longer has what was before"));
    }
    match inner.history.history_from(subject.table.oid).await.map_err(unavailable)? {
        Some(since) if at < since.after => {
            Err(unknown(&format!("history has the table only after {}", since.after)))
        }
        _ => Ok(()),
    }
}

/// Whether the first thing that is known of the row is that it was there before.
async fn existed(
    rows: &RowHistory<'_>,
    subject: &Subject,
    lens: &mut Lens,
    at: Position,
    head: Position,
) -> Result<bool, Problem> {
    let mut reads = NEXT;
    let next = rows.versions(&subject.key, Some(at), head, 1, &mut reads).await.map_err(unavailable)?;
    Ok(match next.entries.first() {
        Some(RowEntry::Change(it)) => {
            let sight = lens.look(&it.change);
            // The row that a baseline tells was there before.
            let is_seen = sight.before || sight.after && it.change.operation == Operation::Baseline;
            was_there(it, subject) && is_seen
        }
        _ => false,
    })
}

fn was_there(it: &RowChange, subject: &Subject) -> bool {
    match it.change.operation {
        // With this key after it the row was there with this key, unless it came from another.
        Operation::Update if has_key(it, &subject.key) => it.moved_from.is_none(),
        Operation::Update => true,
        Operation::Delete | Operation::Baseline => true,
        _ => false,
    }
}

fn unknown(detail: &str) -> Problem {
    Problem::new(StatusCode::GONE, Code::RowUnknown, detail)
}
