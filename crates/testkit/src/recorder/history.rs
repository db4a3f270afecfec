//! What history says: every transaction in order, the ends that it stored, and what each table folds to at any place.
//!
//! It is read by SQL of its own and uses nothing of the code that wrote it. Tables keep one shape and are not reset or left out
//! of: where they are, it says so and ends the test.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use waldelta_wal::{Epoch, Lsn, Position};

use super::filter::Filter;
use super::note::{Change, Op};
use super::rows::{Row, Rows};
use crate::canonical::canonical;
use crate::database::TestDatabase;

/// Rows in order, their keys as objects by the names of the key's columns.
const ROWS: &str = "
    SELECT h.epoch, h.lsn, h.seq, h.operation, h.table_name,
        (SELECT jsonb_object_agg(s.columns->k.at->>'name', v.value)
         FROM unnest(s.key::int[]) WITH ORDINALITY AS k (at, n)
         JOIN jsonb_array_elements(h.row_key::jsonb) WITH ORDINALITY AS v (value, n) USING (n)),
        (SELECT CASE WHEN bool_and(h.old_data ? (s.columns->k.at->>'name'))
                     THEN jsonb_object_agg(s.columns->k.at->>'name', h.old_data->(s.columns->k.at->>'name')) END
         FROM unnest(s.key::int[]) AS k (at) WHERE h.operation = 'update' AND h.old_data IS NOT NULL),
        h.data, h.metadata->'unchanged', h.client_id, h.metadata->'author'->>'begun'
    FROM waldelta.change_history h
    LEFT JOIN waldelta.table_schemas s ON (s.table_oid, s.version) = (h.table_oid, h.schema_version)
    ORDER BY h.epoch, h.lsn, h.seq";

/// Every place at which the durable end has ever been is kept, and whether it went back there: history itself has only the last.
const RECORD_ENDS: &str = "
    CREATE TABLE public.recorded_ends (epoch int, durable_end pg_lsn, went_back boolean);
    CREATE FUNCTION public.record_end() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO public.recorded_ends VALUES (NEW.epoch, NEW.durable_end,
             TG_OP = ''UPDATE'' AND (NEW.epoch, NEW.durable_end) < (OLD.epoch, OLD.durable_end)); RETURN NULL; END';
    CREATE TRIGGER record_end AFTER INSERT OR UPDATE ON waldelta.captures
        FOR EACH ROW EXECUTE FUNCTION public.record_end();
    INSERT INTO public.recorded_ends SELECT epoch, durable_end, false FROM waldelta.captures";

/// What history says.
#[derive(Debug, Default)]
pub struct HistoryLog {
    transactions: Vec<Transaction>,
    /// The last position before each end that was stored.
    ends: BTreeSet<Position>,
    /// The authors of changes that have one, by place and number.
    authors: Arc<HashMap<(Position, u32), Author>>,
    /// Of each table: its digest from each place on at which it changed.
    digests: HashMap<String, Vec<(Position, u64)>>,
}

#[derive(Debug)]
struct Author {
    client: String,
    /// When its transaction was begun, at the earliest, see [`moment`](super::moment); where that is known.
    begun: Option<u64>,
}

#[derive(Debug)]
struct Transaction {
    at: Position,
    changes: Vec<Change>,
    /// Rows of a baseline are folded, and told to nobody.
    is_told: bool,
}

impl HistoryLog {
    /// Has a history keep the ends that it stores from now on: without them no cursor of a quiet client can be checked.
    pub async fn record_ends(history: &TestDatabase) {
        history.exec(RECORD_ENDS).await;
    }

    /// The ends that were stored after a later one, each with its epoch; since [`Self::record_ends`].
    pub async fn went_back(history: &TestDatabase) -> Vec<String> {
        let sql = "SELECT epoch || ' ' || durable_end FROM public.recorded_ends WHERE went_back";
        history.query(sql).await.into_iter().flatten().flatten().collect()
    }

    /// Reads all of it.
    pub async fn read(history: &TestDatabase) -> Self {
        Self::read_where(history, None, |_| true).await
    }

    /// Reads what concerns these tables; what happens to others may be beyond the recorder.
    pub async fn read_of(history: &TestDatabase, tables: &[&str]) -> Self {
        Self::read_where(history, None, |table| tables.contains(&table)).await
    }

    /// The same of what follows a place at which these tables had no rows.
    pub async fn read_since(history: &TestDatabase, tables: &[&str], since: Position) -> Self {
        Self::read_where(history, Some(since), |table| tables.contains(&table)).await
    }

    async fn read_where(
        history: &TestDatabase,
        since: Option<Position>,
        is_read: impl Fn(&str) -> bool,
    ) -> Self {
        let mut log = HistoryLog::default();
        let (mut shapes, mut authors) = (BTreeSet::new(), HashMap::new());
        for row in history.query(ROWS).await {
            let [epoch, lsn, seq, operation, table, key, old_key, data, unchanged, client, begun] =
                row.try_into().unwrap_or_else(|row| panic!("eleven columns: {row:?}"));
            let at = position(epoch.as_deref(), lsn.as_deref(), Position::whole);
            if Some(at) <= since {
                continue;
            }
            let (operation, table) = (operation.unwrap(), table.unwrap_or_default());
            if !is_read(&table) {
                log.add(at, operation != "baseline", None);
                continue;
            }
            let op = match operation.as_str() {
                "insert" | "baseline" => Some(Op::Insert),
                "update" => Some(Op::Update),
                "delete" => Some(Op::Delete),
                "truncate" => Some(Op::Truncate),
                "message" => Some(Op::Message),
                "schema" => {
                    assert!(shapes.insert(table.clone()), "{table} changes its shape: beyond the recorder");
                    None
                }
                other => panic!("{other} of {table}: beyond the recorder"),
            };
            let seq = seq.as_deref().unwrap().parse().unwrap();
            if let Some(client) = client {
                let begun = begun.map(|begun| begun.parse().unwrap());
                authors.insert((at, seq), Author { client, begun });
            }
            let object = |text: Option<String>| text.map(|text| canonical(&text).unwrap());
            let change = |op| Change {
                seq,
                op,
                table,
                key: object(key),
                moved_from: object(old_key),
                data: data.map(|data| Row::parse(&data).unwrap()),
                unchanged: unchanged.map_or_else(Vec::new, |text| serde_json::from_str(&text).unwrap()),
            };
            log.add(at, operation != "baseline", op.map(change));
        }
        for row in history.query("SELECT epoch, durable_end FROM public.recorded_ends").await {
            let before = |epoch, lsn| Position::before(epoch, waldelta_wal::EndLsn(lsn));
            log.ends.insert(position(row[0].as_deref(), row[1].as_deref(), before));
        }
        log.authors = Arc::new(authors);
        log.fold();
        log
    }

    /// Whether a change is of this client, and when its transaction was begun at the earliest.
    pub(super) fn own(&self, at: Position, seq: u32, client: &str) -> Option<Option<u64>> {
        self.authors.get(&(at, seq)).filter(|author| author.client == client).map(|author| author.begun)
    }

    /// Notes a change of the transaction at `at`, or that there is one which tells nothing.
    pub(super) fn add(&mut self, at: Position, is_told: bool, change: Option<Change>) {
        if self.transactions.last().is_none_or(|last| last.at != at) {
            self.transactions.push(Transaction { at, changes: Vec::new(), is_told });
        }
        let changes = &mut self.transactions.last_mut().unwrap().changes;
        let Some(mut change) = change else { return };
        let moved_from = change.moved_from.take().filter(|old| Some(old) != change.key.as_ref());
        if let (Op::Update, Some(old)) = (change.op, moved_from) {
            // Told as two.
            let gone = Change {
                op: Op::Delete,
                key: Some(old.clone()),
                data: None,
                unchanged: Vec::new(),
                ..change.clone()
            };
            changes.push(gone);
            (change.op, change.moved_from) = (Op::Insert, Some(old));
        }
        if change.op == Op::Delete {
            change.data = None;
        }
        changes.push(change);
    }

    #[cfg(test)]
    pub(super) fn add_author(&mut self, at: Position, seq: u32, client: &str, begun: u64) {
        let author = Author { client: client.to_owned(), begun: Some(begun) };
        Arc::get_mut(&mut self.authors).unwrap().insert((at, seq), author);
    }

    /// Notes an end that was stored, by the last position before it.
    #[cfg(test)]
    pub(super) fn add_end(&mut self, before: Position) {
        self.ends.insert(before);
    }

    /// The same history as it is for a client that follows these tables, and of some of them these parts.
    pub(super) fn through(&self, tables: &BTreeSet<String>, filters: &BTreeMap<String, Filter>) -> Self {
        let mut log =
            HistoryLog { ends: self.ends.clone(), authors: self.authors.clone(), ..HistoryLog::default() };
        let mut rows = Rows::default();
        for Transaction { at, changes, is_told } in &self.transactions {
            let mut told = Vec::new();
            // The two halves of a key change are one.
            for changes in changes.chunk_by(|gone, come| {
                gone.op == Op::Delete && come.moved_from.is_some() && gone.seq == come.seq
            }) {
                match filters.get(&changes[0].table) {
                    Some(filter) => told.extend(filter.told(changes, &rows)),
                    None if tables.contains(&changes[0].table) => told.extend(changes.iter().cloned()),
                    None => continue,
                }
                rows.apply(changes);
            }
            log.transactions.push(Transaction { at: *at, changes: told, is_told: *is_told });
        }
        log.fold();
        log
    }

    /// Computes what each table is at each place; once everything is noted.
    pub(super) fn fold(&mut self) {
        let mut rows = Rows::default();
        self.digests.clear();
        for transaction in &self.transactions {
            rows.apply(&transaction.changes);
            let touched: BTreeSet<&str> =
                transaction.changes.iter().map(|change| change.table.as_str()).collect();
            for table in touched {
                self.digests.entry(table.to_owned()).or_default().push((transaction.at, rows.digest(table)));
            }
        }
    }

    /// How many transactions it has.
    pub fn transactions(&self) -> usize {
        self.transactions.len()
    }

    /// What was to be told of the transaction at this cursor; `None`: there is none.
    pub(super) fn told(&self, at: Position, tables: &BTreeSet<String>) -> Option<Vec<&Change>> {
        let found = self.transactions.binary_search_by_key(&at, |transaction| transaction.at).ok()?;
        Some(self.transactions[found].concerning(tables).collect())
    }

    /// The first transaction after one cursor and before another that concerns these tables.
    pub(super) fn between(
        &self,
        after: Position,
        before: Position,
        tables: &BTreeSet<String>,
    ) -> Option<Position> {
        let first = self.transactions.partition_point(|transaction| transaction.at <= after);
        let inside = self.transactions[first..].iter().take_while(|transaction| transaction.at < before);
        inside.filter(|transaction| transaction.concerning(tables).next().is_some()).map(|one| one.at).next()
    }

    /// Whether a cursor may be stored: it ends a transaction, or is the last position before an end that is stored.
    pub(super) fn is_place(&self, cursor: Position) -> bool {
        let ends_one = self.transactions.binary_search_by_key(&cursor, |transaction| transaction.at).is_ok();
        ends_one || self.ends.contains(&cursor)
    }

    /// The digest of a table as of this cursor.
    pub(super) fn digest(&self, table: &str, at: Position) -> u64 {
        let Some(digests) = self.digests.get(table) else { return 0 };
        let next = digests.partition_point(|(from, _)| *from <= at);
        if next == 0 { 0 } else { digests[next - 1].1 }
    }

    /// The rows as of this cursor.
    pub(super) fn rows(&self, at: Position) -> Rows {
        let mut rows = Rows::default();
        let until = self.transactions.iter().take_while(|transaction| transaction.at <= at);
        until.for_each(|transaction| rows.apply(&transaction.changes));
        rows
    }
}

impl Transaction {
    fn concerning(&self, tables: &BTreeSet<String>) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(move |change| self.is_told && tables.contains(&change.table))
    }
}

fn position(epoch: Option<&str>, lsn: Option<&str>, make: impl Fn(Epoch, Lsn) -> Position) -> Position {
    make(Epoch(epoch.unwrap().parse().unwrap()), lsn.unwrap().parse().unwrap())
}
