//! What is kept of clients that come and go.

use std::time::Duration;

use waldelta_history::{ClientNote, History, NewestConnection, NumberedClient};
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
                 DROP COLUMN user_agent, DROP COLUMN process, DROP COLUMN process_before, DROP COLUMN connection,
                 ALTER COLUMN cursor SET NOT NULL;
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

fn numbered(client_id: &str, connection: i64) -> NumberedClient<'_> {
    NumberedClient { note: note(client_id, None), connection }
}

fn newest(client_id: &str, connection: i64) -> NewestConnection {
    NewestConnection { client_id: client_id.to_owned(), connection }
}

#[tokio::test]
async fn of_two_connections_the_one_with_the_higher_number_stays() {
    const A: i64 = -7;
    const B: i64 = i64::MAX;
    let database = TestDatabase::create("history_connections").await;
    let history = begun(&database).await;
    let mut listener = history.listen_for_connections().await.unwrap();
    let drawn = history.draw_connections(3).await.unwrap();
    assert!(
        drawn.len() == 3 && drawn.is_sorted() && history.draw_connections(1).await.unwrap()[0] > drawn[2]
    );
    assert!(history.draw_connections(0).await.unwrap().is_empty());

    // Also one of which only a cursor is known, from a version that did not write this.
    history.record_ack("web 2", whole(START)).await.unwrap();
    let both = [numbered("web 2", 11), numbered("web-1", 10)];
    let mut taken = history.take_clients(A, &both).await.unwrap();
    taken.sort_unstable();
    assert_eq!(taken, ["web 2", "web-1"]);
    assert_eq!(history.take_clients(A, &both).await.unwrap().len(), 2, "the same may be written twice");
    assert_eq!(history.acked("web 2").await.unwrap(), Some(whole(START)));
    assert_eq!(history.taken_elsewhere(A, &["web-1", "web 2", "nobody"]).await.unwrap(), []);
    let mut elsewhere = history.taken_elsewhere(B, &["web-1", "web 2", "nobody"]).await.unwrap();
    elsewhere.sort_unstable_by_key(|newest| newest.connection);
    assert_eq!(elsewhere, [newest("web-1", 10), newest("web 2", 11)]);

    // One that was under way for longer than a newer one is left out, whoever it is.
    assert_eq!(
        history.take_clients(B, &[numbered("web 2", 12), numbered("web-1", 9)]).await.unwrap(),
        ["web 2"]
    );
    assert_eq!(history.take_clients(A, &[numbered("web 2", 11)]).await.unwrap(), [""; 0]);
    assert_eq!(history.take_clients(B, &[numbered("web 2", 13)]).await.unwrap(), ["web 2"]);
    assert_eq!(history.take_clients(A, &[numbered("web 2", 14)]).await.unwrap(), ["web 2"]);
    assert_eq!(history.taken_elsewhere(B, &["web 2"]).await.unwrap(), [newest("web 2", 14)]);
    assert_eq!(history.take_clients(A, &[]).await.unwrap(), [""; 0]);

    // Only those are told that went from one process to another.
    database.exec("NOTIFY waldelta_clients, 'nonsense'").await;
    for expected in [newest("web 2", 12), newest("web 2", 14)] {
        assert_eq!(listener.next().await.unwrap(), Some(expected));
    }
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'waldelta-history-clients'";
    assert_eq!(database.query_text(cut).await, "1");
    assert_eq!(listener.next().await.unwrap(), None, "what came meanwhile has to be asked for");
    history.take_clients(B, &[numbered("web 2", 15)]).await.unwrap();
    assert_eq!(listener.next().await.unwrap(), Some(newest("web 2", 15)), "it listens again");
}

#[tokio::test]
async fn clients_that_were_away_for_long_are_forgotten_by_one_process_at_a_time() {
    const DAY: Duration = Duration::from_secs(86_400);
    let database = TestDatabase::create("history_forget").await;
    let history = begun(&database).await;
    assert_eq!(history.forget_clients(90 * DAY).await.unwrap(), Some(0));
    // More than are looked at together; those with odd numbers are long gone.
    database
        .exec(
            "INSERT INTO waldelta.clients (client_id, cursor, seen_at)
             SELECT 'c' || i, '00000001-0000000000001000-ffffffff',
                 now() - CASE WHEN i % 2 = 0 THEN interval '89 days' ELSE interval '91 days' END
             FROM generate_series(1, 2500) i",
        )
        .await;
    let left = "SELECT count(*) || ' ' || count(*) FILTER (WHERE seen_at < now() - interval '90 days') FROM waldelta.clients";
    let mut other = database.client().await;
    other.batch_execute("SELECT pg_advisory_lock(x'57414C44454C5443'::bigint)").await.unwrap();
    assert_eq!(history.forget_clients(90 * DAY).await.unwrap(), None, "another one is at it");
    other.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    assert_eq!(database.query_text(left).await, "2500 1250");

    // Nobody is waited for: who is being written is here.
    let back = other.transaction().await.unwrap();
    back.execute("UPDATE waldelta.clients SET seen_at = now() WHERE client_id IN ('c1', 'c777')", &[])
        .await
        .unwrap();
    assert_eq!(history.forget_clients(90 * DAY).await.unwrap(), Some(1248));
    back.commit().await.unwrap();
    assert_eq!(history.forget_clients(90 * DAY).await.unwrap(), Some(0));
    assert_eq!(database.query_text(left).await, "1252 0");
    assert!(history.acked("c1").await.unwrap().is_some() && history.acked("c3").await.unwrap().is_none());
    // One that comes back is new.
    history.record_ack("c3", whole(START)).await.unwrap();
    assert_eq!(history.forget_clients(90 * DAY).await.unwrap(), Some(0));
}
