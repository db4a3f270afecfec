//! A table whose rows were changed without a message (`ALTER TABLE … TYPE … USING`) needs repair; `waldelta recover` gives
//! its rows afresh to whoever follows it, wherever they are, and touches nothing else.

use serde_json::{Value, json};
use waldelta_testkit::{Replica, WsClient, wait_until};

use crate::setting::{PATIENCE, Setting, all_tables, of_type, record, waldelta, waldelta_ok, with_databases};
use crate::stops::status;

const SCHEMA: &str = "CREATE TABLE item (id int PRIMARY KEY, value int NOT NULL);
                      CREATE TABLE other (id int PRIMARY KEY, value text);
                      INSERT INTO item SELECT i, i FROM generate_series(1, 50) i;
                      INSERT INTO other VALUES (1, 'one')";
const TABLES: [&str; 2] = ["public.item", "public.other"];
const REWRITE: &str = "ALTER TABLE item ALTER COLUMN value TYPE bigint USING value * 10 + 1";

async fn needs_repair(setting: &Setting) -> Vec<String> {
    let status = status(setting).await;
    let tables = status["needs_repair"].as_array().unwrap().iter();
    tables.map(|table| table["table"].as_str().unwrap().to_owned()).collect()
}

/// Checks that these frames reset the table, once, and no other, and that rows come of no other.
fn assert_reset_of_item(frames: &[Value], times: usize) {
    let resets = of_type(frames, "reset");
    assert_eq!(resets.len(), times, "{resets:?}");
    for reset in resets {
        assert_eq!((&reset["reason"], &reset["tables"]), (&json!("gap"), &json!(["public.item"])), "{reset}");
    }
    let begun = of_type(frames, "snapshot_begin");
    assert_eq!(begun.len(), times, "{begun:?}");
    for rows in of_type(frames, "rows") {
        assert_eq!(rows["table"], "public.item");
    }
}

/// Comes back with what the client has, and gives the frames up to that row of `other`.
async fn come_back(setting: &Setting, replica: &mut Replica, until: u32) -> (WsClient, Vec<Value>) {
    replica.disconnected();
    let mut socket = WsClient::connect(&setting.service.stream()).await;
    socket.send(&replica.hello("away", &[all_tables()])).await;
    let frames = up_to(&mut socket, replica, until).await;
    (socket, frames)
}

/// The frames up to the transaction with this row of `other`.
async fn up_to(socket: &mut WsClient, replica: &mut Replica, id: u32) -> Vec<Value> {
    record(socket, replica, "the row of the other table", |frame| {
        let changes = frame["changes"].as_array();
        changes.is_some_and(|changes| {
            changes.iter().any(|change| change["table"] == "public.other" && change["data"]["id"] == id)
        })
    })
    .await
}

#[tokio::test]
async fn of_a_rewritten_table() {
    let mut setting = Setting::new("repair", SCHEMA).await;
    let (mut here, mut replica) = setting.client("here").await;
    let (away, mut away_replica) = setting.client("away").await;
    drop(away);
    setting.source.exec(REWRITE).await;
    setting.source.exec("UPDATE item SET value = -1 WHERE id = 7; INSERT INTO other VALUES (2, 'two')").await;
    wait_until("it needs repair", PATIENCE, async || needs_repair(&setting).await == ["public.item"]).await;
    // Capture goes on meanwhile, that of the table too.
    up_to(&mut here, &mut replica, 2).await;
    assert_eq!(replica.row("public.item", &json!({"id": 7})).unwrap()["value"], -1);
    assert_eq!(replica.row("public.item", &json!({"id": 8})).unwrap()["value"], 8, "nothing has told of it");

    let command = |words: &[&str]| with_databases(words, &setting.source, &setting.history);
    let (_, shown, log) = waldelta(&command(&["recover"]));
    assert!(shown.contains("public.item") && !shown.contains("public.other"), "{shown}{log}");
    assert_eq!(needs_repair(&setting).await, ["public.item"], "showing does nothing");
    println!("{}", waldelta_ok(&command(&["recover", "--yes"])));
    wait_until("it needs no repair", PATIENCE, async || needs_repair(&setting).await.is_empty()).await;
    setting.source.exec("INSERT INTO other VALUES (3, 'three')").await;
    let frames = up_to(&mut here, &mut replica, 3).await;
    assert_reset_of_item(&frames, 1);
    setting.equal(&mut here, &mut replica, &TABLES).await;
    assert_eq!(replica.row("public.item", &json!({"id": 8})).unwrap()["value"], 81);

    // One that was away during all of it, and over a restart.
    setting.service.stop().await;
    setting.service.start_again().await;
    setting.source.exec("UPDATE item SET value = value + 1; INSERT INTO other VALUES (4, 'four')").await;
    setting.settled().await;
    let (mut back, frames) = come_back(&setting, &mut away_replica, 4).await;
    assert_reset_of_item(&frames, 1);
    setting.equal(&mut back, &mut away_replica, &TABLES).await;
    assert_eq!((away_replica.resets(), replica.resets().len()), (&["gap".to_owned()][..], 1));
    setting.history_is_gapless().await;

    // A client of the other table alone has never heard of it.
    let mut only = WsClient::connect(&setting.service.stream()).await;
    let mut only_replica = Replica::new();
    only.send(&only_replica.hello("only", &[json!({"id": "o", "table": "public.other"})])).await;
    only.follow(&mut only_replica, "it is live", PATIENCE, |replica| {
        replica.is_live() && replica.is_consistent()
    })
    .await;
    setting.source.exec("ALTER TABLE item ALTER COLUMN value TYPE text USING 'v' || value").await;
    wait_until("it needs repair again", PATIENCE, async || needs_repair(&setting).await == ["public.item"])
        .await;
    let recover =
        with_databases(&["recover", "--yes", "--table", "public.item"], &setting.source, &setting.history);
    waldelta_ok(&recover);
    setting.source.exec("INSERT INTO other VALUES (5, 'five')").await;
    assert_reset_of_item(&up_to(&mut only, &mut only_replica, 5).await, 0);
    assert_reset_of_item(&up_to(&mut back, &mut away_replica, 5).await, 1);
    setting.equal(&mut back, &mut away_replica, &TABLES).await;
}
