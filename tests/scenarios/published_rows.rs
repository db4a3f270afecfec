//! A publication that names rows (`FOR TABLE … WHERE`): clients and history have exactly these, from the snapshot on and whatever
//! becomes of the rows.

use serde_json::json;
use waldelta_testkit::{TestDatabase, connect, source_rows};

use crate::fold::{assert_same, folded};
use crate::setting::{Setting, changes, record};

/// The identity tells whole rows: PostgreSQL wants the filter's columns in it.
const SCHEMA: &str = "
    CREATE TABLE item (id int PRIMARY KEY, region text NOT NULL, n int NOT NULL);
    ALTER TABLE item REPLICA IDENTITY FULL;
    INSERT INTO item VALUES (1, 'eu', 1), (2, 'us', 2), (3, 'eu', 3);
    CREATE PUBLICATION waldelta FOR TABLE item WHERE (region = 'eu')";
const PUBLISHED: &str = "(SELECT * FROM item WHERE region = 'eu')";

#[tokio::test]
async fn a_row_that_leaves_them_is_deleted_and_one_that_enters_inserted() {
    let source = TestDatabase::create("published_rows").await;
    let history = TestDatabase::create("published_rows_h").await;
    if source.server_major().await < 15 {
        println!("skipped: publications name rows from PostgreSQL 15 on");
        return;
    }
    let setting = Setting::over(source, history, SCHEMA).await;
    let (mut socket, mut replica) = setting.client("rows").await;
    let client = connect(setting.source.url()).await;
    assert_same("item", &replica.rows("public.item"), &source_rows(&client, PUBLISHED).await);

    for statement in [
        "UPDATE item SET region = 'us' WHERE id = 1",
        "UPDATE item SET region = 'eu' WHERE id = 2",
        "UPDATE item SET n = 30 WHERE id = 3",
        "UPDATE item SET n = 10 WHERE id = 1",
        "DELETE FROM item WHERE id = 1",
        "INSERT INTO item VALUES (4, 'us', 4)",
        "DELETE FROM item WHERE id = 3",
        "INSERT INTO item VALUES (5, 'eu', 5)",
    ] {
        setting.source.exec(statement).await;
    }
    let frames = record(&mut socket, &mut replica, "the last row", |frame| {
        let changes = frame["changes"].as_array();
        changes.is_some_and(|changes| changes.iter().any(|change| change["key"]["id"] == 5))
    })
    .await;
    let told: Vec<_> =
        changes(&frames).iter().map(|change| json!([change["op"], change["key"]["id"]])).collect();
    assert_eq!(
        told,
        [
            json!(["delete", 1]),
            json!(["insert", 2]),
            json!(["update", 3]),
            json!(["delete", 3]),
            json!(["insert", 5])
        ]
    );
    let expected = source_rows(&client, PUBLISHED).await;
    assert_same("item", &replica.rows("public.item"), &expected);
    // A client that comes now reads the same from the source.
    let (_late, late) = setting.client("late").await;
    assert_same("item", &late.rows("public.item"), &expected);
    // What history holds adds up to it as well, with the rows that were there before it began.
    let kept = connect(setting.history.url()).await;
    let folded = folded(&kept, "public.item", None).await;
    assert!(folded.iter().all(|row| expected.contains(row)), "{folded:?}");
}
