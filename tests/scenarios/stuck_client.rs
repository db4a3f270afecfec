//! A client that does not read delays nobody, costs bounded memory, and loses nothing when it comes back.

use std::time::Duration;

use tokio::time::Instant;
use waldelta_testkit::{ConnectOptions, Frame, Replica, WsClient, wait_until};

use crate::setting::{PATIENCE, Setting, all_tables, config_file, run_options, waldelta_ok, with_databases};

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY, v text)";
const TABLE: [&str; 1] = ["public.t"];
const STUCK: usize = 20;
const MB: u64 = 1 << 20;
/// What the service may need more than before while the backlog is made: the feed, a scope's frames, a batch under way,
/// one socket's buffers for each. Less than the backlog of one client.
const GROWTH_BYTES_MAX: u64 = 60 * MB;
const BACKLOG_ROWS: u64 = 16_000;
const ROW_BYTES: u64 = 4_000;
/// From the row's commit to its arrival at clients that read, in a debug build on a busy machine.
const DELAY_MAX: Duration = Duration::from_secs(5);

/// A setting with a small feed and a short time until silent clients are let go.
async fn setting(hint: &str) -> Setting {
    let source = waldelta_testkit::TestDatabase::create(hint).await;
    let history = waldelta_testkit::TestDatabase::create(&format!("{hint}_h")).await;
    source.exec(SCHEMA).await;
    waldelta_ok(&with_databases(&["init", "--apply"], &source, &history));
    let config = config_file("[history]\nfeed_bytes_max = 8000000\n[server]\nheartbeat_ms = 3000");
    let service = waldelta_testkit::Service::start(config.add_to(run_options(&source, &history))).await;
    Setting { service, source, history }
}

/// Connects one that will not read, with a small buffer so that this is soon noticed.
async fn stuck(setting: &Setting, client_id: &str, replica: &Replica) -> WsClient {
    let options = ConnectOptions { receive_buffer_bytes: Some(16 * 1024), ..ConnectOptions::default() };
    let mut socket = WsClient::try_connect(&setting.service.stream(), &options).await.unwrap();
    socket.send(&replica.hello(client_id, &[all_tables()])).await;
    socket
}

/// Writes rows `from..to` of text that does not compress, in small transactions.
async fn produce(setting: &Setting, from: u64, to: u64) {
    const STEP: u64 = 100;
    let writer = setting.source.client().await;
    for begin in (from..to).step_by(usize::try_from(STEP).unwrap()) {
        let end = (begin + STEP).min(to) - 1;
        let sql = format!(
            "INSERT INTO t SELECT i, (SELECT string_agg(md5((i * 1000 + k)::text), '') FROM generate_series(1, {}) k)
             FROM generate_series({begin}, {end}) i",
            ROW_BYTES / 32
        );
        writer.batch_execute(&sql).await.unwrap();
    }
}

/// Writes a row and waits until the client has it: how long that took.
async fn round_trip(setting: &Setting, socket: &mut WsClient, replica: &mut Replica, id: u64) -> Duration {
    let begun = Instant::now();
    setting.source.exec(&format!("INSERT INTO t VALUES ({id}, 'trip')")).await;
    let key = serde_json::json!({"id": id});
    socket
        .follow(replica, "the row is there", PATIENCE, |replica| replica.row("public.t", &key).is_some())
        .await;
    begun.elapsed()
}

#[tokio::test]
async fn clients_that_never_read_delay_nobody_and_are_let_go() {
    let setting = setting("stuck").await;
    let (mut socket, mut replica) = setting.client("reader").await;
    let mut stuck_clients = Vec::new();
    for number in 0..STUCK {
        stuck_clients.push(stuck(&setting, &format!("stuck-{number}"), &Replica::new()).await);
    }
    round_trip(&setting, &mut socket, &mut replica, 1_000_000).await;
    let before = setting.service.rss_bytes();

    let reading = async {
        let key = serde_json::json!({"id": BACKLOG_ROWS});
        let has_all = |replica: &Replica| replica.row("public.t", &key).is_some();
        socket.follow(&mut replica, "the whole backlog", 3 * PATIENCE, has_all).await;
        (socket, replica)
    };
    let ((mut socket, mut replica), ()) = tokio::join!(reading, produce(&setting, 1, BACKLOG_ROWS + 1));
    for id in 1_000_001..1_000_011 {
        let took = round_trip(&setting, &mut socket, &mut replica, id).await;
        assert!(took < DELAY_MAX, "a row took {took:?} beside clients that do not read");
    }
    let grown = setting.service.rss_peak_bytes().saturating_sub(before);
    assert!(
        grown < GROWTH_BYTES_MAX,
        "the service grew by {} MB over a backlog of {} MB",
        grown / MB,
        BACKLOG_ROWS * ROW_BYTES / MB
    );

    // The reader goes on being served while the others are let go.
    let url = "/v1/status";
    let reader_stays = async {
        wait_until("only the reader is left", 2 * PATIENCE, async || {
            let status: serde_json::Value = serde_json::from_str(&setting.service.get(url).await.1).unwrap();
            status["sessions"].as_array().unwrap().len() == 1
        })
        .await;
    };
    tokio::select! {
        () = reader_stays => {}
        () = socket.follow(&mut replica, "never", 3 * PATIENCE, |_| false) => {}
    }
    setting.equal(&mut socket, &mut replica, &TABLE).await;

    // What the stuck ones then find: all that was on its way, and an end.
    for (number, mut socket) in stuck_clients.into_iter().enumerate().step_by(STUCK / 2) {
        let mut replica = Replica::new();
        let code = loop {
            match socket.next_frame(PATIENCE).await {
                Frame::Text(text) => replica.apply(&text).unwrap(),
                Frame::Closed { code, .. } => break code,
            }
        };
        assert!(code == 4418 || code == 1006, "closed with {code}");
        // From where it got to, it has everything in the end.
        let mut socket = setting.resume(&format!("stuck-{number}"), &mut replica).await;
        setting.equal(&mut socket, &mut replica, &TABLE).await;
        assert!(replica.resets().is_empty(), "its cursor was good");
    }
}

#[tokio::test]
async fn a_client_that_pauses_gets_everything_when_it_reads_again() {
    let setting = setting("paused").await;
    let mut replica = Replica::new();
    let mut socket = stuck(&setting, "paused", &replica).await;
    socket.follow(&mut replica, "it is live", PATIENCE, Replica::is_live).await;
    let frame_before = replica.transactions();
    // More than the feed and the socket hold, while it does not read.
    produce(&setting, 1, 6_001).await;
    setting.settled().await;
    assert_eq!(replica.transactions(), frame_before);
    setting.equal(&mut socket, &mut replica, &TABLE).await;
    assert_eq!(replica.rows("public.t").len(), 6_000);
    round_trip(&setting, &mut socket, &mut replica, 1_000_000).await;
}
