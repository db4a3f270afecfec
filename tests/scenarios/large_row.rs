//! One row of 100 MB: history gets it whole, clients get a reference to its value, and the memory that it takes on the way has a bound
//! and is given back.

use serde_json::json;
use waldelta_testkit::{TestCluster, TestDatabase, wait_until};

use crate::setting::{PATIENCE, Setting};

const VALUE_BYTES: u64 = 100 << 20;
/// How often the row may be in memory at the same time: as it is received, as it is stored, as it is read back, as it is sent.
const COPIES_MAX: u64 = 6;

#[tokio::test]
async fn of_100_megabytes_takes_a_bounded_amount_of_memory() {
    // A server of its own: others would wait for this WAL.
    let cluster = TestCluster::own(&[]).await;
    let source = TestDatabase::create_on(&cluster, "large_row").await;
    let history = TestDatabase::create_on(&cluster, "large_row_h").await;
    let schema = "CREATE TABLE item (id int PRIMARY KEY, value text NOT NULL)";
    let setting = Setting::over(source, history, schema).await;
    let (mut socket, mut replica) = setting.client("web").await;
    let idle = setting.service.rss_peak_bytes();

    setting.source.exec(&format!("INSERT INTO item SELECT 1, repeat('é', {} / 2)", VALUE_BYTES)).await;
    socket
        .follow(&mut replica, "it has the row", PATIENCE, |replica| {
            replica.row("public.item", &json!({"id": 1})).is_some()
        })
        .await;
    let row = replica.row("public.item", &json!({"id": 1})).unwrap();
    // With the quotes around it.
    assert_eq!(row["value"]["$too_large"]["bytes"], VALUE_BYTES + 2, "{row}");
    let stored = "SELECT length(data::jsonb ->> 'value') FROM waldelta.change_history WHERE table_name = 'public.item'";
    assert_eq!(setting.history.query_text(stored).await, (VALUE_BYTES / 2).to_string());

    let grown = setting.service.rss_peak_bytes() - idle;
    assert!(grown < COPIES_MAX * VALUE_BYTES, "it took {} MB", grown >> 20);
    wait_until("the memory is given back", PATIENCE, async || {
        setting.service.rss_bytes() < idle + VALUE_BYTES
    })
    .await;
}
