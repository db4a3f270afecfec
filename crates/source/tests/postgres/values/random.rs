//! Random rows of many types. The seed is printed; `WALDELTA_TEST_SEED` repeats it.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use waldelta_testkit::TestDatabase;

use super::matrix::{quoted, round};
use super::world::World;

const CASES: u32 = 5;
const ROWS_MAX: usize = 60;
/// A failure is made smaller by so many more tries.
const SHRINKS_MAX: u32 = 200;

const SETUP: &str = "CREATE TYPE mood AS ENUM ('fine', 'so, \"so\"', '', '\\', 'caf\u{e9}');
    CREATE TYPE inner_ AS (\"I,\" numeric, t text, ts text[], at timestamp);
    CREATE DOMAIN inners AS inner_[];
    CREATE TYPE outer_ AS (i inner_, is_ inners, m mood, d date);
    CREATE TABLE t (n int PRIMARY KEY, flag bool, whole int8, exact numeric, double float8, single float4, said text,
        padded char(6), bytes bytea, day date, moment timestamp, instant timestamptz, during interval, doc json, docb jsonb,
        texts text[], exacts numeric[], range_ int4range, mood_ mood, held outer_, holders outer_[]);
    ALTER TABLE t REPLICA IDENTITY FULL";
const COLUMNS: &str =
    "flag, whole, exact, double, single, said, padded, bytes, day, moment, instant, during, doc, docb, texts,
    exacts, range_, mood_, held, holders";

/// An SQL expression of a value, or NULL.
type Sql = BoxedStrategy<String>;

fn nullable(value: impl Strategy<Value = String> + 'static) -> Sql {
    prop_oneof![1 => Just("NULL".to_owned()), 6 => value].boxed()
}

fn anything() -> BoxedStrategy<String> {
    prop_oneof![
        8 => "[^\\x00]{0,20}",
        8 => "[\\x01-\\x20\"\\\\',;(){}\\[\\]:=>NUL\u{e9}\u{1F600}a]{0,16}",
        2 => Just("NULL".to_owned()),
        1 => "[ax\u{6f22}\\\\\"]{2000,2400}",
    ]
    .boxed()
}

fn text() -> Sql {
    nullable(anything().prop_map(|text| quoted(&text)))
}

fn numeric() -> Sql {
    let special = prop_oneof![Just("'NaN'"), Just("'Infinity'"), Just("'-Infinity'"), Just("'-0.000'")];
    nullable(prop_oneof![
        1 => special.prop_map(str::to_owned),
        6 => "-?[0-9]{1,40}(\\.[0-9]{1,30})?",
        2 => "-?[0-9]\\.[0-9]{1,8}e-?[0-9]{1,2}",
    ])
    .prop_map(|value| format!("({value})::numeric"))
    .boxed()
}

fn day() -> Sql {
    nullable(prop_oneof![
        6 => (-2_400_000..2_000_000_000i32).prop_map(|days| format!("date '2000-01-01' + {days}")),
        6 => (-800_000..100_000i32).prop_map(|days| format!("date '2000-01-01' + ({days})")),
        1 => Just("'-infinity'".to_owned()),
    ])
}

fn moment() -> Sql {
    nullable(prop_oneof![
        6 => (-200_000_000_000_000_000..9_000_000_000_000_000_000i64)
            .prop_map(|us| format!("timestamp '2000-01-01' + {us} * interval '1 us'")),
        1 => Just("'infinity'".to_owned()),
    ])
}

fn interval() -> Sql {
    let parts = (-9_999..9_999i32, -40..40i32, -99_999..99_999i32, -9_999..9_999i32, -5e7..5e7f64);
    nullable(parts.prop_map(|(years, months, days, hours, seconds)| {
        format!("make_interval({years}, {months}, 0, {days}, {hours}, 0, {seconds})")
    }))
}

fn json() -> BoxedStrategy<String> {
    let string = "[^\\x00]{0,12}".prop_map(|text| serde_json::to_string(&text).unwrap());
    let key = "[a-c\u{e9}\"\\\\ ]{0,3}".prop_map(|text| serde_json::to_string(&text).unwrap());
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?[1-9][0-9]{0,25}(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
        string,
    ];
    let space = "[ \n\t\r]{0,2}";
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let list = prop::collection::vec(inner.clone(), 0..4);
        let object = prop::collection::vec((key.clone(), inner), 0..4);
        prop_oneof![
            (list, space).prop_map(|(items, space)| format!("[{space}{}]", items.join(&format!("{space},")))),
            object.prop_map(|members| {
                let members: Vec<String> =
                    members.iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
    .boxed()
}

fn array(of: &'static str, element: Sql) -> Sql {
    let flat = prop::collection::vec(element.clone(), 0..4)
        .prop_map(move |elements| format!("ARRAY[{}]::{of}[]", elements.join(", ")));
    let square = (element.clone(), element)
        .prop_map(move |(a, b)| format!("ARRAY[ARRAY[{a}, {b}], ARRAY[{b}, NULL]]::{of}[]"));
    nullable(prop_oneof![4 => flat, 1 => square])
}

fn mood() -> Sql {
    nullable(prop::sample::select(vec!["fine", "so, \"so\"", "", "\\", "caf\u{e9}"]).prop_map(quoted))
}

fn inner() -> Sql {
    let fields = (numeric(), text(), array("text", text()), moment());
    nullable(
        fields.prop_map(|(exact, said, texts, at)| format!("ROW({exact}, {said}, {texts}, {at})::inner_")),
    )
}

fn outer() -> Sql {
    let fields = (inner(), array("inner_", inner()), mood(), day());
    nullable(fields.prop_map(|(one, many, mood, day)| format!("ROW({one}, {many}, {mood}, {day})::outer_")))
}

fn row() -> impl Strategy<Value = Vec<String>> {
    let number = |text: String| quoted(&text);
    let quoted_json = || nullable(json().prop_map(|text| quoted(&text)));
    let range = (any::<i16>(), any::<u8>())
        .prop_map(|(low, width)| format!("int4range({low}, {low} + {width}, '[]')"));
    let bytes = prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("'\\x{digits}'::bytea")
    });
    vec![
        nullable(any::<bool>().prop_map(|flag| flag.to_string())),
        nullable(any::<i64>().prop_map(move |whole| number(whole.to_string()))),
        numeric(),
        nullable(prop::num::f64::ANY.prop_map(move |value| number(format!("{value:e}")))),
        nullable(prop::num::f32::ANY.prop_map(move |value| number(format!("{value:e}")))),
        text(),
        nullable("[a-c\u{e9}\"\\\\ ]{0,6}".prop_map(|text| quoted(&text))),
        nullable(bytes),
        day(),
        moment(),
        nullable(moment().prop_map(|at| format!("({at})::timestamp AT TIME ZONE 'Asia/Kathmandu'"))),
        interval(),
        quoted_json(),
        quoted_json(),
        array("text", text()),
        array("numeric", numeric()),
        nullable(range),
        mood(),
        outer(),
        array("outer_", outer()),
    ]
}

#[test]
fn random_rows_are_what_to_jsonb_says() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(async {
        let database = TestDatabase::create("random").await;
        database.exec(SETUP).await;
        let world = World::new(database).await;
        world.prepare().await;
        world.publish().await;
        world
    });
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: SHRINKS_MAX,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed()));
    let rows = prop::collection::vec(row(), 1..ROWS_MAX);
    // A case that failed leaves its rows.
    let clean = Cell::new(true);
    let result = runner.run(&rows, |rows| {
        let rows: Vec<String> =
            rows.iter().enumerate().map(|(number, row)| format!("({number}, {})", row.join(", "))).collect();
        let insert = format!("INSERT INTO t VALUES {}", rows.join(", "));
        runtime.block_on(async {
            world.database.exec("DELETE FROM waldelta.expected").await;
            if !clean.replace(false) {
                world.database.exec("DELETE FROM t").await;
                world.stream().await;
            }
            world.database.exec(&insert).await;
            round(&world, &["t".to_owned()], COLUMNS).await;
            clean.set(true);
        });
        Ok(())
    });
    drop(world);
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[expect(clippy::print_stdout, reason = "whoever sees it fail wants to see it fail again")]
fn seed() -> [u8; 32] {
    let seed = match std::env::var_os("WALDELTA_TEST_SEED") {
        Some(seed) => seed.to_str().and_then(|seed| seed.parse().ok()).unwrap(),
        None => std::process::id(),
    };
    println!("seed: {seed}");
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&seed.to_le_bytes());
    bytes
}
