//! A row reads as PostgreSQL prints it, from the source through history to a client, in every encoding.

use serde_json::Value;
use waldelta_testkit::{ServiceOptions, TestDatabase};

use crate::setting::{Setting, config_file, record};

/// faults.md E4, E7, E11, E12, D23: one value of many kinds in live frames, in a snapshot and in history.
#[tokio::test]
async fn types_of_the_users_own_reach_clients_as_to_jsonb_prints_them() {
    let setting = Setting::new(
        "kinds",
        "CREATE TYPE mood AS ENUM ('sad', 'o k');
         CREATE DOMAIN positive AS int CHECK (VALUE > 0);
         CREATE DOMAIN cash AS positive;
         CREATE DOMAIN tags AS text[];
         CREATE TYPE point3 AS (x float8, y numeric, label text);
         CREATE TYPE line3 AS (a point3, b point3[], m mood, at timestamptz, doc json);
         CREATE TYPE span AS RANGE (subtype = float8);
         CREATE TABLE t (id int PRIMARY KEY, m mood, ms mood[], p cash, ps positive[], tags tags, pt point3, l line3,
                         ls line3[], s span, ss span[], n numeric, i interval, ts timestamptz[], x xml, b bit(3)[])",
    )
    .await;
    let (mut socket, mut replica) = setting.client("c").await;
    let row = r#"
        INSERT INTO t VALUES (1, 'o k', '{sad,NULL,"o k"}', 7, '[0:1]={1,2}', '{a,"b,c",NULL}', (1e300, 'NaN', 'say "x", \y'),
            ((-0.0, 1.10, NULL), ARRAY[(1, 2, '')::point3, NULL], 'sad', '0044-03-15 12:00:00+00 BC', '{"a": [1, 2.50]}'),
            ARRAY[(NULL, NULL, NULL, NULL, NULL)::line3], '[1.5,2.5)', ARRAY['(,1]', 'empty']::span[],
            12345678901234567890.123456789012345678901234567890, '1 year -2 days 24:00:00',
            '{infinity,294276-12-31 23:59:59.999999+00}', '<a b="c"/>', '{101,010}');
        INSERT INTO t VALUES (2);
        UPDATE t SET m = 'sad', pt = ROW(1, 2, 'x') WHERE id = 2"#;
    setting.source.exec(row).await;
    setting.equal(&mut socket, &mut replica, &["public.t"]).await;
    setting.source.exec("ALTER TYPE mood ADD VALUE 'new'").await;
    setting.source.exec("UPDATE t SET m = 'new', ms = ms || 'new'::mood WHERE id = 1").await;
    setting.equal(&mut socket, &mut replica, &["public.t"]).await;
    let (mut late, mut late_copy) = setting.client("late").await;
    setting.equal(&mut late, &mut late_copy, &["public.t"]).await;
    setting.history_equals_source(&["public.t"]).await;
}

/// faults.md V17, E10: what jsonb refuses arrives as a string of its text, and nothing else is held up.
#[tokio::test]
async fn what_jsonb_refuses_is_a_flagged_string() {
    let setting = Setting::new("refused", "CREATE TABLE t (id int PRIMARY KEY, j json, v text)").await;
    let (mut socket, mut replica) = setting.client("c").await;
    setting
        .source
        .exec(r#"INSERT INTO t VALUES (1, '{"a": "\u0000"}', 'fine'), (2, '{"a": 1}', 'fine')"#)
        .await;
    let frames = record(&mut socket, &mut replica, "the rows are there", |frame| frame["type"] == "tx").await;
    let changes = frames.last().unwrap()["changes"].as_array().unwrap();
    assert_eq!(changes[0]["data"]["j"], Value::from(r#"{"a": "\u0000"}"#));
    assert_eq!(changes[0]["flagged"], serde_json::json!(["j"]));
    assert_eq!(changes[1]["data"]["j"], serde_json::json!({"a": 1}));
    setting.settled().await;
    let flagged = "SELECT metadata->'flagged' FROM waldelta.change_history WHERE row_key = '[1]'";
    assert_eq!(setting.history.query_text(flagged).await, r#"["j"]"#);
}

/// faults.md E14, V28: any name is legal.
#[tokio::test]
async fn any_name_is_legal() {
    let long = "x".repeat(63);
    let schema = format!(
        r#"CREATE SCHEMA "a.b;c";
           CREATE TABLE "a.b;c"."say ""hi""; DROP TABLE t" ("i d" int PRIMARY KEY, "ü.ö" text, "a" int, "A" int, "{long}" text);
           CREATE TABLE "T" (id int PRIMARY KEY, "select" text, "a\b" text);
           CREATE TABLE t (id int PRIMARY KEY)"#
    );
    let setting = Setting::new("names", &schema).await;
    let (mut socket, mut replica) = setting.client("c").await;
    setting
        .source
        .exec(
            r#"INSERT INTO "a.b;c"."say ""hi""; DROP TABLE t" VALUES (1, 'x', 1, 2, 'l');
               INSERT INTO "T" VALUES (1, 's', 'b'); INSERT INTO t VALUES (1);
               UPDATE "a.b;c"."say ""hi""; DROP TABLE t" SET "A" = 3; DELETE FROM "T""#,
        )
        .await;
    let tables = [r#""a.b;c"."say ""hi""; DROP TABLE t""#, r#"public."T""#, "public.t"];
    setting.equal(&mut socket, &mut replica, &tables).await;
    setting.history_equals_source(&tables).await;
}

/// faults.md E13, V15.
#[tokio::test]
async fn a_database_in_latin1_is_captured_with_history_inside() {
    let source = TestDatabase::create_in_encoding("latin", "LATIN1").await;
    let history = TestDatabase::create_in_encoding("latin_h", "LATIN1").await;
    let setting = Setting::over(source, history, "CREATE TABLE t (id int PRIMARY KEY, v text, j json)").await;
    let (mut socket, mut replica) = setting.client("c").await;
    setting.source.exec("INSERT INTO t VALUES (1, 'grün', '{\"é\": \"ü\"}'), (2, E'\\x41', '[1]')").await;
    setting.equal(&mut socket, &mut replica, &["public.t"]).await;
    setting.history_equals_source(&["public.t"]).await;
}

/// faults.md E13, V15: bytes that are no UTF-8 are told in hexadecimal, and never stop the rest.
#[tokio::test]
async fn bytes_without_an_encoding_are_told_in_hexadecimal() {
    let source = TestDatabase::create_in_encoding("ascii", "SQL_ASCII").await;
    let history = TestDatabase::create("ascii_h").await;
    let setting = Setting::over(source, history, "CREATE TABLE t (id int PRIMARY KEY, v text, w text)").await;
    let (mut socket, mut replica) = setting.client("c").await;
    setting
        .source
        .exec(
            "SET client_encoding = 'SQL_ASCII'; INSERT INTO t VALUES (1, E'a\\xff', 'ok'), (2, 'grün', 'ok')",
        )
        .await;
    let frames = record(&mut socket, &mut replica, "the rows are there", |frame| frame["type"] == "tx").await;
    let changes = frames.last().unwrap()["changes"].as_array().unwrap();
    assert_eq!((&changes[0]["data"]["v"], &changes[0]["data"]["w"]), (&"\\x61ff".into(), &"ok".into()));
    assert_eq!(changes[1]["data"]["v"], Value::from("grün"));
    let (_socket, late) = setting.client("late").await;
    assert_eq!(late.rows("public.t"), replica.rows("public.t"), "a snapshot says the same");
}

/// faults.md F6, E10: a value larger than jsonb holds stops capture by name, or is told by its size and checksum.
#[tokio::test]
async fn a_value_too_large_for_jsonb_is_a_reference_where_that_is_wanted() {
    let setting = Setting::new("oversize", "CREATE TABLE t (id int PRIMARY KEY, v bytea, w text)").await;
    let (mut socket, mut replica) = setting.client("c").await;
    let mut setting = setting;
    setting.service.stop().await;
    let config = config_file("[capture]\noversize = \"reference\"\n");
    let options: ServiceOptions = config.add_to(setting.run_options());
    setting.service.start_again_with(options).await;
    drop(socket);
    socket = setting.resume("c", &mut replica).await;
    // 140 MB of zeros are 280 MB as text.
    setting.source.exec("INSERT INTO t VALUES (1, decode(repeat('00', 140000000), 'hex'), 'kept')").await;
    let frames = record(&mut socket, &mut replica, "the row is there", |frame| frame["type"] == "tx").await;
    let data = &frames.last().unwrap()["changes"][0]["data"];
    assert_eq!(data["w"], Value::from("kept"));
    assert_eq!(data["v"]["$too_large"]["bytes"], Value::from(280_000_002u64));
    assert_eq!(data["v"]["$too_large"]["sha256"].as_str().unwrap().len(), 64);
    setting.source.exec("INSERT INTO t VALUES (2, 'x', 'after')").await;
    setting.settled().await;
    let after = "SELECT data->>'w' FROM waldelta.change_history WHERE row_key = '[2]'";
    assert_eq!(setting.history.query_text(after).await, "after");
}
