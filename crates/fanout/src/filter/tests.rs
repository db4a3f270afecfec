//! What filters are, and what is refused. That they select what PostgreSQL selects, `differential` shows.

use proptest::prelude::*;
use waldelta_testkit::Dice;
use waldelta_wal::Table;

use super::random;
use super::*;
use crate::fuzzing::table;

fn parse(text: &str) -> Result<Filter, FilterError> {
    text.parse()
}

/// What is printed of a filter.
fn printed(text: &str) -> String {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).to_string()
}

/// A table of columns by name and type, of which the first is its key.
fn numbers() -> Table {
    table(&[("id", 23), ("a", 23), ("b", 25), ("c", 16), ("n", 1700)])
}

fn bound(filter: &str, table: &Table) -> Predicate {
    Predicate::new(&parse(filter).unwrap(), table).unwrap_or_else(|error| panic!("{filter}: {error}"))
}

fn verdict(filter: &str, image: &str) -> Verdict {
    let table = numbers();
    bound(filter, &table).verdict(&Row::new(&table, image.as_bytes()))
}

#[test]
fn one_form_for_what_means_the_same() {
    for (text, expected) in [
        ("A=1", "a = 1"),
        ("1 < a", "a > 1"),
        (" ( ( a = 1 ) ) ", "a = 1"),
        ("a=1 and b='x' or c", "a = 1 AND b = 'x' OR c = true"),
        ("b = 'x' AND (c OR a = 1)", "(a = 1 OR c = true) AND b = 'x'"),
        ("a = 1 AND (b = 'x' AND a = 1)", "a = 1 AND b = 'x'"),
        ("not not a is null", "a IS NULL"),
        ("NOT a = 1", "a <> 1"),
        ("a != 1.00", "a <> 1"),
        ("a <> 1e2", "a <> 100"),
        ("a not in (3,1,2,1)", "a NOT IN (1, 2, 3)"),
        ("a IN (+5)", "a = 5"),
        ("a BETWEEN -1 AND 1", "a >= -1 AND a <= 1"),
        ("a NOT BETWEEN 1 AND 2", "NOT (a >= 1 AND a <= 2)"),
        ("b LIKE 'it''s\\_%'", "b LIKE 'it''s\\_%'"),
        ("NOT b LIKE '_'", "b NOT LIKE '_'"),
        ("a IS NOT NULL", "a IS NOT NULL"),
        ("not (a < 5)", "NOT (a < 5)"),
        ("\"A b\" = 'x' and \"a\" = 1 and \"select\" = 2", "\"A b\" = 'x' AND a = 1 AND \"select\" = 2"),
        ("d = '2024-01-01'::DATE", "d = date '2024-01-01'"),
        ("date = Date '2024-01-01'", "date = date '2024-01-01'"),
        ("a = 0.000000000000000000000000000000001", "a = 1e-33"),
    ] {
        assert_eq!(printed(text), expected, "{text}");
        assert_eq!(printed(expected), expected);
    }
    assert_eq!(parse("a=1 OR b='x'"), parse("b = 'x' or (a = 1.0)"));
    assert_ne!(parse("a = 1"), parse("a = 2"));
}

#[test]
fn what_is_no_filter_is_refused_with_its_place() {
    for (text, at, expected) in [
        ("", 1, "a column"),
        ("   ", 4, "a column"),
        ("a =", 4, "a value"),
        ("a = NULL", 5, "IS NULL"),
        ("a IN (1, NULL)", 10, "IS NULL"),
        ("a = b", 5, "a value"),
        ("a + 1 = 2", 3, "[NOT] IN"),
        ("lower(b) = 'x'", 6, "[NOT] IN"),
        ("é = 'x", 5, "closed"),
        ("a = 1 a", 7, "the end"),
        ("a = 1)", 6, "the end"),
        ("(a = 1", 7, ")"),
        ("a = 1; DROP TABLE t", 6, "a comparison"),
        ("a = 1 -- b", 7, "the end"),
        ("a BETWEEN 1", 12, "AND"),
        ("a IS 1", 6, "NULL"),
        ("a NOT = 1", 7, "BETWEEN"),
        ("b LIKE c", 8, "a pattern"),
        ("b LIKE 'x\\'", 8, "backslash"),
        ("a IN 1", 6, "("),
        ("a IN ()", 7, "a value"),
        ("1 = 1", 5, "a column"),
        ("true", 5, "a column"),
        ("a = 1x", 5, "a number"),
        ("a = 1e", 5, "digits"),
        ("a = -b", 6, "a number"),
        ("b = E'x'", 5, "types"),
        ("a = '1'::int", 10, "types"),
        ("b = $$x$$", 5, "a comparison"),
        ("\"\" = 1", 3, "a name"),
        ("b = 'a\0'", 7, "NUL"),
        ("a = 1 = 1", 7, "the end"),
    ] {
        let error = parse(text).expect_err(text);
        let FilterError::Syntax { at: found, expected: found_expected } = error else {
            panic!("{text}: {error}")
        };
        assert_eq!(found, at, "{text}: {found_expected}");
        assert!(found_expected.contains(expected), "{text}: {found_expected}");
    }
}

#[test]
fn each_limit_has_its_message() {
    let list = |count: usize| format!("a IN ({})", vec!["1"; count].join(","));
    parse(&list(VALUES_MAX)).unwrap();
    assert_eq!(
        parse(&list(VALUES_MAX + 1)),
        Err(FilterError::TooManyValues { at: 7 + 2 * VALUES_MAX, max: VALUES_MAX })
    );

    let long = |bytes: usize| format!("b = '{}'", "x".repeat(bytes - 6));
    parse(&long(TEXT_BYTES_MAX)).unwrap();
    assert_eq!(parse(&long(TEXT_BYTES_MAX + 1)), Err(FilterError::TextTooLong { max: TEXT_BYTES_MAX }));

    let many = |count: usize| (1..count).map(|n| format!("a={n}")).collect::<Vec<_>>().join(" or ");
    parse(&many(NODES_MAX)).unwrap();
    assert_eq!(parse(&many(NODES_MAX + 1)), Err(FilterError::TooManyNodes { max: NODES_MAX }));

    let deep = |levels: usize| {
        (1..levels).fold("a < 1".to_owned(), |inner, n| match n % 2 {
            0 => format!("(b < 'x' OR {inner})"),
            _ => format!("(b > 'x' AND {inner})"),
        })
    };
    parse(&deep(DEPTH_MAX)).unwrap();
    assert_eq!(parse(&deep(DEPTH_MAX + 1)), Err(FilterError::TooDeep { max: DEPTH_MAX }));
    for open in ["(", "NOT ", "not("] {
        assert_eq!(parse(&open.repeat(3_000)), Err(FilterError::TooDeep { max: DEPTH_MAX }), "{open}");
    }

    for number in ["1e1001", "1e-1001", "1e99999999999999999999"] {
        assert_eq!(
            parse(&format!("a = {number}")),
            Err(FilterError::NumberTooLong { at: 5, max: DIGITS_MAX })
        );
    }
    let pattern = format!("b LIKE '%{}%'", "x_".repeat(100));
    assert!(matches!(parse(&pattern), Err(FilterError::PatternTooLong { at: 8, .. })));
}

#[test]
fn what_does_not_fit_the_table_is_refused_by_name() {
    let table = table(&[
        ("id", 23),
        ("flag", 16),
        ("b", 25),
        ("c", 1042),
        ("small", 21),
        ("d", 701),
        ("r", 700),
        ("at", 1114),
        ("tz", 1184),
        ("day", 1082),
        ("u", 2950),
        ("raw", 17),
        ("net", 869),
        ("doc", 3802),
        ("Mood", 50_000),
        ("list", 1007),
        ("cash", 790),
    ]);
    for (filter, expected) in [
        ("\"No\" = 1", "the table has no column \"No\", or does not publish it"),
        ("id", "column id is of type integer and is compared with numbers"),
        ("id = 'one'", "numbers"),
        ("id = '1.5'", "numbers"),
        ("small = '32768'", "column small is of type smallint"),
        ("id = true", "numbers"),
        ("flag = 'true'", "true or false"),
        ("flag = 1", "true or false"),
        ("b = 1", "texts in single quotes"),
        ("b = date '2024-01-01'", "texts in single quotes"),
        ("c = 'x'::text", "column c is of type character"),
        ("id LIKE '1%'", "of which LIKE cannot be asked"),
        ("d = 1e400", "its range"),
        ("d = 1e-400", "its range"),
        ("r = '1e39'", "its range"),
        ("at = '2024-01-01 10:00Z'", "timestamps without zone"),
        ("at = 'now'", "timestamps without zone"),
        ("tz > date '2024-01-01'", "timestamps with zone"),
        ("day < 'tomorrow'", "dates"),
        ("day < '2024-01-01 10:00'", "dates"),
        ("u = 'x'", "uuids"),
        ("u = '6ba7b810--9dad-11d1-80b4-00c04fd430c8'", "uuids"),
        ("raw = 'x'", "hexadecimal"),
        ("raw = '\\x0'", "hexadecimal"),
        ("net = '10.0.0.1'", "column net is of type inet, which can only be asked for with IS NULL"),
        ("cash > 1", "IS NULL"),
        ("doc = '{}'", "IS NULL"),
        ("list IN (1)", "IS NULL"),
        ("\"Mood\" < 'x'", "column \"Mood\" is of type public.thing, which has no order"),
    ] {
        let error = Predicate::new(&parse(filter).unwrap(), &table).expect_err(filter).to_string();
        assert!(error.contains(expected), "{filter}: {error}");
    }
    for filter in
        ["net IS NULL", "doc IS NOT NULL", "\"Mood\" IN ('x')", "\"Mood\" LIKE 'x%'", "list IS NULL"]
    {
        bound(filter, &table);
    }
    let mut citext = table.clone();
    citext.columns[14].type_name = "public.citext".into();
    let error = Predicate::new(&parse("\"Mood\" = 'x'").unwrap(), &citext).unwrap_err().to_string();
    assert!(error.contains("regard to case"), "{error}");
}

#[test]
fn null_and_not_known_are_not_the_same() {
    use Verdict::{Fails, Passes, Unknown};
    for (filter, image, expected) in [
        ("a = 1", r#"{"a":1}"#, Passes),
        ("a = 1", r#"{"a": null}"#, Fails),
        ("NOT a = 1", r#"{"a":null}"#, Fails),
        ("a = 1", "{}", Unknown),
        ("NOT a = 1", "{}", Unknown),
        ("a IS NULL", "{}", Unknown),
        ("a = 1 AND b = 'x'", r#"{"b":"y"}"#, Fails),
        ("a = 1 AND b = 'x'", r#"{"b":null}"#, Fails),
        ("NOT (a = 1 AND b = 'x')", r#"{"b":null}"#, Unknown),
        ("a = 1 OR b = 'x'", r#"{"b":"x"}"#, Passes),
        ("a = 1 OR b = 'x'", r#"{"b":null}"#, Unknown),
        ("NOT (a = 1 OR b = 'x')", r#"{"b":null}"#, Fails),
        ("a = 1 OR b IS NULL", r#"{"b":null}"#, Passes),
        ("c", r#"{"c":true}"#, Passes),
        ("NOT c", r#"{"c":false}"#, Passes),
        ("n = 1", r#"{"n":1.000}"#, Passes),
        ("n > 5", r#"{"n":"NaN"}"#, Passes),
    ] {
        assert_eq!(verdict(filter, image), expected, "{filter} {image}");
    }
}

#[test]
fn a_value_that_is_kept_as_a_reference_is_there_and_not_known() {
    let image = r#"{"b":{"$too_large":{"bytes":300000000,"sha256":"00"}}}"#;
    assert_eq!(verdict("b IS NULL", image), Verdict::Fails);
    assert_eq!(verdict("b = 'x'", image), Verdict::Fails);
    assert_eq!(verdict("b <> 'x'", image), Verdict::Passes);
    assert_eq!(verdict("b > 'x'", image), Verdict::Unknown);
    assert_eq!(verdict("b LIKE 'x%'", image), Verdict::Unknown);
    let table = numbers();
    assert!(Row::new(&table, image.as_bytes()).index_key(&table, 2).is_some(), "it is not null");
}

#[test]
fn a_row_takes_from_an_older_image_what_it_lacks() {
    let table = numbers();
    let row = Row::new(&table, br#"{"other":0,"n":1,"a":2}"#).or(&table, br#"{"id":7,"a":3,"b":"x"}"#);
    let values: Vec<_> = (0..6).map(|column| row.value(column)).collect();
    assert_eq!(values, [Some(&b"7"[..]), Some(b"2"), Some(b"\"x\""), None, Some(b"1"), None]);
}

#[test]
fn the_columns_that_are_read() {
    let table = numbers();
    assert_eq!(bound("n = 1 OR (a = 2 AND NOT n IS NULL)", &table).columns(), [1, 4]);
}

#[test]
fn the_equality_that_an_index_takes() {
    let table = numbers();
    for (filter, expected) in [
        ("a = 1", Some((1, 1))),
        ("a IN (1, 2) AND b = 'x'", Some((2, 1))),
        ("a = 1 AND id = 2", Some((0, 1))),
        ("c AND b IN ('x', 'y')", Some((2, 2))),
        ("c", Some((3, 1))),
        ("a = 1 OR a = 2 OR a IN (2, 3)", Some((1, 3))),
        ("a = 1 OR b = 'x'", None),
        ("(a = 1 AND b = 'x') OR (a = 2 AND c)", Some((1, 2))),
        ("a IN (1, 2) AND a IN (2, 3)", Some((1, 1))),
        ("a = 1 AND a = 2", Some((1, 0))),
        ("a <> 1", None),
        ("a > 1 AND n < 5", None),
        ("a IS NULL", None),
        ("NOT (a <> 1 OR b <> 'x')", None),
        ("n IN (1, 1.0, 1e0)", Some((4, 1))),
    ] {
        let predicate = bound(filter, &table);
        let first = predicate.equalities().first();
        let found = first.map(|equality| (equality.column, equality.values.len()));
        assert_eq!(found, expected, "{filter}");
    }
}

#[test]
fn an_index_takes_as_many_equalities_as_leave_few_ways_to_a_filter() {
    let table = numbers();
    for (filter, expected) in [
        ("a = 1 AND b = 'x'", &[(1, 1), (2, 1)][..]),
        ("b IN ('x', 'y') AND a = 1 AND id = 2 AND n > 5", &[(0, 1), (1, 1), (2, 2)]),
        ("id IN (1, 2) AND b = 'x'", &[(0, 2), (2, 1)]),
        ("a IN (1, 2, 3, 4) AND n IN (1, 2, 3, 4, 5)", &[(1, 4)]),
        ("a IN (1, 2, 3, 4) AND n IN (1, 2, 3, 4, 5) AND c", &[(1, 4), (3, 1)]),
        ("a = 1 AND b = 'x' AND c AND n = 1 AND id = 1", &[(0, 1), (1, 1), (2, 1), (4, 1)]),
    ] {
        let predicate = bound(filter, &table);
        let found: Vec<_> = predicate.equalities().iter().map(|one| (one.column, one.values.len())).collect();
        assert_eq!(found, expected, "{filter}");
    }
}

#[test]
fn equal_values_have_one_key() {
    let table =
        table(&[("n", 1700), ("c", 1042), ("u", 2950), ("tz", 1184), ("d", 701), ("raw", 17), ("day", 1082)]);
    for (column, filter, images) in [
        (0, "n = 1", &["1", "1.00", "1e0"][..]),
        (0, "n = 'NaN'", &["\"NaN\""]),
        (1, "c = 'ab '", &["\"ab\"", "\"ab    \""]),
        (2, "u = '{6BA7B8109DAD11D180B400C04FD430C8}'", &["\"6ba7b810-9dad-11d1-80b4-00c04fd430c8\""]),
        (3, "tz = '2024-01-02 01:00+01'", &["\"2024-01-02T00:00:00+00:00\""]),
        (4, "d = -0", &["0", "-0", "0e5"]),
        (5, "raw = '\\xAB'", &["\"\\\\xab\""]),
        (6, "day = 'Infinity'", &["\"infinity\""]),
    ] {
        let names = &table.columns[column].name;
        let predicate = bound(filter, &table);
        let column = u16::try_from(column).unwrap();
        for value in images {
            let image = format!("{{\"{names}\":{value}}}");
            let key = Row::new(&table, image.as_bytes()).index_key(&table, column).unwrap();
            let [equality] = predicate.equalities() else { panic!("{filter}") };
            assert_eq!((equality.column, &equality.values[..]), (column, &[key][..]), "{filter} {image}");
        }
        let null = format!("{{\"{names}\":null}}");
        assert_eq!(Row::new(&table, null.as_bytes()).index_key(&table, column), None);
        assert_eq!(Row::new(&table, b"{}").index_key(&table, column), None);
    }
}

#[test]
fn sql_has_every_name_and_value_in_quotes() {
    let table =
        table(&[("id", 23), ("say \"x\"", 25), ("at", 1184), ("c", 1042), ("mood", 50_000), ("d", 701)]);
    for (filter, expected) in [
        ("id IN (1, 2.5)", r#"("id" IN ('1'::bigint, '2.5'::numeric))"#),
        (
            "\"say \"\"x\"\"\" = 'it''s\\'",
            r#"("say ""x""" = E'it''s\\'::text AND "say ""x""" COLLATE "C" = E'it''s\\'::text)"#,
        ),
        (
            "NOT (at < '2024-01-01 01:00+01' OR c LIKE 'a%')",
            r#"(NOT (("at" < '2024-01-01 00:00:00+00'::timestamptz) OR ("c" COLLATE "C" LIKE 'a%'::text)))"#,
        ),
        (
            "mood = 'ok'",
            r#"((CASE WHEN "mood" IS NOT DISTINCT FROM NULL THEN NULL ELSE format('%s', "mood") END) COLLATE "C" = 'ok'::text)"#,
        ),
        ("d > 1e300 AND d <> 'nan'", r#"((NOT ("d" = 'NaN'::float8)) AND ("d" > '1e300'::float8))"#),
    ] {
        assert_eq!(bound(filter, &table).sql(), expected, "{filter}");
    }
}

#[test]
fn random_filters_print_and_parse() {
    for seed in 0..2_000 {
        let wish = random::filter(&mut Dice::of(seed, "filters"), 4);
        let filter = parse(&wish.text).unwrap_or_else(|error| panic!("{}: {error}", wish.text));
        let again = parse(&filter.to_string()).unwrap_or_else(|error| panic!("{filter}: {error}"));
        assert_eq!(again, filter, "{}", wish.text);
        assert!(again.condition() == filter.condition(), "{}", wish.text);
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text: String) {
        let _ = parse(&text);
    }

    #[test]
    fn no_text_of_its_own_words_makes_it_panic(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "a", "b", "\"c\"", "'x'", "'", "1", "-", "2.5e3", "(", ")", ",", "=", "<>", "<", ">=", "::", "date", "and", "or", "not",
                "in", "is", "null", "like", "between", "true", "\\", "%", "é", "\0",
            ]),
            0..12,
        ),
        image in "\\{(\"[abc]\":(1|null|\"x\"|true|\\{\\}),?){0,3}\\}?",
    ) {
        let Ok(filter) = parse(&words.join(" ")) else { return Ok(()) };
        prop_assert_eq!(parse(&filter.to_string()).unwrap(), filter.clone());
        let table = numbers();
        if let Ok(predicate) = Predicate::new(&filter, &table) {
            let row = Row::new(&table, image.as_bytes());
            let _ = (predicate.verdict(&row), predicate.sql(), row.index_key(&table, 1));
        }
    }
}
