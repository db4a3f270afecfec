//! The outline of a table that a line of wal2json waits for: by the catalog of now, since the line tells none. Asked while
//! appends go on.
//!
//! A row is as old as the WAL that it stands in. So what the catalog says is tried on the row: the table that has the name
//! now, the one that was asked for by it, and the outline that the rows before had. Where none fits, the row's transaction
//! may not be visible yet, so its end is waited for and all is tried once more. Then capture has to stop, unless the
//! published tables are others by now, so that they have to be asked for anew.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;
use waldelta_source::Source;
use waldelta_source::catalog::{self, Listing, PrintedTable};
use waldelta_wal::{Lsn, Misfit, TableName};

use crate::lines::{Outline, Unshaped};
use crate::listed::Listed;
use crate::{Error, questions};

/// The catalog answers in milliseconds, unless somebody holds a lock on it.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// How often it is asked whether a transaction has ended.
const ENDED_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How often the catalog is asked for one line.
const ASKED_MAX: u32 = 2;

/// What the catalog said: the tables to try, in this order, and what is published now.
type Answer = Result<(Vec<PrintedTable>, Listing), Error>;

/// See the module.
pub(crate) struct Outlines {
    /// `None`: nothing is ever wanted.
    source: Option<Arc<AskedSource>>,
    /// What a line waits for, or waited for last.
    line: Option<Line>,
    state: State,
}

/// Whom to ask, and what it was asked for.
struct AskedSource {
    client: Arc<Client>,
    source: Source,
    listed: Listed,
    /// The WAL's end before the listing was read.
    listed_at: Lsn,
}

/// A line that waits.
struct Line {
    name: TableName,
    xid: u32,
    misfit: Option<Misfit>,
    before: Option<Outline>,
    untried: VecDeque<Outline>,
    asked: u32,
    published_now: Option<Listing>,
}

enum State {
    Idle,
    Wanted,
    Asked(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

impl Outlines {
    /// For a plugin that tells the shapes itself.
    pub(crate) fn none() -> Self {
        Outlines { source: None, line: None, state: State::Idle }
    }

    /// `listed` is what was asked for, read when the WAL's end was at `listed_at`.
    pub(crate) fn new(client: Arc<Client>, source: Source, listed: Listed, listed_at: Lsn) -> Self {
        let source = Some(Arc::new(AskedSource { client, source, listed, listed_at }));
        Outlines { source, line: None, state: State::Idle }
    }

    /// What was asked for, and where the WAL ended then.
    pub(crate) fn listed(&self) -> Option<(&Listed, Lsn)> {
        self.source.as_ref().map(|source| (&source.listed, source.listed_at))
    }

    /// Whether nothing is wanted, so that decoding may go on.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Decoding waits for this table, at a row of the transaction with this id.
    pub(crate) fn want(&mut self, unshaped: Unshaped, xid: u32) {
        let Unshaped { name, misfit, before } = unshaped;
        match &mut self.line {
            Some(line) if misfit.is_some() && line.name == name => line.misfit = misfit,
            _ => {
                let untried = VecDeque::new();
                self.line = Some(Line { name, xid, misfit, before, untried, asked: 0, published_now: None });
            }
        }
        self.state = State::Wanted;
    }

    /// Waits for the next outline to try, for ever when none is wanted. Dropped before, it goes on when called again.
    ///
    /// # Errors
    /// [`Error::NoShape`] or [`Error::TablesChanged`] when none is left; or when a question fails.
    pub(crate) async fn answered(&mut self) -> Result<Outline, Error> {
        let (Some(source), Some(line)) = (&self.source, &mut self.line) else { return pending().await };
        loop {
            match &mut self.state {
                State::Idle => return pending().await,
                State::Wanted => {
                    if let Some(outline) = line.untried.pop_front() {
                        self.state = State::Idle;
                        return Ok(outline);
                    }
                    if line.asked == ASKED_MAX {
                        return Err(hopeless(source, line));
                    }
                    line.asked += 1;
                    let ended = (line.asked > 1).then_some(line.xid);
                    let answer = ask(Arc::clone(source), line.name.clone(), ended);
                    self.state = State::Asked(Box::pin(answer));
                }
                State::Asked(answer) => {
                    let (tables, published_now) = answer.await?;
                    line.try_on(tables);
                    line.published_now = Some(published_now);
                    self.state = State::Wanted;
                }
            }
        }
    }
}

impl Line {
    /// All that may fit, under the name that the line has.
    fn try_on(&mut self, tables: Vec<PrintedTable>) {
        let by_catalog = tables.into_iter().map(|table| {
            let mut relation = table.printed;
            relation.schema.clone_from(&self.name.schema);
            relation.name.clone_from(&self.name.name);
            Outline { relation, unpublished: table.unpublished }
        });
        let mut untried: VecDeque<Outline> = by_catalog.collect();
        untried.extend(self.before.clone().filter(|before| !untried.contains(before)));
        self.untried = untried;
    }
}

/// Why it cannot go on.
fn hopeless(asked: &AskedSource, line: &Line) -> Error {
    match &line.published_now {
        Some(now) if *now != asked.listed.listing => {
            Error::TablesChanged { missing: asked.listed.missing(now), since: asked.listed_at }
        }
        _ => Error::NoShape { table: line.name.clone(), misfit: line.misfit.clone() },
    }
}

/// Asks the catalog, once the transaction has ended where one is given.
async fn ask(asked: Arc<AskedSource>, name: TableName, ended: Option<u32>) -> Answer {
    let AskedSource { client, source, listed, .. } = &*asked;
    let asking = async {
        if let Some(xid) = ended {
            while !questions::transaction_has_ended(client, xid).await? {
                tokio::time::sleep(ENDED_POLL_INTERVAL).await;
            }
        }
        let now = catalog::listing(client, source).await?;
        let is_ours = |oid: u32| listed.contains(oid) || now.tables.iter().any(|table| table.oid == oid);
        let by_name = catalog::printed_table(client, source, &name).await?;
        let mut tables: Vec<PrintedTable> =
            by_name.into_iter().filter(|table| is_ours(table.printed.oid)).collect();
        if let Some(oid) =
            listed.oid(&name).filter(|oid| !tables.iter().any(|table| table.printed.oid == *oid))
        {
            tables.extend(renamed(client, source, oid).await?);
        }
        Ok((tables, now))
    };
    let unanswered = || Error::Unanswered {
        what: "look up a table in the catalog",
        waited_ms: u64::try_from(ANSWER_TIME_MAX.as_millis()).unwrap_or(u64::MAX),
    };
    tokio::time::timeout(ANSWER_TIME_MAX, asking).await.unwrap_or_else(|_| Err(unanswered()))
}

/// The table of this object id, whatever its name is now.
async fn renamed(client: &Client, source: &Source, oid: u32) -> Result<Option<PrintedTable>, Error> {
    let Some(now) = catalog::published_table(client, source, oid).await? else { return Ok(None) };
    let printed = catalog::printed_table(client, source, &now.table.name).await?;
    Ok(printed.filter(|table| table.printed.oid == oid))
}
