//! A client has one session: a newer connection of it ends the older one, whichever processes of one history they come to.

use std::time::Duration;

use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};
use waldelta_testkit::{Route, Service, ServiceOptions, TestDatabase, WsClient, wait_until};

use crate::roles::in_role;
use crate::setting::{PATIENCE, Setting};

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY, v text)";

/// A process of role `all`, which writes, and another one that only serves clients.
async fn two(hint: &str) -> (Setting, Service) {
    let setting = Setting::new(hint, SCHEMA).await;
    let second = Service::start(in_role("fanout", &setting.source, &setting.history)).await;
    (setting, second)
}

/// A session at the head.
pub async fn live(service: &Service, client_id: &str) -> WsClient {
    let mut socket = WsClient::connect(&service.stream()).await;
    let subscriptions = [json!({"id": "s1", "table": "public.t"})];
    let hello =
        json!({"type": "hello", "client_id": client_id, "subscriptions": subscriptions, "snapshot": false});
    socket.send(&hello).await;
    socket.next_of_type("live", PATIENCE).await;
    socket
}

pub async fn is_replaced(socket: &mut WsClient) {
    let (code, reason) = socket.closed(PATIENCE).await;
    assert!(code == 4409 && reason.contains("WD-CLIENT-REPLACED"), "{code} {reason}");
}

/// That its session goes on.
pub async fn is_served(socket: &mut WsClient) {
    socket.send(&json!({"type": "ping", "n": 7})).await;
    socket.next_of_type("pong", PATIENCE).await;
}

/// Waits until it is written that the newest connection of a client is above this number; which it is.
async fn connection_above(history: &TestDatabase, client_id: &str, number: i64) -> i64 {
    let sql =
        format!("SELECT coalesce(max(connection), 0) FROM waldelta.clients WHERE client_id = '{client_id}'");
    let mut found = 0;
    wait_until("the connection is written", PATIENCE, async || {
        found = history.query_text(&sql).await.parse().unwrap();
        found > number
    })
    .await;
    found
}

#[tokio::test]
async fn the_newest_connection_of_a_client_wins_whichever_process_it_comes_to() {
    let (setting, second) = two("replaced").await;
    let mut bystanders = [live(&setting.service, "first").await, live(&second, "second").await];
    let mut socket = live(&setting.service, "web-7").await;
    // There and back, and once more where it is.
    for service in [&second, &setting.service, &setting.service, &second, &setting.service] {
        let mut newer = live(service, "web-7").await;
        is_replaced(&mut socket).await;
        is_served(&mut newer).await;
        socket = newer;
    }
    for bystander in &mut bystanders {
        is_served(bystander).await;
    }
    // One that came back by itself, without any that it could replace.
    socket.close().await;
    let mut socket = live(&second, "web-7").await;
    setting.source.exec("INSERT INTO t VALUES (1, 'x')").await;
    socket.next_of_type("tx", PATIENCE).await;
    // It was drawn before the session was live; with whom else came it is written a moment later.
    let drawn = "SELECT last_value FROM waldelta.client_connections";
    let newest: i64 = setting.history.query_text(drawn).await.parse().unwrap();
    let number = connection_above(&setting.history, "web-7", newest - 1).await;

    // A session is written once, and none is while it goes on.
    let written = "SELECT string_agg(client_id || ':' || xmin, ',' ORDER BY client_id) FROM waldelta.clients";
    let before = setting.history.query_text(written).await;
    for id in 2..50 {
        setting.source.exec(&format!("INSERT INTO t VALUES ({id}, 'x')")).await;
        socket.next_of_type("tx", PATIENCE).await;
        is_served(&mut socket).await;
    }
    assert_eq!(setting.history.query_text(written).await, before);
    assert_eq!(setting.history.query_text(drawn).await, number.to_string());
    assert!(number <= 9, "a number for each connection: {number}");
}

/// Ends the connections that listen for clients that connect elsewhere, again and again.
async fn cut_listening(history: &TestDatabase, cuts: &mut u64) {
    let mut pace = interval(Duration::from_millis(40));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'waldelta-history-clients'";
        *cuts += history.query_text(sql).await.parse::<u64>().unwrap();
    }
}

#[tokio::test]
async fn a_notification_that_is_lost_or_wrong_costs_time_only() {
    let (setting, second) = two("replaced_lost").await;
    let mut bystander = live(&second, "second").await;
    let mut socket = live(&setting.service, "web-7").await;
    let number = connection_above(&setting.history, "web-7", 0).await;
    // Of nothing, of nobody, of what was long ago, and of what never was.
    let wrong = format!(
        "SELECT pg_notify('waldelta_clients', payload) FROM unnest(ARRAY['', 'x', 'web-7', '{number} web-7', '0 web-7',
             '-1 web-7', '99999999999999999999999 web-7', '99999999 nobody', '9223372036854775807 web-7']) payload"
    );
    let mut heard_after = live(&setting.service, "heard after").await;
    connection_above(&setting.history, "heard after", 0).await;
    setting.history.exec(&wrong).await;
    // What this one's end is heard by was told after all of them.
    let mut elsewhere = live(&second, "heard after").await;
    is_replaced(&mut heard_after).await;
    is_served(&mut elsewhere).await;
    is_served(&mut socket).await;
    let mut cuts = 0;
    let cutting = cut_listening(&setting.history, &mut cuts);
    let moving = async {
        for service in [&second, &setting.service, &second, &setting.service, &second] {
            is_served(&mut socket).await;
            let mut newer = live(service, "web-7").await;
            is_replaced(&mut socket).await;
            is_served(&mut newer).await;
            socket = newer;
        }
    };
    tokio::select! {
        () = cutting => {}
        () = moving => {}
    }
    assert!(cuts > 0, "they were cut");
    is_served(&mut bystander).await;
}

/// The options with history reached by this route.
fn with_history_through(route: &Route, options: ServiceOptions, history: &TestDatabase) -> ServiceOptions {
    let url = format!("postgresql://postgres@127.0.0.1:{}/{}", route.port(), history.name());
    let args = options.args.iter().map(|arg| match arg == history.url() {
        true => url.clone().into(),
        false => arg.clone(),
    });
    ServiceOptions { args: args.collect(), ..options }
}

#[tokio::test]
async fn a_process_that_is_cut_off_from_history_ends_no_session_and_hears_it_later() {
    let setting = Setting::new("replaced_cut", SCHEMA).await;
    let port: u16 = setting.history.query_text("SHOW port").await.parse().unwrap();
    let route = Route::to(port);
    let options = in_role("fanout", &setting.source, &setting.history);
    let cut_off = Service::start(with_history_through(&route, options, &setting.history)).await;
    let (mut socket, mut other) = (live(&cut_off, "web-7").await, live(&cut_off, "web-8").await);
    let before = connection_above(&setting.history, "web-7", 0).await;
    connection_above(&setting.history, "web-8", 0).await;

    route.close();
    let mut newer = live(&setting.service, "web-7").await;
    connection_above(&setting.history, "web-7", before).await;
    for _ in 0..20 {
        is_served(&mut socket).await;
        is_served(&mut other).await;
    }
    route.turn_to(port);
    is_replaced(&mut socket).await;
    for socket in [&mut newer, &mut other] {
        is_served(socket).await;
    }
    setting.source.exec("INSERT INTO t VALUES (1, 'x')").await;
    for socket in [&mut newer, &mut other] {
        socket.next_of_type("tx", PATIENCE).await;
    }
}
