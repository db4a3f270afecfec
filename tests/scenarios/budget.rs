//! What the slot costs the source is told while nobody reads it: what it retains, how long it can wait, that it is lost; and how
//! far behind clients are grows with the clock.

use serde_json::Value;
use waldelta_testkit::{Service, TestCluster, TestDatabase, wait_until};

use crate::setting::{PATIENCE, Setting, waldelta};

const SCHEMA: &str = "CREATE TABLE item (id int PRIMARY KEY, value text)";
/// A checkpoint that runs by itself must not end the slot before the test looks.
const SETTINGS: &[(&str, &str)] =
    &[("max_slot_wal_keep_size", "32MB"), ("min_wal_size", "32MB"), ("max_wal_size", "4GB")];
/// More than that.
const FILL: &str =
    "SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1000000)) FROM generate_series(1, 120)";
const FILL_BYTES: u64 = 120_000_000;

async fn status(service: &Service) -> Value {
    serde_json::from_str(&service.get("/v1/status").await.1).unwrap()
}

#[tokio::test]
async fn of_a_slot_that_nobody_reads() {
    let cluster = TestCluster::own(SETTINGS).await;
    let source = TestDatabase::create_on(&cluster, "budget").await;
    let history = TestDatabase::create("budget_h").await;
    let mut setting = Setting::over(source, history, SCHEMA).await;
    setting.source.exec("INSERT INTO item VALUES (1, 'stored')").await;
    setting.settled().await;
    wait_until("the slot's room is known", PATIENCE, async || {
        let slot = status(&setting.service).await["slot"].clone();
        slot["verdict"] == "ok" && slot["active"] == true && slot["safe_wal_bytes"].is_u64()
    })
    .await;

    // Capture is stopped for good: the slot was told more than history has.
    setting.service.stop().await;
    let slot = setting.source.slot("slot");
    setting.source.exec("INSERT INTO item VALUES (2, 'skipped')").await;
    let advance = format!("SELECT end_lsn FROM pg_replication_slot_advance('{slot}', pg_current_wal_lsn())");
    setting.source.query_text(&advance).await;
    let mut service = Service::spawn(setting.run_options());
    wait_until("capture has stopped", PATIENCE, async || {
        matches!(service.log().matches("capture has stopped").count(), 1..)
            && status(&service).await["capture"]["name"] == "slot_ahead"
    })
    .await;
    let before = status(&service).await["slot"]["retained_bytes"].as_u64();
    setting.source.exec(FILL).await;
    // A look may come in the middle of it.
    let filled = before.map(|bytes| bytes + FILL_BYTES);
    wait_until("the slot is in danger", PATIENCE, async || {
        let status = status(&service).await;
        let slot = &status["slot"];
        let is_full = slot["retained_bytes"].as_u64() > filled;
        is_full && slot["verdict"] == "critical" && slot["wal_bytes_per_second"].as_u64() > Some(0)
    })
    .await;
    let endangered = status(&service).await;
    let slot = &endangered["slot"];
    assert_eq!(slot["active"], false, "{slot}");
    assert_eq!(slot["seconds_until_lost"], 0, "{slot}");
    assert!(slot["fix"].as_str().unwrap().contains("max_slot_wal_keep_size"), "{slot}");
    assert!(endangered["capture"]["lag_bytes"].as_u64() > Some(FILL_BYTES), "{endangered}");
    let log = service.log();
    assert!(log.contains("WD-SLOT-RETENTION") && log.contains("max_slot_wal_keep_size"), "{log}");
    assert!(service.get("/readyz?verbose").await.1.contains("slot critical "));
    let url = service.http("");
    let shown = waldelta(&["status".to_owned(), "--url".to_owned(), url]).1;
    assert!(shown.contains("(slot_ahead)") && shown.contains("CRITICAL: "), "{shown}");
    let metrics = service.get("/metrics").await.1;
    for line in [
        "waldelta_capture_named_state{name=\"slot_ahead\"} 1",
        "waldelta_slot_verdict{verdict=\"critical\"} 1",
        "waldelta_slot_retained_bytes ",
        "waldelta_slot_safe_bytes ",
        "waldelta_slot_seconds_until_lost ",
        "waldelta_source_wal_bytes_per_second ",
    ] {
        assert!(metrics.contains(line), "{line}:\n{metrics}");
    }

    setting.source.exec("CHECKPOINT").await;
    wait_until("the slot is lost", PATIENCE, async || status(&service).await["slot"]["verdict"] == "lost")
        .await;
    let slot = status(&service).await["slot"].clone();
    assert!(slot["invalidation"].is_string(), "{slot}");
    assert!(service.log().contains("WD-SLOT-LOST"), "{}", service.log());
    // It is another state by now: both are told once.
    wait_until("capture has seen it too", PATIENCE, async || {
        let capture = status(&service).await["capture"].clone();
        capture["state"] == "stopped" && capture["name"] == "slot_lost"
    })
    .await;
    let stops = async || service.log().matches("capture has stopped").count() == 2;
    wait_until("that is in the log", PATIENCE, stops).await;
    assert_eq!(service.stop().await.code(), Some(3));
}

#[tokio::test]
async fn lag_grows_while_the_source_is_away() {
    let cluster = TestCluster::own(&[]).await;
    let source = TestDatabase::create_on(&cluster, "lag").await;
    let history = TestDatabase::create("lag_h").await;
    let setting = Setting::over(source, history, SCHEMA).await;
    setting.source.exec("INSERT INTO item VALUES (1, 'stored')").await;
    setting.settled().await;
    let lag = async || status(&setting.service).await["capture"]["lag_seconds"].as_f64();
    wait_until("all is durable", PATIENCE, async || lag().await == Some(0.0)).await;
    cluster.kill9().await;
    for seconds in [0.5, 1.0, 2.0] {
        wait_until("lag grows", PATIENCE, async || lag().await > Some(seconds)).await;
    }
    assert!(status(&setting.service).await["slot"].is_null(), "nothing is known of it");
    cluster.up().await;
    setting.source.exec("INSERT INTO item VALUES (2, 'stored too')").await;
    wait_until("all is durable again", PATIENCE, async || lag().await == Some(0.0)).await;
}
