//! Generated columns are told as PostgreSQL publishes them: not at all before 18, from 18 on the stored ones where the
//! publication says so.

use crate::setting::{Setting, waldelta_ok, with_databases};

const SCHEMA: &str =
    "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL, twice int GENERATED ALWAYS AS (n * 2) STORED)";
/// What history says of the rows, in order.
const TOLD: &str = "SELECT string_agg(data::text, ' ' ORDER BY epoch, lsn, seq) FROM waldelta.change_history
    WHERE table_name = 'public.t' AND operation IN ('insert', 'update')";

#[tokio::test]
async fn they_are_left_out() {
    let setting = Setting::new("generated", SCHEMA).await;
    setting.source.exec("INSERT INTO t VALUES (1, 10)").await;
    let (mut socket, mut replica) = setting.client("one").await;
    setting.source.exec("UPDATE t SET n = 11").await;
    setting.equal(&mut socket, &mut replica, &[]).await;
    setting.settled().await;
    assert_eq!(setting.history.query_text(TOLD).await, r#"{"n": 10, "id": 1} {"n": 11, "id": 1}"#);
}

#[tokio::test]
async fn stored_ones_are_told_where_the_publication_says_so() {
    let setting = Setting::new("generated_told", SCHEMA).await;
    if setting.source.server_major().await < 18 {
        println!("nothing to test: publish_generated_columns came with PostgreSQL 18");
        return;
    }
    setting.source.exec("ALTER TABLE t ADD thrice int GENERATED ALWAYS AS (n * 3) VIRTUAL").await;
    setting.source.exec("INSERT INTO t VALUES (1, 10)").await;
    setting.source.exec("ALTER PUBLICATION waldelta SET (publish_generated_columns = stored)").await;
    setting.source.exec("UPDATE t SET n = 11").await;
    setting.settled().await;
    assert_eq!(
        setting.history.query_text(TOLD).await,
        r#"{"n": 10, "id": 1} {"n": 11, "id": 1, "twice": 22}"#
    );
    let (_socket, replica) = setting.client("one").await;
    assert_eq!(replica.rows("public.t"), [r#"{"id":1,"n":11,"twice":22}"#]);
    let said = waldelta_ok(&with_databases(&["doctor"], &setting.source, &setting.history));
    assert!(said.contains("nothing stands in the way"), "{said}");
}
