//! What the stream does not say of a table: its primary key and what is NOT NULL. The catalog is asked while appends go
//! on; decoding waits for the answer.

use std::collections::HashMap;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;
use waldelta_source::catalog::{self, PublishedTable};
use waldelta_wal::{AssembleError, Relation, Table};

use crate::Error;

/// The catalog answers in milliseconds, unless somebody holds a lock on it.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

type Answer = Result<Option<PublishedTable>, Error>;

/// The question that decoding waits for, if there is one, and what was asked before.
pub(crate) struct Lookup {
    client: Arc<Client>,
    /// As the catalog was right before the streaming began; each is used once.
    read_before: HashMap<u32, PublishedTable>,
    state: State,
}

enum State {
    Idle,
    Asked(Relation, Pin<Box<dyn Future<Output = Answer> + Send>>),
    Answered(Table),
}

impl Lookup {
    pub(crate) fn new(client: Arc<Client>, read_before: HashMap<u32, PublishedTable>) -> Self {
        Lookup { client, read_before, state: State::Idle }
    }

    /// Whether nothing is asked, so that decoding may go on.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Asks for a table.
    pub(crate) fn ask(&mut self, relation: Relation) -> Result<(), Error> {
        let read_before = self.read_before.remove(&relation.oid);
        if let Some(published) = read_before.filter(|published| is_as_before(&published.table, &relation)) {
            self.state = State::Answered(to_table(&relation, Some(&published))?);
            return Ok(());
        }
        let (client, oid) = (self.client.clone(), relation.oid);
        let answer = async move {
            match tokio::time::timeout(ANSWER_TIME_MAX, catalog::table_by_oid(&client, oid)).await {
                Ok(answer) => Ok(answer?),
                Err(_) => Err(Error::Unanswered {
                    what: "look up a table in the catalog",
                    waited_ms: u64::try_from(ANSWER_TIME_MAX.as_millis()).unwrap_or(u64::MAX),
                }),
            }
        };
        self.state = State::Asked(relation, Box::pin(answer));
        Ok(())
    }

    /// Waits for the answer, for ever when none is asked for. Dropped before, it goes on when called again.
    pub(crate) async fn answered(&mut self) -> Result<(), Error> {
        let State::Asked(relation, answer) = &mut self.state else { return pending().await };
        let published = answer.await?;
        self.state = State::Answered(to_table(relation, published.as_ref())?);
        Ok(())
    }

    /// The table that was asked for, without its version; `None` while there is no answer.
    pub(crate) fn take(&mut self) -> Option<Table> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Answered(table) => Some(table),
            other => {
                self.state = other;
                None
            }
        }
    }
}

/// Whether the stream shows the table as the catalog had it.
fn is_as_before(table: &Table, relation: &Relation) -> bool {
    let column = |(ours, theirs): (&waldelta_wal::Column, &waldelta_wal::RelationColumn)| {
        ours.name == theirs.name
            && ours.type_oid == theirs.type_oid
            && ours.type_modifier == theirs.type_modifier
    };
    table.name == relation.table_name()
        && table.identity == relation.identity
        && table.columns.len() == relation.columns.len()
        && table.columns.iter().zip(&relation.columns).all(column)
}

/// A table that is gone from the catalog is known by the stream alone.
fn to_table(relation: &Relation, published: Option<&PublishedTable>) -> Result<Table, Error> {
    let primary_key = published.and_then(|published| published.primary_key.as_deref());
    let nullable = |name: &str| {
        let columns = published.map(|published| published.table.columns.as_slice()).unwrap_or_default();
        columns.iter().find(|column| column.name == name).is_none_or(|column| column.nullable)
    };
    relation.to_table(primary_key, nullable).map_err(|error| Error::Assemble(AssembleError::from(error)))
}
