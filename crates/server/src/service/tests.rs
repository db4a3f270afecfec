//! Starting capture on a history that does not answer as it should.

use waldelta_pgconn::{Environment, Target};
use waldelta_testkit::{TestDatabase, wait_until};
use waldelta_wal::{Code, ValuePolicy};

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// Source and history in one database, in which nothing is set up.
async fn bare(database: &TestDatabase) -> (waldelta_capture::Config, History) {
    let target = Target::parse(database.url(), &Environment::default()).unwrap();
    let history = waldelta_history::Config {
        target: target.clone(),
        feed_bytes_max: 1 << 20,
        connections_max: 2,
        partition_bytes: 1 << 30,
    };
    let capture = waldelta_capture::Config {
        source: Source {
            target,
            publication: "waldelta".to_owned(),
            slot: database.slot("s"),
            plugin: waldelta_source::Plugin::default(),
            values: ValuePolicy::default(),
        },
        holder: "test".to_owned(),
        stall_timeout: Duration::from_secs(5),
        feedback_interval: Duration::from_secs(1),
        canary_interval: Duration::ZERO,
        batch_rows_max: 1_000,
        batch_bytes_max: 1 << 20,
    };
    (capture, History::open(&history).await.unwrap())
}

fn code(status: &waldelta_capture::Status) -> Option<Code> {
    match status.read().state {
        State::Stopped { code, .. } => Some(code),
        _ => None,
    }
}

#[tokio::test]
async fn a_history_that_fails_for_a_moment_does_not_end_capture_before_it_began() {
    let database = TestDatabase::create("service_retry").await;
    let (config, history) = bare(&database).await;
    let status = Arc::new(waldelta_capture::Status::new());
    let blocker = database.client().await;
    blocker.batch_execute("BEGIN; LOCK TABLE waldelta.captures").await.unwrap();
    let failing = async {
        let cancel = "SELECT count(pg_cancel_backend(pid)) > 0 FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        for what in ["it asks, and gets an error", "it asks again"] {
            wait_until(what, PATIENCE, async || database.query_text(cancel).await == "t").await;
        }
        assert_eq!(code(&status), None);
        blocker.batch_execute("ROLLBACK").await.unwrap();
    };
    let capture = run_capture(config, history, status.clone(), CancellationToken::new());
    let (ended, ()) = tokio::join!(capture, failing);
    // It came as far as the source, which has no publication.
    assert_eq!(failure::code_of(&ended.unwrap_err()), Some(Code::PublicationMissing));
    assert_eq!(code(&status), Some(Code::PublicationMissing));
}

#[tokio::test]
async fn a_history_that_stays_unreadable_is_said() {
    let database = TestDatabase::create("service_unreadable").await;
    let (config, history) = bare(&database).await;
    database.exec("ALTER TABLE waldelta.captures RENAME TO elsewhere").await;
    let status = Arc::new(waldelta_capture::Status::new());
    let ended = run_capture(config, history, status.clone(), CancellationToken::new()).await;
    assert_eq!(failure::code_of(&ended.unwrap_err()), Some(Code::HistoryReadFailed));
    assert_eq!(code(&status), Some(Code::HistoryReadFailed));
}
