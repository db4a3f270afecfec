//! A transaction that the source itself fails to decode: capture stops by name, and there is a way past it.

use waldelta_capture::{Error, State};
use waldelta_testkit::TestCluster;
use waldelta_wal::Code;

use crate::world::World;

/// In this encoding bytes are legal that stand for no character, which the server cannot turn into UTF-8.
const ENCODING: &str = "WIN1252";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stops_at_it_by_name_and_goes_on_without_it_when_told_to() {
    let cluster = TestCluster::own(&[]).await;
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text)";
    let world = World::bare_encoded(&cluster, "poison", ENCODING, table).await;
    world.publish().await;
    world.begin().await;
    let capture = world.run();
    capture.wait_streaming().await;
    // All in one go, so that what comes before is not stored by chance.
    world
        .source_db
        .exec(
            "DO $$ BEGIN INSERT INTO t VALUES (1, chr(228)); COMMIT; INSERT INTO t VALUES (2, 'kept');
             INSERT INTO t VALUES (3, 'secret' || chr(129)); COMMIT; INSERT INTO t VALUES (4, 'after'); END $$",
        )
        .await;
    let (error, state) = capture.error().await;
    let Error::SourceCannotDecode { transaction: Some(transaction), sqlstate, times, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!((sqlstate.as_str(), *times, error.is_retryable()), ("22P05", 2, false));
    assert_eq!(error.code(), Code::SourceCannotDecode);
    let State::Stopped { code: Code::SourceCannotDecode, message } = state else { panic!("{state:?}") };
    assert!(message.contains(&format!("commits at {transaction}")), "{message}");
    assert!(
        message.contains("22P05") && !message.contains("secret") && !message.contains("0x81"),
        "{message}"
    );
    // What came whole before is stored, and it stops there again.
    assert_eq!(world.told("row_key || (data->>'v')").await, ["[1]\u{e4}"]);
    let (error, _) = world.run_to_error().await;
    assert_eq!(error.code(), Code::SourceCannotDecode);

    // As the explanation of the code says.
    let fix = Code::SourceCannotDecode.explanation().fix;
    let (_, lsn) = message.split_once("<lsn> to go on from without it: ").unwrap();
    let lsn = lsn.split_whitespace().next().unwrap();
    let between = |from: &str, to: &str| {
        let (_, rest) = fix.split_once(from).unwrap();
        let (statement, _) = rest.split_once(to).unwrap();
        format!("{from}{statement}{to}").replace("<lsn>", lsn).replace("<slot>", &world.source.slot)
    };
    world.history_db.exec(&between("BEGIN;", "COMMIT")).await;
    world.source_db.exec(&between("SELECT pg_replication_slot_advance", ")")).await;
    let capture = world.run();
    world.wait_told(2).await;
    assert_eq!(world.told("row_key || (data->>'v')").await, ["[1]\u{e4}", "[4]after"]);
    assert_eq!(world.stored("SELECT reason || to_lsn FROM waldelta.gaps").await, format!("skipped{lsn}"));
    capture.stop().await;
}
