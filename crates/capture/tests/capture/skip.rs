//! What stops capture is left out when an operator orders it: a change says so in its place, and the tables need repair.

use std::collections::BTreeMap;

use waldelta_capture::State;
use waldelta_testkit::{TestCluster, wait_until};
use waldelta_wal::{Code, Skip};

use crate::world::{PATIENCE, Running, World};

const WHAT: &str = "concat_ws(' ', seq, operation, table_name, row_key)";

const TABLES: &str = "CREATE TABLE other (id int PRIMARY KEY);
    CREATE TABLE t (id int PRIMARY KEY, k int NOT NULL, v text) PARTITION BY LIST (id);
    CREATE TABLE t_all PARTITION OF t FOR VALUES IN (1, 2, 3); CREATE UNIQUE INDEX t_all_k ON t_all (k)";

/// A partition with another replica identity than the table that it is published as: what it sends of an old row has not the
/// table's key.
const CROSS: &str = "ALTER TABLE t_all REPLICA IDENTITY USING INDEX t_all_k";

/// Waits until capture has stopped because of this, and returns what it says.
async fn stopped(capture: &Running, code: Code) -> String {
    let is_it = |state: &State| matches!(state, State::Stopped { code: found, .. } if *found == code);
    capture.wait_state(&format!("capture stops with {}", code.as_str()), is_it).await;
    match capture.status.read().state {
        State::Stopped { message, .. } => message,
        state => panic!("{state:?}"),
    }
}

/// The number behind a word of a message.
fn behind<'a>(message: &'a str, word: &str) -> &'a str {
    let (_, rest) = message.split_once(word).unwrap_or_else(|| panic!("{word} in {message}"));
    rest.trim_start().split([' ', ',', ':', ';']).next().unwrap()
}

fn order(lsn: &str, seq: Option<u32>) -> Skip {
    Skip { lsn: lsn.parse().unwrap(), seq, by: "anna".into(), why: "it is lost anyway".into() }
}

/// Waits until these tables need repair because something of them was left out.
async fn wait_skipped<const N: usize>(capture: &Running, tables: [&str; N]) {
    let expected = BTreeMap::from(tables.map(|table| (table.to_owned(), "skipped".to_owned())));
    let found = || {
        let tables = capture.status.read().needs_repair;
        tables.into_iter().map(|table| (table.table, table.reason)).collect::<BTreeMap<_, _>>()
    };
    wait_until(&format!("{tables:?} need repair"), PATIENCE, async || found() == expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_change_that_cannot_be_decoded() {
    let world = World::begun("skipone", TABLES).await;
    world.source_db.exec(CROSS).await;
    let capture = world.run();
    world.source_db.exec("INSERT INTO t VALUES (1, 10, 'a')").await;
    world.wait_told(1).await;
    world
        .source_db
        .exec(
            "BEGIN; INSERT INTO other VALUES (1); UPDATE t SET k = 11, v = 'secret' WHERE id = 1;
             INSERT INTO other VALUES (2); COMMIT; INSERT INTO other VALUES (3)",
        )
        .await;
    let message = stopped(&capture, Code::PartitionIdentity).await;
    let (seq, lsn) = (behind(&message, "change "), behind(&message, "of transaction "));
    assert_eq!(seq, "1", "{message}");
    assert!(message.contains("public.t with the key [1]") && !message.contains("secret"), "{message}");
    assert!(message.contains(&format!("`waldelta skip --lsn {lsn} --seq 1 --why ")), "{message}");
    assert!(Code::PartitionIdentity.explanation().fix.contains("waldelta skip"));
    world.history.order_skip(&order(lsn, Some(1))).await.unwrap();
    world.wait_told(5).await;
    assert_eq!(
        world.told(WHAT).await,
        [
            "0 insert public.t [1]",
            "0 insert public.other [1]",
            "1 skip public.t [1]",
            "2 insert public.other [2]",
            "0 insert public.other [3]",
        ]
    );
    let data = format!(r#"{{"by": "anna", "lsn": "{lsn}", "seq": 1, "why": "it is lost anyway"}}"#);
    assert_eq!(world.listed("data::text", "operation = 'skip'").await, [data]);
    wait_skipped(&capture, ["public.t"]).await;
    assert_eq!(world.stored("SELECT from_lsn FROM waldelta.gaps").await, lsn);
    world.assert_gapless().await;
    capture.stop().await;
    let late = world.history.order_skip(&order(lsn, Some(1))).await.unwrap_err();
    assert!(late.to_string().contains(lsn), "{late}");
}

/// A value that history's database refuses: the others of its SQL transaction are not lost with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_change_that_history_cannot_store() {
    let world = World::begun("skippoison", "CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    let capture = world.run();
    world.source_db.exec("INSERT INTO t VALUES (1, 'a')").await;
    world.wait_told(1).await;
    // As what jsonb does not take: an error of the class "data exception".
    let refuse =
        "ALTER TABLE waldelta.change_history ADD CHECK (1 / (data->>'v' IS DISTINCT FROM 'bad')::int > 0)";
    world.history_db.exec(refuse).await;
    world
        .source_db
        .exec(
            "BEGIN; INSERT INTO t VALUES (2, 'b'); INSERT INTO t VALUES (3, 'bad'); INSERT INTO t VALUES (4, 'c'); COMMIT",
        )
        .await;
    let message = stopped(&capture, Code::PoisonRow).await;
    assert!(!message.contains("bad"), "{message}");
    let lsn = behind(&message, "of transaction ");
    assert_eq!(behind(&message, "change "), "1", "{message}");
    world.history.order_skip(&order(lsn, Some(1))).await.unwrap();
    world.wait_told(4).await;
    assert_eq!(
        world.told(WHAT).await,
        ["0 insert public.t [1]", "0 insert public.t [2]", "1 skip public.t [3]", "2 insert public.t [4]"]
    );
    wait_skipped(&capture, ["public.t"]).await;
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_transaction() {
    let world = World::begun("skipwhole", TABLES).await;
    world.source_db.exec(CROSS).await;
    let capture = world.run();
    world.source_db.exec("INSERT INTO t VALUES (1, 10, 'a')").await;
    world.wait_told(1).await;
    world
        .source_db
        .exec(
            "BEGIN; INSERT INTO other VALUES (1); UPDATE t SET k = 11 WHERE id = 1; COMMIT; INSERT INTO other VALUES (2)",
        )
        .await;
    let message = stopped(&capture, Code::PartitionIdentity).await;
    let lsn = behind(&message, "of transaction ").to_owned();
    world.history.order_skip(&order(&lsn, None)).await.unwrap();
    world.wait_told(3).await;
    assert_eq!(
        world.told(WHAT).await,
        ["0 insert public.t [1]", "0 skip", "0 insert public.other [2]"],
        "one change for all of it"
    );
    assert_eq!(world.listed("concat(data->'seq', lsn)", "operation = 'skip'").await, [format!("null{lsn}")]);
    wait_skipped(&capture, ["public.other", "public.t"]).await;
    world.assert_gapless().await;
    capture.stop().await;
}

/// One that the source itself cannot send: in an encoding where bytes are legal that stand for no character.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_the_source_cannot_decode() {
    let cluster = TestCluster::own(&[]).await;
    let tables = "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY)";
    let world = World::bare_encoded(&cluster, "skipsource", "WIN1252", tables).await;
    world.publish().await;
    world.begin().await;
    let capture = world.run();
    capture.wait_streaming().await;
    world
        .source_db
        .exec(
            "DO $$ BEGIN INSERT INTO t VALUES (1, 'before'); COMMIT; INSERT INTO t VALUES (2, 'lost');
             INSERT INTO t VALUES (3, 'lost' || chr(129)); COMMIT; INSERT INTO t VALUES (4, 'after'); END $$",
        )
        .await;
    let message = stopped(&capture, Code::SourceCannotDecode).await;
    let lsn = behind(&message, "the transaction that commits at ").to_owned();
    // That one change of it is left out is not possible.
    world.history.order_skip(&order(&lsn, None)).await.unwrap();
    world.wait_told(3).await;
    assert_eq!(world.told(WHAT).await, ["0 insert public.t [1]", "0 skip", "0 insert public.t [4]"]);
    assert_eq!(world.listed("lsn::text", "operation = 'skip'").await, [lsn]);
    wait_skipped(&capture, ["public.t", "public.u"]).await;
    capture.wait_streaming().await;
    world.assert_gapless().await;
    capture.stop().await;
    // It is over for good.
    let capture = world.run();
    world.source_db.exec("INSERT INTO u VALUES (1)").await;
    world.wait_told(4).await;
    capture.stop().await;
}
