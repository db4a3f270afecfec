//! A table is added while capture runs and transactions on it are open: of one of those only a part may be captured. Everybody
//! ends up with the table's rows all the same, those who follow all tables and those who ask for it by its name.

use serde_json::{Value, json};
use waldelta_testkit::{Replica, WsClient, connect, source_rows, wait_until};

use crate::fold::assert_same;
use crate::setting::{PATIENCE, Setting, waldelta_ok, with_databases};
use crate::stops::status;

const SCHEMA: &str = "CREATE TABLE item (id int PRIMARY KEY, value text)";
const LATE: &str =
    "CREATE TABLE late (id int PRIMARY KEY, value text); INSERT INTO late VALUES (1, 'there before')";
const TABLES: [&str; 2] = ["public.item", "public.late"];

/// A subscription to one table.
fn named(table: &str) -> Value {
    json!({"id": table, "table": table})
}

/// Follows until the client has the source's rows of these tables. The source must be quiet.
async fn becomes_equal(setting: &Setting, socket: &mut WsClient, replica: &mut Replica, tables: &[&str]) {
    setting.settled().await;
    let source = connect(setting.source.url()).await;
    let mut wanted = Vec::new();
    for table in tables {
        wanted.push(source_rows(&source, table).await);
    }
    let same = |replica: &Replica| {
        replica.is_live()
            && replica.is_consistent()
            && tables.iter().zip(&wanted).all(|(table, rows)| replica.rows(table) == *rows)
    };
    socket.follow(replica, "it is equal", PATIENCE, same).await;
    let fence = setting.last_of(tables).await;
    socket.follow(replica, "it has everything", PATIENCE, |replica| replica.position() >= fence).await;
    for (table, rows) in tables.iter().zip(&wanted) {
        assert_same(table, &replica.rows(table), rows);
    }
}

async fn joining(setting: &Setting) -> Vec<String> {
    let status = status(setting).await;
    assert_eq!(status["needs_repair"], json!([]), "an added table needs nobody");
    let tables = status["joining"].as_array().unwrap().iter();
    tables.map(|table| table["table"].as_str().unwrap().to_owned()).collect()
}

/// Adds the table in this way while one transaction is open on it, and writes from all sides.
async fn added_by(hint: &str, add: impl AsyncFnOnce(&Setting)) {
    let setting = Setting::new(hint, SCHEMA).await;
    let (mut all, mut all_replica) = setting.client("all").await;
    let (away, mut away_replica) = setting.client("away").await;
    drop(away);
    setting.source.exec(LATE).await;
    let open = setting.source.client().await;
    open.batch_execute("BEGIN; INSERT INTO late VALUES (2, 'before it is published')").await.unwrap();
    add(&setting).await;
    open.batch_execute("INSERT INTO late VALUES (3, 'in the same transaction')").await.unwrap();
    setting
        .source
        .exec("INSERT INTO late VALUES (4, 'by another'); UPDATE late SET value = 'changed' WHERE id = 1")
        .await;
    setting.source.exec("INSERT INTO item VALUES (1, 'flows')").await;
    wait_until("the table is seen", PATIENCE, async || joining(&setting).await == ["public.late"]).await;

    // Everything else goes on, and one who asks for the table meanwhile waits for it alone.
    setting.equal(&mut all, &mut all_replica, &["public.item"]).await;
    let mut by_name = WsClient::connect(&setting.service.stream()).await;
    let mut by_name_replica = Replica::new();
    by_name.send(&by_name_replica.hello("by name", &[named("public.item"), named("public.late")])).await;
    let (mut back, mut late_comer) = setting.client("late comer").await;
    setting.equal(&mut back, &mut late_comer, &["public.item"]).await;

    open.batch_execute("UPDATE late SET value = value || '!' WHERE id IN (2, 3); COMMIT").await.unwrap();
    wait_until("the table has joined", PATIENCE, async || joining(&setting).await.is_empty()).await;
    becomes_equal(&setting, &mut all, &mut all_replica, &TABLES).await;
    becomes_equal(&setting, &mut by_name, &mut by_name_replica, &TABLES).await;
    becomes_equal(&setting, &mut back, &mut late_comer, &TABLES).await;
    let mut away = setting.resume("away", &mut away_replica).await;
    becomes_equal(&setting, &mut away, &mut away_replica, &TABLES).await;
    // And it stays so.
    setting
        .source
        .exec("UPDATE late SET id = id + 10; DELETE FROM late WHERE id = 13; INSERT INTO item VALUES (2, '')")
        .await;
    for (socket, replica) in [
        (&mut all, &mut all_replica),
        (&mut by_name, &mut by_name_replica),
        (&mut back, &mut late_comer),
        (&mut away, &mut away_replica),
    ] {
        setting.equal(socket, replica, &TABLES).await;
        assert!(replica.resets().iter().all(|reason| reason == "gap"), "{:?}", replica.resets());
    }
    setting.history_is_gapless().await;
}

#[tokio::test]
async fn to_the_publication() {
    added_by("added", async |setting| {
        setting.source.exec("ALTER PUBLICATION waldelta ADD TABLE late").await;
    })
    .await;
}

#[tokio::test]
async fn by_the_command() {
    added_by("added_by_command", async |setting| {
        let words = ["table", "add", "--table", "public.late", "--apply"];
        println!("{}", waldelta_ok(&with_databases(&words, &setting.source, &setting.history)));
    })
    .await;
}
