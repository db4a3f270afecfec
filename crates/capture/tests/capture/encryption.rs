//! TLS below the replication connection. The certificates in `tls/` are for localhost and 127.0.0.1; they protect nothing.

use std::path::PathBuf;

use waldelta_capture::State;
use waldelta_source::Source;
use waldelta_testkit::TestCluster;
use waldelta_wal::Code;

use crate::world::{World, target};

const CERTIFICATE: &str = include_str!("tls/server.crt");
const KEY: &str = include_str!("tls/server.key");
/// Of nobody that is trusted.
const STRANGER: (&str, &str) = (include_str!("tls/stranger.crt"), include_str!("tls/stranger.key"));

fn certificates() -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/capture/tls/ca.crt").display().to_string()
}

/// Written by the server itself, so that the files are its own.
async fn write_file(world: &World, name: &str, text: &str) {
    let lines: Vec<String> = text.lines().map(|line| format!("('{line}')")).collect();
    let sql = format!("COPY (VALUES {}) TO PROGRAM 'umask 077; cat > {name}'", lines.join(", "));
    world.source_db.exec(&sql).await;
}

async fn show_certificate(world: &World, certificate: &str, key: &str) {
    write_file(world, "server.crt", certificate).await;
    write_file(world, "server.key", key).await;
    world.source_db.exec("SELECT pg_reload_conf()").await;
}

/// False where the server was built without TLS, as some packages are.
async fn switch_tls_on(world: &World) -> bool {
    if world.source_db.query_text("SHOW ssl_library").await.is_empty() {
        return false;
    }
    world.source_db.exec("ALTER SYSTEM SET ssl = on").await;
    show_certificate(world, CERTIFICATE, KEY).await;
    true
}

async fn world(cluster: &TestCluster) -> World {
    let world = World::bare_on(cluster, "tls", "CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    world.publish().await;
    world.begin().await;
    world
}

fn with(world: &World, cluster: &TestCluster, parameters: &str) -> waldelta_capture::Config {
    let url =
        format!("postgresql://postgres@localhost:{}/{}?{parameters}", cluster.port(), world.source_db.name());
    let mut config = world.config();
    config.source = Source { target: target(&url), ..world.source.clone() };
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verified_and_unverified_tls_carry_a_flood() {
    let cluster = TestCluster::own(&[]).await;
    let world = world(&cluster).await;
    if !switch_tls_on(&world).await {
        println!("this server has no TLS: nothing to test");
        return;
    }
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_replication USING (pid) WHERE ssl";
    let verified = format!("sslmode=verify-full&sslrootcert={}", certificates());
    for (round, parameters) in (0..).zip([verified.as_str(), "sslmode=require", "sslmode=prefer"]) {
        let capture = world.run_with(with(&world, &cluster, parameters));
        capture.wait_streaming().await;
        assert_eq!(world.source_db.query_text(encrypted).await, "1", "{parameters}");
        let flood = format!(
            "INSERT INTO t SELECT {round} * 20000 + i, repeat('x', 300) FROM generate_series(1, 20000) i"
        );
        world.source_db.exec(&flood).await;
        world.wait_stored(&format!("(data->>'id')::int > {round} * 20000"), 20_000).await;
        // A read that ran into its timeout has lost nothing.
        let timed_out = capture.status.read().received;
        world.source_db.exec("SELECT pg_sleep(0.3)").await;
        world.source_db.exec(&format!("INSERT INTO t VALUES (-{round} - 1, 'single')")).await;
        world.wait_stored("(data->>'id')::int < 0", round + 1).await;
        assert!(capture.status.read().received >= timed_out);
        capture.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_that_is_demanded_and_not_there_is_named() {
    let cluster = TestCluster::own(&[]).await;
    let world = world(&cluster).await;
    let capture = world.run_with(with(&world, &cluster, "sslmode=require"));
    capture
        .wait_state("TLS is missed", |state| {
            matches!(state, State::Reconnecting { code: Code::TlsFailed, .. })
        })
        .await;
    assert!(!capture.is_over());
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_replaced_by_one_that_is_not_trusted_is_named_and_waited_for() {
    let cluster = TestCluster::own(&[]).await;
    let world = world(&cluster).await;
    if !switch_tls_on(&world).await {
        println!("this server has no TLS: nothing to test");
        return;
    }
    let verified = format!("sslmode=verify-full&sslrootcert={}", certificates());
    let capture = world.run_with(with(&world, &cluster, &verified));
    capture.wait_streaming().await;
    // The connection that is there goes on.
    show_certificate(&world, STRANGER.0, STRANGER.1).await;
    world.source_db.exec("INSERT INTO t VALUES (1, 'before')").await;
    world.wait_stored("(data->>'id')::int = 1", 1).await;
    // The next one is refused, and tried again until the right one is back.
    world.source_db.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_replication").await;
    capture
        .wait_state("it is not trusted", |state| {
            matches!(state, State::Reconnecting { code: Code::TlsFailed, .. })
        })
        .await;
    world.source_db.exec("INSERT INTO t VALUES (2, 'meanwhile')").await;
    show_certificate(&world, CERTIFICATE, KEY).await;
    capture.wait_streaming().await;
    world.wait_stored("(data->>'id')::int = 2", 1).await;
    capture.stop().await;
}
