//! Rows that change without a change being sent: the table is named, others go on.

use std::collections::BTreeMap;

use waldelta_capture::State;
use waldelta_testkit::wait_until;
use waldelta_wal::Lsn;

use crate::world::{PATIENCE, Running, World};

/// Beside those of tables that were added, which end by themselves.
const GAPS: &str = "SELECT table_oid, fingerprint, reason, from_lsn, to_lsn FROM waldelta.gaps
    LEFT JOIN waldelta.source_fingerprints USING (table_oid) WHERE reason <> 'added'";
const OPEN: &str = "SELECT count(*) FROM waldelta.gaps WHERE to_lsn IS NULL";

/// Tables with rows, a statement that changes them without a word, and what that is called.
const CASES: [(&str, &str, &str); 7] = [
    ("rewritten_by_type", "ALTER TABLE rewritten_by_type ALTER n TYPE text", "rewritten"),
    ("rewritten_by_default", "ALTER TABLE rewritten_by_default ADD w float8 DEFAULT random()", "rewritten"),
    ("defaulted", "ALTER TABLE defaulted ADD w int DEFAULT 7", "default_added"),
    ("renamed", "ALTER TABLE renamed RENAME n TO m", "column_renamed"),
    ("parted", "ALTER TABLE parted ATTACH PARTITION part_two FOR VALUES IN (2)", "partitions_changed"),
    ("typed", "ALTER TYPE pair ADD ATTRIBUTE c int", "type_changed"),
    ("moody", "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", "enum_renamed"),
];

const TABLES: &str = "
    CREATE TYPE pair AS (a int, b text); CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE TABLE rewritten_by_type (id int PRIMARY KEY, n int); CREATE TABLE rewritten_by_default (id int PRIMARY KEY, n int);
    CREATE TABLE defaulted (id int PRIMARY KEY, n int); CREATE TABLE renamed (id int PRIMARY KEY, n int);
    CREATE TABLE typed (id int PRIMARY KEY, p pair); CREATE TABLE moody (id int PRIMARY KEY, m mood);
    CREATE TABLE parted (id int PRIMARY KEY, n int) PARTITION BY LIST (id);
    CREATE TABLE part_one PARTITION OF parted FOR VALUES IN (1);
    CREATE TABLE untouched (id int PRIMARY KEY, n int);
    INSERT INTO rewritten_by_type VALUES (1, 1); INSERT INTO rewritten_by_default VALUES (1, 1);
    INSERT INTO defaulted VALUES (1, 1); INSERT INTO renamed VALUES (1, 1); INSERT INTO typed VALUES (1, '(1,x)');
    INSERT INTO moody VALUES (1, 'sad'); INSERT INTO parted VALUES (1, 1); INSERT INTO untouched VALUES (1, 1)";

/// What is to become a partition, with a row; made after all is published, so that it is not by itself.
const PART_TWO: &str =
    "CREATE TABLE part_two (id int PRIMARY KEY, n int); INSERT INTO part_two VALUES (2, 2)";

/// Waits until all cases are told, and says which are not.
async fn wait_expected(world: &World, capture: &Running) {
    let begun = tokio::time::Instant::now();
    wait_until("all is told", PATIENCE * 2, async || {
        let late = begun.elapsed() > PATIENCE;
        let found = needing_repair(capture);
        assert!(!late || found == expected(), "{found:?}, gaps {:?}", world.history_db.query(GAPS).await);
        found == expected()
    })
    .await;
}

fn needing_repair(capture: &Running) -> BTreeMap<String, String> {
    let tables = capture.status.read().needs_repair;
    tables.into_iter().map(|table| (table.table, table.reason)).collect()
}

fn expected() -> BTreeMap<String, String> {
    CASES.map(|(table, _, reason)| (format!("public.{table}"), reason.to_owned())).into()
}

async fn every_case(world: &World) {
    for (_, sql, _) in CASES {
        world.source_db.exec(sql).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_rows_without_a_word_is_told_by_the_event_trigger_at_its_place() {
    let world = World::begun("repairtold", TABLES).await;
    world.source_db.exec(PART_TWO).await;
    let capture = world.run_looking();
    capture.wait_streaming().await;
    for (number, (_, sql, _)) in (10..).zip(CASES) {
        let sql = format!("BEGIN; {sql}; INSERT INTO untouched VALUES ({number}, 0); COMMIT");
        world.source_db.exec(&sql).await;
    }
    wait_expected(&world, &capture).await;
    world.wait_looked("untouched", "looked").await;
    world.wait_stored("table_name = 'public.untouched'", CASES.len() as u64).await;
    assert_eq!(needing_repair(&capture), expected(), "a look at the catalog adds nothing to it");
    assert_eq!(world.stored(OPEN).await, CASES.len().to_string());
    let places = world.listed("lsn::text", "table_name = 'public.untouched' AND operation = 'insert'").await;
    let reading = capture.status.read();
    for ((table, _, _), place) in CASES.iter().zip(places) {
        let name = format!("public.{table}");
        let told = reading.needs_repair.iter().find(|told| told.table == name).unwrap();
        assert_eq!(told.from, place.parse().unwrap(), "{name}");
        assert!(told.found_at_us > 0 && !told.explanation.is_empty());
    }
    assert_eq!(reading.state, State::Streaming);
    capture.stop().await;

    // Whoever captures next says the same, at once and without a second gap.
    let capture = world.run_looking();
    capture.wait_streaming().await;
    wait_until("it is said again", PATIENCE, async || needing_repair(&capture) == expected()).await;
    world.wait_looked("untouched", "looked_again").await;
    assert_eq!(world.stored(OPEN).await, CASES.len().to_string());
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_event_trigger_it_is_found_in_the_catalog() {
    let world = World::begun("repairfound", TABLES).await;
    world.source_db.exec(PART_TWO).await;
    world.drop_triggers().await;
    let capture = world.run_looking();
    world.wait_looked("untouched", "looked").await;
    let before: Lsn = world.source_db.query_text("SELECT pg_current_wal_insert_lsn()").await.parse().unwrap();
    every_case(&world).await;
    wait_expected(&world, &capture).await;
    for told in capture.status.read().needs_repair {
        let place = Lsn(1)..=before;
        assert!(place.contains(&told.from), "{} from {}, it happened after {before}", told.table, told.from);
    }
    world.wait_looked("untouched", "looked_again").await;
    assert_eq!(world.stored(OPEN).await, CASES.len().to_string());
    world.source_db.exec("INSERT INTO untouched VALUES (2, 2)").await;
    world.wait_stored("row_key = '[2]'", 1).await;
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_while_nobody_captures_is_found_at_the_next_start() {
    let world = World::begun("repairdown", TABLES).await;
    world.source_db.exec(PART_TWO).await;
    world.drop_triggers().await;
    // Even if nobody ever did: the set-up has looked.
    every_case(&world).await;
    let durable = world.durable().await;
    let capture = world.run_looking();
    wait_expected(&world, &capture).await;
    assert!(capture.status.read().needs_repair.iter().all(|told| told.from == durable.0));
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_leaves_the_rows_as_they_are_needs_no_repair() {
    for (hint, triggers) in [("repairnone", true), ("repairnonet", false)] {
        let world = World::begun(hint, TABLES).await;
        if !triggers {
            world.drop_triggers().await;
        }
        world.source_db.exec("CREATE TABLE private (id int)").await;
        world.source_db.exec("ALTER PUBLICATION waldelta DROP TABLE renamed").await;
        let capture = world.run_looking();
        world.wait_looked("defaulted", "looked").await;
        // What was altered and written anew between two looks counts as written anew by that; so not both of one table.
        for sql in [
            "VACUUM FULL untouched",
            "CREATE INDEX untouched_n ON untouched (n)",
            "CLUSTER untouched USING untouched_pkey",
            "ANALYZE untouched",
            "ALTER TABLE defaulted ADD w int, ALTER n SET NOT NULL, ALTER n SET DEFAULT 3",
            "ALTER TABLE defaulted DROP COLUMN w",
            "TRUNCATE moody",
            "TRUNCATE parted",
            "CREATE TABLE part_three PARTITION OF parted FOR VALUES IN (3)",
            "ALTER TYPE mood ADD VALUE 'great'",
            "BEGIN; ALTER TABLE untouched ALTER n TYPE text; ROLLBACK",
            "INSERT INTO private VALUES (1); ALTER TABLE private ALTER id TYPE text",
            "ALTER TABLE renamed RENAME n TO m; ALTER TABLE renamed ALTER m TYPE text",
            "CREATE TABLE later (id int PRIMARY KEY, n int); INSERT INTO later VALUES (1, 1); \
             ALTER TABLE later ALTER n TYPE text; ALTER PUBLICATION waldelta ADD TABLE later",
        ] {
            world.source_db.exec(sql).await;
        }
        world.wait_looked("defaulted", "looked_again").await;
        world.wait_looked("later", "looked").await;
        let gaps = world.history_db.query(GAPS).await;
        assert!(gaps.is_empty(), "{gaps:?}");
        assert_eq!(needing_repair(&capture), BTreeMap::new());
        world.wait_stored("operation = 'truncate'", 2).await;
        capture.stop().await;
    }
}
