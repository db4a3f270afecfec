//! Random DDL against an oracle: whenever the rows of a published table read other than before, although no row was written,
//! both the event triggers and the catalog have to tell; the catalog also when it is only looked at before and after all.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use waldelta_source::catalog::Fingerprint;

use crate::ddl_trigger::{PARTITIONED, Source};

const CASES: u32 = 5;
const STEPS: std::ops::Range<usize> = 8..16;

/// `%` is the number of the step. What does not apply at its place in the sequence fails and changes nothing.
const DDL: &[&str] = &[
    "ALTER TABLE t ADD COLUMN c% int DEFAULT %",
    "ALTER TABLE t ADD COLUMN IF NOT EXISTS c int DEFAULT %",
    "ALTER TABLE t ADD COLUMN c int",
    "ALTER TABLE t ADD COLUMN c% float8 DEFAULT random()",
    "ALTER TABLE t ADD COLUMN c% text DEFAULT 'x', ALTER a SET NOT NULL",
    "ALTER TABLE t ADD COLUMN c% positive",
    "ALTER TABLE t DROP COLUMN IF EXISTS c",
    "ALTER TABLE t RENAME a TO aa",
    "ALTER TABLE t RENAME aa TO a",
    "ALTER TABLE t ALTER a TYPE bigint",
    "ALTER TABLE t ALTER a TYPE int USING a + 1",
    "ALTER TABLE t ALTER a TYPE text",
    "ALTER TABLE t ALTER v TYPE varchar(30)",
    "ALTER TABLE t ALTER v TYPE text USING upper(v)",
    "ALTER TABLE t ALTER at TYPE timestamptz",
    "ALTER TABLE t ALTER at TYPE timestamp",
    "ALTER TABLE t ALTER c SET DEFAULT 5",
    "ALTER TABLE t ALTER c DROP DEFAULT",
    "ALTER TABLE t ALTER v SET NOT NULL",
    "ALTER TABLE t ALTER v SET STATISTICS %",
    "ALTER TABLE t ALTER g DROP EXPRESSION",
    "VACUUM FULL t",
    "CLUSTER t USING t_pkey",
    "REINDEX TABLE t",
    "ALTER TABLE t REPLICA IDENTITY FULL",
    "ALTER TYPE pair ADD ATTRIBUTE x% int",
    "ALTER TYPE pair RENAME ATTRIBUTE b TO bb",
    "ALTER TYPE pair DROP ATTRIBUTE IF EXISTS b",
    "ALTER TYPE mood ADD VALUE IF NOT EXISTS 'm%'",
    "ALTER TYPE mood RENAME VALUE 'ok' TO 'm%'",
    "BEGIN; ALTER TYPE mood ADD VALUE 'n%'; ALTER TYPE mood RENAME VALUE 'sad' TO 's%'; COMMIT",
    "ALTER TABLE root ADD COLUMN c% int DEFAULT %",
    "ALTER TABLE root ADD COLUMN c int",
    "ALTER TABLE root ALTER c TYPE bigint",
    "ALTER TABLE root ALTER v TYPE varchar(9) USING v || %",
    "ALTER TABLE root RENAME v TO w",
    "ALTER TABLE root RENAME w TO v",
    "ALTER TABLE root DETACH PARTITION p1",
    "ALTER TABLE root ATTACH PARTITION p1 FOR VALUES IN (1)",
    "ALTER TABLE root DETACH PARTITION p2 CONCURRENTLY",
    "ALTER TABLE root ATTACH PARTITION p2 FOR VALUES IN (2)",
    "DELETE FROM p2 WHERE NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = 'p2'::regclass)",
    "ALTER TABLE root DETACH PARTITION p3",
    "ALTER TABLE root ATTACH PARTITION p3 FOR VALUES IN (3)",
    "DROP TABLE p4",
    "DROP TABLE p31",
    "CREATE TABLE n% PARTITION OF root FOR VALUES IN (%0)",
    "CREATE TABLE n% AS SELECT * FROM root LIMIT 0; INSERT INTO n% (id, k) VALUES (1, %0); \
     ALTER TABLE n% ALTER id SET NOT NULL, ALTER k SET NOT NULL; ALTER TABLE root ATTACH PARTITION n% FOR VALUES IN (%0)",
    "TRUNCATE p1",
    "TRUNCATE p31",
    "VACUUM FULL p4",
    "BEGIN; ALTER TABLE root DETACH PARTITION p1; DROP TABLE p1; COMMIT",
    "BEGIN; SAVEPOINT s; DROP TABLE p4; ROLLBACK TO s; ALTER TABLE t ADD COLUMN c% int DEFAULT %; COMMIT",
    "BEGIN; ALTER TABLE root ADD COLUMN c% int DEFAULT %; TRUNCATE p4; ROLLBACK",
    "DO $$ BEGIN ALTER TABLE t ADD COLUMN d% int DEFAULT 1; ALTER TABLE root RENAME v TO w; EXCEPTION WHEN OTHERS THEN NULL; END $$",
];

/// What is no DDL, or rewrites nothing.
const UNTOLD: &[&str] = &["TRUNCATE p", "ALTER at TYPE", "DROP EXPRESSION"];

/// By the table's name.
type Rows = HashMap<String, (Vec<String>, Value)>;

#[test]
fn no_change_of_rows_goes_untold() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = Config { cases: CASES, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
    let steps = vec(0..DDL.len(), STEPS);
    TestRunner::new(config)
        .run(&steps, |steps| runtime.block_on(run(&steps)).map_err(TestCaseError::fail))
        .unwrap();
}

/// Takes the steps; what went untold is an error.
async fn run(steps: &[usize]) -> Result<(), String> {
    let mut source = Source::with(
        "ddl_random",
        &format!(
            "CREATE TYPE pair AS (a int, b text); CREATE TYPE mood AS ENUM ('sad', 'ok');
             CREATE DOMAIN positive AS int DEFAULT 3 CHECK (VALUE > 0);
             CREATE TABLE t (id int PRIMARY KEY, a int, v varchar(20), at timestamp, p pair[], m mood,
                 g int GENERATED ALWAYS AS (id * 2) STORED);
             INSERT INTO t SELECT n, n, 'v' || n, '2024-01-01', ARRAY[(n, 'b')::pair], 'ok' FROM generate_series(1, 3) n;
             UPDATE t SET m = 'sad' WHERE id = 1; {PARTITIONED}"
        ),
    )
    .await;
    let (first, start) = (source.look().await, rows(&source).await);
    let mut before = start.clone();
    let mut done = Vec::new();
    for (number, step) in (1..).zip(steps) {
        let ddl = DDL[*step].replace('%', &format!("{number}"));
        let client = source.database.client().await;
        client.batch_execute("SET timezone = 'UTC'").await.unwrap();
        let failure = client.batch_execute(&ddl).await.err();
        done.push(format!("{ddl}{}", if failure.is_some() { " -- failed" } else { "" }));
        let now = rows(&source).await;
        let (told, seen) = (source.told().await, source.seen(&[]).await);
        for name in changed(&before, &now) {
            let names =
                |repairs: &[String]| repairs.iter().any(|repair| repair.starts_with(&format!("{name} ")));
            if !names(&seen) {
                return Err(format!("the catalog does not show how {name} changed by the last of {done:#?}"));
            }
            if !names(&told) && !UNTOLD.iter().any(|untold| ddl.contains(untold)) {
                return Err(format!("the triggers do not tell how {name} changed by the last of {done:#?}"));
            }
        }
        before = now;
    }
    let last = source.look().await;
    for name in changed(&start, &before) {
        let oid =
            source.database.query_text(&format!("SELECT '{name}'::regclass::oid")).await.parse().unwrap();
        let (then, now): (&Fingerprint, &Fingerprint) = (&first[&oid], &last[&oid]);
        if Fingerprint::repairs(then, now).is_empty() {
            return Err(format!("the catalog does not show that {name} reads otherwise after {done:#?}"));
        }
    }
    Ok(())
}

/// The rows of the published tables, and the columns that they are published with.
async fn rows(source: &Source) -> Rows {
    let published = waldelta_source::catalog::published_tables(&source.client, &source.source).await.unwrap();
    let mut rows = HashMap::new();
    for table in published {
        let name = table.table.name.name;
        let columns: Vec<String> = table.table.columns.into_iter().map(|column| column.name).collect();
        let sql =
            format!("SELECT coalesce(jsonb_agg(jsonb_strip_nulls(to_jsonb(r))), '[]')::text FROM {name} r");
        let values = serde_json::from_str(&source.database.query_text(&sql).await).unwrap();
        rows.insert(name, (columns, values));
    }
    rows
}

/// The tables whose rows read otherwise: in columns that there are still, or that came with a value.
fn changed(before: &Rows, now: &Rows) -> Vec<String> {
    let reduced = |rows: &Value, columns: &[String]| -> Vec<Value> {
        let mut rows = rows.as_array().unwrap().clone();
        for row in &mut rows {
            row.as_object_mut().unwrap().retain(|key, _| columns.contains(key));
        }
        rows.sort_by_cached_key(Value::to_string);
        rows
    };
    let differs = |name: &&String| {
        let Some((_, then)) = before.get(*name) else { return false };
        let (columns, values) = &now[*name];
        reduced(then, columns) != reduced(values, columns)
    };
    now.keys().filter(differs).cloned().collect()
}
