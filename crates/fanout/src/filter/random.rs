//! For tests: a table of all types that filters know, and random filters over it.

use serde_json::Value;
use waldelta_testkit::Dice;

/// A column, and what is asked of it.
#[derive(Clone, Copy)]
pub(super) struct Subject {
    /// Its name as SQL and filters have it.
    pub(super) name: &'static str,
    pub(super) sql_type: &'static str,
    /// Its values, in quotes or not.
    pub(super) values: &'static [&'static str],
    /// What it is compared with.
    literals: &'static [&'static str],
    asks: Asks,
    /// Whether the filter's own text means the same behind WHERE.
    is_sql: bool,
}

/// What can be asked of a column.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Asks {
    Null,
    Equality,
    Order,
    /// Equality and LIKE.
    Pattern,
    All,
}

const WORDS: &[&str] = &[
    "''",
    "'a'",
    "'A'",
    "'ab'",
    "'ab '",
    "'b'",
    "'ba'",
    "'é'",
    "'z'",
    "'Z'",
    "'€'",
    "'𝄞'",
    "'it''s'",
    "'\\'",
    "'a\\b'",
    "'%'",
    "'a_b'",
    "'axb'",
    "'say \"x\"'",
    "'null'",
    "'line\nbreak'",
    "'\t'",
];
const PATTERNS: &[&str] = &[
    "'%'", "''", "'a%'", "'%b'", "'_'", "'__'", "'%a%b%'", "'a\\_b'", "'\\%'", "'%\\\\%'", "'%_b'", "'%''%'",
    "'_%_'", "'A%'",
];
const INTEGERS: &[&str] = &["0", "-1", "1", "7", "42", "-32768", "32767"];
const INTEGER_LITERALS: &[&str] = &[
    "0",
    "-1",
    "1.0",
    "7",
    "'42'",
    "1.5",
    "-32768",
    "32767",
    "1e2",
    "99999999999999999999",
    "-.5",
    "2147483648",
    "9007199254740993",
];
const NUMBER_LITERALS: &[&str] = &[
    "0",
    "1.5",
    "1.50",
    "'1.5'",
    "-0.0",
    "1e-20",
    "12345678901234567890.123456789",
    "'NaN'",
    "'Infinity'",
    "'-inf'",
    "100",
    "1e2",
];
const MOMENTS: &[&str] = &[
    "'2024-01-02 03:04:05.678'",
    "'2024-01-02 03:04:05.678001'",
    "'2024-01-02'",
    "'0044-03-15 12:13:14.5 BC'",
    "'infinity'",
    "'-infinity'",
    "'294276-12-31 23:59:59.999999'",
    "'1969-12-31 23:59:59.999999'",
];

const fn subject(
    name: &'static str,
    sql_type: &'static str,
    values: &'static [&'static str],
    literals: &'static [&'static str],
    asks: Asks,
) -> Subject {
    Subject { name, sql_type, values, literals, asks, is_sql: true }
}

/// One whose filters mean something else in SQL.
const fn ours(
    name: &'static str,
    sql_type: &'static str,
    values: &'static [&'static str],
    literals: &'static [&'static str],
    asks: Asks,
) -> Subject {
    Subject { is_sql: false, ..subject(name, sql_type, values, literals, asks) }
}

/// Statements before the table's.
pub(super) const SETUP: &str = "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
    CREATE TYPE pair AS (a int, b text);
    CREATE DOMAIN positive AS int CHECK (value > 0);
    CREATE DOMAIN amount AS numeric;
    CREATE DOMAIN share AS float8;
    CREATE DOMAIN email AS text;
    CREATE DOMAIN code AS char(4);
    CREATE DOMAIN day AS date;";
/// One more, where the server has ICU; else no column has a collation.
pub(super) const COLLATION: &str =
    "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";

pub(super) const SUBJECTS: &[Subject] = &[
    subject("flag", "boolean", &["true", "false"], &["true", "false"], Asks::Order),
    subject("si", "smallint", INTEGERS, INTEGER_LITERALS, Asks::Order),
    subject("i", "integer", &["0", "1", "7", "2147483647", "-2147483648"], INTEGER_LITERALS, Asks::Order),
    subject(
        "bi",
        "bigint",
        &["0", "42", "9007199254740993", "9007199254740992", "-9223372036854775808"],
        INTEGER_LITERALS,
        Asks::Order,
    ),
    subject(
        "n",
        "numeric",
        &[
            "0",
            "1.5",
            "1.500",
            "-1e-20",
            "12345678901234567890.123456789",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "1e2",
        ],
        NUMBER_LITERALS,
        Asks::Order,
    ),
    subject("price", "numeric(10,2)", &["0", "1.5", "100", "'NaN'", "-1.25"], NUMBER_LITERALS, Asks::Order),
    // SQL takes several values of IN as real where it takes one as double precision.
    ours(
        "r_in",
        "real",
        &["0.1", "1.5", "'NaN'", "'-0'"],
        &["0.1", "'0.1'", "1.5", "'NaN'", "0"],
        Asks::Order,
    ),
    subject(
        "d",
        "double precision",
        &[
            "0",
            "'-0'",
            "0.1",
            "0.30000000000000004",
            "5e-324",
            "1.7e308",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "9007199254740992",
        ],
        &[
            "0",
            "-0.0",
            "0.1",
            "0.3",
            "'0.30000000000000004'",
            "5e-324",
            "1.7e308",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "9007199254740993",
        ],
        Asks::Order,
    ),
    subject("t", "text COLLATE \"C\"", WORDS, WORDS, Asks::All),
    ours("folded", "text COLLATE nocase", WORDS, WORDS, Asks::All),
    ours("local", "text COLLATE \"en-x-icu\"", WORDS, WORDS, Asks::All),
    subject(
        "v",
        "varchar(20) COLLATE \"C\"",
        WORDS,
        &["'a'", "text 'ab'", "'b'::text", "''", "'é'"],
        Asks::All,
    ),
    subject(
        "c",
        "char(6) COLLATE \"C\"",
        &["''", "'a'", "'ab'", "'ab c'", "'é'", "'abcdef'", "'A'", "'\t'"],
        &["'a'", "'ab   '", "''", "'ab c'", "'abcdef'", "'ab\t'", "'\t'"],
        Asks::All,
    ),
    subject(
        "nm",
        "name",
        &["'a'", "'ab'", "''", "'Z'", "'é'"],
        &["'a'", "'ab'", "''", "'Z'", "'zz'"],
        Asks::All,
    ),
    subject(
        "u",
        "uuid",
        &[
            "'6ba7b810-9dad-11d1-80b4-00c04fd430c8'",
            "'00000000-0000-0000-0000-000000000000'",
            "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
        ],
        &[
            "'{6BA7B810-9DAD-11D1-80B4-00C04FD430C8}'",
            "'6ba7b8109dad11d180b400c04fd430c8'",
            "uuid 'ffffffff-ffff-ffff-ffff-ffffffffffff'",
            "'00000000-0000-0000-0000-000000000001'::uuid",
        ],
        Asks::Order,
    ),
    subject(
        "by",
        "bytea",
        &["'\\x'", "'\\x00'", "'\\x00ff'", "'\\xdeadbeef'", "'\\xff'"],
        &["'\\x'", "'\\x00FF'", "bytea '\\xdeadbeef'", "'\\xde'"],
        Asks::Order,
    ),
    subject(
        "day",
        "date",
        &[
            "'2024-02-29'",
            "'2024-03-01'",
            "'0044-03-15 BC'",
            "'infinity'",
            "'-infinity'",
            "'5874897-12-31'",
            "'1970-01-01'",
        ],
        &[
            "'2024-02-29'",
            "date '2024-03-01'",
            "'0044-03-15 BC'",
            "'infinity'",
            "'-infinity'",
            "'1999-12-31'::date",
        ],
        Asks::Order,
    ),
    subject(
        "hour",
        "time",
        &["'00:00'", "'09:30:00.5'", "'23:59:59.999999'", "'24:00'"],
        &["'00:00:00'", "'09:30:00.500'", "time '24:00:00'", "'12:00'"],
        Asks::Order,
    ),
    subject("ts", "timestamp", MOMENTS, MOMENTS, Asks::Order),
    subject(
        "tz",
        "timestamptz",
        MOMENTS,
        &[
            "'2024-01-02 08:34:05.678+05:30'",
            "'2024-01-01T22:04:05.678-0500'",
            "timestamptz '2024-01-02 00:00Z'",
            "'2024-01-02 03:04:05.678'",
            "'infinity'",
            "'-infinity'",
            "'0044-03-15 12:13:14.5+00 BC'",
        ],
        Asks::Order,
    ),
    subject("e", "mood", &["'sad'", "'ok'", "'happy'"], &["'sad'", "'ok'", "'happy'"], Asks::Equality),
    subject("pos", "positive", &["1", "7", "42"], INTEGER_LITERALS, Asks::Order),
    subject("amt", "amount", &["1.5", "1.50", "'NaN'", "'Infinity'"], NUMBER_LITERALS, Asks::Order),
    ours("sh", "share", &["0.1", "'-0'", "1e300", "'NaN'", "'-Infinity'"], NUMBER_LITERALS, Asks::Order),
    subject("mail", "email", WORDS, WORDS, Asks::Pattern),
    ours("co", "code", &["'a'", "'ab'", "''", "'abcd'"], &["'a'", "'a   '", "'abcd'"], Asks::Pattern),
    subject(
        "dd",
        "day",
        &["'2024-02-29'", "'infinity'"],
        &["'2024-02-29'", "date '1999-01-01'"],
        Asks::Order,
    ),
    ours("js", "json", &["'null'", "' {\"a\": 1} '", "'\"null\"'", "'\"\\u0000\"'"], &[], Asks::Null),
    ours("jb", "jsonb", &["'null'", "'{\"a\": null}'", "'[]'"], &[], Asks::Null),
    subject("list", "int[]", &["'{}'", "'{1,NULL}'"], &[], Asks::Null),
    ours("pa", "pair", &["'(,)'", "'(1,)'"], &[], Asks::Null),
    subject("net", "inet", &["'10.0.0.1'"], &[], Asks::Null),
    subject("\"Odd \"\"name\"", "text COLLATE \"C\"", WORDS, WORDS, Asks::All),
    subject("\"select\"", "int", INTEGERS, INTEGER_LITERALS, Asks::Order),
    subject("date", "int", INTEGERS, INTEGER_LITERALS, Asks::Order),
    subject(
        "r",
        "real",
        &["0.1", "1.5", "16777216", "'NaN'", "'Infinity'", "'-0'", "1e-45", "3.4028235e38"],
        &[
            "0.1",
            "'0.1'",
            "1.5",
            "16777217",
            "'16777217'",
            "'NaN'",
            "'-Infinity'",
            "0",
            "3.4028235e38",
            "1e300",
        ],
        Asks::Order,
    ),
];

/// A filter.
pub(super) struct Wish {
    pub(super) text: String,
    /// Whether its own text means the same behind WHERE.
    pub(super) is_sql: bool,
}

/// A random filter, some parts deep.
pub(super) fn filter(dice: &mut Dice, depth: usize) -> Wish {
    let of = |text, parts: &[&Wish]| Wish { text, is_sql: parts.iter().all(|part| part.is_sql) };
    if depth == 0 || dice.once_in(4) {
        return leaf(dice);
    }
    let a = filter(dice, depth - 1);
    if dice.once_in(4) {
        return of(format!("not ({})", a.text), &[&a]);
    }
    let b = filter(dice, depth - 1);
    let word = dice.pick(&["AND", "and", "OR", "or", "Or"]);
    let sides = if dice.once_in(2) {
        format!("({}) {word} ({})", a.text, b.text)
    } else {
        format!("{} {word} {}", a.text, b.text)
    };
    of(sides, &[&a, &b])
}

/// A comparison with a claim.
pub(super) struct Claimed {
    /// As a rule has it.
    pub(super) rule: String,
    /// What the claim is.
    pub(super) claim: Value,
    /// The same in SQL.
    pub(super) sql: String,
}

/// A random comparison with the claim `name`, whose value is one of what its column is compared with, or several.
pub(super) fn claimed(dice: &mut Dice, name: &str) -> Claimed {
    loop {
        let subject = &SUBJECTS[dice.index(SUBJECTS.len())];
        let values: Vec<(&str, Value)> =
            subject.literals.iter().filter_map(|literal| Some((*literal, as_claim(literal)?))).collect();
        if !subject.is_sql || values.is_empty() {
            continue;
        }
        let column = subject.name;
        let mut pick = || values[dice.index(values.len())].clone();
        let ((one, claim), (other, second)) = (pick(), pick());
        let can_order = matches!(subject.asks, Asks::Order | Asks::All);
        // SQL takes several values of IN as real where it takes one as double precision.
        return match dice.roll(if column == "r" { 2 } else { 3 }) {
            0 if can_order => Claimed {
                rule: format!("{column} < :claims.{name}"),
                claim,
                sql: format!("{column} < {one}"),
            },
            0 | 1 => Claimed {
                rule: format!("{column} = :claims.{name}"),
                claim,
                sql: format!("{column} = {one}"),
            },
            _ => Claimed {
                rule: format!("{column} IN (:claims.{name})"),
                claim: Value::Array(vec![claim, second]),
                sql: format!("{column} IN ({one}, {other})"),
            },
        };
    }
}

/// What a token would have for a literal without a type.
fn as_claim(literal: &str) -> Option<Value> {
    if let Some(text) = literal.strip_prefix('\'') {
        return text.strip_suffix('\'').map(|text| Value::String(text.replace("''", "'")));
    }
    let value: Value = serde_json::from_str(literal).ok()?;
    // One that double precision changes is none that a rule takes.
    let is_exact = value.as_f64().is_some_and(|number| literal.len() < 12 && number.abs() < 1e15);
    (value.is_boolean() || is_exact).then_some(value)
}

fn leaf(dice: &mut Dice) -> Wish {
    let subject = &SUBJECTS[dice.index(SUBJECTS.len())];
    let Subject { name, literals, asks, is_sql, .. } = *subject;
    let not = if dice.once_in(3) { " NOT" } else { "" };
    let wish = |text: String| Wish { text, is_sql };
    let null = format!("{name} IS{not} NULL");
    let can_order = matches!(asks, Asks::Order | Asks::All);
    match dice.roll(9) {
        _ if asks == Asks::Null => wish(null),
        0 => wish(null),
        1 if name == "flag" => wish(format!("{not} flag")),
        1 | 2 if matches!(asks, Asks::Pattern | Asks::All) => {
            wish(format!("{name}{not} LIKE {}", dice.pick(PATTERNS)))
        }
        3 if name != "r" => {
            let values: Vec<_> = (0..=dice.index(4)).map(|_| *dice.pick(literals)).collect();
            wish(format!("{name}{not} IN ({})", values.join(" , ")))
        }
        4 if can_order => {
            wish(format!("{name}{not} BETWEEN {} AND {}", dice.pick(literals), dice.pick(literals)))
        }
        number => {
            let signs: &[&str] =
                if can_order { &["<", "<=", ">", ">=", "=", "<>", "!="] } else { &["=", "<>", "!="] };
            let (sign, value) = (dice.pick(signs), dice.pick(literals));
            match number {
                5 => wish(format!("{value} {sign} {name}")),
                _ => wish(format!("{name} {sign} {value}")),
            }
        }
    }
}
