//! What the doctor finds about the server and what goes on in it, on servers of the tests' own.

use std::time::{Duration, SystemTime};

use waldelta_source::Source;
use waldelta_source::checks::{self, Check, Options, State};
use waldelta_source::setup::Provider;
use waldelta_testkit::{TestCluster, TestDatabase};
use waldelta_wal::Code;

use crate::{set_up, source, source_as};

fn find<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no {name} in {checks:?}"))
}

async fn state_of(source: &Source, name: &str) -> (State, Option<Code>) {
    let checks = checks::run(source).await;
    let check = find(&checks, name);
    (check.state, check.code)
}

fn is_well((state, code): (State, Option<Code>)) -> bool {
    state == State::Ok && code.is_none()
}

const fn warned(code: Code) -> (State, Option<Code>) {
    (State::Warning, Some(code))
}

/// Runs the statements that a check prints, each as its reader would.
async fn mend(database: &TestDatabase, check: &Check) {
    for statement in check.fix.as_deref().unwrap().lines().filter(|line| !line.starts_with("--")) {
        database.exec(statement).await;
    }
}

#[tokio::test]
async fn settings_that_endanger_the_slot_are_found_out_and_mended() {
    let settings = [
        ("wal_level", "logical"),
        ("wal_sender_timeout", "0"),
        ("max_slot_wal_keep_size", "-1"),
        ("synchronous_standby_names", "FIRST 1 (replica, WalDelta)"),
        ("synchronous_commit", "local"),
    ];
    let cluster = TestCluster::own(&settings).await;
    let database = TestDatabase::create_on(&cluster, "settings").await;
    let source = source(&database);
    database.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
    set_up(&source).await;
    let major = database.server_major().await;
    if major >= 18 {
        database.exec("ALTER SYSTEM SET idle_replication_slot_timeout = '1d'").await;
        database.exec("SELECT pg_reload_conf()").await;
    }
    let checks = checks::run(&source).await;
    let faults = [
        ("wal_limit", Code::SlotUnlimited),
        ("timeouts", Code::SenderTimeout),
        ("synchronous", Code::SynchronousStandby),
    ];
    for (name, code) in faults {
        let check = find(&checks, name);
        assert_eq!((check.state, check.code), warned(code), "{check:?}");
        assert!(check.why.is_some());
        mend(&database, check).await;
    }
    if major >= 18 {
        let check = find(&checks, "idle_timeout");
        assert_eq!((check.state, check.code), warned(Code::SlotIdleTimeout));
        mend(&database, check).await;
    }
    for name in ["wal_limit", "timeouts", "synchronous", "idle_timeout"] {
        waldelta_testkit::wait_until(name, crate::PATIENCE, async || is_well(state_of(&source, name).await))
            .await;
    }
    let other = source_as(&database, "?application_name=standby1");
    assert_eq!(state_of(&other, "synchronous").await, warned(Code::SynchronousStandby), "by its own name");
    database.exec("ALTER SYSTEM SET wal_sender_timeout = '9s'").await;
    database.exec("SELECT pg_reload_conf()").await;
    waldelta_testkit::wait_until("a short one", crate::PATIENCE, async || {
        state_of(&source, "timeouts").await == warned(Code::SenderTimeout)
    })
    .await;
}

#[tokio::test]
async fn timeouts_of_the_role_are_said_to_be_harmless() {
    let database = TestDatabase::create("role_timeouts").await;
    let name = database.name();
    database
        .exec(&format!(
            "ALTER DATABASE {name} SET statement_timeout = '1ms'; ALTER DATABASE {name} SET idle_in_transaction_session_timeout = '1ms'"
        ))
        .await;
    let checks = checks::run(&source(&database)).await;
    let timeouts = find(&checks, "timeouts");
    assert_eq!(
        (timeouts.state, &*timeouts.found),
        (
            State::Ok,
            "wal_sender_timeout is 60 s; idle_in_transaction_session_timeout, statement_timeout are set for the role or \
             database, and Waldelta sets its own"
        )
    );
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_found_out() {
    let database = TestDatabase::create("clock").await;
    let source = source(&database);
    let with = |clock: fn() -> SystemTime| Options { clock: Some(clock), ..Options::default() };
    #[expect(clippy::disallowed_methods, reason = "the clock is what this test is about")]
    let clocks: [fn() -> SystemTime; 3] = [
        SystemTime::now,
        || SystemTime::now() + Duration::from_secs(8),
        || SystemTime::now() - Duration::from_secs(8),
    ];
    let mut found = Vec::new();
    for clock in clocks {
        let checks = checks::run_with(&source, &with(clock)).await;
        let check = find(&checks, "clock");
        found.push((check.state, check.code, check.found.contains("behind"), check.found.contains("ahead")));
    }
    let wrong = Some(Code::ClockSkew);
    assert_eq!(
        found,
        [
            (State::Ok, None, false, false),
            (State::Warning, wrong, true, false),
            (State::Warning, wrong, false, true)
        ]
    );
    assert!(checks::run(&source).await.iter().all(|check| check.name != "clock"), "not without a clock");
}

#[tokio::test]
async fn transactions_that_stay_open_are_named() {
    let cluster = TestCluster::own(&[("wal_level", "logical"), ("max_prepared_transactions", "5")]).await;
    let database = TestDatabase::create_on(&cluster, "open").await;
    let source = source(&database);
    database.exec("CREATE TABLE t (id int)").await;
    let (writer, reader) = (database.client().await, database.client().await);
    writer.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM t").await.unwrap();
    database
        .client()
        .await
        .batch_execute("BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'it''s'")
        .await
        .unwrap();
    let options = Options { old_transaction: Duration::ZERO, ..Options::default() };
    let checks = checks::run_with(&source, &options).await;
    let (open, prepared) = (find(&checks, "transactions"), find(&checks, "prepared"));
    assert_eq!((open.state, open.code), warned(Code::LongTransaction));
    for (client, holds) in [(&writer, "has written"), (&reader, "holds a snapshot")] {
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let said =
            format!("pid {pid} (postgres in {}, idle in transaction) {holds}, open since", database.name());
        assert!(open.found.contains(&said), "{open:?}");
        assert!(open.fix.as_deref().unwrap().contains(&format!("pg_terminate_backend({pid})")));
    }
    assert_eq!((prepared.state, prepared.code), warned(Code::PreparedTransaction));
    assert!(prepared.found.contains("'it''s' (postgres in "), "{prepared:?}");
    let checks = checks::run(&source).await;
    for name in ["transactions", "prepared"] {
        assert_eq!(find(&checks, name).state, State::Ok, "neither is old");
    }
    database.exec(prepared.fix.as_deref().unwrap()).await;
    for statement in open.fix.as_deref().unwrap().lines() {
        database.exec(statement).await;
    }
    let checks = checks::run_with(&source, &options).await;
    assert_eq!(find(&checks, "prepared").state, State::Ok);
}

#[tokio::test]
async fn a_provider_is_recognised_and_advised_in_its_own_words() {
    let cluster = TestCluster::own(&[("wal_level", "replica"), ("max_slot_wal_keep_size", "-1")]).await;
    let database = TestDatabase::create_on(&cluster, "provider").await;
    if database.server_major().await >= 19 {
        println!("the level follows the slots by itself");
        return;
    }
    database.exec("CREATE ROLE plain LOGIN; CREATE TABLE t (id int PRIMARY KEY)").await;
    let plain = source_as(&database, "?user=plain");
    for (role, provider, level, replication) in [
        ("rds_superuser", Provider::Rds, "rds.logical_replication = 1", "GRANT rds_replication TO plain;"),
        (
            "cloudsqlsuperuser",
            Provider::Cloudsql,
            "cloudsql.logical_decoding = on",
            "ALTER ROLE plain REPLICATION;",
        ),
        (
            "azure_pg_admin",
            Provider::Azure,
            "the server parameter wal_level = logical",
            "ALTER ROLE plain REPLICATION;",
        ),
        ("supabase_admin", Provider::Supabase, "ask its support", "ALTER ROLE plain REPLICATION;"),
        ("neon_superuser", Provider::Neon, "enable Logical Replication", "ALTER ROLE plain REPLICATION;"),
    ] {
        database.exec(&format!("CREATE ROLE {role}")).await;
        let client = plain.connect().await.unwrap();
        assert_eq!(Provider::detect(&client).await.unwrap(), Some(provider));
        let checks = checks::run(&plain).await;
        let fix = |name: &str| find(&checks, name).fix.clone().unwrap();
        assert!(fix("wal_level").contains(level), "{checks:?}");
        assert!(fix("role").contains(replication), "{checks:?}");
        assert!(!fix("wal_limit").contains("ALTER SYSTEM"), "{checks:?}");
        database.exec(&format!("DROP ROLE {role}")).await;
    }
    let options = Options { provider: Some(Provider::Rds), ..Options::default() };
    let checks = checks::run_with(&plain, &options).await;
    assert!(find(&checks, "wal_level").fix.as_deref().unwrap().contains("rds."), "as it was told");
    database.exec("DROP ROLE plain").await;
}

#[tokio::test]
async fn a_slot_that_follows_no_failover_is_told_where_there_are_standbys() {
    let primary = TestCluster::own(&[("wal_level", "logical")]).await;
    let database = TestDatabase::create_on(&primary, "failover").await;
    let source = source(&database);
    set_up(&source).await;
    assert!(is_well(state_of(&source, "failover").await));
    let standby = TestCluster::standby_of(&primary, &[]).await;
    standby.has_caught_up_with(&primary).await;
    if database.server_major().await < 17 {
        assert!(is_well(state_of(&source, "failover").await), "slots follow none before PostgreSQL 17");
        return;
    }
    let slot = &source.slot;
    // One that was made before there were such slots, or by hand.
    database.query(&format!("SELECT pg_drop_replication_slot('{slot}')")).await;
    database.query(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")).await;
    assert_eq!(state_of(&source, "failover").await, warned(Code::SlotNotFailover));
    database.query(&format!("SELECT pg_drop_replication_slot('{slot}')")).await;
    database
        .query(&format!(
            "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput', false, false, true)"
        ))
        .await;
    database.query("SELECT pg_create_physical_replication_slot('first')").await;
    let checks = checks::run(&source).await;
    let check = find(&checks, "failover");
    assert_eq!((check.state, check.code), warned(Code::StandbySlotsUnset));
    mend(&database, check).await;
    waldelta_testkit::wait_until("it is set", crate::PATIENCE, async || {
        is_well(state_of(&source, "failover").await)
    })
    .await;
}

#[tokio::test]
async fn a_standby_needs_its_primary() {
    let primary = TestCluster::own(&[("wal_level", "logical")]).await;
    let database = TestDatabase::create_on(&primary, "standby").await;
    set_up(&source(&database)).await;
    let standby = TestCluster::standby_of(&primary, &[]).await;
    standby.has_caught_up_with(&primary).await;
    let target =
        |url: &str| waldelta_pgconn::Target::parse(url, &waldelta_pgconn::Environment::default()).unwrap();
    let mut read = Source { target: target(&standby.url(database.name())), ..source(&database) };
    assert_eq!(state_of(&read, "primary").await, (State::Failed, Some(Code::SourceStandby)));
    read.primary = Some(read.target.clone());
    let major = database.server_major().await;
    if major < 16 {
        assert_eq!(state_of(&read, "primary").await, (State::Failed, Some(Code::VersionUnsupported)));
        return;
    }
    assert_eq!(state_of(&read, "primary").await, (State::Failed, Some(Code::SourceStandby)));
    let stranger = TestCluster::own(&[]).await;
    read.primary = Some(target(&stranger.url("postgres")));
    assert_eq!(state_of(&read, "primary").await, (State::Failed, Some(Code::SourceStandby)));
    read.primary = Some(target(database.url()));
    assert_eq!(state_of(&read, "primary").await, warned(Code::StandbyFeedback));
    let client = waldelta_testkit::connect(&standby.url("postgres")).await;
    for statement in ["ALTER SYSTEM SET hot_standby_feedback = on", "SELECT pg_reload_conf()"] {
        client.batch_execute(statement).await.unwrap();
    }
    waldelta_testkit::wait_until("it is set", crate::PATIENCE, async || {
        is_well(state_of(&read, "primary").await)
    })
    .await;
}

/// Writes as many WAL files.
async fn write_wal(database: &TestDatabase, files: u32) {
    for _ in 0..files {
        database.exec("SELECT pg_logical_emit_message(true, '', ''); SELECT pg_switch_wal()").await;
    }
    database.exec("CHECKPOINT").await;
}

#[tokio::test]
async fn a_slot_that_falls_behind_is_told_before_it_is_lost_and_after() {
    let settings = [
        ("wal_level", "logical"),
        ("max_wal_size", "32MB"),
        ("min_wal_size", "32MB"),
        ("max_slot_wal_keep_size", "-1"),
    ];
    let cluster = TestCluster::own(&settings).await;
    let database = TestDatabase::create_on(&cluster, "behind").await;
    let source = source(&database);
    set_up(&source).await;
    let on_azure = Options { provider: Some(Provider::Azure), ..Options::default() };
    let checks = checks::run_with(&source, &on_azure).await;
    assert!(find(&checks, "wal_limit").fix.as_deref().unwrap().contains("cannot be changed"), "{checks:?}");
    let checks = checks::run(&source).await;
    assert!(find(&checks, "slot").found.ends_with("its WAL is reserved; nobody reads it now"), "{checks:?}");
    assert_eq!(find(&checks, "retained_wal").state, State::Ok);
    write_wal(&database, 6).await;
    let checks = checks::run(&source).await;
    let retained = find(&checks, "retained_wal");
    assert_eq!((retained.state, retained.code), warned(Code::SlotRetention), "{retained:?}");
    assert!(find(&checks, "slot").found.contains("its WAL is extended"), "{checks:?}");
    for statement in ["ALTER SYSTEM SET max_slot_wal_keep_size = '16MB'", "SELECT pg_reload_conf()"] {
        database.exec(statement).await;
    }
    waldelta_testkit::wait_until("the slot is lost", crate::PATIENCE, async || {
        write_wal(&database, 1).await;
        state_of(&source, "slot").await == (State::Failed, Some(Code::SlotLost))
    })
    .await;
    assert_eq!(state_of(&source, "retained_wal").await, (State::Unknown, Some(Code::SlotLost)));
}
