//! Starting capture on a history that does not answer as it should.

use waldelta_history::History;
use waldelta_pgconn::{Environment, Target};
use waldelta_source::Source;
use waldelta_testkit::{TestDatabase, wait_until};
use waldelta_wal::{Code, ValuePolicy};

use super::capturing::{begin_unless_begun, follow, run_capture};
use super::following;
use super::reloading::Reloads;
use super::serving::watch_head;
use super::*;
use crate::config::Config;
use crate::role::Role;
use crate::status::{Recent, Watched};

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
            primary: None,
        },
        holder: "test".to_owned(),
        stall_timeout: Duration::from_secs(5),
        feedback_interval: Duration::from_secs(1),
        canary_interval: Duration::ZERO,
        batch_rows_max: 1_000,
        batch_bytes_max: 1 << 20,
        on_gap: waldelta_capture::OnGap::default(),
        takeover_after: Duration::from_secs(20),
    };
    (capture, History::open(&history).await.unwrap())
}

fn code(status: &waldelta_capture::Status) -> Option<Code> {
    match status.read().state {
        State::Stopped { code, .. } => Some(code),
        _ => None,
    }
}

/// The same, set up and begun.
async fn begun(database: &TestDatabase) -> (waldelta_capture::Config, History) {
    let (config, history) = bare(database).await;
    let client = config.source.connect().await.unwrap();
    let wish = waldelta_source::setup::Wish::default();
    let plan = waldelta_source::setup::plan(&client, &config.source, &wish).await.unwrap();
    waldelta_source::setup::apply(&client, &config.source, &plan.without_slot()).await.unwrap();
    begin_unless_begun(&config.source, &history).await.unwrap();
    (config, history)
}

async fn stopped(status: &waldelta_capture::Status, with: Code) {
    wait_until("it has stopped", PATIENCE, async || code(status) == Some(with)).await;
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
    let stop = CancellationToken::new();
    let stopping = async {
        failing.await;
        // It comes as far as the source, which has no publication.
        stopped(&status, Code::PublicationMissing).await;
        stop.cancel();
    };
    let capture = run_capture(config, history, status.clone(), Pauses::new(), stop.clone());
    let (ended, ()) = tokio::join!(capture, stopping);
    assert_eq!(failure::code_of(&ended.unwrap_err()), Some(Code::PublicationMissing));
}

#[tokio::test]
async fn a_history_that_stays_unreadable_is_said() {
    let database = TestDatabase::create("service_unreadable").await;
    let (config, history) = bare(&database).await;
    database.exec("ALTER TABLE waldelta.captures RENAME TO elsewhere").await;
    let status = Arc::new(waldelta_capture::Status::new());
    let stop = CancellationToken::new();
    let stopping = async {
        stopped(&status, Code::HistoryReadFailed).await;
        stop.cancel();
    };
    let capture = run_capture(config, history, status.clone(), Pauses::new(), stop.clone());
    let (ended, ()) = tokio::join!(capture, stopping);
    assert_eq!(failure::code_of(&ended.unwrap_err()), Some(Code::HistoryReadFailed));
}

#[tokio::test]
async fn what_stood_in_the_way_at_the_beginning_may_be_taken_away() {
    let database = TestDatabase::create("service_begins").await;
    let (config, history) = bare(&database).await;
    let (status, stop) = (Arc::new(waldelta_capture::Status::new()), CancellationToken::new());
    let helping = async {
        stopped(&status, Code::PublicationMissing).await;
        let client = config.source.connect().await.unwrap();
        let wish = waldelta_source::setup::Wish::default();
        let plan = waldelta_source::setup::plan(&client, &config.source, &wish).await.unwrap();
        waldelta_source::setup::apply(&client, &config.source, &plan.without_slot()).await.unwrap();
        wait_until("it streams", PATIENCE, async || status.read().state == State::Streaming).await;
        stop.cancel();
    };
    let capture = run_capture(config.clone(), history, status.clone(), Pauses::new(), stop.clone());
    let (ended, ()) = tokio::join!(capture, helping);
    ended.unwrap();
}

#[tokio::test]
async fn a_history_that_goes_back_ends_the_service() {
    let database = TestDatabase::create("service_back").await;
    let (_, history) = begun(&database).await;
    let (status, stop) = (Arc::new(waldelta_capture::Status::new()), CancellationToken::new());
    let restoring = async {
        wait_until("it follows", PATIENCE, async || {
            let listening = "SELECT count(*) FROM pg_stat_activity
                WHERE application_name = 'waldelta-history-listen' AND datname = current_database()";
            database.query_text(listening).await == "1"
        })
        .await;
        database.exec("UPDATE waldelta.captures SET durable_end = '0/1'").await;
    };
    let following = follow(history.clone(), status, stop.clone());
    let watching = async {
        let ended = tokio::time::timeout(PATIENCE, watch_head(history, stop.clone())).await;
        stop.cancel();
        ended.unwrap()
    };
    let (watched, followed, ()) = tokio::join!(watching, following, restoring);
    followed.unwrap();
    assert_eq!(failure::code_of(&watched.unwrap_err()), Some(Code::HistoryWentBack));
}

/// Ready, then not while what another instance writes cannot be read, then ready again. Its code and words.
async fn is_unready_while_it_cannot_follow(
    database: &TestDatabase,
    observer: &Observer,
    told: impl Fn(&crate::status::Status) -> (Option<String>, Option<String>),
) {
    wait_until("it is ready", PATIENCE, async || observer.read().ready).await;
    database.exec("ALTER TABLE waldelta.change_history RENAME TO elsewhere").await;
    database.exec("UPDATE waldelta.captures SET durable_end = durable_end + 8").await;
    wait_until("it is not ready", PATIENCE, async || !observer.read().ready).await;
    let (code, message) = told(&observer.read());
    assert_eq!(code.as_deref(), Some("WD-HISTORY-READ-FAILED"));
    let message = message.unwrap();
    assert!(message.starts_with("history could not be followed for "), "{message}");
    assert!(message.contains("change_history"), "the database's words: {message}");
    let (ready, text) = crate::http::readiness(&observer.read(), false);
    assert!(!ready && text.contains("WD-HISTORY-READ-FAILED") && text.contains(&message[..30]), "{text}");
    database.exec("ALTER TABLE waldelta.elsewhere RENAME TO change_history").await;
    wait_until("it is ready again", PATIENCE, async || observer.read().ready).await;
}

#[tokio::test]
async fn a_fanout_process_that_cannot_follow_is_not_ready() {
    let database = TestDatabase::create("service_unfollowed").await;
    let (_, history) = begun(&database).await;
    let watched = Arc::new(Watched::new());
    let observer = Observer {
        role: Role::Fanout,
        history: history.clone(),
        capture: None,
        writer: Some(watched.clone()),
        fanout: None,
        config: Arc::new(Reloads::new(Config::default())),
        unfollowed_max: Duration::ZERO,
        lag_seconds_max: 0.0,
        recent: Recent::default(),
    };
    let stop = CancellationToken::new();
    let watching = async {
        let told = |status: &crate::status::Status| {
            let writer = status.writer.clone().unwrap();
            (writer.code, writer.message)
        };
        is_unready_while_it_cannot_follow(&database, &observer, told).await;
        stop.cancel();
    };
    let (followed, looked, ()) = tokio::join!(
        following::follow(history.clone(), stop.clone()),
        following::watch_writer(history, watched, stop.clone()),
        watching
    );
    followed.and(looked).unwrap();
}

#[tokio::test]
async fn an_instance_that_stands_by_and_cannot_follow_is_not_ready() {
    let database = TestDatabase::create("service_standby").await;
    let (config, history) = begun(&database).await;
    let _writer = bare(&database).await.1.writer("the other").await.unwrap();
    let capture = Arc::new(waldelta_capture::Status::new());
    let mut observer = Observer {
        role: Role::All,
        history: history.clone(),
        capture: Some(capture.clone()),
        writer: None,
        fanout: None,
        config: Arc::new(Reloads::new(Config::default())),
        unfollowed_max: Duration::ZERO,
        lag_seconds_max: 0.0,
        recent: Recent::default(),
    };
    let stop = CancellationToken::new();
    let watching = async {
        let told = |status: &crate::status::Status| {
            let capture = status.capture.as_ref().unwrap();
            assert_eq!(capture.state, "standby");
            (capture.code.clone(), capture.message.clone())
        };
        is_unready_while_it_cannot_follow(&database, &observer, told).await;
        // What passes sooner is none of its business.
        observer.unfollowed_max = PATIENCE;
        database.exec("ALTER TABLE waldelta.change_history RENAME TO elsewhere").await;
        database.exec("UPDATE waldelta.captures SET durable_end = durable_end + 8").await;
        wait_until("it fails again", PATIENCE, async || history.follow_failure().is_some()).await;
        assert!(observer.read().ready);
        stop.cancel();
    };
    let (ran, followed, ()) = tokio::join!(
        run_capture(config, history.clone(), capture.clone(), Pauses::new(), stop.clone()),
        follow(history.clone(), capture.clone(), stop.clone()),
        watching
    );
    ran.and(followed).unwrap();
}
