//! The command against real databases: what it exits with, and what it leaves.

use clap::Parser;
use waldelta_testkit::TestDatabase;

use super::EXIT_FAILED;
use crate::cli::Cli;
use crate::commands::dispatch;
use crate::failure::EXIT_CAPTURE_STOPPED;

const EPOCHS: &str = "SELECT count(*) FROM waldelta.epochs";

/// Set up by `init`, source and history in one database.
async fn begun(hint: &str) -> TestDatabase {
    let database = TestDatabase::create(hint).await;
    database.exec("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)").await;
    exits_with(&database, &["init", "--apply"], 0).await;
    database
}

async fn exits_with(database: &TestDatabase, words: &[&str], code: u8) {
    let slot = database.slot("s");
    let line = [&["waldelta"], words, &["--database-url", database.url(), "--slot", &slot]].concat();
    let exit = dispatch(Cli::parse_from(line).command).await.unwrap();
    assert_eq!(exit, code.into(), "{words:?}");
}

#[tokio::test]
async fn a_new_epoch_is_shown_then_begun_then_nothing_is_left() {
    let database = begun("recover_epoch").await;
    exits_with(&database, &["recover"], 0).await;
    database.exec(&format!("SELECT pg_drop_replication_slot('{}')", database.slot("s"))).await;
    exits_with(&database, &["recover"], EXIT_CAPTURE_STOPPED).await;
    assert_eq!(database.query_text(EPOCHS).await, "1", "it was only shown");
    exits_with(&database, &["recover", "--yes", "--json"], 0).await;
    exits_with(&database, &["recover", "--yes"], 0).await;
    assert_eq!(database.query_text(EPOCHS).await, "2");
    let slots =
        format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'", database.slot("s"));
    assert_eq!(database.query_text(&slots).await, "1");
}

#[tokio::test]
async fn what_a_person_has_to_do_is_not_done() {
    let database = begun("recover_person").await;
    database.exec("DROP PUBLICATION waldelta").await;
    exits_with(&database, &["recover"], EXIT_CAPTURE_STOPPED).await;
    exits_with(&database, &["recover", "--yes"], EXIT_FAILED).await;
    assert_eq!(database.query_text(EPOCHS).await, "1");
}

#[tokio::test]
async fn tables_that_need_repair_are_reset() {
    let database = begun("recover_tables").await;
    database
        .exec(
            "INSERT INTO waldelta.gaps (epoch, table_oid, from_lsn, reason) \
             SELECT epoch, 't'::regclass, durable_end, 'rewritten' FROM waldelta.captures",
        )
        .await;
    let sent = format!(
        "SELECT count(*) FROM pg_logical_slot_peek_binary_changes('{}', NULL, NULL, 'proto_version', '1', \
         'publication_names', 'waldelta', 'messages', 'true') \
         WHERE encode(data, 'escape') LIKE '%waldelta.reset%public.t%'",
        database.slot("s")
    );
    exits_with(&database, &["recover", "--table", "public.u", "--yes"], 0).await;
    exits_with(&database, &["recover"], EXIT_CAPTURE_STOPPED).await;
    assert_eq!(database.query_text(&sent).await, "0");
    exits_with(&database, &["recover", "--table", "public.t", "--yes"], 0).await;
    assert_eq!(database.query_text(&sent).await, "1");
}
