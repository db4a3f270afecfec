//! What is kept of clients that come and go.

use waldelta_history::{ClientNote, History};
use waldelta_testkit::TestDatabase;

use crate::support::*;

fn note<'a>(client_id: &'a str, user_agent: Option<&'a str>) -> ClientNote<'a> {
    ClientNote { client_id, protocol: "waldelta.v1.json", user_agent }
}

#[tokio::test]
async fn acknowledgements_of_several_clients_are_recorded_together() {
    let database = TestDatabase::create("history_acks").await;
    let history = begun(&database).await;
    history.record_acks(&[("b", whole(START + 10)), ("a", whole(START))]).await.unwrap();
    history.record_acks(&[("a", whole(START + 5)), ("b", whole(START))]).await.unwrap();
    assert_eq!(history.acked("a").await.unwrap(), Some(whole(START + 5)));
    assert_eq!(history.acked("b").await.unwrap(), Some(whole(START + 10)), "it only rises");
    // What no text can hold spoils all of them, and the caller records each alone.
    let error = history.record_acks(&[("a", whole(START + 9)), ("\0", whole(START))]).await.unwrap_err();
    assert!(!error.is_retryable());
    assert_eq!(history.acked("a").await.unwrap(), Some(whole(START + 5)));
    history.record_acks(&[]).await.unwrap();
}

#[tokio::test]
async fn a_client_that_is_here_is_written_once_a_minute() {
    let database = TestDatabase::create("history_seen").await;
    let history = begun(&database).await;
    let versions =
        "SELECT string_agg(client_id || ':' || xmin, ',' ORDER BY client_id) FROM waldelta.clients";
    history.note_clients(&[note("b", None), note("a", Some("one"))]).await.unwrap();
    let written = database.query_text(versions).await;
    history.note_clients(&[note("a", Some("one")), note("b", None)]).await.unwrap();
    assert_eq!(database.query_text(versions).await, written, "nothing new within the minute");
    history.note_clients(&[note("a", Some("two"))]).await.unwrap();
    assert_ne!(database.query_text(versions).await, written, "another program");

    let ago = "UPDATE waldelta.clients SET seen_at = now() - interval '1 hour', first_seen_at = now() - interval '2 hours'";
    database.exec(ago).await;
    history.record_ack("b", whole(START)).await.unwrap();
    history.note_clients(&[note("c", None)]).await.unwrap();
    let clients = history.clients(10).await.unwrap();
    let mut ids: Vec<&str> = clients.iter().map(|client| client.client_id.as_str()).collect();
    assert_eq!(ids.pop(), Some("a"), "the others were here since: {ids:?}");
    let of = |id: &str| clients.iter().find(|client| client.client_id == id).unwrap();
    let (a, b, c) = (of("a"), of("b"), of("c"));
    assert_eq!((a.acked, a.acked_at_us, a.user_agent.as_deref()), (None, None, Some("two")));
    assert_eq!((b.acked, b.acked_at_us), (Some(whole(START)), Some(b.seen_at_us)));
    assert!(b.first_seen_at_us < a.seen_at_us && a.seen_at_us < b.seen_at_us);
    assert_eq!((c.protocol.as_deref(), c.first_seen_at_us), (Some("waldelta.v1.json"), c.seen_at_us));
    assert_eq!(history.acked("a").await.unwrap(), None);

    history.note_clients(&[note("a", Some("two"))]).await.unwrap();
    assert_eq!(history.clients(1).await.unwrap()[0].client_id, "a", "after an hour it is written");
}

/// What a version before this one has recorded.
#[tokio::test]
async fn acknowledgements_from_before_there_were_more_columns_stay() {
    let database = TestDatabase::create("history_acks_old").await;
    drop(begun(&database).await);
    database
        .exec(
            "ALTER TABLE waldelta.clients DROP COLUMN acked_at, DROP COLUMN first_seen_at, DROP COLUMN protocol,
                 DROP COLUMN user_agent, ALTER COLUMN cursor SET NOT NULL;
             DELETE FROM waldelta._sqlx_migrations WHERE version = 4;
             INSERT INTO waldelta.clients VALUES ('a', '00000001-0000000000001000-ffffffff', '2026-01-01 00:00:00+00')",
        )
        .await;
    let history = History::open(&config(&database)).await.unwrap();
    let client = history.clients(10).await.unwrap().remove(0);
    assert_eq!((client.client_id.as_str(), client.acked), ("a", Some(whole(START))));
    assert_eq!((client.acked_at_us, client.first_seen_at_us), (Some(client.seen_at_us), client.seen_at_us));
    // And a process of that version, which still runs, can go on.
    let old = "INSERT INTO waldelta.clients AS known (client_id, cursor) VALUES ('b', '00000001-0000000000001001-ffffffff')
        ON CONFLICT (client_id) DO UPDATE SET cursor = greatest(known.cursor, EXCLUDED.cursor), seen_at = now()";
    database.exec(old).await;
    assert_eq!(history.acked("b").await.unwrap(), Some(whole(START + 1)));
}
