//! The sign of life: a row of ours that is updated at the source becomes durable, and reaches a client of a quiet database as a heartbeat
//! whose cursor lies behind it, again and again.

use waldelta_testkit::{Frame, Service};
use waldelta_wal::{Lsn, Position};

use crate::setting::{PATIENCE, Setting, config_file};

const CONFIG: &str = "
[capture]
canary_interval_ms = 200
[server]
heartbeat_ms = 150
";
const ROUNDS: usize = 5;

#[tokio::test]
async fn a_canary_becomes_durable_and_a_quiet_client_hears_of_it() {
    let mut setting = Setting::new("canary", "CREATE TABLE item (id int PRIMARY KEY)").await;
    setting.service.kill9().await;
    let config = config_file(CONFIG);
    let options = config.add_to(setting.run_options());
    setting.service = Service::start(options).await;
    let (mut socket, mut replica) = setting.client("quiet").await;
    for _ in 0..ROUNDS {
        // Nobody writes but the service: what lies behind this place is its canary.
        let end = setting.source.query_text("SELECT pg_current_wal_insert_lsn()").await;
        let (updated, end) = (updated(&setting).await, end.parse::<Lsn>().unwrap());
        let is_behind = |position: Option<Position>| position.is_some_and(|at| at.commit_lsn >= end);
        while !is_behind(replica.position()) {
            let Frame::Text(text) = socket.next_frame(PATIENCE).await else { panic!("the session ended") };
            assert!(text.contains(r#""type":"heartbeat""#), "a quiet client is told {text}");
            replica.apply(&text).unwrap();
        }
        let durable = setting.history.query_text("SELECT durable_end FROM waldelta.captures").await;
        assert!(durable.parse::<Lsn>().unwrap() > end, "a client is told of {end}, history has {durable}");
        assert_ne!(self::updated(&setting).await, updated, "the canary was updated in between");
    }
    assert_eq!(setting.history.query_text("SELECT count(*) FROM waldelta.change_history").await, "0");
}

/// When the canary was updated, as the source has it.
async fn updated(setting: &Setting) -> String {
    setting.source.query_text("SELECT string_agg(canary::text, ',') FROM waldelta.canary").await
}
