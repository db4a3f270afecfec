//! The main job on real input: PostgreSQL's own load generator, with clients that come, stay and go.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use waldelta_testkit::{Frame, Replica, Service, TestDatabase, WsClient, connect, pgbench, source_rows};

use crate::fold::{assert_same, folded};
use crate::setting::{PATIENCE, Setting, run_options, waldelta_ok, with_databases};

/// Connections of pgbench.
const CLIENTS: u32 = 4;
const SOAK_VARIABLE: &str = "WALDELTA_SOAK_SECONDS";
const SECONDS_DEFAULT: u64 = 6;

/// How long pgbench runs.
#[expect(clippy::disallowed_methods, reason = "the length of a soak is given by whoever starts it")]
fn duration() -> Duration {
    let seconds = std::env::var(SOAK_VARIABLE).map_or(SECONDS_DEFAULT, |text| text.parse().unwrap());
    Duration::from_secs(seconds)
}

/// Follows until then, whatever comes. A client that does not read is let go, so each reads while there is load.
async fn follow_until(socket: &mut WsClient, replica: &mut Replica, until: Instant) {
    while let Some(frame) = socket.frame_within(until.saturating_duration_since(Instant::now())).await {
        match frame {
            Frame::Text(text) => {
                replica.apply(&text).unwrap_or_else(|violation| panic!("{}: {text}", violation.0));
                // The clients share a task: one that is behind must not keep the others from saying hello in time.
                tokio::task::yield_now().await;
            }
            closed @ Frame::Closed { .. } => panic!("{closed:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_client_and_history_equal_the_source_after_pgbench() {
    let (source, history) = (TestDatabase::create("pgbench").await, TestDatabase::create("pgbench_h").await);
    pgbench::init(source.url(), 1).await;
    // Comparing copies of all 100,000 would take longer than the rest. Updates of those that are gone find nothing.
    source.exec("DELETE FROM pgbench_accounts WHERE aid > 25000").await;
    // pgbench_history has no key and is only inserted into.
    waldelta_ok(&with_databases(&["init", "--baseline", "--allow-keyless"], &source, &history));
    let service = Service::start(run_options(&source, &history)).await;
    let setting = Setting { service, source, history };

    let time = duration();
    let (mut socket, mut early) = setting.client("early").await;
    let (mut leaving_socket, mut leaving) = setting.client("leaving").await;
    let (begun, over) = (Instant::now(), Instant::now() + time);
    let load = pgbench::run(setting.source.url(), CLIENTS, time);
    let from_the_start = async {
        follow_until(&mut socket, &mut early, over).await;
        (socket, early)
    };
    let late = async {
        tokio::time::sleep(time / 3).await;
        let (mut socket, mut replica) = setting.client("late").await;
        follow_until(&mut socket, &mut replica, over).await;
        (socket, replica)
    };
    let leaving_and_coming_back = async {
        follow_until(&mut leaving_socket, &mut leaving, begun + time / 4).await;
        drop(leaving_socket);
        tokio::time::sleep(time / 4).await;
        let mut socket = setting.resume("leaving", &mut leaving).await;
        follow_until(&mut socket, &mut leaving, over).await;
        (socket, leaving)
    };
    let all = async { tokio::join!(load, from_the_start, late, leaving_and_coming_back) };
    let (report, early, late, back) = timeout(time * 4 + PATIENCE, Box::pin(all)).await.unwrap();

    setting.settled().await;
    let (from, to) = (connect(setting.source.url()).await, connect(setting.history.url()).await);
    let transactions =
        from.query_one("SELECT count(*) FROM pgbench_history", &[]).await.unwrap().get::<_, i64>(0);
    assert!(transactions > 0, "{report}");
    for (name, (mut socket, mut replica)) in [("early", early), ("late", late), ("back", back)] {
        setting.equal(&mut socket, &mut replica, &pgbench::TABLES).await;
        assert!(replica.resets().is_empty() && replica.errors().is_empty(), "{name}");
    }
    for table in pgbench::TABLES {
        assert_same(table, &folded(&to, table, None).await, &source_rows(&from, table).await);
    }
    setting.history_is_gapless().await;
}
