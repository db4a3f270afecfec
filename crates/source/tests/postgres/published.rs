//! The tables of a publication, asked of the catalogs themselves: as the server's own view answers, and without waiting for
//! whoever has one of them locked.

use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Statement};
use waldelta_source::Error;
use waldelta_source::snapshot::Snapshot;
use waldelta_testkit::TestDatabase;

use crate::snapshot::{objects, read, table};
use crate::{PATIENCE, set_up, source};

const PUBLISHED: &str = include_str!("../../../../sql/source/published_tables.sql");
const SNAPSHOT_TABLE: &str = include_str!("../../../../sql/source/snapshot_table.sql");
/// The same by the view, which waits for tables that are locked.
const BY_VIEW: &str = "SELECT c.oid,
       CASE
           WHEN jsonb_typeof(to_jsonb(t) -> 'attnames') = 'array'
           THEN ARRAY(
               SELECT name
               FROM jsonb_array_elements_text(to_jsonb(t) -> 'attnames') name
               WHERE current_setting('server_version_num')::int4 >= 180000
                  OR NOT EXISTS (SELECT FROM pg_attribute a
                                 WHERE a.attrelid = c.oid AND a.attname = name AND a.attgenerated <> ''))
           ELSE ARRAY(
               SELECT a.attname::text
               FROM pg_attribute a
               WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '')
       END AS columns,
       to_jsonb(t) ->> 'rowfilter' AS row_filter
FROM pg_publication_tables t
JOIN pg_namespace n ON n.nspname = t.schemaname
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
WHERE t.pubname = $1 AND t.schemaname <> 'waldelta'
ORDER BY t.schemaname, t.tablename";

/// What a publication can have: every two of them are in one.
const TABLES: &[&str] = &[
    "a.plain",
    "b.plain WHERE (id > 7)",
    "a.made",
    "a.made (id)",
    "a.made (id, made)",
    "a.bare",
    "a.root",
    "a.root (id) WHERE (id > 5)",
    "a.leaf WHERE (id > 6)",
    "b.sub",
    "b.deep (id)",
    "a.mixed",
    "waldelta.own",
];
const SCHEMAS: &[&str] = &["a", "b", "waldelta"];
const OPTIONS: &[&str] = &[
    "publish_via_partition_root = false",
    "publish_via_partition_root = true",
    "publish_via_partition_root = true, publish_generated_columns = stored",
];

/// Each table with its published columns.
async fn listed(client: &Client, sql: &Statement, publication: &str) -> Vec<(u32, Vec<String>)> {
    let rows = client.query(sql, &[&publication]).await.unwrap();
    let table = |row: &tokio_postgres::Row| {
        let mut columns: Vec<String> = row.get(1);
        columns.sort();
        Some((row.get::<_, Option<u32>>(0)?, columns))
    };
    let mut tables: Vec<_> = rows.iter().filter_map(table).collect();
    // PostgreSQL 14 lists a leaf twice where two of its ancestors are published.
    tables.dedup();
    tables
}

/// Everything that can be said after FOR.
fn memberships() -> Vec<String> {
    let mut all = vec!["ALL TABLES".to_owned()];
    let of_schema = |schema: &str| format!("TABLES IN SCHEMA {schema}");
    for (index, table) in TABLES.iter().enumerate() {
        all.push(format!("TABLE {table}"));
        all.extend(TABLES[..index].iter().map(|other| format!("TABLE {table}, {other}")));
        all.extend(SCHEMAS.iter().map(|schema| format!("TABLE {table}, {}", of_schema(schema))));
    }
    all.extend(SCHEMAS.iter().map(|schema| of_schema(schema)));
    all.push("TABLES IN SCHEMA a, b".to_owned());
    all
}

#[tokio::test]
async fn the_catalogs_say_what_the_view_says_of_every_publication() {
    let database = TestDatabase::create("published").await;
    database
        .exec(
            "CREATE SCHEMA a; CREATE SCHEMA b; CREATE SCHEMA waldelta;
             CREATE TABLE a.plain (id int PRIMARY KEY, v text); CREATE TABLE b.plain (id int PRIMARY KEY, v text);
             CREATE TABLE a.made (gone int, id int PRIMARY KEY, made int GENERATED ALWAYS AS (id + 1) STORED);
             ALTER TABLE a.made DROP COLUMN gone;
             CREATE TABLE a.bare (); CREATE UNLOGGED TABLE a.quick (id int); CREATE TABLE waldelta.own (id int);
             CREATE VIEW a.shown AS SELECT 1 AS id; CREATE MATERIALIZED VIEW b.kept AS SELECT 1 AS id;
             CREATE TABLE a.root (id int, v text) PARTITION BY LIST (id);
             CREATE TABLE a.leaf PARTITION OF a.root FOR VALUES IN (1);
             CREATE UNLOGGED TABLE a.quick_leaf PARTITION OF a.root FOR VALUES IN (2);
             CREATE TABLE b.sub PARTITION OF a.root FOR VALUES IN (3, 4) PARTITION BY LIST (id);
             CREATE TABLE b.deep PARTITION OF b.sub FOR VALUES IN (3);
             CREATE TABLE a.mixed (id int) PARTITION BY LIST (id);
             CREATE TABLE a.near PARTITION OF a.mixed FOR VALUES IN (1);
             CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER away FOREIGN DATA WRAPPER nowhere;
             CREATE FOREIGN TABLE b.far PARTITION OF a.mixed FOR VALUES IN (2) SERVER away",
        )
        .await;
    let client = source(&database).connect().await.unwrap();
    let (mut publications, mut listings, mut filtered) = (Vec::new(), 0, 0);
    for what in memberships() {
        for options in OPTIONS {
            let name = format!("p {}", publications.len());
            // Not everything can be published like this, or in each version.
            let sql = format!("CREATE PUBLICATION \"{name}\" FOR {what} WITH ({options})");
            if client.batch_execute(&sql).await.is_ok() {
                publications.push((name, sql));
            }
        }
    }
    let has_lists = database.server_major().await >= 15;
    assert!(publications.len() > if has_lists { 80 } else { 40 }, "{}", publications.len());
    let prepare = async |sql: &str| client.prepare(sql).await.unwrap();
    let (published, view, snapshot_table) =
        (prepare(PUBLISHED).await, prepare(BY_VIEW).await, prepare(SNAPSHOT_TABLE).await);
    for (name, sql) in &publications {
        let by_view = listed(&client, &view, name).await;
        assert_eq!(listed(&client, &published, name).await, by_view, "{sql}");
        listings += by_view.len();
        if !sql.contains("WHERE") {
            continue;
        }
        for row in client.query(&view, &[name]).await.unwrap() {
            let found = client.query_one(&snapshot_table, &[&row.get::<_, u32>("oid"), name]).await.unwrap();
            let filters = [&found, &row].map(|row| row.get::<_, Option<String>>("row_filter"));
            assert_eq!(filters[0], filters[1], "{} {sql}", found.get::<_, String>("name"));
            filtered += usize::from(filters[0].is_some());
        }
    }
    assert!(listings > publications.len(), "{listings}");
    assert!(filtered > 10 || !has_lists, "{filtered}");

    // As while a partition is detached concurrently, and somebody still uses it.
    database
        .exec(
            "SET allow_system_table_mods = on;
             UPDATE pg_inherits SET inhdetachpending = true WHERE inhrelid IN ('a.leaf'::regclass, 'b.sub'::regclass)",
        )
        .await;
    for (name, sql) in &publications {
        let by_view = listed(&client, &view, name).await;
        assert_eq!(listed(&client, &published, name).await, by_view, "while it is detached: {sql}");
    }
}

#[tokio::test]
async fn a_table_that_somebody_has_locked_holds_up_no_snapshot_of_another() {
    let database = TestDatabase::create("locked").await;
    let source = source(&database);
    database
        .exec(
            "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE TABLE altered (id int PRIMARY KEY);
             CREATE TABLE dropped (id int PRIMARY KEY)",
        )
        .await;
    set_up(&source).await;
    let holder = database.client().await;
    holder.batch_execute("BEGIN; ALTER TABLE altered ADD COLUMN v int; DROP TABLE dropped").await.unwrap();
    let client = source.connect().await.unwrap();
    client.batch_execute("SET lock_timeout = '100ms'").await.unwrap();
    if database.server_major().await >= 16 {
        let waited = client.query(BY_VIEW, &[&source.publication]).await.unwrap_err();
        assert_eq!(waited.code(), Some(&SqlState::LOCK_NOT_AVAILABLE), "what is avoided");
    }
    // Less than a snapshot waits for a lock.
    let taken = tokio::time::timeout(Duration::from_secs(8), async {
        let snapshot = Snapshot::open(&source).await.unwrap();
        let names = snapshot.tables().await.unwrap().into_iter().map(|published| published.table.name.name);
        assert_eq!(names.collect::<Vec<_>>(), ["altered", "dropped", "t"]);
        assert_eq!(objects(&read(&snapshot, "t").await.unwrap()), ["{\"id\":1}"]);
        snapshot
    });
    let snapshot = taken.await.expect("nobody is waited for");

    // A table that is dropped meanwhile is still among those that the snapshot has, and is no obstacle to another one.
    let dropped = table(&snapshot, "dropped").await;
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(snapshot.tables().await.unwrap().len(), 3);
    assert_eq!(objects(&read(&snapshot, "t").await.unwrap()).len(), 1);
    let read = tokio::time::timeout(PATIENCE, snapshot.rows(dropped, 1 << 16)).await.unwrap();
    let error = read.err().expect("its rows are gone");
    assert!(matches!(error, Error::TableChanged { .. }) && error.is_retryable(), "{error:?}");
    let later = Snapshot::open(&source).await.unwrap();
    assert_eq!(later.tables().await.unwrap().len(), 2);
}
