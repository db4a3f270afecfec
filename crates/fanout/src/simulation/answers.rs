//! What the model's two databases answer to what streaming asks, after a while. The contracts are those that
//! [`crate::databases`] states of the real ones: what was read is checked against what was pruned meanwhile, a page may end inside
//! a transaction, images come as jsonb prints them, and a snapshot shows what PostgreSQL's would.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use tokio::time::Instant;
use waldelta_history::{
    Captured, ClientNote, ConnectionListener, Error, Gap, Head, Lineage, NewestConnection, NumberedClient,
    Page, Part, ReadLimit,
};
use waldelta_source::Error as SourceError;
use waldelta_source::catalog::PublishedTable;
use waldelta_source::snapshot::{Rows, SnapshotRow};
use waldelta_testkit::Dice;
use waldelta_wal::{Change, EndLsn, Epoch, Lsn, PgSnapshot, Position, Table, TableName};

use super::model::{Commit, IDS, Model, TABLES, text};
use crate::databases::{Clientele, Counting, Log, OpenSnapshot, Origin};
use crate::lock::lock;
use crate::testing::lineage;

type Answer<'a, T> = BoxFuture<'a, Result<T, Error>>;
type SourceAnswer<'a, T> = BoxFuture<'a, Result<T, SourceError>>;

/// The two databases.
#[derive(Clone)]
pub(super) struct Answers(pub Arc<Model>);

impl Answers {
    /// The dice of a question: which depend on what is asked and when, and not on who else asks in the same moment.
    fn dice(&self, what: &str, about: u64) -> Dice {
        let at = u64::try_from((Instant::now() - self.0.began).as_micros()).unwrap();
        Dice::of(self.0.seed, &format!("{what} {about} at {at}"))
    }

    /// An answer takes its time.
    async fn wait(&self, what: &str, about: u64) -> Dice {
        let mut dice = self.dice(what, about);
        let time = if dice.once_in(30) { dice.ms(50, 400) } else { dice.ms(0, 12) };
        tokio::time::sleep(time).await;
        dice
    }

    /// Sometimes a database is out of reach.
    async fn answer<T>(&self, asked: &str, what: impl FnOnce(&Model) -> T) -> Result<T, Error> {
        let mut dice = self.wait(asked, 0).await;
        match dice.once_in(400) {
            true => Err(Error::Corrupt { what: "out of reach".to_owned() }),
            false => Ok(what(&self.0)),
        }
    }

    async fn source_answer<T>(&self, asked: &str, what: impl FnOnce(&Model) -> T) -> Result<T, SourceError> {
        self.wait(asked, 0).await;
        Ok(what(&self.0))
    }
}

/// As jsonb prints it.
fn reprinted(image: &Option<Bytes>) -> Option<Bytes> {
    let image = std::str::from_utf8(image.as_ref()?).unwrap();
    Some(Bytes::from(image.replace("\":", "\": ").replace(",\"", ", \"")))
}

fn page(model: &Model, after: Position, upto: Position, changes_max: usize) -> Result<Page, Error> {
    let state = lock(&model.state);
    if after < state.floor {
        return Err(Error::Pruned { floor: state.floor });
    }
    let inside = |commit: &Commit| {
        (commit.position().epoch, commit.position().commit_lsn) == (after.epoch, after.commit_lsn)
    };
    let rest = state.commits[..state.stored]
        .iter()
        .filter(|commit| !commit.ops.is_empty() && commit.position() > after && commit.position() <= upto);
    let (mut parts, mut room) = (Vec::new(), changes_max);
    for commit in rest {
        let all = &commit.transaction.changes;
        let from = match inside(commit) {
            true => all.partition_point(|change| change.seq <= after.index),
            false => 0,
        };
        if from == all.len() {
            continue;
        }
        if room == 0 {
            return Ok(Page { parts, has_more: true });
        }
        let to = all.len().min(from + room);
        room -= to - from;
        let reprint = |change: &Change| Change {
            data: reprinted(&change.data),
            old_data: reprinted(&change.old_data),
            ..change.clone()
        };
        let changes = all[from..to].iter().map(reprint).collect();
        let last = to == all.len();
        parts.push(Part { head: commit.transaction.head, changes, last });
        if !last {
            return Ok(Page { parts, has_more: true });
        }
    }
    Ok(Page { parts, has_more: false })
}

impl Log for Answers {
    fn read_after(&self, after: Position, upto: Position, limit: ReadLimit) -> Answer<'_, Page> {
        async move {
            let mut dice = self.wait("read_after", after.commit_lsn.0 ^ u64::from(after.index)).await;
            let changes_max = 1 + dice.index((limit.changes_max as usize).min(40));
            match dice.once_in(400) {
                true => Err(Error::Corrupt { what: "out of reach".to_owned() }),
                false => page(&self.0, after, upto, changes_max),
            }
        }
        .boxed()
    }

    fn captured(&self) -> Answer<'_, Option<(Captured, Head)>> {
        let captured = Captured {
            system_id: 1,
            timeline: 1,
            database_oid: 1,
            slot: "s".to_owned(),
            publication: "p".to_owned(),
        };
        self.answer("captured", |model| Some((captured, model.head()))).boxed()
    }

    fn floor(&self) -> Answer<'_, Position> {
        self.answer("floor", |model| lock(&model.state).floor).boxed()
    }

    fn lineage(&self) -> Answer<'_, Lineage> {
        self.answer("lineage", |_| lineage(&[(1, 0x1000, None)])).boxed()
    }

    fn cursor_of_lsn(&self, lsn: Lsn) -> Answer<'_, Option<Position>> {
        self.answer("cursor_of_lsn", move |_| Some(Position::before(Epoch(1), EndLsn(lsn)))).boxed()
    }

    fn open_gaps(&self) -> Answer<'_, Vec<Gap>> {
        self.answer("open_gaps", |_| Vec::new()).boxed()
    }

    fn xids_unseen_by<'a>(&'a self, snapshot: &'a PgSnapshot, upto: Position) -> Answer<'a, Vec<u64>> {
        self.answer("xids_unseen_by", move |model| {
            let state = lock(&model.state);
            let durable = state.commits[..state.stored].iter().filter(|commit| commit.position() <= upto);
            durable.map(|commit| commit.xid()).filter(|xid| !snapshot.visible(*xid)).collect()
        })
        .boxed()
    }

    fn tables(&self) -> Answer<'_, Vec<Arc<Table>>> {
        self.answer("tables", |model| model.tables.clone()).boxed()
    }

    fn tables_of_names<'a>(&'a self, names: &'a BTreeSet<TableName>) -> Answer<'a, Vec<Arc<Table>>> {
        self.answer("tables_of_names", |model| {
            model.tables.iter().filter(|table| names.contains(&table.name)).cloned().collect()
        })
        .boxed()
    }

    fn table(&self, oid: u32, _version: u32) -> Answer<'_, Arc<Table>> {
        self.answer("table", move |model| model.tables.iter().find(|table| table.oid == oid).unwrap().clone())
            .boxed()
    }
}

impl Clientele for Answers {
    fn record_ack<'a>(&'a self, _client_id: &'a str, _cursor: Position) -> Answer<'a, ()> {
        self.answer("record_ack", |_| ()).boxed()
    }

    fn record_acks<'a>(&'a self, _acks: &'a [(&'a str, Position)]) -> Answer<'a, ()> {
        self.answer("record_acks", |_| ()).boxed()
    }

    fn note_clients<'a>(&'a self, _clients: &'a [ClientNote<'a>]) -> Answer<'a, ()> {
        self.answer("note_clients", |_| ()).boxed()
    }

    fn forget_clients(&self, _unseen_for: Duration) -> Answer<'_, Option<u64>> {
        self.answer("forget_clients", |_| None).boxed()
    }

    fn raise_connections(&self) -> Answer<'_, ()> {
        self.answer("raise_connections", |_| ()).boxed()
    }

    fn draw_connections(&self, count: usize) -> Answer<'_, Vec<i64>> {
        self.answer("draw_connections", move |model| {
            let mut state = lock(&model.state);
            let first = state.connections + 1;
            state.connections += i64::try_from(count).unwrap();
            (first..=state.connections).collect()
        })
        .boxed()
    }

    fn take_clients<'a>(
        &'a self,
        process: i64,
        clients: &'a [NumberedClient<'a>],
    ) -> Answer<'a, Vec<String>> {
        self.answer("take_clients", move |model| {
            let newest = &mut lock(&model.state).newest;
            let mut taken = Vec::new();
            for client in clients {
                let known = newest.entry(client.note.client_id.to_owned()).or_insert((process, 0));
                if client.connection >= known.1 {
                    *known = (process, client.connection);
                    taken.push(client.note.client_id.to_owned());
                }
            }
            taken
        })
        .boxed()
    }

    fn taken_elsewhere<'a>(
        &'a self,
        process: i64,
        client_ids: &'a [&'a str],
    ) -> Answer<'a, Vec<NewestConnection>> {
        self.answer("taken_elsewhere", move |model| {
            let newest = &lock(&model.state).newest;
            let elsewhere = client_ids.iter().filter_map(|id| {
                let (_, connection) = newest.get(*id).filter(|(other, _)| *other != process)?;
                Some(NewestConnection { client_id: (*id).to_owned(), connection: *connection })
            });
            elsewhere.collect()
        })
        .boxed()
    }

    /// Notifications are lost here: it is asked.
    fn listen_for_connections(&self) -> Answer<'_, ConnectionListener> {
        async {
            self.wait("listen_for_connections", 0).await;
            Err(Error::Corrupt { what: "nobody can listen".to_owned() })
        }
        .boxed()
    }
}

impl Origin for Answers {
    fn counting(&self) -> SourceAnswer<'_, Box<dyn Counting>> {
        self.source_answer("counting", |_| Box::new(self.clone()) as Box<dyn Counting>).boxed()
    }

    fn published_tables(&self) -> SourceAnswer<'_, Vec<PublishedTable>> {
        self.source_answer("published_tables", published).boxed()
    }

    fn visible_now(&self) -> SourceAnswer<'_, PgSnapshot> {
        self.source_answer("visible_now", |model| lock(&model.state).look()).boxed()
    }

    fn wait_visible<'a>(&'a self, xids: &'a [u64], timeout: Duration) -> SourceAnswer<'a, ()> {
        async move {
            let until = Instant::now() + timeout;
            loop {
                let snapshot = self.visible_now().await?;
                let Some(xid) = xids.iter().find(|xid| !snapshot.visible(**xid)) else { return Ok(()) };
                if Instant::now() >= until {
                    return Err(SourceError::NotVisibleYet { xid: *xid, waited_ms: 0 });
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        .boxed()
    }

    fn open_snapshot(&self) -> SourceAnswer<'_, Box<dyn OpenSnapshot>> {
        async {
            let snapshot = self.source_answer("open_snapshot", |model| lock(&model.state).look()).await?;
            let fence = self
                .source_answer("emit_fence", |model| {
                    let mut state = lock(&model.state);
                    let is_ahead = |commit: &Arc<Commit>| commit.xid() >= snapshot.xmax();
                    if state.commits[..state.stored].iter().any(is_ahead) {
                        state.ahead_of_snapshots += 1;
                    }
                    let fence = state.emit_fence();
                    state.snapshots.insert(fence.0, snapshot.clone());
                    fence
                })
                .await?;
            Ok(Box::new(Opened { answers: self.clone(), snapshot, fence }) as Box<dyn OpenSnapshot>)
        }
        .boxed()
    }
}

impl Counting for Answers {
    fn next_xid(&mut self) -> SourceAnswer<'_, u64> {
        self.source_answer("next_xid", |model| lock(&model.state).next_xid()).boxed()
    }
}

fn published(model: &Model) -> Vec<PublishedTable> {
    let published = |table: &Arc<Table>| PublishedTable {
        table: Table { version: 0, ..Table::clone(table) },
        primary_key: Some(vec!["id".to_owned()]),
        last_number: 2,
        rows_estimate: IDS.cast_signed(),
    };
    model.tables.iter().map(published).collect()
}

/// A moment of the source.
struct Opened {
    answers: Answers,
    snapshot: PgSnapshot,
    fence: Lsn,
}

impl OpenSnapshot for Opened {
    fn check_timeline(&self, _followed: u32) -> Result<(), SourceError> {
        Ok(())
    }

    fn visibility(&self) -> &PgSnapshot {
        &self.snapshot
    }

    fn fence(&self) -> Lsn {
        self.fence
    }

    fn tables(&self) -> SourceAnswer<'_, Vec<PublishedTable>> {
        self.answers.source_answer("tables", published).boxed()
    }

    /// Of the conditions that may be asked for there is one: [`super::copy::LOW`].
    fn rows_where<'a>(
        &'a self,
        table: Arc<Table>,
        condition: Option<&'a str>,
        _batch_bytes: usize,
    ) -> SourceAnswer<'a, Rows<'a>> {
        async move {
            let rows = self
                .answers
                .source_answer("rows_where", |model| lock(&model.state).rows_in(&self.snapshot))
                .await?;
            let index = TABLES.iter().position(|name| *name == table.name.name).unwrap();
            let rows = rows.into_iter().filter(move |((of, id), _)| {
                *of == index && (condition.is_none() || super::copy::is_low(*id))
            });
            let row = |((_, id), value): ((usize, i64), u64)| SnapshotRow {
                key: Some(Bytes::from(format!("[{id}]"))),
                data: Bytes::from(format!(r#"{{"id":{id},"v":"{}"}}"#, text(value))),
                flagged: Vec::new(),
            };
            let rows: Vec<_> = rows.map(row).collect();
            let batches: Vec<_> = rows.chunks(3).map(<[_]>::to_vec).collect();
            let answers = self.answers.clone();
            let batches = stream::iter(batches).then(move |batch| {
                let answers = answers.clone();
                async move {
                    answers.wait("batch", 0).await;
                    Ok(batch)
                }
            });
            Ok(Box::pin(batches) as Rows<'a>)
        }
        .boxed()
    }
}
