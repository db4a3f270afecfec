//! `waldelta bench` reads all that the slot holds, and leaves slot and history as they are.

use waldelta_testkit::wait_until;

use crate::setting::{PATIENCE, Setting, waldelta, waldelta_ok, with_databases};

const SCHEMA: &str = "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY)";

#[tokio::test]
async fn what_the_slot_holds_is_read_and_left_there() {
    let mut setting = Setting::new("measured", SCHEMA).await;
    let bench = with_databases(&["bench", "--json"], &setting.source, &setting.history);
    let measured = |text: &str| -> serde_json::Value { serde_json::from_str(text).unwrap() };
    setting.service.stop().await;
    setting.source.exec("INSERT INTO a SELECT i, 'x' FROM generate_series(1, 5000) i").await;
    setting
        .source
        .exec("INSERT INTO b VALUES (1); UPDATE a SET v = 'y' WHERE id <= 10; DELETE FROM a WHERE id = 1")
        .await;
    let slots = "SELECT string_agg(slot_name || ' ' || confirmed_flush_lsn, ',' ORDER BY slot_name)
                 FROM pg_replication_slots WHERE database = current_database()";
    let before = setting.source.query_text(slots).await;
    let stored =
        "SELECT count(*) || ' ' || (SELECT durable_end FROM waldelta.captures) FROM waldelta.change_history";
    let stored_before = setting.history.query_text(stored).await;

    let told = measured(&waldelta_ok(&bench));
    assert_eq!((&told["changes"], &told["transactions"]), (&5012.into(), &2.into()), "{told}");
    assert!(told["image_bytes"].as_u64() > Some(5000 * 16) && told["seconds"].as_f64() > Some(0.0), "{told}");
    // The walsender drops the copy when it notices that its reader is gone.
    wait_until("the slot stays where it is, and no other is left", PATIENCE, async || {
        setting.source.query_text(slots).await == before
    })
    .await;
    assert_eq!(setting.history.query_text(stored).await, stored_before);
    assert_eq!(measured(&waldelta_ok(&bench))["changes"], 5012, "so it can be measured again");

    // Beside a service that has read everything there is nothing to measure, and that is said.
    setting.service.start_again().await;
    setting.settled().await;
    let text = waldelta_ok(&with_databases(&["bench"], &setting.source, &setting.history));
    assert!(text.contains("a second") || text.contains("let a backlog grow"), "{text}");

    let wrong = with_databases(&["bench", "--plugin", "wal2json"], &setting.source, &setting.history);
    let (code, _, error) = waldelta(&wrong);
    assert!(code != Some(0) && error.contains("WD-CONFIG-INVALID") && error.contains("pgoutput"), "{error}");
}
