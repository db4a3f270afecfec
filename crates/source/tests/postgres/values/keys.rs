//! Keys of many types: what names a row, in the stream and in snapshots alike.

use waldelta_testkit::TestDatabase;

use super::matrix::quoted;
use super::world::{World, text};

const KEYS: &[(&str, &[&str])] = &[
    ("int8", &["9007199254740993", "-1"]),
    ("numeric", &["1.500", "NaN", "1e20"]),
    ("float8", &["1e-7", "Infinity"]),
    ("bool", &["t"]),
    ("text", &["", "q\"\\ \n\u{e9}", "NULL"]),
    ("char(5)", &["ab"]),
    ("bytea", &["\\x00ff"]),
    ("uuid", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ("date", &["0044-03-15 BC"]),
    ("timestamptz", &["2024-02-29 01:02:03.4+02", "infinity"]),
    ("interval", &["1 year -2 days"]),
    ("inet", &["10.0.0.1/8"]),
    ("jsonb", &["{\"a\": [1.50]}"]),
    ("int4range", &["[1,5)"]),
    ("text[]", &["{}", "{\"a,b\",NULL}"]),
    ("mood", &["so, so"]),
    ("whole", &["7"]),
    ("pair", &["(1,\"a,b\")"]),
    ("pairs", &["{\"(1,)\",NULL}"]),
];

#[tokio::test]
async fn keys_are_what_to_jsonb_says_of_their_columns() {
    let database = TestDatabase::create("keys").await;
    database
        .exec(
            "CREATE TYPE mood AS ENUM ('so, so'); CREATE DOMAIN whole AS int; CREATE TYPE pair AS (a int, b text);
             CREATE DOMAIN pairs AS pair[]",
        )
        .await;
    let (mut setup, mut inserts, mut deletes) = (String::new(), String::new(), String::new());
    for (index, (of, values)) in KEYS.iter().enumerate() {
        setup += &format!("CREATE TABLE k{index} (other int, v {of}, n int, PRIMARY KEY (n, v));");
        for (number, value) in values.iter().enumerate() {
            inserts += &format!("INSERT INTO k{index} VALUES (1, {}, {number});", quoted(value));
        }
        deletes += &format!("DELETE FROM k{index};");
    }
    database.exec(&setup).await;
    let world = World::new(database).await;
    world.publish().await;
    world.database.exec(&inserts).await;
    let mut expected = Vec::new();
    for index in 0..KEYS.len() {
        let sql = format!("SELECT jsonb_build_array(v, n)::text FROM public.k{index} ORDER BY n");
        let rows = world.client.query(&sql, &[]).await.unwrap();
        expected.extend(rows.iter().map(|row| row.get::<_, String>(0)));
    }
    let mut snapshot = world.snapshot().await;
    snapshot.sort_by_key(|(table, _)| table.oid);
    world.database.exec(&deletes).await;

    let read: Vec<String> =
        snapshot.iter().flat_map(|(_, rows)| rows).map(|row| text(row.key.as_ref().unwrap())).collect();
    let pieces = world.stream().await;
    let changes = pieces.iter().flat_map(|piece| &piece.changes);
    let streamed: Vec<String> = changes.map(|change| text(change.row_key.as_ref().unwrap())).collect();
    let (inserted, deleted) = streamed.split_at(expected.len());
    assert_eq!((inserted, deleted), (&read[..], &read[..]), "byte for byte");
    let texts = "SELECT array_agg(doc::jsonb::text ORDER BY n) FROM unnest($1::text[]) WITH ORDINALITY AS read (doc, n)";
    let found: Vec<String> = world.client.query_one(texts, &[&read]).await.unwrap().get(0);
    assert_eq!(found, expected);
}
