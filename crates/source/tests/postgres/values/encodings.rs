//! Databases that are not in UTF-8.

use waldelta_source::catalog;
use waldelta_testkit::TestDatabase;
use waldelta_wal::Operation;

use super::matrix::{Case, check_in};
use super::world::{World, number, text};

#[tokio::test]
async fn latin1_is_converted() {
    let database = TestDatabase::create_in_encoding("latin1", "LATIN1").await;
    database
        .exec("CREATE TYPE \"m\u{f6}d\" AS ENUM ('caf\u{e9}'); CREATE TYPE \"\u{fc}\" AS (\"\u{e4},\" text, m \"m\u{f6}d\")")
        .await;
    let world = World::new(database).await;
    let identity = catalog::identity(&world.client).await.unwrap();
    assert_eq!(identity.encoding, "LATIN1");
    check_in(
        world,
        &[
            Case("text", &["caf\u{e9} \u{ff}", "\u{80}\u{9f}", "plain"]),
            Case("varchar(3)", &["\u{e9}\u{e9}\u{e9}"]),
            Case("\"char\"", &["x"]),
            Case("json", &["{\"\u{e9}\": \"\u{ff}\"}"]),
            Case("jsonb", &["{\"\u{e9}\": \"\u{ff}\"}"]),
            Case("xml", &["<a>\u{e9}</a>"]),
            Case("\"m\u{f6}d\"", &["caf\u{e9}"]),
            Case("\"\u{fc}\"", &["(\"\u{e9},\",caf\u{e9})"]),
            Case("bytea", &["\\xe9ff00"]),
        ],
    )
    .await;
}

/// What is UTF-8 in a database without encoding.
#[tokio::test]
async fn utf8_without_saying_so() {
    let database = TestDatabase::create_in_encoding("unsaid", "SQL_ASCII").await;
    database.exec("CREATE TYPE \"\u{fc}\" AS (\"\u{e4}\" text)").await;
    check_in(
        World::new(database).await,
        &[
            Case("text", &["caf\u{e9}", "\u{1F600}", "plain"]),
            Case("jsonb", &["{\"\u{e9}\": \"\u{ff}\"}"]),
            Case("\"\u{fc}\"", &["(\u{e9})"]),
        ],
    )
    .await;
}

/// Each value as SQL, and what it is as JSON; flagged where PostgreSQL's bytes are no text that JSON could hold.
const VALUES: [(&str, &str, bool); 5] = [
    (r"E'plain'", r#""plain""#, false),
    (r"E'caf\xc3\xa9'", "\"caf\u{e9}\"", false),
    (r"E'caf\xe9'", r#""\\x636166e9""#, true),
    (r"E'\xff\xfe\\\n'", r#""\\xfffe5c0a""#, true),
    (r"E'\xed\xa0\x80'", r#""\\xeda080""#, true),
];

#[tokio::test]
async fn bytes_that_are_no_text_are_kept_and_flagged() {
    let database = TestDatabase::create_in_encoding("bytes", "SQL_ASCII").await;
    database
        .exec(
            "CREATE TYPE held AS (n int, t text);
             CREATE TABLE t (n int PRIMARY KEY, said text, listed text[], holder held, other int);
             ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE t ALTER said SET STORAGE EXTERNAL",
        )
        .await;
    let world = World::new(database).await;
    let identity = catalog::identity(&world.client).await.unwrap();
    assert_eq!(identity.encoding, "SQL_ASCII");
    world.publish().await;
    for (number, (value, _, _)) in VALUES.iter().enumerate() {
        let sql = format!("INSERT INTO t VALUES ({number}, {value}, ARRAY[{value}], ROW(1, {value}), 1)");
        world.database.exec(&sql).await;
    }
    // Stored elsewhere, so that it is unchanged TOAST later.
    world.database.exec(r"INSERT INTO t VALUES (5, repeat(E'\xff', 5000), NULL, NULL, 1)").await;
    let snapshot = world.snapshot().await;
    world.database.exec("UPDATE t SET other = 2; DELETE FROM t").await;

    let mut images = 0;
    let mut check = |number: i32, json: &str, flagged: &[String]| {
        images += 1;
        let Some((_, said, is_flagged)) = VALUES.get(usize::try_from(number).unwrap()) else {
            let said = format!(r#""said":"\\x{}""#, "ff".repeat(5_000));
            assert!(json.contains(&said), "{json:.100}");
            assert_eq!(flagged, ["said"]);
            return;
        };
        assert!(json.contains(&format!(r#""said":{said},"#)), "{json}");
        assert_eq!(flagged, if *is_flagged { &["said", "listed", "holder"][..] } else { &[] });
        if !is_flagged {
            assert!(json.contains(&format!(r#""listed":[{said}],"holder":{{"n":1,"t":{said}}}"#)), "{json}");
        }
    };
    let [(_, rows)] = &snapshot[..] else { panic!("{snapshot:?}") };
    let mut inserted = Vec::new();
    for change in world.stream().await.iter().flat_map(|piece| &piece.changes) {
        let number = number(change.row_key.as_ref().unwrap());
        assert!(change.unchanged.is_empty());
        for image in [&change.data, &change.old_data].into_iter().flatten() {
            check(number, &text(image), &change.flagged);
        }
        if change.operation == Operation::Insert {
            inserted.push((change.row_key.clone(), change.data.clone().unwrap(), change.flagged.clone()));
        }
    }
    let read: Vec<_> =
        rows.iter().map(|row| (row.key.clone(), row.data.clone(), row.flagged.clone())).collect();
    assert_eq!(read, inserted, "a snapshot and the stream print the same");
    assert_eq!(images, (VALUES.len() + 1) * 4, "insert, twice update, delete");
}
