//! What has to hold whatever a client sends: a function for each parser, which panics where it does not, and inputs to begin with.
//! Tests call them with inputs that were damaged, `make fuzz` with what it finds by coverage.
//!
//! It is in no release, and makes no inputs.

use serde_json::{Map, Value, json};
use waldelta_wal::{Column, Kind, ReplicaIdentity, Table, TableName, type_name};

use crate::filter::{Filter, Predicate, Row, Template, Verdict};
use crate::subscription::{Numbers, Subscription};
use crate::wire::client::{After, ClientFrame, Hello, parse};

#[cfg(test)]
mod damage;

/// A token that is in frames to begin with, and in no refusal.
pub(crate) const TOKEN: &str = "a.very-secret.token";

/// A parser, with inputs that it reads.
pub struct Target {
    /// What it is called.
    pub name: &'static str,
    /// Panics where something does not hold.
    pub check: fn(&[u8]),
    /// What to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// The parsers of what clients send.
pub const TARGETS: [Target; 2] = [
    Target { name: "filter", check: filter, seeds: filter_seeds },
    Target { name: "frame", check: frame, seeds: frame_seeds },
];

/// A filter's text. What is read of it, printed, is that filter again, on every row and as SQL; and SQL has nothing of the
/// client's outside of quotes.
pub fn filter(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let template = text.parse::<Template>();
    let Ok(filter) = text.parse::<Filter>() else {
        let is_settled = template.is_ok_and(|template| template.is_settled());
        assert!(!is_settled, "a rule without claims is a filter: {text}");
        return;
    };
    let printed = filter.to_string();
    let again = printed.parse::<Filter>();
    assert_eq!(again.as_ref(), Ok(&filter), "{text}: {printed}");
    assert_eq!(again.map(|again| again.to_string()).as_ref(), Ok(&printed), "{text}");
    let of_rule = template.ok().and_then(|template| template.filter(&Map::new()));
    assert_eq!(of_rule.as_ref(), Some(&filter), "{text}");
    let table = table(&COLUMNS);
    let Ok(predicate) = Predicate::new(&filter, &table) else { return };
    assert!(is_closed(&predicate.sql()), "{text}: {}", predicate.sql());
    for image in ROWS {
        // Nothing of these rows is missing, so what is known of them is known.
        let verdict = predicate.verdict(&Row::new(&table, image.as_bytes()));
        assert_ne!(verdict, Verdict::Unknown, "{text}: {image}");
        let negated = format!("NOT ({printed})").parse::<Filter>();
        let Some(negated) = negated.ok().and_then(|negated| Predicate::new(&negated, &table).ok()) else {
            continue;
        };
        let otherwise = negated.verdict(&Row::new(&table, image.as_bytes()));
        assert!(
            verdict == Verdict::Fails || otherwise == Verdict::Fails,
            "{text}: no row passes it and its contrary: {image}"
        );
    }
}

/// Rows of the table that have all columns.
const ROWS: [&str; 3] = [
    r#"{"id":1,"a":-5,"b":"x'y%","c":true,"n":1.50,"r":0.1,"d":"2026-11-21","at":"2026-11-21T13:59:35.43+00:00","u":"00000000-0000-0000-0000-000000000001","j":{"k":1},"x":"\\x00ff","l":["p"]}"#,
    r#"{"id":2,"a":null,"b":null,"c":null,"n":null,"r":null,"d":null,"at":null,"u":null,"j":null,"x":null,"l":null}"#,
    r#"{"id":-2147483648,"a":0,"b":"","c":false,"n":"NaN","r":"-Infinity","d":"0044-03-15 BC","at":"infinity","u":"ffffffff-ffff-ffff-ffff-ffffffffffff","j":"s","x":"\\x","l":[]}"#,
];

/// Columns of most families of types.
const COLUMNS: [(&str, u32); 12] = [
    ("id", 23),
    ("a", 20),
    ("b", 25),
    ("c", 16),
    ("n", 1700),
    ("r", 700),
    ("d", 1082),
    ("at", 1184),
    ("u", 2950),
    ("j", 3802),
    ("x", 17),
    ("l", 1009),
];

/// The table `public.t` of these columns, by their names and the oids of their types.
pub(crate) fn table(columns: &[(&str, u32)]) -> Table {
    let column = |(number, (name, type_oid)): (i16, &(&str, u32))| Column {
        number,
        name: (*name).into(),
        type_oid: *type_oid,
        type_modifier: -1,
        type_name: type_name(*type_oid).unwrap_or("public.thing").into(),
        kind: Kind::builtin(*type_oid).unwrap_or(Kind::TEXT),
        nullable: true,
        identity: false,
    };
    Table {
        oid: 1,
        version: 1,
        name: TableName { schema: "public".into(), name: "t".into() },
        columns: (1..).zip(columns).map(column).collect(),
        key: vec![0],
        identity: ReplicaIdentity::Default,
    }
}

/// Whether SQL has all its quotes and parentheses closed, and nothing that ends or hides a part of it.
fn is_closed(sql: &str) -> bool {
    let (mut rest, mut depth) = (sql, 0_u32);
    while let Some(first) = rest.chars().next() {
        let is_escape_string = rest.starts_with("E'");
        let after = match first {
            '\'' | '"' => quoted(&rest[1..], first, false),
            _ if is_escape_string => quoted(&rest[2..], '\'', true),
            _ => Some(&rest[first.len_utf8()..]),
        };
        let Some(after) = after else { return false };
        match first {
            '(' => depth += 1,
            ')' if depth == 0 => return false,
            ')' => depth -= 1,
            ';' | '$' | '\\' => return false,
            _ if rest.starts_with("--") || rest.starts_with("/*") => return false,
            _ => {}
        }
        rest = after;
    }
    depth == 0 && sql.starts_with('(')
}

/// What follows the closing quote.
fn quoted(text: &str, quote: char, escapes: bool) -> Option<&str> {
    let mut chars = text.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        let is_doubled = char == quote && chars.peek().is_some_and(|(_, next)| *next == quote);
        if is_doubled || (escapes && char == '\\') {
            chars.next()?;
        } else if char == quote {
            return Some(&text[at + 1..]);
        }
    }
    None
}

/// A frame's text. What is read of it, printed, is that frame again; a refusal repeats no token and is about as long as the frame at
/// most.
pub fn frame(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match parse(text, 10) {
        Ok(frame) => {
            let Some(printed) = printed(&frame) else { return };
            assert_eq!(parse(&printed, 10), Ok(frame), "{printed}");
        }
        Err(refusal) => {
            assert!(!refusal.message.contains(TOKEN), "{refusal:?}");
            assert!(refusal.message.len() <= text.len() + 1_000, "{refusal:?}");
        }
    }
}

/// As a client would send it; `None` of what is skipped.
fn printed(frame: &ClientFrame) -> Option<String> {
    let subscriptions = |all: &[Subscription]| all.iter().map(printed_subscription).collect::<Vec<_>>();
    let after = |after: &After| match after {
        After::Cursor(position) => position.to_string(),
        After::Lsn(lsn) => lsn.to_string(),
    };
    let json = match frame {
        ClientFrame::Hello(hello) => {
            let Hello { client_id, token, access, snapshot, .. } = hello;
            json!({
                "type": "hello",
                "client_id": client_id,
                "token": token.as_ref().map(|token| &token.0),
                "after": hello.after.as_ref().map(after),
                "access": access,
                "subscriptions": subscriptions(&hello.subscriptions),
                "own_changes": if hello.include_own { "include" } else { "skip" },
                "snapshot": snapshot,
                "snapshot_from": hello.snapshot_from.as_ref().map(|from| json!({"id": from.id, "n": from.n})),
            })
        }
        ClientFrame::Subscribe(all) => json!({"type": "subscribe", "subscriptions": subscriptions(all)}),
        ClientFrame::Unsubscribe(ids) => json!({"type": "unsubscribe", "ids": ids}),
        ClientFrame::Ack(cursor) => json!({"type": "ack", "cursor": after(cursor)}),
        ClientFrame::Auth(token) => json!({"type": "auth", "token": token.0}),
        ClientFrame::Ping(n) => json!({"type": "ping", "n": n}),
        ClientFrame::Unknown => return None,
    };
    Some(json.to_string())
}

fn printed_subscription(subscription: &Subscription) -> Value {
    let Subscription { id, table, old, columns, filter, big_numbers } = subscription;
    json!({
        "id": id,
        "table": table.to_string(),
        "old": old,
        "columns": columns,
        "where": filter.as_ref().map(ToString::to_string),
        "big_numbers": match big_numbers {
            Numbers::Number => "number",
            Numbers::String => "string",
        },
    })
}

/// One of each form.
pub fn filter_seeds() -> Vec<Vec<u8>> {
    let all = [
        "a = 1",
        "A=1 and b='x' or c",
        "b = 'x' AND (c OR a = 1)",
        "not (a > 1 and not c)",
        "1.5e3 <= n and n < -2",
        "id in (1, 2.5, -3)",
        "b not in ('a', 'it''s', '')",
        "a between 1 and 10 and a not between 3 and 4",
        "b like 'a\\%_%' or b not like '%x'",
        "b is null or j is not null",
        "d >= date '2026-01-01' and d < date '2026-12-31'",
        "at > timestamptz '2026-11-21 13:59:35+01' or at = timestamptz 'infinity'",
        "u = uuid '00000000-0000-0000-0000-000000000001'",
        "x = bytea '\\x00ff' or x = '\\x'",
        "r = 0.1 or r = '0.1' or n = 'NaN' or r = '-Infinity'",
        "\"Odd \"\"Näme\"\"\" = true or \"b\" = text 'é'",
        "t = :claims.tenant and g in (:claims.groups, 'z') or q = :claims.\"https://example.com/t\".x",
    ];
    all.map(|text| text.as_bytes().to_vec()).into()
}

/// One of each type.
pub fn frame_seeds() -> Vec<Vec<u8>> {
    frames().into_iter().map(String::into_bytes).collect()
}

/// Frames that are accepted.
pub(crate) fn frames() -> Vec<String> {
    vec![
        format!(
            r#"{{"type":"hello","client_id":"web-7","token":"{TOKEN}","after":"00000001-00000000016b3748-ffffffff","access":"0123456789abcdef","own_changes":"include","snapshot":true,"snapshot_from":{{"id":"x","n":7}},"subscriptions":[{{"id":"s1","table":"public.orders","columns":["id","total"],"where":"region = 'eu' and (total > 10 or note like 'a%')","old":true,"big_numbers":"string"}},{{"id":"s2","table":"*"}}]}}"#
        ),
        r#"{"type":"subscribe","subscriptions":[{"id":"s3","table":"\"A b\".\"c\"\"d\"","where":"id in (1, 2.5, -3) and at >= date '2026-01-01'"}]}"#.to_owned(),
        r#"{"type":"unsubscribe","ids":["s1","s2"]}"#.to_owned(),
        r#"{"type":"ack","cursor":"0/16B3748"}"#.to_owned(),
        format!(r#"{{"type":"auth","token":"{TOKEN}"}}"#),
        r#"{"type":"ping","n":18446744073709551615}"#.to_owned(),
    ]
}
