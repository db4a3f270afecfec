//! The ways to log in, over TCP and over a unix socket, on a server of the test's own.

use waldelta_capture::State;
use waldelta_source::Source;
use waldelta_testkit::TestCluster;
use waldelta_wal::Code;

use crate::world::{World, target};

/// A cluster whose `pg_hba.conf` wants each role's own method; superuser `postgres` is trusted.
async fn guarded() -> (TestCluster, World) {
    let cluster = TestCluster::own(&[]).await;
    let world = World::bare_on(&cluster, "auth", "CREATE TABLE t (id int PRIMARY KEY)").await;
    world.publish().await;
    world.begin().await;
    let hba_file = world.source_db.query_text("SHOW hba_file").await;
    let roles = ["scram", "md5", "password"];
    for role in roles {
        let encryption = if role == "md5" { "md5" } else { "scram-sha-256" };
        world
            .source_db
            .exec(&format!(
                "SET password_encryption = '{encryption}'; CREATE ROLE {role}_role SUPERUSER LOGIN PASSWORD 'pass wörd {role}'"
            ))
            .await;
    }
    let mut hba = "local all postgres trust\nhost all postgres all trust\n".to_owned();
    for role in roles {
        let method = if role == "scram" { "scram-sha-256" } else { role };
        hba.push_str(&format!("local all {role}_role {method}\nhost all {role}_role all {method}\n"));
    }
    std::fs::write(hba_file, hba).unwrap();
    world.source_db.exec("SELECT pg_reload_conf()").await;
    (cluster, world)
}

/// Captures with this URL, until one more row is stored.
async fn captures(world: &World, url: &str, id: u64) {
    let mut config = world.config();
    config.source = Source { target: target(url), ..world.source.clone() };
    let capture = world.run_with(config);
    world.source_db.exec(&format!("INSERT INTO t VALUES ({id})")).await;
    world.wait_stored("true", id).await;
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scram_md5_and_clear_text_on_loopback_and_unix_sockets() {
    let (cluster, world) = guarded().await;
    let (port, database, folder) = (cluster.port(), world.source_db.name(), cluster.socket_dir());
    let mut id = 0;
    for role in ["scram", "md5", "password"] {
        let password = format!("pass%20w%C3%B6rd%20{role}");
        id += 1;
        captures(&world, &format!("postgresql://{role}_role:{password}@127.0.0.1:{port}/{database}"), id)
            .await;
        id += 1;
        let socket = format!(
            "host='{}' port={port} dbname={database} user={role}_role password='pass wörd {role}'",
            folder.display()
        );
        captures(&world, &socket, id).await;
    }
    world.assert_gapless().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_named_and_tried_again() {
    let (cluster, world) = guarded().await;
    let mut config = world.config();
    let url =
        format!("postgresql://scram_role:wrong@127.0.0.1:{}/{}", cluster.port(), world.source_db.name());
    config.source = Source { target: target(&url), ..world.source.clone() };
    let capture = world.run_with(config);
    capture
        .wait_state("the password is refused", |state| {
            matches!(state, State::Reconnecting { code: Code::AuthenticationFailed, .. })
        })
        .await;
    world
        .source_db
        .exec("SET password_encryption = 'scram-sha-256'; ALTER ROLE scram_role PASSWORD 'wrong'")
        .await;
    capture.wait_streaming().await;
    capture.stop().await;
}
