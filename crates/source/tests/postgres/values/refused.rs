//! What jsonb refuses: kept as a string of its text and flagged, in the stream and in snapshots alike.

use waldelta_testkit::TestDatabase;
use waldelta_wal::Operation;

use super::world::{World, number, text};

/// Values of `json` that no jsonb is equal to, and one between them that is no trouble.
const VALUES: [&str; 7] = [
    r#""\u0000""#,
    r#"{"a": "\ud800"}"#,
    r#"["\udc00\ud800"]"#,
    "1e131072",
    "[0e-16384]",
    r#"{"\u0000": 1,  "b":2}"#,
    r#"{"fine": [1,  2]}"#,
];

#[tokio::test]
async fn what_jsonb_refuses_is_a_string_of_its_text_and_flagged() {
    let database = TestDatabase::create("refused").await;
    database
        .exec(
            "CREATE TYPE holder AS (n int, doc json); CREATE DOMAIN doc AS json;
             CREATE TABLE t (n int PRIMARY KEY, plain json, listed json[], held holder, named doc, other text);
             ALTER TABLE t REPLICA IDENTITY FULL",
        )
        .await;
    let world = World::new(database).await;
    world.publish().await;
    for (number, value) in VALUES.iter().enumerate() {
        let sql = format!(
            "INSERT INTO t SELECT {number}, v, ARRAY[v, NULL], ROW(1, v)::holder, v, 'x' FROM (VALUES ('{value}'::json)) AS g (v)"
        );
        world.database.exec(&sql).await;
    }
    let snapshot = world.snapshot().await;
    world.database.exec("UPDATE t SET other = 'y'; DELETE FROM t").await;

    let [(_, rows)] = &snapshot[..] else { panic!("{snapshot:?}") };
    let mut images = 0;
    let mut check = |number: i32, json: &str, flagged: &[String], other: &str| {
        let value = VALUES[usize::try_from(number).unwrap()];
        let fine = value == VALUES[6];
        let plain = if fine { value.to_owned() } else { serde_json::to_string(value).unwrap() };
        let expected = format!(
            r#"{{"n":{number},"plain":{plain},"listed":[{plain},null],"held":{{"n":1,"doc":{plain}}},"named":{plain},"other":"{other}"}}"#
        );
        assert_eq!(json, expected);
        let all: &[&str] = if fine { &[] } else { &["plain", "listed", "held", "named"] };
        assert_eq!(flagged, all, "{value}");
        images += 1;
    };
    for row in rows {
        check(number(row.key.as_ref().unwrap()), &text(&row.data), &row.flagged, "x");
    }
    let pieces = world.stream().await;
    for change in pieces.iter().flat_map(|piece| &piece.changes) {
        let number = number(change.row_key.as_ref().unwrap());
        let (old, new) = match change.operation {
            Operation::Insert => ("", "x"),
            Operation::Update => ("x", "y"),
            _ => ("y", ""),
        };
        for (image, other) in [(&change.old_data, old), (&change.data, new)] {
            if let Some(image) = image {
                check(number, &text(image), &change.flagged, other);
            }
        }
    }
    assert_eq!(images, VALUES.len() * 5, "snapshot, insert, twice update, delete");
    // jsonb takes all that was written.
    let texts: Vec<String> = rows.iter().map(|row| text(&row.data)).collect();
    let taken: i64 = world
        .client
        .query_one("SELECT count(doc::jsonb) FROM unnest($1::text[]) doc", &[&texts])
        .await
        .unwrap()
        .get(0);
    assert_eq!(usize::try_from(taken).unwrap(), VALUES.len());
}

/// The one thing that differs from `to_jsonb` by design: a cast is a function that only the source can call.
#[tokio::test]
async fn a_cast_to_json_is_not_followed() {
    let database = TestDatabase::create("cast").await;
    database
        .exec(
            "CREATE TYPE mood AS ENUM ('fine');
             CREATE FUNCTION json_of(mood) RETURNS json LANGUAGE sql IMMUTABLE AS $$ SELECT json_build_object('mood', $1::text) $$;
             CREATE CAST (mood AS json) WITH FUNCTION json_of(mood);
             CREATE TABLE t (n int PRIMARY KEY, v mood)",
        )
        .await;
    let world = World::new(database).await;
    world.publish().await;
    world.database.exec("INSERT INTO t VALUES (1, 'fine')").await;
    let theirs = world.database.query_text("SELECT to_jsonb(t) FROM t").await;
    assert_eq!(theirs, r#"{"n": 1, "v": {"mood": "fine"}}"#);
    let pieces = world.stream().await;
    assert_eq!(text(pieces[0].changes[0].data.as_ref().unwrap()), r#"{"n":1,"v":"fine"}"#);
}
