//! Many clients at once: an idle one costs little, and when the service is started again all of them come back and go on.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use waldelta_testkit::{Frame, WsClient};

use crate::setting::{PATIENCE, Setting};

const CLIENTS: u64 = 300;
/// Of a debug build, with everything that the kernel does not hold.
const IDLE_BYTES_MAX: u64 = 64 * 1024;

/// Follows until the row of this id has come, through every end of the connection: the ids that came, in order.
async fn follow(url: String, number: u64, mut after: String, last: u64) -> Vec<u64> {
    let mut got = Vec::new();
    while got.last() != Some(&last) {
        let Ok(mut socket) = WsClient::try_connect(&url, &Default::default()).await else {
            // As a client does that finds nobody there.
            tokio::time::sleep(Duration::from_millis(100 + number % 400)).await;
            continue;
        };
        let hello = json!({"type": "hello", "client_id": format!("c{number}"), "after": after, "snapshot": false,
                           "subscriptions": [{"id": "s1", "table": "public.t"}]});
        socket.send(&hello).await;
        let retry_ms = loop {
            let frame: Value = match socket.next_frame(PATIENCE).await {
                Frame::Text(text) => serde_json::from_str(&text).unwrap(),
                Frame::Closed { code, reason } => {
                    assert!([1006, 1012, 1013].contains(&code), "{code} {reason}");
                    let reason: Value = serde_json::from_str(&reason).unwrap_or_default();
                    break reason["retry_ms"].as_u64().unwrap_or(100);
                }
            };
            if let Some(cursor) = frame["cursor"].as_str().filter(|_| frame["last"] != false) {
                after = cursor.to_owned();
            }
            for change in frame["changes"].as_array().into_iter().flatten() {
                got.push(change["key"]["id"].as_u64().unwrap());
            }
            if got.last() == Some(&last) {
                return got;
            }
        };
        tokio::time::sleep(Duration::from_millis(retry_ms)).await;
    }
    got
}

async fn sessions(setting: &Setting) -> usize {
    let status: Value = serde_json::from_str(&setting.service.get("/v1/status").await.1).unwrap();
    let live = |session: &&Value| session["state"] == "live";
    status["sessions"].as_array().unwrap().iter().filter(live).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_costs_little_and_comes_back_together() {
    let mut setting = Setting::new("crowd", "CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    setting.source.exec("INSERT INTO t VALUES (0, 'first')").await;
    setting.settled().await;
    let head: Value = serde_json::from_str(&setting.service.get("/v1/status").await.1).unwrap();
    let head = head["history"]["head"].as_str().unwrap().to_owned();
    let before = setting.service.rss_bytes();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(follow(setting.service.stream(), number, head.clone(), 60));
    }
    let all_live = async |setting: &Setting| {
        waldelta_testkit::wait_until("all are live", PATIENCE, async || {
            sessions(setting).await == CLIENTS as usize
        })
        .await;
    };
    all_live(&setting).await;
    let each = setting.service.rss_bytes().saturating_sub(before) / CLIENTS;
    assert!(each < IDLE_BYTES_MAX, "{each} bytes for each idle client");

    let write = async |setting: &Setting, ids: std::ops::Range<u64>| {
        for id in ids {
            setting.source.exec(&format!("INSERT INTO t VALUES ({id}, 'x')")).await;
        }
    };
    write(&setting, 1..21).await;
    assert!(setting.service.stop().await.success());
    write(&setting, 21..41).await;
    setting.service.start_again().await;
    all_live(&setting).await;
    write(&setting, 41..61).await;
    let following = async {
        while let Some(got) = clients.join_next().await {
            assert_eq!(got.unwrap(), (1..61).collect::<Vec<_>>(), "each change once, in order");
        }
    };
    tokio::time::timeout(PATIENCE, following).await.expect("all have everything");
}
