//! Types of the system catalogs, and that none has been forgotten.

use std::collections::BTreeSet;

use waldelta_testkit::TestDatabase;
use waldelta_wal::{ArrayKind, Kind};

use super::matrix::{Case, check, check_in};
use super::world::{World, row};

/// Their input functions refuse everything: only PostgreSQL makes such values.
const WITHOUT_INPUT: &[(&str, &str)] = &[
    ("pg_node_tree", "SELECT adbin FROM pg_attrdef WHERE adrelid = 'defaults'::regclass"),
    ("pg_ndistinct", "SELECT stxdndistinct FROM pg_statistic_ext_data"),
    ("pg_dependencies", "SELECT stxddependencies FROM pg_statistic_ext_data"),
    ("pg_mcv_list", "SELECT stxdmcv FROM pg_statistic_ext_data"),
];

#[tokio::test]
async fn types_that_only_postgresql_makes_values_of() {
    let database = TestDatabase::create("no_input").await;
    database
        .exec(
            "CREATE TABLE defaults (a int DEFAULT 1 + 2, b int, c int);
             INSERT INTO defaults SELECT n % 3, n % 3, n % 5 FROM generate_series(1, 100) n;
             CREATE STATISTICS s ON a, b, c FROM defaults; ANALYZE defaults",
        )
        .await;
    let mut tables = Vec::new();
    for (index, (of, value)) in WITHOUT_INPUT.iter().enumerate() {
        tables.push(format!("w{index}"));
        database.exec(&format!("CREATE TABLE w{index} (n int PRIMARY KEY, v {of})")).await;
        database.exec(&format!("CREATE TABLE given{index} AS {value}")).await;
    }
    let world = World::new(database).await;
    world.prepare().await;
    world.publish().await;
    for index in 0..WITHOUT_INPUT.len() {
        let insert = format!("INSERT INTO w{index} SELECT 1, v FROM given{index} AS g (v)");
        world.database.exec(&insert).await;
    }
    world.expect(&tables, "insert").await;
    let pieces = world.stream().await;
    let changes = pieces.iter().flat_map(|piece| &piece.changes);
    let found: Vec<_> = changes.map(|change| row(change, "insert", &change.data)).collect();
    assert_eq!(world.compare(&found).await, WITHOUT_INPUT.len());
}

#[tokio::test]
async fn types_of_the_information_schema() {
    check(
        "information",
        "",
        &[
            Case("information_schema.sql_identifier", &["a\"b"]),
            Case("information_schema.cardinal_number", &["7"]),
            Case("information_schema.yes_or_no", &["YES"]),
            Case("information_schema.character_data", &["x"]),
            Case("information_schema.time_stamp", &["2024-02-29 01:02:03.456+02"]),
        ],
    )
    .await;
}

/// Rows of a system catalog, as audit tables keep them.
#[tokio::test]
async fn rows_of_catalogs() {
    let database = TestDatabase::create("catalogs").await;
    let rows = [
        ("pg_class", "relname = 'pg_class'"),
        ("pg_index", "indexrelid = 'pg_attribute_relid_attnum_index'::regclass"),
        ("pg_roles", "rolname = 'postgres'"),
    ];
    let mut values = Vec::new();
    for (catalog, which) in rows {
        values.push(database.query_text(&format!("SELECT c::text FROM {catalog} c WHERE {which}")).await);
    }
    let values: Vec<[&str; 1]> = values.iter().map(|value| [value.as_str()]).collect();
    let cases: Vec<Case<'_>> =
        rows.iter().zip(&values).map(|((catalog, _), value)| Case(catalog, value)).collect();
    check_in(World::new(database).await, &cases).await;
}

/// Whoever adds a type to PostgreSQL adds a line to one of these files.
#[tokio::test]
async fn no_built_in_type_is_forgotten() {
    let database = TestDatabase::create("forgotten").await;
    let sources = [
        include_str!("numbers.rs"),
        include_str!("times.rs"),
        include_str!("texts.rs"),
        include_str!("others.rs"),
        include_str!("ranges.rs"),
    ];
    let tested: BTreeSet<&str> = sources
        .iter()
        .flat_map(|text| text.split("Case(").skip(1))
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split(['"', '(', '[']).next())
        .chain(WITHOUT_INPUT.iter().map(|(of, _)| *of))
        // "char" begins with a quote; of summaries and gtsvector there is no value anywhere but in indexes.
        .chain(["char", "pg_brin_bloom_summary", "pg_brin_minmax_multi_summary", "gtsvector"])
        .collect();
    let types = database
        .query(
            "SELECT typname FROM pg_type
             WHERE typtype IN ('b', 'r', 'm', 'e', 'd') AND typnamespace = 'pg_catalog'::regnamespace
               AND NOT (typsubscript = 'array_subscript_handler'::regproc AND typname LIKE '\\_%')",
        )
        .await;
    assert!(types.len() > 60);
    let forgotten: Vec<&str> =
        types.iter().filter_map(|row| row[0].as_deref()).filter(|name| !tested.contains(name)).collect();
    assert_eq!(forgotten, [] as [&str; 0]);
}

/// What is built in is known without asking, and is what the catalog would say.
#[tokio::test]
async fn what_is_built_in_is_what_the_catalog_says() {
    let database = TestDatabase::create("built_in").await;
    let arrays = database
        .query(
            "SELECT t.oid, t.typelem, e.typdelim FROM pg_type t JOIN pg_type e ON e.oid = t.typelem
             WHERE t.typsubscript = 'array_subscript_handler'::regproc AND t.oid < 10000 AND t.typname LIKE '\\_%'",
        )
        .await;
    let mut known = 0;
    for row in &arrays {
        let oid = |index: usize| row[index].as_ref().unwrap().parse::<u32>().unwrap();
        let Some(Kind::Array(array)) = Kind::builtin(oid(0)) else {
            assert_eq!(Kind::builtin(oid(1)), None, "array {}", oid(0));
            continue;
        };
        let element = Kind::builtin(oid(1)).unwrap();
        let delimiter = row[2].as_ref().unwrap().as_bytes()[0];
        assert_eq!(*array, ArrayKind { element, delimiter }, "array {}", oid(0));
        known += 1;
    }
    assert!(known > 50, "{known}");
}
