//! What a recorder keeps of a history, on a real database.

use waldelta_testkit::TestDatabase;
use waldelta_testkit::recorder::HistoryLog;

#[tokio::test]
async fn an_end_that_went_back_is_known_when_it_has_gone_on_since() {
    let history = TestDatabase::create("ends").await;
    history
        .exec(
            "CREATE SCHEMA waldelta; CREATE TABLE waldelta.captures (epoch int, durable_end pg_lsn);
            INSERT INTO waldelta.captures VALUES (1, '0/10')",
        )
        .await;
    HistoryLog::record_ends(&history).await;
    let go = async |epoch: u32, end: &str| {
        let sql = format!("UPDATE waldelta.captures SET epoch = {epoch}, durable_end = '{end}'");
        history.exec(&sql).await;
    };
    go(1, "0/20").await;
    go(1, "0/20").await;
    // LSNs of another epoch are others.
    go(2, "0/5").await;
    assert!(HistoryLog::went_back(&history).await.is_empty());
    go(2, "0/4").await;
    go(2, "0/30").await;
    assert_eq!(HistoryLog::went_back(&history).await, ["2 0/4"]);
}
