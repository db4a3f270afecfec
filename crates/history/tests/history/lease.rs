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
async fn who_only_reads_sees_who_writes_and_when_nobody_does() {
    let database = TestDatabase::create("history_writing").await;
    let reader = History::open(&config(&database)).await.unwrap();
    assert_eq!(reader.writing().await.unwrap(), None, "it has not begun");
    let history = begun(&database).await;
    let nobody = reader.writing().await.unwrap().unwrap();
    assert_eq!((nobody.is_there, nobody.holder, nobody.silent), (false, None, None));
    let writer = history.writer("the one").await.unwrap();
    database.exec("UPDATE waldelta.leases SET renewed_at = renewed_at - interval '1 min'").await;
    let writing = reader.writing().await.unwrap().unwrap();
    assert_eq!((writing.is_there, writing.holder.as_deref()), (true, Some("the one")));
    let minute = Duration::from_secs(60);
    assert!(writing.silent >= Some(minute) && writing.unmoved < minute, "{writing:?}");
    // Whether it goes as it should, or its connection just ends.
    writer.release().await.unwrap();
    assert!(!reader.writing().await.unwrap().unwrap().is_there);
    drop(history.writer("the next").await.unwrap());
    let is_gone = async || {
        let writing = reader.writing().await.unwrap().unwrap();
        assert_eq!(writing.holder.as_deref(), Some("the next"));
        !writing.is_there
    };
    wait_until("it is seen to be gone", Duration::from_secs(30), is_gone).await;
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
        wait_until("the guard waits for the row", Duration::from_secs(60), async || {
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

/// The advisory lock that a writer's session holds.
const LOCK_KEY: i64 = 0x5741_4C44_454C_5441;

#[tokio::test]
async fn a_writer_frozen_inside_copy_is_replaced() {
    let database = TestDatabase::create("history_frozen").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    writer.append(vec![transaction(START, vec![insert(&orders, 0, 1)])]).await.unwrap();
    writer.release().await.unwrap();

    // A process that is stopped: its connection is open, and nobody reads from it or writes to it any more.
    let (client, mut connection) =
        tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await.unwrap();
    let copy = async {
        client.execute("SELECT pg_advisory_lock($1)", &[&LOCK_KEY]).await.unwrap();
        let lease = "UPDATE waldelta.leases SET holder = 'frozen', backend_pid = activity.pid, renewed_at = now() - interval '1 hour',
            backend_start = activity.backend_start FROM pg_stat_activity AS activity WHERE activity.pid = pg_backend_pid()";
        client.execute(lease, &[]).await.unwrap();
        let columns = "change_history_e1_0000000000000000 (lsn, \"timestamp\", epoch, seq, id, operation)";
        let row = format!("'0/{:X}', now(), 1, 0, gen_random_uuid(), 'insert'", START + 1);
        client.batch_execute(&format!("BEGIN; INSERT INTO waldelta.{columns} VALUES ({row})")).await.unwrap();
        let copy = format!("COPY waldelta.{columns} FROM STDIN");
        let mut sink = Box::pin(client.copy_in::<_, bytes::Bytes>(&copy).await.unwrap());
        // In the middle of a row.
        futures_util::SinkExt::send(&mut sink, "0/".into()).await.unwrap();
        sink
    };
    let sink = tokio::select! {
        sink = copy => sink,
        ended = &mut connection => panic!("{ended:?}"),
    };

    match history.writer("second").await.map(drop) {
        Err(Error::LeaseHeld { holder, silent_ms, .. }) => {
            assert_eq!(holder, "frozen");
            assert!((3_600_000..4_000_000).contains(&silent_ms), "{silent_ms}");
        }
        other => panic!("{other:?}"),
    }
    let mut second = history.take_over("second").await.unwrap();
    assert_eq!(second.head(), head(START + 1));
    // It would wait for the other's row otherwise.
    let append = second.append(vec![transaction(START + 1, vec![insert(&orders, 0, 7)])]);
    tokio::time::timeout(Duration::from_secs(60), append).await.unwrap().unwrap();
    assert_eq!(commit_lsns(&history).await, [START, START + 1]);
    drop((sink, connection));
}

#[tokio::test]
async fn a_process_id_that_another_backend_has_now_is_left_alone() {
    let database = TestDatabase::create("history_pid_reused").await;
    let (history, writer) = written(&database).await;
    writer.release().await.unwrap();
    for reused in [true, false] {
        let bystander = database.client().await;
        let named = format!(
            "UPDATE waldelta.leases SET backend_pid = activity.pid, backend_start = activity.backend_start {}
             FROM pg_stat_activity AS activity WHERE activity.pid = pg_backend_pid()",
            if reused { "- interval '1 second'" } else { "" }
        );
        bystander.batch_execute(&named).await.unwrap();
        // Whether it holds the lock or not: the lease alone says who the old holder was.
        history.take_over("second").await.unwrap().release().await.unwrap();
        assert_eq!(bystander.batch_execute("SELECT 1").await.is_ok(), reused);
    }
}

#[tokio::test]
async fn a_holder_whose_lease_was_taken_away_falls_silent_from_then_on() {
    let database = TestDatabase::create("history_silent").await;
    let (history, _writer) = written(&database).await;
    let silent_ms = async || match history.writer("second").await.map(drop) {
        Err(Error::LeaseHeld { silent_ms, .. }) => silent_ms,
        other => panic!("{other:?}"),
    };
    assert!(silent_ms().await < 60_000);
    database.exec("UPDATE waldelta.leases SET renewed_at = now() - interval '2 hours'").await;
    assert!(silent_ms().await >= 7_200_000);
    // Somebody tried to take over and did not come to the end. It can be tried again, and not at once.
    database.exec("UPDATE waldelta.leases SET backend_pid = NULL, backend_start = NULL").await;
    let since_connected = silent_ms().await;
    assert!(since_connected < 60_000, "{since_connected}");
    wait_until("time passes", Duration::from_secs(60), async || silent_ms().await > since_connected).await;
}

#[tokio::test]
async fn of_two_standbys_one_takes_over_and_the_other_goes_on_waiting() {
    let database = TestDatabase::create("history_standbys").await;
    let (_history, _first) = written(&database).await;
    let standbys =
        [History::open(&config(&database)).await.unwrap(), History::open(&config(&database)).await.unwrap()];
    for standby in &standbys {
        assert!(matches!(standby.writer("standby").await, Err(Error::LeaseHeld { .. })));
    }
    // Both have seen that the first one is silent, and both act on it.
    let _second = standbys[0].take_over("second").await.unwrap();
    for _ in 0..2 {
        let late = standbys[1].take_over("third").await.map(drop).unwrap_err();
        assert!(matches!(&late, Error::LeaseHeld { holder, .. } if holder == "second"), "{late:?}");
    }
    // It is decided anew about the new one.
    assert!(matches!(standbys[1].writer("third").await, Err(Error::LeaseHeld { .. })));
    standbys[1].take_over("third").await.unwrap();
}

#[tokio::test]
async fn who_was_replaced_becomes_a_standby() {
    let fenced = Error::Fenced { expected: end(START) };
    assert!(fenced.is_retryable());
    assert_eq!(fenced.code(), Code::HistoryFenced);
    let database = TestDatabase::create("history_standby").await;
    let (history, first) = written(&database).await;
    let other = History::open(&config(&database)).await.unwrap();
    let second = other.take_over("second").await.unwrap();
    drop(first);
    // The first one's own backend is no leftover to be removed: it is gone, and the lock is the second's.
    let held = history.writer("first").await.map(drop).unwrap_err();
    assert!(
        matches!(&held, Error::LeaseHeld { holder, .. } if holder == "second") && held.is_retryable(),
        "{held:?}"
    );
    second.release().await.unwrap();
    history.writer("first").await.unwrap();
}

#[tokio::test]
async fn the_keeper_renews_and_ends_when_the_lease_is_anothers() {
    let database = TestDatabase::create("history_keeper").await;
    let (_history, writer) = written(&database).await;
    database.exec("UPDATE waldelta.leases SET renewed_at = 'epoch'").await;
    let kept = writer.lease_keeper().run(CancellationToken::new());
    let watched = async {
        wait_until("the lease is renewed", Duration::from_secs(60), async || {
            database.query_text("SELECT renewed_at > 'epoch' FROM waldelta.leases").await == "t"
        })
        .await;
        drop(writer);
        let other = History::open(&config(&database)).await.unwrap();
        other.take_over("second").await.unwrap()
    };
    let both = Box::pin(async { tokio::join!(kept, watched) });
    let (kept, _second) = tokio::time::timeout(Duration::from_secs(30), both).await.unwrap();
    assert!(matches!(kept, Err(Error::Fenced { .. })), "{kept:?}");
}
