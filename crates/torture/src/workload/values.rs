//! A value of every type that a column can have, ordinary ones and those at the edge of what the type can say.
//!
//! What each is told as is nobody's business here: the source says it itself, by `to_jsonb`.

use std::fmt::Write;

use waldelta_testkit::Dice;

/// Name and type of a column, and values as the inside of a literal. Where there are none they are made by the dice, see [`made`].
pub(crate) const EVERY: &[(&str, &str, &[&str])] = &[
    ("c_bool", "bool", &["t", "f"]),
    ("c_int2", "int2", &["-32768", "0", "32767"]),
    ("c_int4", "int4", &["-2147483648", "7", "2147483647"]),
    ("c_int8", "int8", &["-9223372036854775808", "9007199254740993", "9223372036854775807"]),
    (
        "c_float4",
        "float4",
        &["NaN", "Infinity", "-Infinity", "-0", "1e-45", "3.4028235e38", "0.1", "16777217"],
    ),
    (
        "c_float8",
        "float8",
        &["NaN", "Infinity", "-Infinity", "-0", "5e-324", "1.7976931348623157e308", "0.1", "1e21"],
    ),
    ("c_numeric", "numeric", &[]),
    ("c_scaled", "numeric(20,5)", &["0", "-0.00001", "123456789012345.12345", "NaN"]),
    ("c_edge", "numeric", &["NaN", "Infinity", "-Infinity", "1e-1000", "1e1000", "-0.000", "1.10", "100"]),
    ("c_money", "money", &["-92233720368547758.08", "0", "12.34", "92233720368547758.07"]),
    ("c_text", "text", &[]),
    ("c_varchar", "varchar(40)", &["", " ", "a ", "é", "null", "NULL", "\\N", "it''s"]),
    ("c_char", "char(8)", &["", "a", "a  ", "12345678", "éé"]),
    ("c_one", "\"char\"", &["", "a", "''"]),
    ("c_name", "name", &["", "a name", "\"q\""]),
    ("c_citext", "citext", &["ABC", "abc", ""]),
    ("c_bytea", "bytea", &[]),
    (
        "c_date",
        "date",
        &["4713-01-01 BC", "infinity", "-infinity", "5874897-12-31", "2024-02-29", "1582-10-10"],
    ),
    ("c_time", "time", &["00:00", "24:00:00", "23:59:59.999999", "12:00:00.1"]),
    ("c_timetz", "timetz", &["00:00+15:59", "24:00:00-15:59", "12:34:56.000001+00:30"]),
    (
        "c_timestamp",
        "timestamp",
        &[
            "4713-01-01 00:00 BC",
            "294276-12-31 23:59:59.999999",
            "infinity",
            "-infinity",
            "2016-12-31 23:59:60",
        ],
    ),
    (
        "c_timestamptz",
        "timestamptz",
        &[
            "0044-03-15 12:00+00 BC",
            "294276-12-31 23:59:59.999999+00",
            "infinity",
            "-infinity",
            "1883-11-18 12:03:58+00",
            "0001-01-01 00:00+00",
        ],
    ),
    (
        "c_interval",
        "interval",
        &[
            "0",
            "-178000000 years",
            "178000000 years",
            "1 year -2 days 24:00:00",
            "-0.000001 sec",
            "1 mon -1 day",
        ],
    ),
    ("c_uuid", "uuid", &["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"]),
    (
        "c_jsonb",
        "jsonb",
        &[
            "null",
            "\"\"",
            "{}",
            "[]",
            "{\"a\": {\"b\": [1, 1.0, 1e3, null, \"\\u00e9\\\\\"]}, \"\": 1}",
            "123456789012345678901234567890.5",
            "1e-400",
        ],
    ),
    ("c_xml", "xml", &["<a b=\"c\"/>", "text &amp; more", "<a><![CDATA[<]]></a>"]),
    ("c_bit", "bit(3)", &["000", "101"]),
    ("c_varbit", "varbit", &["", "1", "0101010101010101010101010101010101"]),
    ("c_inet", "inet", &["0.0.0.0/0", "192.168.1.5/24", "::1", "fe80::1/64", "::ffff:1.2.3.4"]),
    ("c_cidr", "cidr", &["10.0.0.0/8", "2001:db8::/32"]),
    ("c_macaddr", "macaddr", &["08:00:2b:01:02:03"]),
    ("c_macaddr8", "macaddr8", &["08:00:2b:01:02:03:04:05"]),
    ("c_point", "point", &["(0,0)", "(-1e300,NaN)", "(Infinity,0.1)"]),
    ("c_line", "line", &["{1,-1,0}"]),
    ("c_lseg", "lseg", &["[(0,0),(1,1.5)]"]),
    ("c_box", "box", &["(1,1),(0,0)"]),
    ("c_path", "path", &["[(0,0),(1,1)]", "((0,0),(1,1),(2,0))"]),
    ("c_polygon", "polygon", &["((0,0),(1,1),(2,0))"]),
    ("c_circle", "circle", &["<(0,0),2.5>"]),
    ("c_tsvector", "tsvector", &["", "a:1A fat:2B,4C cat:5", "''it''''s''"]),
    ("c_tsquery", "tsquery", &["", "fat & (rat | !cat)", "a <-> b:*"]),
    ("c_int4range", "int4range", &["empty", "(,)", "[1,5)", "(,3]"]),
    ("c_numrange", "numrange", &["empty", "(1.10,2.20]", "[-Infinity,Infinity]"]),
    ("c_daterange", "daterange", &["[2024-01-01,infinity)", "(,2024-01-01)"]),
    ("c_tstzrange", "tstzrange", &["[\"0044-03-15 00:00+00 BC\",infinity]", "empty"]),
    ("c_multi", "int4multirange", &["{}", "{[1,3),[5,7)}", "{(,)}"]),
    ("c_dates", "datemultirange", &["{[2024-01-01,2024-02-01),[2024-03-01,)}"]),
    ("c_span", "span", &["[1.5,2.5)", "empty", "(-Infinity,NaN]"]),
    ("c_spans", "span[]", &["{\"(,1]\",empty,NULL}"]),
    ("c_oid", "oid", &["0", "4294967295"]),
    ("c_lsn", "pg_lsn", &["0/0", "FFFFFFFF/FFFFFFFF"]),
    ("c_xid8", "xid8", &["0", "18446744073709551615"]),
    ("c_tid", "tid", &["(0,1)", "(4294967295,65535)"]),
    ("c_regtype", "regtype", &["integer", "text[]", "double precision"]),
    ("c_jsonpath", "jsonpath", &["$", "$.a[*] ? (@ > 1)"]),
    ("c_hstore", "hstore", &["", "a=>1,\"b c\"=>NULL,\"q\\\"\"=>\"\\\\\"", "\"\"=>\"\""]),
    ("c_ltree", "ltree", &["", "Top.Science", "a"]),
    ("c_mood", "mood", &["sad", "o k", "say \"hi\"", "it''s"]),
    ("c_moods", "mood[]", &["{}", "{sad,NULL,\"o k\",\"say \\\"hi\\\"\"}"]),
    ("c_cash", "cash", &["1", "2147483647"]),
    ("c_positives", "positive[]", &["{1,2}", "[0:1]={1,2}"]),
    ("c_tags", "tags", &["{}", "{a,\"b,c\",NULL,\"NULL\"}"]),
    ("c_point3", "point3", &["(1e300,NaN,\"say \"\"x\"\", \\\\y\")", "(,,)", "(-0,1.10,\"\")"]),
    (
        "c_line3",
        "line3",
        &["(\"(1,2,a)\",\"{\"\"(1,2,)\"\",NULL}\",sad,infinity,\"{\"\"a\"\": [1, 2.50]}\")", "(,,,,)"],
    ),
    ("c_line3s", "line3[]", &["{NULL,\"(,,,,)\"}", "{}"]),
    ("c_texts", "text[]", &[]),
    ("c_nested", "int[]", &["{}", "{{1,NULL},{3,4}}", "[-1:0][2:3]={{1,2},{3,4}}", "{{{1}}}"]),
    ("c_floats", "float8[]", &["{NaN,Infinity,-0,1e-300}"]),
    ("c_byteas", "bytea[]", &["{\"\\\\x00ff\",NULL,\"\\\\x\"}"]),
    ("c_docs", "jsonb[]", &["{\"{\\\"a\\\": \\\"\\\\\\\"\\\"}\",null,NULL}"]),
    ("c_times", "timestamptz[]", &["{infinity,\"0044-03-15 12:00:00+00 BC\",NULL}"]),
    ("c_varchars", "varchar(10)[]", &["{\" a \",\"\",\"{}\"}"]),
    ("c_bits", "bit(3)[]", &["{101,010}"]),
    ("c_vector", "int2vector", &["", "1 2 3"]),
];

/// Documents of the type `json`, which takes what jsonb refuses.
const ODD: &[&str] = &[
    r#"{"a": "\u0000"}"#,
    r#""\ud800""#,
    r#"{"a": 1, "a": 2}"#,
    "1e400",
    "1e200000",
    r#" { "b" : [ 1.0 , 10e-1 ] , "a" : null } "#,
    "[]",
    r#""é\/""#,
    "-0",
    "null",
];

/// What a text is made of that is random.
const PIECES: &[&str] = &[
    "a", "B", " ", "\t", "\n", "\"", "\\", "'", "{", "}", ",", "é", "漢", "😀", "\u{7f}", "\u{1}",
    "\u{2028}", "null", "0", "<", "&", "%", "$$",
];

/// A row of `every` with some of its columns, where it is and where it is not yet.
pub(super) fn put(id: u64, dice: &mut Dice) -> String {
    let (mut names, mut values, mut sets) = (String::new(), String::new(), String::new());
    let sparse = dice.between(2, 8);
    for (name, kind, literals) in EVERY {
        if !dice.once_in(sparse) {
            continue;
        }
        let value = value(kind, literals, dice);
        write!(names, ", {name}").unwrap();
        write!(values, ", {value}").unwrap();
        write!(sets, ", {name} = excluded.{name}").unwrap();
    }
    format!(
        "INSERT INTO every (id{names}) VALUES ({id}{values}) ON CONFLICT (id) DO UPDATE SET id = excluded.id{sets}"
    )
}

/// One column of a row of `every`.
pub(super) fn set(id: u64, dice: &mut Dice) -> String {
    let (name, kind, literals) = dice.pick(EVERY);
    format!("UPDATE every SET {name} = {} WHERE id = {id}", value(kind, literals, dice))
}

/// A document, as a literal.
pub(super) fn odd(dice: &mut Dice) -> String {
    let document: &&str = dice.pick(ODD);
    quoted(document)
}

/// A text, as a literal.
pub(super) fn text(dice: &mut Dice) -> String {
    quoted(&raw_text(dice))
}

fn value(kind: &str, literals: &[&str], dice: &mut Dice) -> String {
    if dice.once_in(8) {
        return "NULL".to_owned();
    }
    match literals {
        [] => format!("{}::{kind}", made(kind, dice)),
        // They have their quotes doubled already.
        literals => format!("'{}'::{kind}", dice.pick(literals)),
    }
}

/// A literal of one of the types whose values are made.
fn made(kind: &str, dice: &mut Dice) -> String {
    match kind {
        "numeric" => {
            let digits = |count: u64, dice: &mut Dice| -> String {
                (0..count).map(|_| dice.roll(10).to_string()).collect()
            };
            let (whole, rest) = (dice.between(1, 40), dice.roll(40));
            let sign = if dice.once_in(2) { "-" } else { "" };
            format!("'{sign}{}.{}0'", digits(whole, dice), digits(rest, dice))
        }
        "bytea" => {
            let bytes: String = (0..dice.roll(40)).map(|_| format!("{:02x}", dice.roll(256))).collect();
            format!("'\\x{bytes}'")
        }
        "text[]" => {
            let items: Vec<String> = (0..dice.roll(5))
                .map(|_| if dice.once_in(5) { "NULL".to_owned() } else { text(dice) })
                .collect();
            format!("ARRAY[{}]", items.join(", "))
        }
        _ => text(dice),
    }
}

fn raw_text(dice: &mut Dice) -> String {
    let pieces = dice.roll(12);
    (0..pieces).map(|_| *dice.pick(PIECES)).collect()
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
