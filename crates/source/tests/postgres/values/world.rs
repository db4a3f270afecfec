//! A captured database, and the comparison of what comes out of it with what its PostgreSQL says.

use std::fmt::Write as _;
use std::sync::Arc;

use futures_util::TryStreamExt;
use tokio_postgres::Client;
use waldelta_source::snapshot::{Snapshot, SnapshotRow};
use waldelta_source::{Source, catalog};
use waldelta_testkit::TestDatabase;
use waldelta_wal::{Assembler, Change, EndLsn, Epoch, Output, Piece, Table};

use crate::source;

/// Bytes beyond which a transaction is cut: more than any has here.
const NO_CUT: usize = 1 << 30;
const BATCH_BYTES: usize = 1 << 16;

/// A database that is captured by what is tested.
pub(crate) struct World {
    pub(crate) database: TestDatabase,
    pub(crate) source: Source,
    /// With the pinned settings, as whoever reads rows has them.
    pub(crate) client: Client,
}

/// A row as it came, by one way or another: which table, at which step of the test, which row.
pub(crate) struct Found {
    pub(crate) table: String,
    pub(crate) step: &'static str,
    pub(crate) number: i32,
    pub(crate) json: String,
}

impl World {
    pub(crate) async fn new(database: TestDatabase) -> Self {
        let source = source(&database);
        let client = source.connect().await.unwrap();
        if database.query_text("SHOW server_encoding").await == "SQL_ASCII" {
            client.batch_execute("SET client_encoding = 'SQL_ASCII'").await.unwrap();
        }
        World { database, source, client }
    }

    /// Publishes everything there is. Own tables are in it too, and must not show.
    pub(crate) async fn publish(&self) {
        self.database.exec("CREATE PUBLICATION waldelta FOR ALL TABLES").await;
        self.create_slot().await;
    }

    pub(crate) async fn create_slot(&self) {
        let sql = format!("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", self.source.slot);
        self.database.query(&sql).await;
    }

    /// What the slot has since it was last read, each table defined as the catalog has it.
    pub(crate) async fn stream(&self) -> Vec<Piece> {
        let sql = format!(
            "SELECT data FROM pg_logical_slot_get_binary_changes('{}', NULL, NULL, 'proto_version', '1',
                'publication_names', 'waldelta', 'messages', 'true')",
            self.source.slot
        );
        let messages = self.client.query(&sql, &[]).await.unwrap();
        let mut assembler = Assembler::new(Epoch(1), EndLsn::default(), 1 << 32, NO_CUT, self.source.values);
        let mut pieces = Vec::new();
        for message in &messages {
            let message: &[u8] = message.get(0);
            let mut output = assembler.push(message).unwrap();
            while let Some(Output::Undefined(relation)) = output {
                let found = catalog::published_table(&self.client, &self.source, relation.oid).await;
                assembler.define(Arc::new(found.unwrap().unwrap().table), false).unwrap();
                output = assembler.push(message).unwrap();
            }
            if let Some(Output::Piece(piece)) = output {
                pieces.push(piece);
            }
        }
        pieces
    }

    /// The rows of all published tables, as a snapshot of now has them.
    pub(crate) async fn snapshot(&self) -> Vec<(Arc<Table>, Vec<SnapshotRow>)> {
        let snapshot = Snapshot::open(&self.source).await.unwrap();
        let mut tables = Vec::new();
        for published in snapshot.tables().await.unwrap() {
            let table = Arc::new(published.table);
            let rows = snapshot.rows(table.clone(), BATCH_BYTES).await.unwrap();
            let batches: Vec<Vec<SnapshotRow>> =
                rows.try_collect().await.unwrap_or_else(|error| panic!("{}: {error:?}", table.name));
            tables.push((table, batches.concat()));
        }
        tables
    }

    /// Notes what PostgreSQL says of the rows of these tables now. They have a column `n` that tells a row.
    pub(crate) async fn expect(&self, tables: &[String], step: &'static str) {
        let mut sql = String::new();
        for table in tables {
            let insert = "INSERT INTO waldelta.expected";
            write!(sql, "{insert} SELECT '{table}', '{step}', n, to_jsonb(t) FROM public.{table} t;")
                .unwrap();
        }
        self.client.batch_execute(&sql).await.unwrap();
    }

    /// Where [`Self::expect`] notes: a table of ours, so that it is not captured.
    pub(crate) async fn prepare(&self) {
        self.database
            .exec(
                "CREATE SCHEMA IF NOT EXISTS waldelta;
                 CREATE TABLE waldelta.expected (tbl text, step text, n int, doc jsonb, PRIMARY KEY (tbl, step, n))",
            )
            .await;
    }

    /// Compares as jsonb, and also the digits that numbers are printed with. Returns how many rows were expected.
    pub(crate) async fn compare(&self, found: &[Found]) -> usize {
        let tables: Vec<&str> = found.iter().map(|row| row.table.as_str()).collect();
        let steps: Vec<&str> = found.iter().map(|row| row.step).collect();
        let numbers: Vec<i32> = found.iter().map(|row| row.number).collect();
        let texts: Vec<&str> = found.iter().map(|row| row.json.as_str()).collect();
        let sql = "SELECT concat_ws(' ', tbl, step, n, 'should be', coalesce(e.doc::text, 'absent'), 'and is', f.doc)
                   FROM waldelta.expected e
                   FULL JOIN unnest($1::text[], $2::text[], $3::int4[], $4::text[]) f (tbl, step, n, doc)
                       USING (tbl, step, n)
                   WHERE e.doc IS DISTINCT FROM f.doc::jsonb OR e.doc::text IS DISTINCT FROM f.doc::jsonb::text
                   LIMIT 20";
        let wrong = self.client.query(sql, &[&tables, &steps, &numbers, &texts]).await.unwrap();
        let wrong: Vec<String> = wrong.iter().map(|row| row.get(0)).collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        self.database.query_text("SELECT count(*) FROM waldelta.expected").await.parse().unwrap()
    }
}

/// A row of a change, told by its key.
pub(crate) fn row(change: &Change, step: &'static str, json: &Option<bytes::Bytes>) -> Found {
    let table = change.table.as_ref().unwrap().name.name.clone();
    let number = number(change.row_key.as_ref().unwrap());
    Found { table, step, number, json: text(json.as_ref().unwrap_or_else(|| panic!("{change:?}"))) }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The key of a row that is told by a number.
pub(crate) fn number(key: &[u8]) -> i32 {
    let [number] = serde_json::from_slice::<[i32; 1]>(key).unwrap();
    number
}
