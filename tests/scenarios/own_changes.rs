//! A client's own changes are confirmed to it and not echoed; everybody else gets them with their author.

use serde_json::{Value, json};
use waldelta_testkit::{Replica, WsClient};

use crate::setting::{Setting, all_tables, changes, of_type, record};

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY, v text)";
const SET_CLIENT: &str = r#"SELECT waldelta.set_client('author', '{"user": "42", "n": [1, 2.50]}')"#;

/// The author and somebody else, both live.
struct Pair {
    author: (WsClient, Replica),
    other: (WsClient, Replica),
}

impl Pair {
    async fn new(setting: &Setting) -> Self {
        Pair { author: setting.client("author").await, other: setting.client("other").await }
    }

    /// The frames up to and including this row's insert, as the author and as the other one gets them. The row must come
    /// from somebody else.
    async fn up_to(&mut self, id: i32) -> (Vec<Value>, Vec<Value>) {
        let has_row = |frame: &Value| {
            frame["changes"].as_array().is_some_and(|changes| changes.iter().any(|c| c["data"]["id"] == id))
        };
        let (socket, replica) = &mut self.author;
        let to_author = record(socket, replica, "the author gets the row", has_row).await;
        let (socket, replica) = &mut self.other;
        (to_author, record(socket, replica, "the other one gets the row", has_row).await)
    }
}

/// What each transaction said: whether it is own, its author, and the ids that it inserted.
fn told(frames: &[Value]) -> Vec<(bool, Value, Vec<i64>)> {
    let ids = |tx: &Value| {
        changes(std::slice::from_ref(tx)).iter().map(|c| c["key"]["id"].as_i64().unwrap()).collect()
    };
    of_type(frames, "tx").iter().map(|tx| (tx["own"] == true, tx["client_id"].clone(), ids(tx))).collect()
}

#[tokio::test]
async fn the_author_gets_a_confirmation_and_the_others_the_changes() {
    let setting = Setting::new("own", SCHEMA).await;
    let mut pair = Pair::new(&setting).await;
    setting
        .source
        .exec(&format!("BEGIN; {SET_CLIENT}; INSERT INTO t VALUES (1, 'mine'), (2, 'mine'); COMMIT"))
        .await;
    setting.source.exec("INSERT INTO t VALUES (3, 'from nobody')").await;

    let (to_author, to_other) = pair.up_to(3).await;
    assert_eq!(told(&to_author), [(true, json!("author"), vec![]), (false, Value::Null, vec![3])]);
    assert_eq!(told(&to_other), [(false, json!("author"), vec![1, 2]), (false, Value::Null, vec![3])]);
    let (confirmation, change) = (of_type(&to_author, "tx")[0], of_type(&to_other, "tx")[0]);
    assert_eq!(change["metadata"], json!({"user": "42", "n": [1, 2.5]}));
    assert_eq!(confirmation["cursor"], change["cursor"], "the author learns where its changes are");
    assert_eq!(pair.author.1.confirmed().len(), 1);

    let history = "SELECT count(*) FROM waldelta.change_history
                   WHERE client_id = 'author' AND metadata->'author'->>'user' = '42' AND operation = 'insert'";
    assert_eq!(setting.history.query_text(history).await, "2");
}

#[tokio::test]
async fn only_what_follows_set_client_has_the_author() {
    let setting = Setting::new("own_part", SCHEMA).await;
    let mut pair = Pair::new(&setting).await;
    setting
        .source
        .exec(&format!(
            "BEGIN; INSERT INTO t VALUES (1, 'before'); {SET_CLIENT}; INSERT INTO t VALUES (2, 'after'); COMMIT;
             BEGIN; {SET_CLIENT}; INSERT INTO t VALUES (3, 'x'); ROLLBACK;
             BEGIN; SELECT waldelta.set_client('other'); INSERT INTO t VALUES (4, 'x'); COMMIT;
             INSERT INTO t VALUES (5, 'next')"
        ))
        .await;

    let (to_author, to_other) = pair.up_to(5).await;
    let author = json!("author");
    assert_eq!(
        told(&to_author),
        [(true, author.clone(), vec![1]), (false, json!("other"), vec![4]), (false, Value::Null, vec![5])]
    );
    assert_eq!(
        told(&to_other),
        [(false, author, vec![1, 2]), (true, json!("other"), vec![]), (false, Value::Null, vec![5])]
    );
    let authors =
        "SELECT string_agg(coalesce(client_id, '-'), ',' ORDER BY lsn, seq) FROM waldelta.change_history
                   WHERE operation = 'insert'";
    assert_eq!(setting.history.query_text(authors).await, "-,author,other,-");
}

#[tokio::test]
async fn a_transaction_of_uncaptured_tables_alone_is_confirmed() {
    let setting = Setting::new("own_unpublished", SCHEMA).await;
    setting.source.exec("CREATE TABLE not_captured (id int PRIMARY KEY)").await;
    let mut pair = Pair::new(&setting).await;
    setting.source.exec(&format!("BEGIN; {SET_CLIENT}; INSERT INTO not_captured VALUES (1); COMMIT")).await;
    setting.source.exec("INSERT INTO t VALUES (1, 'next')").await;

    let (to_author, to_other) = pair.up_to(1).await;
    assert_eq!(told(&to_author), [(true, json!("author"), vec![]), (false, Value::Null, vec![1])]);
    assert_eq!(told(&to_other), [(false, Value::Null, vec![1])]);
    setting.history_is_gapless().await;
}

#[tokio::test]
async fn after_a_reconnect_own_changes_are_delivered_and_marked() {
    let mut setting = Setting::new("own_again", SCHEMA).await;
    let Pair { author: (socket, mut author), other: (mut other_socket, mut other) } =
        Pair::new(&setting).await;
    socket.close().await;
    // It went before it could store what it wrote: from history, and after a restart, it has to get it.
    setting.source.exec(&format!("BEGIN; {SET_CLIENT}; INSERT INTO t VALUES (1, 'mine'); COMMIT")).await;
    setting.equal(&mut other_socket, &mut other, &["public.t"]).await;
    author.disconnected();
    let mut socket = WsClient::connect(&setting.service.stream()).await;
    socket.send(&author.hello("author", &[all_tables()])).await;
    let frames = record(&mut socket, &mut author, "live", |frame| frame["type"] == "live").await;
    assert_eq!(told(&frames), [(true, json!("author"), vec![1])]);

    // Live again: not echoed. And so until it goes once more.
    setting
        .source
        .exec(&format!(
            "BEGIN; {SET_CLIENT}; UPDATE t SET v = 'mine too' WHERE id = 1; COMMIT; INSERT INTO t VALUES (2)"
        ))
        .await;
    let is_two = |frame: &Value| frame["changes"][0]["key"]["id"] == 2;
    let frames = record(&mut socket, &mut author, "the next one", is_two).await;
    assert_eq!(told(&frames), [(true, json!("author"), vec![]), (false, Value::Null, vec![2])]);
    drop(socket);

    setting.source.exec(&format!("BEGIN; {SET_CLIENT}; INSERT INTO t VALUES (3, 'mine'); COMMIT")).await;
    setting.settled().await;
    setting.service.stop().await;
    setting.service.start_again().await;
    author.disconnected();
    let mut socket = WsClient::connect(&setting.service.stream()).await;
    socket.send(&author.hello("author", &[all_tables()])).await;
    let frames = record(&mut socket, &mut author, "live", |frame| frame["type"] == "live").await;
    assert_eq!(told(&frames), [(true, json!("author"), vec![3])]);
    assert_eq!(author.confirmed().len(), 3);
}

#[tokio::test]
async fn a_client_that_asks_for_its_own_changes_gets_them() {
    let setting = Setting::new("own_include", SCHEMA).await;
    let mut replica = Replica::new();
    let mut socket = WsClient::connect(&setting.service.stream()).await;
    let mut hello = replica.hello("author", &[all_tables()]);
    hello["own_changes"] = "include".into();
    socket.send(&hello).await;
    record(&mut socket, &mut replica, "live", |frame| frame["type"] == "live").await;
    setting.source.exec(&format!("BEGIN; {SET_CLIENT}; INSERT INTO t VALUES (1, 'mine'); COMMIT")).await;
    let frames = record(&mut socket, &mut replica, "the transaction", |frame| frame["type"] == "tx").await;
    assert_eq!(told(&frames), [(true, json!("author"), vec![1])]);
    setting.equal(&mut socket, &mut replica, &["public.t"]).await;
}
