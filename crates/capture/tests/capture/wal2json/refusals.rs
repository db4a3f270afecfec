//! What wal2json cannot tell is refused before anything is captured, and so is a server that does not have it or does not
//! let it be used: each by its name and with its cure.

use waldelta_capture::{State, setup};
use waldelta_source::Plugin;
use waldelta_source::checks::{self, Check, State as CheckState};
use waldelta_source::setup::Wish;
use waldelta_testkit::{TestCluster, wait_until};
use waldelta_wal::Code;

use super::{has_wal2json, say_skipped};
use crate::world::{PATIENCE, World};

/// The doctor says so, and what has begun does not go on.
async fn assert_refused(world: &World, code: Code) {
    assert_told(world, code).await;
    let (error, state) = world.run_to_error().await;
    assert_eq!(error.code(), code, "{error:?}");
    assert!(matches!(state, State::Stopped { code: shown, .. } if shown == code), "{state:?}");
}

/// The doctor's check that fails, with statements that mend it.
async fn assert_told(world: &World, code: Code) -> Check {
    let checks = checks::run(&world.source).await;
    let check = checks.iter().find(|check| check.code == Some(code)).cloned();
    let check = check.unwrap_or_else(|| panic!("{checks:?}"));
    assert!(check.state == CheckState::Failed && check.fix.is_some(), "{check:?}");
    check
}

async fn assert_not_begun(world: &World, code: Code) {
    let error = setup::begin(&world.source, &world.history, false).await.unwrap_err();
    assert_eq!(error.code(), code, "{error:?}");
    assert!(world.history.captured().await.unwrap().is_none());
    let slots =
        format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'", world.source.slot);
    let slots = world.source.connect().await.unwrap().query_one(&slots, &[]).await.unwrap();
    assert_eq!(slots.get::<_, i64>(0), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_begun_does_not_go_on_with_what_would_be_lost() {
    let Some(world) = World::begun_with_wal2json("w2j_stop", "CREATE TABLE t (id int PRIMARY KEY)").await
    else {
        return;
    };
    for table in [
        "CREATE TABLE n (id int)",
        "CREATE TABLE n (id int PRIMARY KEY); ALTER TABLE n REPLICA IDENTITY NOTHING",
        "CREATE TABLE n (id int PRIMARY KEY DEFERRABLE)",
    ] {
        world.source_db.exec(&format!("{table}; ALTER PUBLICATION waldelta ADD TABLE n")).await;
        assert_refused(&world, Code::Wal2jsonIdentity).await;
        world.source_db.exec("DROP TABLE n").await;
    }
    world.source_db.exec("ALTER PUBLICATION waldelta SET (publish_via_partition_root = true)").await;
    assert_refused(&world, Code::Wal2jsonPartitionRoot).await;
    world.source_db.exec("ALTER PUBLICATION waldelta SET TABLE t WHERE (id > 0), waldelta.canary").await;
    assert_refused(&world, Code::Wal2jsonRowFilter).await;
}

/// Nothing begins either; and what the doctor prints mends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cure_is_one() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE n (id int); CREATE SCHEMA waldelta";
    let Some(world) = World::of_wal2json("w2j_cure", sql).await else { return };
    let sql =
        "CREATE PUBLICATION waldelta FOR TABLE t WHERE (id > 0), n WITH (publish_via_partition_root = true)";
    world.source_db.exec(sql).await;
    for code in [Code::Wal2jsonRowFilter, Code::Wal2jsonPartitionRoot, Code::Wal2jsonIdentity] {
        assert_not_begun(&world, code).await;
        world.source_db.exec(&assert_told(&world, code).await.fix.unwrap()).await;
    }
    world.begin().await;
    let failed = checks::run(&world.source).await.into_iter().filter(|check| check.name == "wal2json");
    assert!(failed.clone().count() == 1 && failed.clone().all(|check| check.state == CheckState::Ok));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encoding_that_is_not_utf8() {
    let cluster = TestCluster::own(&[]).await;
    let sql = "CREATE TABLE t (id int PRIMARY KEY)";
    let mut world = World::bare_encoded(&cluster, "w2j_latin1", "LATIN1", sql).await;
    if !has_wal2json(&world.source_db).await {
        return;
    }
    world.source.plugin = Plugin::Wal2json;
    world.publish().await;
    assert_not_begun(&world, Code::Wal2jsonEncoding).await;
    assert_told(&world, Code::Wal2jsonEncoding).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_of_the_other_plugin() {
    let Some(mut world) = World::begun_with_wal2json("w2j_slot", "CREATE TABLE t (id int PRIMARY KEY)").await
    else {
        return;
    };
    world.source.plugin = Plugin::Pgoutput;
    let (error, _) = world.run_to_error().await;
    assert_eq!(error.code(), Code::SlotUnusable);
    assert!(error.to_string().contains("\"wal2json\" instead of \"pgoutput\""), "{error}");
}

/// Set up for wal2json, a publication has no table that it would lose, and partitions under their own names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_would_be_lost_is_left_out() {
    let mut world = World::bare(
        "w2j_plan",
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE keyless (id int); CREATE TABLE f (id int); \
         ALTER TABLE f REPLICA IDENTITY FULL",
    )
    .await;
    world.source.plugin = Plugin::Wal2json;
    let client = world.source.connect().await.unwrap();
    let wish = Wish { allow_keyless: true, ..Wish::default() };
    let plan = waldelta_source::setup::plan(&client, &world.source, &wish).await.unwrap();
    let sql = plan.to_sql();
    assert!(plan.tables.iter().map(|table| &*table.name).eq(["f", "t"]), "{sql}");
    assert!(plan.remarks.iter().any(|remark| remark.contains("keyless is left out")), "{sql}");
    assert!(sql.contains("publish_via_partition_root = false"), "{sql}");
    assert!(sql.contains("'wal2json'"), "{sql}");
}

/// Where there is none to be had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_have_it() {
    let mut world = World::bare("w2j_missing", "CREATE TABLE t (id int PRIMARY KEY)").await;
    if has_wal2json(&world.source_db).await {
        say_skipped("this server has wal2json");
        return;
    }
    world.source.plugin = Plugin::Wal2json;
    world.publish().await;
    assert_not_begun(&world, Code::PluginMissing).await;
    assert_told(&world, Code::PluginMissing).await;
}

const KNOWS_SETTING: &str = "SELECT count(*) FROM pg_settings WHERE name = 'output_plugin_libraries'";

/// A server of today, unless it is told otherwise: of any version, whether it has wal2json or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_blocks_it_and_no_longer_does() {
    let cluster = TestCluster::own(&[]).await;
    let mut world = World::bare_on(&cluster, "w2j_blocked", "CREATE TABLE t (id int PRIMARY KEY)").await;
    if world.source_db.query_text(KNOWS_SETTING).await == "0" {
        say_skipped("this server is too old to block plugins");
        return;
    }
    let allow = "ALTER SYSTEM SET output_plugin_libraries = pgoutput, test_decoding";
    let is_there = has_wal2json(&world.source_db).await;
    world.source.plugin = Plugin::Wal2json;
    world.publish().await;
    world.source_db.exec(allow).await;
    world.source_db.exec("SELECT pg_reload_conf()").await;
    let blocked = async || {
        world.source_db.query_text("SHOW output_plugin_libraries").await == "pgoutput, test_decoding"
    };
    wait_until("it is blocked", PATIENCE, blocked).await;
    assert_not_begun(&world, Code::PluginBlocked).await;
    let cure = assert_told(&world, Code::PluginBlocked).await.fix.unwrap();
    assert_eq!(cure, format!("{allow}, wal2json;\nSELECT pg_reload_conf();"));
    if !is_there {
        return;
    }

    let cure = async || {
        for statement in cure.split_inclusive('\n') {
            world.source_db.exec(statement).await;
        }
    };
    cure().await;
    wait_until("it is allowed", PATIENCE, async || has_wal2json(&world.source_db).await).await;
    world.begin().await;
    // A slot that exists is refused too, and goes on by itself.
    world.source_db.exec(allow).await;
    world.source_db.exec("SELECT pg_reload_conf()").await;
    wait_until("it is blocked again", PATIENCE, blocked).await;
    let capture = world.run();
    let named = |state: &State| matches!(state, State::Reconnecting { code: Code::PluginBlocked, .. });
    capture.wait_state("capture is refused", named).await;
    cure().await;
    world.source_db.exec("INSERT INTO t VALUES (1)").await;
    world.wait_told(1).await;
    capture.stop().await;
}
