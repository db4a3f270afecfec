//! Tables that need repair are reset: by whoever is asked to, or by capture itself where the configuration says so.

use waldelta_capture::{Config, OnGap, reset_tables};
use waldelta_testkit::wait_until;
use waldelta_wal::Reset;

use crate::world::{PATIENCE, Running, World};

const TABLES: &str = "CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE u (id int PRIMARY KEY, n int);
    INSERT INTO t VALUES (1, 1); INSERT INTO u VALUES (1, 1)";
const OPEN: &str = "SELECT count(*) FROM waldelta.gaps WHERE to_lsn IS NULL";

fn needing_repair(capture: &Running) -> Vec<String> {
    capture.status.read().needs_repair.into_iter().map(|table| table.table).collect()
}

async fn wait_repaired(capture: &Running) {
    wait_until("nothing needs repair", PATIENCE, async || needing_repair(capture).is_empty()).await;
}

fn run_by_itself(world: &World) -> Running {
    let config = Config {
        on_gap: OnGap::NewEpoch,
        canary_interval: std::time::Duration::from_millis(100),
        ..world.config()
    };
    world.run_with(config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_stays_in_need_of_repair_until_somebody_resets_it() {
    let world = World::begun("resethand", TABLES).await;
    let capture = world.run_looking();
    world.wait_looked("u", "looked").await;
    world.source_db.exec("ALTER TABLE t ALTER n TYPE text").await;
    world.source_db.exec("ALTER TABLE u ALTER n TYPE text").await;
    wait_until("both need repair", PATIENCE, async || needing_repair(&capture).len() == 2).await;
    world.wait_looked("u", "looked_again").await;
    assert_eq!(world.stored_count("operation = 'reset'").await, 0, "nobody said so");
    let oid: u32 = world.source_db.query_text("SELECT 't'::regclass::oid").await.parse().unwrap();
    let reset = Reset { table_oid: oid, table: "public.t".into(), reason: "rewritten".into() };
    let client = world.source.connect_primary().await.unwrap();
    reset_tables(&client, std::slice::from_ref(&reset)).await.unwrap();
    wait_until("one needs repair", PATIENCE, async || needing_repair(&capture) == ["public.u"]).await;
    assert_eq!(world.stored(OPEN).await, "1");
    assert_eq!(world.listed("table_name", "operation = 'reset'").await, ["public.t"]);
    // To reset a table again does no harm.
    reset_tables(&client, &[reset]).await.unwrap();
    world.wait_stored("operation = 'reset'", 2).await;
    assert_eq!(needing_repair(&capture), ["public.u"]);
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_is_to_be_asked_each_gap_is_ended_by_one_reset() {
    let world = World::begun("resetself", TABLES).await;
    let capture = run_by_itself(&world);
    world.wait_looked("u", "looked").await;
    for (round, column) in [(1, "a"), (2, "b")] {
        world.source_db.exec(&format!("ALTER TABLE t ADD {column} float8 DEFAULT random()")).await;
        world.wait_stored("operation = 'reset'", round).await;
        wait_repaired(&capture).await;
        assert_eq!(world.stored(OPEN).await, "0");
    }
    world.wait_looked("u", "looked_again").await;
    assert_eq!(world.listed("table_name", "operation = 'reset'").await, ["public.t", "public.t"]);
    assert_eq!(world.stored("SELECT count(*) FROM waldelta.gaps").await, "2");
    capture.stop().await;
    // What happened while nobody captured is ended too.
    world.source_db.exec("ALTER TABLE u ALTER n TYPE text").await;
    let capture = run_by_itself(&world);
    world.wait_stored("operation = 'reset'", 3).await;
    wait_repaired(&capture).await;
    world.assert_gapless().await;
    capture.stop().await;
}

/// It is the transaction that counts, however large it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_in_a_large_transaction_ends_the_gap_with_its_commit() {
    let world = World::begun("resetlarge", TABLES).await;
    let mut config = world.config();
    config.batch_bytes_max = 128 << 10;
    config.canary_interval = std::time::Duration::from_millis(100);
    let capture = world.run_with(config);
    world.wait_looked("u", "looked").await;
    world.source_db.exec("ALTER TABLE t ADD w float8 DEFAULT random()").await;
    wait_until("it needs repair", PATIENCE, async || needing_repair(&capture) == ["public.t"]).await;
    world.wait_looked("u", "looked_again").await;
    let oid = world.source_db.query_text("SELECT 't'::regclass::oid").await;
    let content = format!(r#"{{"tables":[{{"oid":{oid},"name":"public.t","reason":"by hand"}}]}}"#);
    let rows =
        |from: u32| format!("INSERT INTO u SELECT n, n FROM generate_series({from}, {}) n", from + 9_999);
    let (before, after) = (rows(100_000), rows(200_000));
    let emit = format!("SELECT pg_logical_emit_message(true, 'waldelta.reset', '{content}')");
    world.source_db.exec(&format!("BEGIN; {before}; {emit}; {after}; COMMIT")).await;
    wait_repaired(&capture).await;
    world.wait_stored("operation = 'insert'", 20_000).await;
    assert_eq!(world.listed("seq::text", "operation = 'reset'").await, ["10000"]);
    assert_eq!(world.stored(OPEN).await, "0");
    world.assert_gapless().await;
    capture.stop().await;
}
