//! One writer at a time, whatever happens to the others.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use waldelta_history::{Error, History};
use waldelta_testkit::{TestDatabase, wait_until};
use waldelta_wal::{Code, Epoch};

use crate::support::*;

#[tokio::test]
async fn a_second_writer_is_told_who_the_first_is() {
    let database = TestDatabase::create("history_lease").await;
    let (history, writer) = written(&database).await;
    let pid = database.query_text("SELECT backend_pid FROM waldelta.leases").await;
    for other in [history.clone(), History::open(&config(&database)).await.unwrap()] {
        match other.writer("second").await {
            Err(error @ Error::LeaseHeld { .. }) => {
                assert_eq!(error.code(), Code::HistoryLeaseHeld);
                assert!(
                    error.to_string().contains("\"test\"") && error.to_string().contains(&pid),
                    "{error}"
                );
            }
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("two writers"),
        }
    }
    writer.release().await.unwrap();
    assert_eq!(history.writer("second").await.unwrap().head(), head(START));
}

#[tokio::test]
async fn a_writer_needs_something_to_capture() {
    let database = TestDatabase::create("history_bare").await;
    let history = History::open(&config(&database)).await.unwrap();
    assert!(matches!(history.writer("test").await.map(drop), Err(Error::NotBegun)));
    assert!(matches!(history.floor().await, Err(Error::NotBegun)));
    let refused = history.begin(&captured(), end(0), "test").await;
    assert!(matches!(refused, Err(Error::Unusable { .. })), "{refused:?}");
    for epoch in [0, 1 << 31] {
        let refused = history.begin_in(Epoch(epoch), &captured(), end(START), "test").await;
        assert!(matches!(refused, Err(Error::Unusable { .. })), "{refused:?}");
    }
    history.begin(&captured(), end(START), "test").await.unwrap();
    let twice = history.begin(&captured(), end(START), "test").await;
    assert!(matches!(twice, Err(Error::AlreadyBegun)), "{twice:?}");
}

#[tokio::test]
async fn a_writer_that_was_taken_over_can_commit_nothing() {
    let database = TestDatabase::create("history_takeover").await;
    let (history, mut first) = written(&database).await;
    let orders = first.number(table(1, "orders")).table;
    // Frozen in the middle of a COPY: no timeout ends its backend.
    first.append(vec![piece(START, vec![insert(&orders, 0, 1)], None)]).await.unwrap();
    let other = History::open(&config(&database)).await.unwrap();
    let mut second = other.take_over("second").await.unwrap();
    assert_eq!(second.head(), head(START));
    let orders = second.number(table(1, "orders")).table;
    second.append(vec![transaction(START, vec![insert(&orders, 0, 7)])]).await.unwrap();
    // It wakes.
    let woken =
        first.append(vec![piece(START, vec![insert(&orders, 1, 2)], Some(START + 1))]).await.unwrap_err();
    assert!(!matches!(woken, Error::OutOfOrder { .. }), "{woken:?}");
    assert!(matches!(first.advance(end(START + 50)).await, Err(Error::WriterClosed)));
    assert_eq!(commit_lsns(&history).await, [START]);
    assert_eq!(stored_end(&history).await, START + 1);
    second.append(vec![transaction(START + 1, vec![insert(&orders, 0, 8)])]).await.unwrap();
}

#[tokio::test]
async fn a_stale_token_is_fenced_even_on_a_living_connection() {
    let database = TestDatabase::create("history_fence").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    writer.append(vec![transaction(START, vec![insert(&orders, 0, 1)])]).await.unwrap();
    database.exec("UPDATE waldelta.captures SET token = token + 1").await;
    let fenced = writer.append(vec![transaction(START + 5, vec![insert(&orders, 0, 2)])]).await.unwrap_err();
    assert!(matches!(fenced, Error::Fenced { expected } if expected == end(START + 1)), "{fenced:?}");
    assert_eq!(fenced.code(), Code::HistoryFenced);
    assert_eq!(commit_lsns(&history).await, [START]);
    assert_eq!(history.feed().head(), head(START + 1));
    drop(writer);

    let mut writer = history.writer("again").await.unwrap();
    database.exec(&format!("UPDATE waldelta.captures SET durable_end = '0/{:X}'", START + 9)).await;
    let fenced = writer.advance(end(START + 50)).await.unwrap_err();
    assert!(matches!(fenced, Error::Fenced { .. }), "{fenced:?}");
    assert_eq!(stored_end(&history).await, START + 9);
    drop(writer);
    // The next writer believes the database, and readers of the feed are sent to the table.
    let writer = history.writer("again").await.unwrap();
    assert_eq!(writer.head(), head(START + 9));
    assert!(history.feed().after(whole(START), usize::MAX).is_err());
}

#[tokio::test]
async fn a_cut_connection_is_an_unknown_outcome_that_the_stored_end_decides() {
    let database = TestDatabase::create("history_unknown").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    writer.append(vec![transaction(START, vec![insert(&orders, 0, 1)])]).await.unwrap();
    let blocker = database.client().await;
    blocker.batch_execute("BEGIN; SELECT FROM waldelta.captures FOR UPDATE").await.unwrap();
    let append = writer.append(vec![transaction(START + 5, vec![insert(&orders, 0, 2)])]);
    let cut = async {
        wait_until("the guard waits for the row", Duration::from_secs(10), async || {
            let blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
            database.query_text(blocked).await == "1"
        })
        .await;
        database.exec("SELECT pg_terminate_backend(backend_pid) FROM waldelta.leases").await;
    };
    let (appended, ()) = tokio::join!(append, cut);
    let unknown = appended.unwrap_err();
    assert!(
        matches!(unknown, Error::CommitUnknown { expected, attempted, .. }
            if expected == end(START + 1) && attempted == end(START + 6)),
        "{unknown:?}"
    );
    assert!(unknown.is_retryable());
    blocker.batch_execute("ROLLBACK").await.unwrap();
    drop(writer);
    let mut writer = history.writer("again").await.unwrap();
    assert_eq!(writer.head(), head(START + 1), "it was not committed");
    writer.append(vec![transaction(START + 5, vec![insert(&orders, 0, 2)])]).await.unwrap();
    assert_eq!(commit_lsns(&history).await, [START, START + 5]);
}

#[tokio::test]
async fn the_keeper_renews_and_ends_when_the_lease_is_anothers() {
    let database = TestDatabase::create("history_keeper").await;
    let (history, writer) = written(&database).await;
    database.exec("UPDATE waldelta.leases SET renewed_at = 'epoch'").await;
    let kept = writer.lease_keeper().run(CancellationToken::new());
    let watched = async {
        wait_until("the lease is renewed", Duration::from_secs(10), async || {
            database.query_text("SELECT renewed_at > 'epoch' FROM waldelta.leases").await == "t"
        })
        .await;
        drop(writer);
        let other = History::open(&config(&database)).await.unwrap();
        other.take_over("second").await.unwrap()
    };
    let (kept, _second) =
        tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(kept, watched) }).await.unwrap();
    assert!(matches!(kept, Err(Error::Fenced { .. })), "{kept:?}");
    let stop = CancellationToken::new();
    stop.cancel();
    drop(history);
}
