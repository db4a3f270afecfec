//! What the doctor finds.

use waldelta_pgconn::{Environment, Target};
use waldelta_source::Source;
use waldelta_source::checks::{self, Check, State};
use waldelta_source::setup::{Wish, apply, plan};
use waldelta_testkit::{TestCluster, TestDatabase, wait_until};
use waldelta_wal::{Code, ValuePolicy};

use crate::{PATIENCE, set_up, source, source_as};

async fn run(source: &Source) -> Vec<Check> {
    checks::run(source).await
}

fn find<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    checks.iter().find(|check| check.name == name).unwrap()
}

/// Those that are not well, as `name state code`. The server that tests share may have standbys' slots.
fn faults(checks: &[Check]) -> Vec<String> {
    checks
        .iter()
        .filter(|check| check.state != State::Ok && check.name != "failover")
        .map(|check| format!("{} {:?} {}", check.name, check.state, check.code.map_or("-", Code::as_str)))
        .collect()
}

#[tokio::test]
async fn a_source_that_was_set_up_is_well() {
    let database = TestDatabase::create("well").await;
    let source = source(&database);
    database.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
    set_up(&source).await;
    let checks = run(&source).await;
    assert_eq!(faults(&checks), [] as [&str; 0], "{checks:?}");
    let names: Vec<_> = checks.iter().map(|check| check.name).collect();
    assert_eq!(names[0], "reachable");
    assert!(names.len() >= 14, "{names:?}");
    assert!(find(&checks, "publication").found.contains("1 tables"));
}

#[tokio::test]
async fn a_source_that_was_not_set_up_says_what_to_do() {
    let database = TestDatabase::create("bare").await;
    let checks = run(&source(&database)).await;
    let faults = faults(&checks);
    for fault in [
        "publication Failed WD-PUBLICATION-MISSING",
        "canary Warning WD-CANARY-UNUSABLE",
        "slot Failed WD-SLOT-MISSING",
        "retained_wal Unknown WD-SLOT-MISSING",
    ] {
        assert!(faults.iter().any(|found| found == fault), "{fault} not in {faults:?}");
    }
    assert!(checks.iter().all(|check| check.state != State::Failed || check.fix.is_some()));
    assert!(
        checks
            .iter()
            .all(|check| (check.state == State::Ok) == (check.code.is_none() && check.why.is_none()))
    );
    assert_eq!(find(&checks, "capacity").state, State::Ok);
}

#[tokio::test]
async fn a_careless_publication_is_found_out() {
    let database = TestDatabase::create("careless").await;
    let source = source(&database);
    database
        .exec(
            "CREATE TYPE mood AS ENUM ('fine'); CREATE TABLE log (line text);
             CREATE TABLE feelings (id int PRIMARY KEY, how mood);
             CREATE SCHEMA waldelta; CREATE TABLE waldelta.change_history (id int PRIMARY KEY);
             CREATE PUBLICATION waldelta FOR TABLE log, feelings, waldelta.change_history WITH (publish = 'insert, update')",
        )
        .await;
    let checks = run(&source).await;
    let publication = find(&checks, "publication");
    assert_eq!((publication.state, publication.code), (State::Failed, Some(Code::PublishesItself)));
    for part in ["leaves out operations", "lacks waldelta.canary", "publishes waldelta.change_history"] {
        assert!(publication.found.contains(part), "{publication:?}");
    }
    let identities = find(&checks, "identities");
    assert_eq!(identities.code, Some(Code::ReplicaIdentityMissing));
    assert!(
        identities.found.contains("public.log") && !identities.found.contains("feelings"),
        "{identities:?}"
    );
    // What is printed as the cure is one.
    database.exec(identities.fix.as_deref().unwrap()).await;
    set_up(&source).await;
    let checks = run(&source).await;
    database.exec(find(&checks, "publication").fix.as_deref().unwrap()).await;
    let checks = run(&source).await;
    assert_eq!(faults(&checks), [] as [&str; 0], "{checks:?}");
    database.exec("ALTER PUBLICATION waldelta SET (publish = 'insert, update, delete')").await;
    assert_eq!(faults(&run(&source).await), ["publication Warning WD-PUBLICATION-INCOMPLETE"]);
}

#[tokio::test]
async fn what_is_not_captured_is_said() {
    let database = TestDatabase::create("said").await;
    let source = source(&database);
    database
        .exec(
            "CREATE TABLE t (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED);
             CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
             CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9); CREATE UNLOGGED TABLE fast (id int PRIMARY KEY);
             CREATE FOREIGN DATA WRAPPER w; CREATE SERVER far FOREIGN DATA WRAPPER w;
             CREATE FOREIGN TABLE elsewhere (id int) SERVER far",
        )
        .await;
    set_up(&source).await;
    database.exec("CREATE TABLE later (id int PRIMARY KEY)").await;
    let checks = run(&source).await;
    let tables = find(&checks, "tables");
    assert_eq!(
        (tables.state, &*tables.found),
        (
            State::Ok,
            "2 tables are published, 1 of them partitioned; not in the publication: public.later; not in the WAL because \
             they are unlogged: public.fast; not in the WAL because they are foreign: public.elsewhere; generated columns, \
             not published before PostgreSQL 18 nor by default: public.t.twice"
        )
    );
    // Whoever knew of them before: a partition is published as its root.
    let oid = async |table: &str| -> u32 {
        database.query_text(&format!("SELECT '{table}'::regclass::oid")).await.parse().unwrap()
    };
    let known = [oid("t").await, oid("p").await, oid("p1").await, oid("later").await, 1];
    let gone = checks::unpublished(&source, &known).await.unwrap();
    assert_eq!(gone.iter().map(ToString::to_string).collect::<Vec<_>>(), ["public.later"]);
}

#[tokio::test]
async fn partitions_of_another_identity_and_narrowed_tables_are_found_out() {
    let database = TestDatabase::create("leaves").await;
    let source = source(&database);
    let can_narrow = database.server_major().await >= 15;
    let narrowed = match can_narrow {
        false => "",
        true => ", listed (a), filtered WHERE (a > 1), fits (id, a) WHERE (id > 3)",
    };
    database
        .exec(&format!(
            "CREATE TABLE f (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k); ALTER TABLE f REPLICA IDENTITY FULL;
             CREATE TABLE f1 PARTITION OF f FOR VALUES IN (1);
             CREATE TABLE r (id int, k int, code text NOT NULL, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
             CREATE TABLE r1 PARTITION OF r FOR VALUES IN (1); CREATE UNIQUE INDEX code ON r1 (code);
             ALTER TABLE r1 REPLICA IDENTITY USING INDEX code;
             CREATE TABLE r2 PARTITION OF r FOR VALUES IN (2); ALTER TABLE r2 REPLICA IDENTITY NOTHING;
             CREATE TABLE listed (id int PRIMARY KEY, a int); CREATE TABLE filtered (id int PRIMARY KEY, a int);
             CREATE TABLE fits (id int PRIMARY KEY, a int, b int);
             CREATE PUBLICATION waldelta FOR TABLE f, r {narrowed} WITH (publish_via_partition_root = true)"
        ))
        .await;
    set_up(&source).await;
    let checks = run(&source).await;
    let identities = find(&checks, "identities");
    assert_eq!((identities.state, identities.code), (State::Warning, Some(Code::ReplicaIdentityMissing)));
    let found = &identities.found;
    assert!(found.contains("fail on published tables without replica identity: public.r2;"), "{found}");
    assert!(found.contains("in partitions with another replica identity: public.r1;"), "{found}");
    assert!(found.ends_with("which their root table has: public.f1"), "{found}");
    assert_eq!(
        found.contains("fit their replica identity: public.filtered, public.listed;"),
        can_narrow,
        "{found}"
    );
    for statement in identities.fix.as_deref().unwrap().lines() {
        database.exec(statement).await;
    }
    assert_eq!(faults(&run(&source).await), [] as [&str; 0]);

    // Nothing is wrong with it but that old rows are not whole.
    database.exec("ALTER TABLE f1 REPLICA IDENTITY DEFAULT").await;
    assert_eq!(faults(&run(&source).await), ["identities Warning WD-REPLICA-IDENTITY-MIXED"]);
}

#[tokio::test]
async fn event_triggers_that_do_not_fire_are_found_out() {
    let database = TestDatabase::create("silent").await;
    let source = source(&database);
    database.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
    set_up(&source).await;
    database.exec("ALTER EVENT TRIGGER waldelta_ddl_dropped DISABLE").await;
    let checks = run(&source).await;
    let ddl = find(&checks, "ddl");
    assert!(ddl.state == State::Warning && ddl.found.contains("(waldelta_ddl_dropped)"), "{ddl:?}");
    database.exec(ddl.fix.as_deref().unwrap()).await;
    assert_eq!(find(&run(&source).await, "ddl").state, State::Ok);
    database.exec("DROP EVENT TRIGGER waldelta_ddl_dropped").await;
    assert_eq!(faults(&run(&source).await), ["ddl Warning WD-DDL-UNTOLD"]);
    set_up(&source).await;
    assert_eq!(find(&run(&source).await, "ddl").state, State::Ok);
}

#[tokio::test]
async fn a_role_without_rights_is_told_which() {
    let database = TestDatabase::create("rights").await;
    let role = format!("{}_plain", database.name());
    database
        .exec(&format!(
            "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE hidden (id int PRIMARY KEY);
             ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; CREATE ROLE {role} LOGIN; GRANT SELECT ON hidden TO {role}"
        ))
        .await;
    set_up(&source(&database)).await;
    let plain = source_as(&database, &format!("?user={role}"));
    let checks = run(&plain).await;
    assert_eq!(
        faults(&checks),
        [
            "role Failed WD-PRIVILEGE-MISSING",
            "select Failed WD-PRIVILEGE-MISSING",
            "row_security Failed WD-ROW-SECURITY",
            "canary Warning WD-CANARY-UNUSABLE",
            "transactions Unknown WD-PRIVILEGE-MISSING",
        ]
    );
    assert!(find(&checks, "role").found.ends_with("may not replicate"), "{checks:?}");
    assert!(find(&checks, "select").found.ends_with("public.t"), "{checks:?}");
    for name in ["role", "select", "row_security", "canary", "transactions"] {
        database.exec(find(&checks, name).fix.as_deref().unwrap()).await;
    }
    let checks = run(&plain).await;
    assert_eq!(faults(&checks), [] as [&str; 0]);
    assert!(find(&checks, "role").found.ends_with("but not alter the publication, which is postgres's"));
    database.exec(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn what_cannot_be_asked_hides_nothing_else() {
    let database = TestDatabase::create("unknown").await;
    let role = format!("{}_blind", database.name());
    database.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
    set_up(&source(&database)).await;
    database
        .exec(&format!(
            "CREATE ROLE {role} LOGIN REPLICATION; GRANT SELECT ON t TO {role}; GRANT USAGE ON SCHEMA waldelta TO {role};
             GRANT SELECT, UPDATE ON waldelta.canary TO {role}; REVOKE SELECT ON pg_replication_slots FROM PUBLIC"
        ))
        .await;
    let checks = run(&source_as(&database, &format!("?user={role}"))).await;
    assert_eq!(
        faults(&checks),
        [
            "slot Unknown WD-PRIVILEGE-MISSING",
            "retained_wal Unknown WD-PRIVILEGE-MISSING",
            "capacity Unknown WD-PRIVILEGE-MISSING",
            "transactions Unknown WD-PRIVILEGE-MISSING",
        ]
    );
    database.exec(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn a_slot_of_another_kind_is_found_out() {
    let database = TestDatabase::create("other_slot").await;
    let source = source(&database);
    let sql = format!("SELECT pg_create_logical_replication_slot('{}', 'test_decoding')", source.slot);
    database.query(&sql).await;
    let checks = run(&source).await;
    assert_eq!(find(&checks, "slot").code, Some(Code::SlotUnusable));
}

#[tokio::test]
async fn a_server_that_cannot_decode_is_found_out() {
    let cluster = TestCluster::own(&[("wal_level", "replica"), ("max_wal_senders", "0")]).await;
    let database = TestDatabase::create_on(&cluster, "replica").await;
    let checks = run(&source(&database)).await;
    assert_eq!(find(&checks, "capacity").code, Some(Code::SlotsExhausted));
    if database.server_major().await >= 19 {
        println!("the rest does not apply: from PostgreSQL 19 on the level follows the slots by itself");
        return;
    }
    // Nobody reads such a WAL: DDL goes on untold.
    let unheard = source(&database);
    let client = unheard.connect().await.unwrap();
    let planned = plan(&client, &unheard, &Wish::default()).await.unwrap().without_slot();
    apply(&client, &unheard, &planned).await.unwrap();
    database
        .exec("CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t ADD COLUMN d int DEFAULT 1; DROP TABLE t")
        .await;
    let level = find(&checks, "wal_level");
    assert_eq!((level.state, level.code), (State::Failed, Some(Code::WalLevel)));
    database.exec(level.fix.as_deref().unwrap()).await;
    database.query("SELECT pg_reload_conf()").await;
    wait_until("the server knows that it has to be restarted", PATIENCE, async || {
        find(&run(&source(&database)).await, "wal_level").found
            == "wal_level is replica until PostgreSQL is restarted"
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_one_answer() {
    let url = "postgresql://u:secret@127.0.0.1:1/d";
    let target = Target::parse(url, &Environment::default()).unwrap();
    let source = Source {
        target,
        publication: "p".into(),
        slot: "s".into(),
        plugin: waldelta_source::Plugin::default(),
        values: ValuePolicy::default(),
        primary: None,
    };
    let checks = run(&source).await;
    assert_eq!(faults(&checks), ["reachable Failed WD-SOURCE-UNREACHABLE"]);
    let shown = format!("{checks:?} {source:?}");
    assert!(shown.contains("127.0.0.1:1") && !shown.contains("secret"), "{shown}");
}

#[tokio::test]
async fn a_check_is_json_with_its_code_as_text() {
    let url = "postgresql://u@127.0.0.1:6432/d";
    let target = Target::parse(url, &Environment::default()).unwrap();
    let source = Source {
        target,
        publication: "p".into(),
        slot: "s".into(),
        plugin: waldelta_source::Plugin::default(),
        values: ValuePolicy::default(),
        primary: None,
    };
    let checks = run(&source).await;
    let json = serde_json::to_value(&checks).unwrap();
    assert_eq!(json[1]["name"], "pooler");
    assert_eq!(
        (&json[1]["state"], &json[1]["code"]),
        (&"warning".into(), &Code::PoolerAddress.as_str().into())
    );
}
