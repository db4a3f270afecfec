//! The shape of a table that decoding waits for: from history where that knows all, else the catalog is asked while appends
//! go on. Which of them is believed in what is said in `shape`.

use std::collections::HashMap;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;
use waldelta_source::Source;
use waldelta_source::catalog::{self, PublishedTable};
use waldelta_wal::{Relation, Table};

use crate::shape::{News, Shaped, fits, from_catalog, from_history};
use crate::{Error, questions};

/// The catalog answers in milliseconds, unless somebody holds a lock on it.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// How often it is asked whether a transaction has ended.
const ENDED_POLL_INTERVAL: Duration = Duration::from_millis(20);

type Answer = Result<Option<PublishedTable>, Error>;

/// A table that decoding waits for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// As the stream shows it.
    pub(crate) relation: Relation,
    /// The transaction whose row has this shape, as the WAL has its id.
    pub(crate) xid: u32,
}

/// The table that decoding waits for, if there is one, and what was said of others.
pub(crate) struct Lookup {
    client: Arc<Client>,
    source: Source,
    /// As the catalog was right before the streaming began; each is used once.
    read_before: HashMap<u32, PublishedTable>,
    /// What is new of the tables that were defined on this connection, or of which the source said that something is.
    news: HashMap<u32, News>,
    state: State,
}

enum State {
    Idle,
    Wanted(Wanted),
    Asked(Wanted, Pin<Box<dyn Future<Output = Answer> + Send>>),
    Answered(Wanted, Option<PublishedTable>),
}

impl Lookup {
    pub(crate) fn new(
        client: Arc<Client>,
        source: Source,
        read_before: HashMap<u32, PublishedTable>,
    ) -> Self {
        Lookup { client, source, read_before, news: HashMap::new(), state: State::Idle }
    }

    /// Whether nothing is wanted, so that decoding may go on.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Decoding waits for this table.
    pub(crate) fn want(&mut self, wanted: Wanted) {
        self.state = State::Wanted(wanted);
    }

    /// What is known of the table is out of date.
    pub(crate) fn forget(&mut self, table_oid: u32, news: News) {
        self.read_before.remove(&table_oid);
        let known = self.news.entry(table_oid).or_insert(news);
        *known = news.max(*known);
        // What is being answered may be out of date too.
        if let State::Asked(wanted, _) | State::Answered(wanted, _) = &self.state
            && wanted.relation.oid == table_oid
        {
            self.state = State::Wanted(wanted.clone());
        }
    }

    /// The table that is wanted, without its version, if all is known by now; else sees to it that it will be. `stored`
    /// gives the latest shape that history has.
    pub(crate) fn settle<'a>(
        &mut self,
        stored: impl FnOnce(u32) -> Option<&'a Arc<Table>>,
    ) -> Option<Shaped> {
        let (wanted, answer) = match std::mem::replace(&mut self.state, State::Idle) {
            State::Wanted(wanted) => (wanted, None),
            State::Answered(wanted, answer) => (wanted, Some(answer)),
            other => {
                self.state = other;
                return None;
            }
        };
        let relation = &wanted.relation;
        let stored = stored(relation.oid).map(|table| &**table);
        let news = self.news.get(&relation.oid).copied().unwrap_or(News::None);
        let known = match answer {
            Some(answer) => Some(from_catalog(relation, stored, answer.as_ref(), news)),
            None => from_history(relation, stored, news).or_else(|| {
                let read = self.read_before.remove(&relation.oid).filter(|_| news == News::None);
                let read = read.filter(|published| fits(&published.table, relation))?;
                Some(from_catalog(relation, stored, Some(&read), news))
            }),
        };
        match known {
            // From now on its relation comes only when something is new.
            Some(_) => drop(self.news.insert(relation.oid, News::Table)),
            None => {
                let answer = Box::pin(ask(self.client.clone(), self.source.clone(), wanted.clone(), news));
                self.state = State::Asked(wanted, answer);
            }
        }
        known
    }

    /// Waits for the catalog's answer, for ever when it was not asked. Dropped before, it goes on when called again.
    pub(crate) async fn answered(&mut self) -> Result<(), Error> {
        let State::Asked(wanted, answer) = &mut self.state else { return pending().await };
        let published = answer.await?;
        self.state = State::Answered(wanted.clone(), published);
        Ok(())
    }
}

/// Asks the catalog. A transaction arrives before it can be seen, for as long as a synchronous standby does not answer; so
/// where something is new, or the catalog has another shape than the row, it counts only once that row's transaction has
/// ended.
async fn ask(client: Arc<Client>, source: Source, wanted: Wanted, news: News) -> Answer {
    let Wanted { relation, xid } = wanted;
    let mut waits = false;
    let asked = async {
        loop {
            let ended = questions::transaction_has_ended(&client, xid).await?;
            let published = catalog::published_table(&client, &source, relation.oid).await?;
            let agrees = published.as_ref().is_some_and(|published| fits(&published.table, &relation));
            if ended || (agrees && news == News::None) {
                return Ok(published);
            }
            waits = true;
            tokio::time::sleep(ENDED_POLL_INTERVAL).await;
        }
    };
    let answer = tokio::time::timeout(ANSWER_TIME_MAX, asked).await;
    let waited_ms = u64::try_from(ANSWER_TIME_MAX.as_millis()).unwrap_or(u64::MAX);
    answer.unwrap_or_else(|_| {
        Err(match waits {
            true => waldelta_source::Error::NotVisibleYet { xid: xid.into(), waited_ms }.into(),
            false => Error::Unanswered { what: "look up a table in the catalog", waited_ms },
        })
    })
}
