//! Tables that are added to the publication while capture runs: captured from then on, and whole from their reset on.

use waldelta_capture::NeedsRepair;
use waldelta_history::History;
use waldelta_testkit::{TestCluster, connect, wait_until};

use crate::world::{PATIENCE, Running, World, history_config};

const OTHER: &str = "CREATE TABLE other (id int PRIMARY KEY, n int)";
const T: &str = "CREATE TABLE t (id int PRIMARY KEY, v text)";
const PUBLISH: &str = "ALTER PUBLICATION waldelta ADD TABLE t";
const OPEN: &str = "SELECT count(*) FROM waldelta.gaps WHERE to_lsn IS NULL";

fn joining(capture: &Running) -> Vec<NeedsRepair> {
    capture.status.read().joining
}

async fn wait_joined(world: &World, capture: &Running, resets: u64) {
    world.wait_stored("operation = 'reset'", resets).await;
    wait_until("nothing joins any more", PATIENCE, async || joining(capture).is_empty()).await;
    assert_eq!(capture.status.read().needs_repair, []);
    assert_eq!(world.stored(OPEN).await, "0");
}

/// A transaction that was open when the table was published is captured by half, and that is made good once it has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_added_under_an_open_transaction_is_reset_once_when_that_has_ended() {
    let cluster = TestCluster::own(&[("max_prepared_transactions", "2")]).await;
    let world = World::bare_on(&cluster, "addopen", OTHER).await;
    world.publish().await;
    world.begin().await;
    world.source_db.exec(T).await;
    let capture = world.run_looking();
    world.wait_looked("other", "looked").await;

    let writer = world.source_db.client().await;
    writer.batch_execute("BEGIN; INSERT INTO t VALUES (1, 'before')").await.unwrap();
    let prepared = connect(world.source_db.url()).await;
    let prepare = "BEGIN; INSERT INTO t VALUES (9, 'before'); PREPARE TRANSACTION 'waits'";
    prepared.batch_execute(prepare).await.unwrap();
    let pid: i32 = writer.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let admin = connect(world.source_db.url()).await;
    admin.batch_execute(PUBLISH).await.unwrap();
    wait_until("the table joins, and it is said for whom it waits", PATIENCE, async || {
        joining(&capture).first().is_some_and(|table| table.waits_for.is_some())
    })
    .await;
    let [table] = &joining(&capture)[..] else { panic!("{:?}", joining(&capture)) };
    assert_eq!((&*table.table, &*table.reason), ("public.t", "added"));
    let waits_for = table.waits_for.as_deref().unwrap();
    assert!(waits_for.contains(&format!("pid {pid}")) && waits_for.contains("'waits'"), "{waits_for}");
    assert!(waits_for.contains("idle in transaction"), "{waits_for}");
    assert_eq!(capture.status.read().needs_repair, []);

    // Nobody is held up, and what is written from now on is captured. Of the transaction that was open not all is: the source
    // decides for a row by what it knew of the table last, so this depends on who wrote before.
    writer.batch_execute("INSERT INTO t VALUES (2, 'after'); COMMIT").await.unwrap();
    world.wait_stored("row_key = '[2]'", 1).await;
    assert_eq!(world.stored_count("row_key = '[1]'").await, 0, "the transaction is there by half");
    admin.batch_execute("INSERT INTO t VALUES (3, 'meanwhile')").await.unwrap();
    world.wait_stored("row_key = '[3]'", 1).await;
    assert_eq!(world.stored_count("operation = 'reset'").await, 0, "the prepared one has not ended");
    admin.batch_execute("COMMIT PREPARED 'waits'").await.unwrap();
    wait_joined(&world, &capture, 1).await;
    let reset = "table_name || ' ' || table_oid || ' ' || data || coalesce(client_id, '') || coalesce(schema_version, 0)";
    let oid = world.source_db.query_text("SELECT 't'::regclass::oid").await;
    assert_eq!(
        world.listed(reset, "operation = 'reset'").await,
        [format!(r#"public.t {oid} {{"oid": {oid}, "name": "public.t", "reason": "added"}}0"#)]
    );
    let ended =
        "SELECT bool_and(reset.lsn > written.lsn) AND count(*) > 1 FROM waldelta.change_history reset,
        waldelta.change_history written WHERE reset.operation = 'reset' AND written.operation = 'insert'";
    assert_eq!(world.stored(ended).await, "t");
    let closed =
        "SELECT gaps.to_lsn = lsn FROM waldelta.gaps, waldelta.change_history WHERE operation = 'reset'";
    assert_eq!(world.stored(closed).await, "t", "the gap ends at the reset");
    admin.batch_execute("INSERT INTO t VALUES (4, 'later')").await.unwrap();
    world.wait_stored("row_key = '[4]'", 1).await;
    world.wait_looked("other", "looked_again").await;
    assert_eq!(world.stored_count("operation = 'reset'").await, 1);
    world.assert_gapless().await;
    capture.stop().await;
}

/// Whatever it is and however it was added: one reset. Whoever captures next knows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_table_joins_by_one_reset() {
    let world = World::begun("addkinds", OTHER).await;
    let capture = world.run_looking();
    world.wait_looked("other", "looked").await;
    world
        .source_db
        .exec(
            "BEGIN; CREATE TABLE fresh (id int PRIMARY KEY); INSERT INTO fresh VALUES (1);
             ALTER PUBLICATION waldelta ADD TABLE fresh; INSERT INTO fresh VALUES (2); COMMIT",
        )
        .await;
    world
        .source_db
        .exec(
            "CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY LIST (id);
             CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1); CREATE TABLE empty (id int PRIMARY KEY);
             INSERT INTO parted VALUES (1); ALTER PUBLICATION waldelta ADD TABLE parted, empty",
        )
        .await;
    wait_joined(&world, &capture, 3).await;
    let mut names = world.listed("table_name", "operation = 'reset'").await;
    names.sort();
    assert_eq!(names, ["public.empty", "public.fresh", "public.parted"]);
    // One that leaves and comes back was not captured in between.
    world.source_db.exec("ALTER PUBLICATION waldelta DROP TABLE empty").await;
    let gone = "SELECT count(*) FROM waldelta.source_fingerprints WHERE fingerprint LIKE 'gone %'";
    wait_until("it is noted as gone", PATIENCE, async || world.stored(gone).await == "1").await;
    capture.stop().await;
    world.source_db.exec("INSERT INTO empty VALUES (7); ALTER PUBLICATION waldelta ADD TABLE empty").await;
    let capture = world.run_looking();
    wait_joined(&world, &capture, 4).await;
    let last = world.listed("table_name", "operation = 'reset'").await.pop();
    assert_eq!(last.as_deref(), Some("public.empty"));
    capture.stop().await;
    // Nothing more is told of what is known.
    let capture = world.run_looking();
    world.wait_looked("other", "looked_again").await;
    assert_eq!(world.stored_count("operation = 'reset'").await, 4);
    capture.stop().await;
}

/// No look has seen it gone: that it is published by another entry tells. The same entry with other tables beside it does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_left_and_came_back_unseen_joins_again() {
    let world = World::begun("addagain", OTHER).await;
    world.source_db.exec(T).await;
    let capture = world.run_looking();
    world.wait_looked("other", "looked").await;
    world.source_db.exec(PUBLISH).await;
    wait_joined(&world, &capture, 1).await;
    world
        .source_db
        .exec(
            "BEGIN; ALTER PUBLICATION waldelta DROP TABLE t; INSERT INTO t VALUES (1, 'missed');
             ALTER PUBLICATION waldelta ADD TABLE t; COMMIT",
        )
        .await;
    wait_joined(&world, &capture, 2).await;
    let names = world.listed("table_name", "operation = 'reset'").await;
    assert_eq!(names, ["public.t", "public.t"]);
    world.source_db.exec("CREATE TABLE u (id int PRIMARY KEY); ALTER PUBLICATION waldelta ADD TABLE u").await;
    wait_joined(&world, &capture, 3).await;
    let last = world.listed("table_name", "operation = 'reset'").await.pop();
    assert_eq!(last.as_deref(), Some("public.u"));
    capture.stop().await;
}

/// The gap is in history before the table waits, so whoever captures next waits on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_joins_although_capture_is_killed_meanwhile() {
    let cluster = TestCluster::own(&[]).await;
    let world = World::bare_on(&cluster, "addkill", OTHER).await;
    world.publish().await;
    world.begin().await;
    world.source_db.exec(T).await;
    let capture = world.run_looking();
    world.wait_looked("other", "looked").await;
    let writer = connect(world.source_db.url()).await;
    writer.batch_execute("BEGIN; INSERT INTO t VALUES (1, 'before')").await.unwrap();
    world.source_db.exec(PUBLISH).await;
    wait_until("the table joins", PATIENCE, async || !joining(&capture).is_empty()).await;
    capture.kill().await;
    let capture = world.run_looking();
    wait_until("it still joins", PATIENCE, async || !joining(&capture).is_empty()).await;
    world.wait_looked("other", "looked_again").await;
    assert_eq!(world.stored_count("operation = 'reset'").await, 0);
    writer.batch_execute("COMMIT").await.unwrap();
    wait_joined(&world, &capture, 1).await;
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_history_that_knows_no_tables_none_was_added() {
    let world = World::begun("addfirst", OTHER).await;
    world.history_db.exec("DELETE FROM waldelta.source_fingerprints").await;
    world.source_db.exec(T).await;
    world.source_db.exec(PUBLISH).await;
    let capture = world.run_looking();
    world.wait_looked("other", "looked").await;
    assert_eq!(world.stored("SELECT count(*) FROM waldelta.gaps").await, "0");
    world.source_db.exec("CREATE TABLE u (id int PRIMARY KEY); ALTER PUBLICATION waldelta ADD TABLE u").await;
    wait_joined(&world, &capture, 1).await;
    capture.stop().await;
}

/// A publication of all tables, with history in the captured database: its own rows never become changes, though they are all
/// sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_publication_of_all_tables_our_own_are_left_out() {
    let mut world = World::bare("addall", T).await;
    world.history = History::open(&history_config(world.source_db.url())).await.unwrap();
    world
        .source_db
        .exec("CREATE PUBLICATION waldelta FOR ALL TABLES WITH (publish_via_partition_root)")
        .await;
    world.publish().await;
    world.begin().await;
    let here = async |sql: &str| world.source_db.query_text(sql).await;
    let capture = world.run_looking();
    world.source_db.exec("INSERT INTO t VALUES (1, 'a')").await;
    world.source_db.exec("CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1)").await;
    let told = "SELECT count(*) FROM waldelta.change_history WHERE operation IN ('insert', 'reset')";
    wait_until("all is told", PATIENCE, async || here(told).await == "3").await;
    wait_until("u has joined", PATIENCE, async || joining(&capture).is_empty()).await;
    // What history writes would bring the next append, and so on.
    let before = capture.status.read().changes;
    for round in 0..3 {
        let at = capture.status.read().last_commit_us;
        wait_until("the canary arrives", PATIENCE, async || capture.status.read().last_commit_us > at).await;
        assert_eq!(capture.status.read().changes, before, "round {round}");
    }
    let ours = "SELECT count(*) FROM waldelta.change_history WHERE table_name LIKE 'waldelta.%'";
    assert_eq!(here(ours).await, "0");
    assert_eq!(here("SELECT count(*) FROM waldelta.gaps WHERE to_lsn IS NULL").await, "0");
    capture.stop().await;
}
