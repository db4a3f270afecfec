//! The rows that pass are those that PostgreSQL selects: random filters over random rows of all types, in images as snapshots
//! make them. Where the server has no ICU, no column has a collation that matters.
//!
//! The seed is printed; `WALDELTA_TEST_SEED` repeats it.

mod permitted;

use std::sync::Arc;

use futures_util::TryStreamExt;
use tokio_postgres::Client;
use waldelta_pgconn::{Environment, Target};
use waldelta_source::snapshot::Snapshot;
use waldelta_source::{Plugin, Source};
use waldelta_testkit::{Dice, TestDatabase};
use waldelta_wal::{Table, ValuePolicy};

use super::random::{self, COLLATION, SETUP, SUBJECTS, Wish};
use super::{Filter, Predicate, Row, Verdict};
use crate::wire::json;

const ROWS: usize = 150;
const FILTERS: usize = 400;
/// Filters of one question.
const AT_ONCE: usize = 20;
/// Rows of which parts are taken away, for each filter.
const PARTIAL: usize = 15;

fn seed() -> u64 {
    let seed = match std::env::var_os("WALDELTA_TEST_SEED") {
        Some(seed) => seed.to_str().and_then(|seed| seed.parse().ok()).unwrap(),
        None => std::process::id().into(),
    };
    println!("seed: {seed}");
    seed
}

/// A table of random rows, and the filters' side of it.
struct World {
    database: TestDatabase,
    table: Arc<Table>,
    images: Vec<Vec<u8>>,
}

impl World {
    async fn new(dice: &mut Dice) -> Self {
        let database = TestDatabase::create("filters").await;
        let has_icu = "SELECT EXISTS (SELECT FROM pg_collation WHERE collname = 'en-x-icu')";
        let has_icu = database.query_text(has_icu).await == "t";
        let sql_type = |subject: &random::Subject| match subject.sql_type.split_once(" COLLATE ") {
            Some((plain, collation)) if !has_icu && collation != "\"C\"" => plain,
            _ => subject.sql_type,
        };
        let columns: Vec<_> =
            SUBJECTS.iter().map(|subject| format!("{} {}", subject.name, sql_type(subject))).collect();
        let create = format!(
            "CREATE TABLE t (id int PRIMARY KEY, {}); CREATE PUBLICATION waldelta FOR TABLE t",
            columns.join(", ")
        );
        database.exec(SETUP).await;
        if has_icu {
            database.exec(COLLATION).await;
        }
        database.exec(&create).await;
        let mut rows = Vec::new();
        for id in 0..ROWS {
            let value = |subject: &random::Subject| match dice.once_in(6) {
                true => "NULL".to_owned(),
                false => (*dice.pick(subject.values)).to_owned(),
            };
            let values: Vec<_> = SUBJECTS.iter().map(value).collect();
            rows.push(format!("({id}, {})", values.join(", ")));
        }
        database.exec(&format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
        let source = Source {
            target: Target::parse(database.url(), &Environment::default()).unwrap(),
            publication: "waldelta".into(),
            slot: database.slot("s"),
            plugin: Plugin::default(),
            values: ValuePolicy::default(),
            primary: None,
        };
        let snapshot = Snapshot::open(&source).await.unwrap();
        let table = Arc::new(snapshot.tables().await.unwrap().remove(0).table);
        let read: Vec<Vec<_>> =
            snapshot.rows(table.clone(), 1 << 20).await.unwrap().try_collect().await.unwrap();
        let images = read.concat().iter().map(|row| row.data.to_vec()).collect();
        World { database, table, images }
    }

    /// For each condition, the ids of the rows that PostgreSQL selects by it.
    async fn selected(&self, client: &Client, conditions: &[&str]) -> Vec<Vec<u16>> {
        let question =
            |condition: &&str| format!("array(SELECT id::int2 FROM t WHERE {condition} ORDER BY id)");
        let sql = format!("SELECT {}", conditions.iter().map(question).collect::<Vec<_>>().join(",\n"));
        let row = client.query_one(&sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let ids =
            |place| row.get::<_, Vec<i16>>(place).into_iter().map(|id| u16::try_from(id).unwrap()).collect();
        (0..row.len()).map(ids).collect()
    }

    fn bind(&self, text: &str) -> Predicate {
        let filter: Filter = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        Predicate::new(&filter, &self.table).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn row<'a>(&self, image: &'a [u8]) -> Row<'a> {
        Row::new(&self.table, image)
    }

    /// The ids of the rows that pass, ascending.
    fn passing(&self, predicate: &Predicate) -> Vec<u16> {
        let mut passing = Vec::new();
        for image in &self.images {
            let row = self.row(image);
            let id = std::str::from_utf8(row.value(0).unwrap()).unwrap().parse().unwrap();
            match predicate.verdict(&row) {
                Verdict::Passes => passing.push(id),
                Verdict::Fails => {}
                Verdict::Unknown => panic!("row {id} is whole"),
            }
        }
        passing.sort_unstable();
        passing
    }

    /// A row that passes has one of the values that an index looks for, in each of the columns where it does.
    fn check_equality(&self, predicate: &Predicate) {
        for image in &self.images {
            let row = self.row(image);
            if predicate.verdict(&row) == Verdict::Passes {
                for equality in predicate.equalities() {
                    let key = row.index_key(&self.table, equality.column).expect("null equals nothing");
                    assert!(equality.values.contains(&key), "{}", predicate.sql());
                }
            }
        }
    }

    /// Of a row without some of its columns nothing is said that the whole row does not say.
    fn check_partial(&self, predicate: &Predicate, dice: &mut Dice) {
        for _ in 0..PARTIAL {
            let image = &self.images[dice.index(self.images.len())];
            let whole = predicate.verdict(&self.row(image));
            let mut partial = b"{".to_vec();
            for (name, value) in json::members(image) {
                if !dice.once_in(3) {
                    partial.extend([name, b":", value, b","].concat());
                }
            }
            partial.push(b'}');
            let row = self.row(&partial);
            let matters = predicate.columns().iter().any(|column| row.value(*column).is_none());
            match predicate.verdict(&row) {
                Verdict::Unknown => assert!(matters, "{}", predicate.sql()),
                verdict => assert_eq!(verdict, whole, "{}", predicate.sql()),
            }
            assert_eq!(predicate.verdict(&row.or(&self.table, image)), whole);
        }
    }
}

#[tokio::test]
async fn rows_that_pass_are_those_that_postgresql_selects() {
    let mut dice = Dice::of(seed(), "filters");
    let world = World::new(&mut dice).await;
    // What is printed is safe either way; the filter's own text is not. A literal without zone means what it means in the
    // product's sessions.
    let (usual, unusual) = (world.database.client().await, world.database.client().await);
    usual.batch_execute("SET jit = off; SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'").await.unwrap();
    unusual
        .batch_execute(
            "SET jit = off; SET standard_conforming_strings = off; SET escape_string_warning = off",
        )
        .await
        .unwrap();
    let mut passed = 0;
    for number in 0..FILTERS / AT_ONCE {
        let wishes: Vec<Wish> = (0..AT_ONCE).map(|_| random::filter(&mut dice, number % 4)).collect();
        let predicates: Vec<Predicate> = wishes.iter().map(|wish| world.bind(&wish.text)).collect();
        let printed: Vec<String> = predicates.iter().map(Predicate::sql).collect();
        let printed: Vec<&str> = printed.iter().map(|sql| &**sql).collect();
        let (as_printed, as_printed_unusually) =
            (world.selected(&usual, &printed).await, world.selected(&unusual, &printed).await);
        let own: Vec<&str> =
            wishes.iter().map(|wish| if wish.is_sql { &*wish.text } else { "true" }).collect();
        let as_written = world.selected(&usual, &own).await;
        for (place, (wish, predicate)) in wishes.iter().zip(&predicates).enumerate() {
            let passing = world.passing(predicate);
            let what = || format!("{}\n{}", wish.text, printed[place]);
            assert_eq!(passing, as_printed[place], "{}", what());
            assert_eq!(passing, as_printed_unusually[place], "{}", what());
            if wish.is_sql {
                assert_eq!(passing, as_written[place], "{}", what());
            }
            world.check_equality(predicate);
            world.check_partial(predicate, &mut dice);
            passed += passing.len();
        }
    }
    let all = FILTERS * world.images.len();
    assert!((all / 10..all * 9 / 10).contains(&passed), "{passed} of {all}: the filters tell nothing apart");
}
