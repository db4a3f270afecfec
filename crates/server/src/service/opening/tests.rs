//! What is answered before history is open.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use waldelta_history::Captured;
use waldelta_pgconn::{Environment, Target};
use waldelta_source::Plugin;
use waldelta_testkit::{TestDatabase, wait_until};
use waldelta_wal::{EndLsn, Lsn, ValuePolicy};

use super::*;
use crate::config::Config;
use crate::open_files::OpenFiles;
use crate::role::Role;
use crate::service::{Outcome, Service, StopSignals};

const PATIENCE: Duration = Duration::from_secs(30);
/// The lock under which the schema of history changes.
const LOCK: &str = "SELECT pg_advisory_lock(x'57414C44454C544D'::bigint)";
const UNLOCK: &str = "SELECT pg_advisory_unlock(x'57414C44454C544D'::bigint)";

fn databases(url: &str) -> (waldelta_history::Config, Source) {
    let target = Target::parse(url, &Environment::default()).unwrap();
    let source = Source {
        target: target.clone(),
        publication: "waldelta".to_owned(),
        slot: "waldelta".to_owned(),
        plugin: Plugin::default(),
        values: ValuePolicy::default(),
        primary: None,
    };
    let history = waldelta_history::Config {
        target,
        feed_bytes_max: 1 << 20,
        connections_max: 2,
        partition_bytes: 1 << 30,
    };
    (history, source)
}

fn opening() -> (Opening, SocketAddr) {
    let mut config = Config::default();
    config.server.listen.set_port(0);
    let listeners = Listeners::bind(&config, OpenFiles::to_be_had()).unwrap();
    let address = listeners.clients.address().unwrap();
    (
        Opening::begin(waldelta_fanout::Policy::default(), listeners, CancellationToken::new()).unwrap(),
        address,
    )
}

/// A whole answer on a connection that the client would keep: it ends because the other side ends it.
async fn ask(address: SocketAddr, path: &str) -> String {
    ask_with(address, path, "").await
}

async fn ask_with(address: SocketAddr, path: &str, header: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{header}\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn a_process_lives_and_says_what_it_waits_for_while_history_is_opened() {
    let database = TestDatabase::create("opening").await;
    let migrating = database.client().await;
    migrating.batch_execute(LOCK).await.unwrap();
    let (opening, address) = opening();
    let (config, mut source) = databases(database.url());
    let watching = async {
        wait_until("it says what it waits for", PATIENCE, async || {
            let answer = ask(address, "/readyz").await;
            assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: "), "{answer}");
            answer.contains(
                "starting: waiting until another process has brought the schema of history up to date",
            )
        })
        .await;
        let answer = ask(address, "/livez").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok\n"), "{answer}");
        for path in ["/v1/stream", "/v1/changes", "/v1/status", "/metrics", "/"] {
            let answer = ask(address, path).await;
            assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"WD-STARTING\""), "{answer}");
            assert!(answer.contains("retry-after: "), "{answer}");
        }
        migrating.batch_execute(UNLOCK).await.unwrap();
    };
    let (history, ()) = tokio::join!(opening.history(&config, &mut source), watching);
    assert_eq!(history.unwrap().captured().await.unwrap(), None);

    // The service takes over on the same socket, and no request in between is without an answer.
    let Opening { supervisor, listeners, stop, opened, .. } = opening;
    let app = Router::new().route("/livez", get(async || closing("the service\n")));
    let serving = listeners.clients.serve(app, stop.clone());
    let asking = async {
        for number in 0..50 {
            if number == 10 {
                opened.cancel();
            }
            let answer = ask(address, "/livez").await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        wait_until("the service answers", PATIENCE, async || {
            ask(address, "/livez").await.ends_with("the service\n")
        })
        .await;
        for _ in 0..20 {
            assert!(ask(address, "/livez").await.ends_with("the service\n"), "it alone accepts");
        }
        stop.cancel();
    };
    let (served, ()) = tokio::join!(serving, asking);
    served.unwrap();
    assert!(supervisor.stop(PATIENCE).await.is_empty());
}

#[tokio::test]
async fn a_database_that_is_out_of_reach_is_named_while_it_is_waited_for() {
    let (opening, address) = opening();
    let (config, mut source) = databases("postgresql://postgres@127.0.0.1:1/nowhere");
    let stop = opening.stop.clone();
    let watching = async {
        wait_until("the failure is told", PATIENCE, async || {
            let answer = ask(address, "/readyz").await;
            answer.starts_with("HTTP/1.1 503 ")
                && answer.contains("waiting until the history database answers")
                && answer.contains("the last try failed: WD-HISTORY-UNREACHABLE: ")
        })
        .await;
        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200 "));
        let elsewhere = "GET /readyz HTTP/1.1\r\nHost: rebound.example.com\r\nConnection: close\r\n\r\n";
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(elsewhere.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 403 "), "not to every web page: {answer}");
        stop.cancel();
    };
    let (history, ()) = tokio::join!(opening.history(&config, &mut source), watching);
    assert!(history.is_err());
}

/// A partition from before the index, as a migration leaves it.
const OLDER: &str = "DROP INDEX waldelta.change_history_time_idx;
    CREATE TABLE waldelta.change_history_e1_0000000000000000
        (LIKE waldelta.change_history INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE);
    ALTER TABLE waldelta.change_history ATTACH PARTITION waldelta.change_history_e1_0000000000000000
        FOR VALUES FROM (1, '0/0') TO (1, '0/40000000');
    CREATE INDEX change_history_time_idx ON ONLY waldelta.change_history USING brin (lsn, \"timestamp\")";

#[tokio::test]
async fn the_service_takes_over_and_builds_the_indexes_that_are_missing() {
    let database = TestDatabase::create("opening_indexes").await;
    let mut config = Config::default();
    config.source.url = database.url().to_owned();
    config.server.role = Role::Fanout;
    let (history_config, mut source) = (config.history().unwrap(), config.source().unwrap());
    let captured = Captured {
        system_id: 1,
        timeline: 1,
        database_oid: 1,
        slot: "s".to_owned(),
        publication: "p".to_owned(),
    };
    let history = History::open(&history_config).await.unwrap();
    history.begin(&captured, EndLsn(Lsn(0x1000)), "test").await.unwrap();
    database.exec(OLDER).await;
    // A build waits for every older snapshot.
    let blocker = database.client().await;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM waldelta.captures";
    blocker.batch_execute(begin).await.unwrap();

    let (opening, address) = opening();
    let stop = opening.stop.clone();
    let history = opening.history(&history_config, &mut source).await.unwrap();
    let begun = Instant::now();
    let service = Service::start(config, source, history, opening, None).await.unwrap();
    let get = async |path| ask_with(address, path, "Connection: close\r\n").await;
    let since = "/v1/changes?since=2020-01-01T00:00:00Z";
    let asking = async {
        wait_until("it is ready", PATIENCE, async || get("/readyz").await.starts_with("HTTP/1.1 200 ")).await;
        wait_until("it builds", PATIENCE, async || {
            let building =
                "SELECT count(*) FROM pg_stat_progress_create_index WHERE datname = current_database()";
            database.query_text(building).await == "1"
        })
        .await;
        let refused = get(since).await;
        assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("retry-after: "), "{refused}");
        assert!(refused.contains("\"WD-INDEXES-MISSING\""), "{refused}");
        let everything = get("/v1/changes").await;
        assert!(everything.starts_with("HTTP/1.1 200 "), "what needs no index is served: {everything}");
        blocker.batch_execute("COMMIT").await.unwrap();
        wait_until("times are looked up", PATIENCE, async || get(since).await.starts_with("HTTP/1.1 200 "))
            .await;
        // What was there for the beginning has ended by then, and the service has not.
        wait_until("it lives on", PATIENCE, async || {
            get("/livez").await.ends_with("ok\n") && begun.elapsed() > Duration::from_secs(3)
        })
        .await;
        assert!(!stop.is_cancelled());
        stop.cancel();
    };
    let mut signals = StopSignals::listen().unwrap();
    let (ended, ()) = tokio::join!(service.wait(&mut signals), asking);
    assert_eq!(ended.unwrap(), Outcome::Stopped);
}
