//! Reaching, logging in, settings, letting go.

use std::time::Duration;

use tokio::net::TcpListener;
use waldelta_pgconn::Error;
use waldelta_testkit::{SmallDisk, TestCluster, TestDatabase, wait_until};
use waldelta_wal::Code;

use crate::{PATIENCE, connect, target, text};

/// From now on the role `web` has to give its password, which is `right`.
pub(crate) async fn demand_passwords(cluster: &TestCluster) {
    let admin = waldelta_testkit::connect(&cluster.url("postgres")).await;
    admin.batch_execute("CREATE ROLE web LOGIN PASSWORD 'right'").await.unwrap();
    let file = text(&admin, "SHOW hba_file").await;
    let rules = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("host all web all scram-sha-256\nlocal all web scram-sha-256\n{rules}"))
        .unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let without = format!("host=127.0.0.1 port={} user=web dbname=postgres", cluster.port());
    wait_until("passwords are asked for", PATIENCE, async || connect(&without).await.is_err()).await;
}

#[tokio::test]
async fn passwords_are_checked() {
    let cluster = TestCluster::own(&[]).await;
    demand_passwords(&cluster).await;
    let address = format!("port={} user=web dbname=postgres", cluster.port());
    connect(&format!("{address} host=127.0.0.1 password=right")).await.unwrap();
    connect(&format!("{address} host={} password=right", cluster.socket_dir().display())).await.unwrap();
    for wrong in ["password=wrong", ""] {
        let error = connect(&format!("{address} host=127.0.0.1 {wrong}")).await.unwrap_err();
        assert!(matches!(error, Error::Authentication { .. }), "{error:?}");
        assert_eq!((error.code(), error.is_retryable()), (Code::AuthenticationFailed, false));
        assert!(!format!("{error} {error:?}").contains("wrong"), "{error:?}");
    }
}

#[tokio::test]
async fn what_hinders_a_connection_is_told_apart() {
    let database = TestDatabase::create("hindered").await;
    let url = database.url();
    let role = format!("{}_full", database.name());
    database.exec(&format!("CREATE ROLE {role} LOGIN CONNECTION LIMIT 0")).await;
    let missing = target(url).with_database("no such database");
    let error = missing.connect("test", &[]).await.unwrap_err();
    assert!(
        matches!(&error, Error::DatabaseMissing { database, .. } if database == "no such database"),
        "{error:?}"
    );
    assert_eq!((error.code(), error.is_retryable()), (Code::DatabaseMissing, false));
    let error = connect(&format!("{url}?user={role}")).await.unwrap_err();
    assert_eq!((error.code(), error.is_retryable()), (Code::ConnectionsExhausted, true), "{error:?}");
    let error = connect(&format!("{url}?user=nobody_of_this_name")).await.unwrap_err();
    assert_eq!(error.code(), Code::AuthenticationFailed, "{error:?}");
    database.exec(&format!("DROP ROLE {role}")).await;

    for nowhere in [
        "host=127.0.0.1 port=1 user=u",
        "host=/nowhere user=u",
        "host=no.such.host.invalid user=u sslmode=disable",
    ] {
        let error = connect(nowhere).await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
        assert_eq!((error.code(), error.is_retryable()), (Code::DatabaseUnreachable, true));
    }
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let error = connect(&format!("host=127.0.0.1 port={port} user=u connect_timeout=1")).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { waited_ms: 1000, .. }) && error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn a_server_that_cannot_begin_a_session_for_want_of_room_is_tried_again() {
    let disk = match SmallDisk::mount(64) {
        Ok(disk) => disk,
        Err(why) => return println!("skipped: {why}"),
    };
    let cluster = TestCluster::own(&[]).await;
    let folder = disk.folder_for(&cluster, "space");
    let admin = waldelta_testkit::connect(&cluster.url("postgres")).await;
    admin.batch_execute(&format!("CREATE TABLESPACE small LOCATION '{}'", folder.display())).await.unwrap();
    admin.batch_execute("CREATE DATABASE unopened TABLESPACE small").await.unwrap();
    disk.fill();
    // Whoever is the first writes a file into its folder.
    let error = connect(&cluster.url("unopened")).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }) && error.is_retryable(), "{error:?}");
    assert_eq!(error.code(), Code::DatabaseUnreachable);
    disk.clear();
    connect(&cluster.url("unopened")).await.expect("room again");
}

#[tokio::test]
async fn settings_and_names_arrive_as_they_were_given() {
    let database = TestDatabase::create("settings").await;
    let settings = [("search_path", r#"pg_catalog, "a\b c'd""#), ("TimeZone", "UTC")];
    let client = target(&format!("{}?options=-c%20work_mem%3D123kB", database.url()))
        .connect("my part", &settings)
        .await;
    let client = client.unwrap();
    let shown = "SELECT concat_ws('|', current_setting('search_path'), current_setting('work_mem'),
        current_setting('application_name'))";
    assert_eq!(text(&client, shown).await, r#"pg_catalog, "a\b c'd"|123kB|my part"#);
    let named = connect(&format!("{}?application_name=theirs", database.url())).await.unwrap();
    assert_eq!(text(&named, "SHOW application_name").await, "theirs");
}

#[tokio::test]
async fn a_dropped_guard_cuts_the_connection_and_a_dropped_client_ends_it() {
    let database = TestDatabase::create("guard").await;
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'watched'",
        database.name()
    );
    let gone = async || database.query_text(&sql).await == "0";
    let client = target(database.url()).connect("watched", &[]).await.unwrap();
    assert!(!gone().await);
    drop(client);
    wait_until("the backend of a dropped client is gone", PATIENCE, gone).await;
    let (client, guard) = target(database.url()).connect_guarded("watched", &[]).await.unwrap();
    assert!(!gone().await);
    drop(guard);
    wait_until("the backend of a dropped guard is gone", PATIENCE, gone).await;
    let error = tokio::time::timeout(Duration::from_secs(5), client.batch_execute("SELECT 1"))
        .await
        .unwrap()
        .unwrap_err();
    assert!(error.is_closed(), "{error:?}");
}
