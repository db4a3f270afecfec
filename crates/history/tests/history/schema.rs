//! The schema comes up once and is brought up to date with what is in it, and goes without taking others' objects with it.

use std::borrow::Cow;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Connection, PgConnection, SqlSafeStr};
use waldelta_history::{Error, History, Page};
use waldelta_testkit::TestDatabase;
use waldelta_wal::{Code, Kind, Lsn, Operation, Position, ReplicaIdentity, Skip};

use crate::support::*;

#[tokio::test]
async fn many_open_at_once_and_again() {
    let database = TestDatabase::create("history_open").await;
    let config = config(&database);
    let (a, b, c, d) = tokio::join!(
        History::open(&config),
        History::open(&config),
        History::open(&config),
        History::open(&config)
    );
    for opened in [a, b, c, d] {
        assert!(opened.unwrap().captured().await.unwrap().is_none());
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sql/migrations");
    let migrations = std::fs::read_dir(folder).unwrap().count().to_string();
    assert_eq!(database.query_text("SELECT count(*) FROM waldelta._sqlx_migrations").await, migrations);
    let elsewhere = "SELECT count(*) FROM pg_class WHERE relname = '_sqlx_migrations' AND relnamespace <> 'waldelta'::regnamespace";
    assert_eq!(database.query_text(elsewhere).await, "0");
}

#[tokio::test]
async fn a_schema_from_the_future_is_refused_by_name() {
    let database = TestDatabase::create("history_future").await;
    drop(History::open(&config(&database)).await.unwrap());
    database
        .exec("INSERT INTO waldelta._sqlx_migrations VALUES (99, 'time travel', now(), true, '', 0)")
        .await;
    let error = History::open(&config(&database)).await.map(drop).unwrap_err();
    assert_eq!(error.code(), Code::HistorySchemaNewer);
    assert!(error.to_string().contains("99 (time travel)"), "{error}");
    assert!(matches!(error, Error::SchemaNewer { version: 99, .. }));
}

/// A database as the version left it that had the first migration only, with rows as it wrote them.
pub(crate) async fn of_the_first_version(database: &TestDatabase) {
    let sql = include_str!("../../../../sql/migrations/0001_history.sql");
    let migration =
        Migration::new(1, Cow::Borrowed("history"), MigrationType::Simple, sql.into_sql_str(), false);
    let mut migrator = Migrator::with_migrations(vec![migration]);
    migrator.dangerous_set_table_name("waldelta._sqlx_migrations");
    database.exec("CREATE SCHEMA waldelta").await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    migrator.run_direct(None, &mut connection, false).await.unwrap();
    connection.close().await.unwrap();
    database.exec(include_str!("first_version.sql")).await;
}

#[tokio::test]
async fn what_the_first_version_wrote_is_brought_up_to_date() {
    let database = TestDatabase::create("history_upgrade").await;
    of_the_first_version(&database).await;
    let history = History::open(&config(&database)).await.unwrap();
    assert_eq!(history.captured().await.unwrap(), Some((captured(), head(START + 20))));
    let page = read_all(&history, whole(START - 1)).await;
    let change = &page.parts[0].changes[0];
    assert_eq!((page.parts.len(), change.operation), (1, Operation::Insert));
    let shape = change.table.as_ref().unwrap();
    assert_eq!(shape.columns[1].kind, Kind::builtin(1009).unwrap(), "the object id says how it becomes JSON");
    assert!(shape.columns.iter().all(|column| column.number == 0), "they were not known");
    // What was a gap is one that has ended, and the table may have an open one beside it.
    assert_eq!(history.open_gaps().await.unwrap(), []);
    assert_eq!(database.query_text("SELECT to_lsn FROM waldelta.gaps").await, "0/1010");
    let mut writer = history.writer("test").await.unwrap();
    let gap = waldelta_history::NewGap { table_oid: 7, from: Lsn(START + 20), reason: "rewritten".into() };
    writer.note_source(vec![gap], vec![(7, "{}".into())]).await.unwrap();
    assert_eq!(history.open_gaps().await.unwrap()[0].table.as_ref(), Some(&shape.name));
    // And it goes on from there, with what could not be stored before.
    let mut mixed = table(7, "orders");
    mixed.identity = ReplicaIdentity::Mixed;
    let mixed = writer.number(mixed);
    assert_eq!((mixed.table.version, mixed.changed), (2, true));
    writer.append(vec![transaction(START + 20, vec![insert(&mixed.table, 0, 2)])]).await.unwrap();
    assert_eq!(commit_lsns(&history).await, [START + 10, START + 20]);
    // Its epoch is the first of a lineage, and the gap ended in it.
    let lineage = history.lineage().await.unwrap();
    let first = &lineage.epochs()[0];
    assert_eq!((first.epoch, first.start, first.end), (EPOCH, end(START), None));
    assert_eq!((first.previous, first.continues, &*first.reason), (None, true, "test"));
    assert_eq!(database.query("SELECT DISTINCT to_epoch FROM waldelta.gaps").await, [[None]]);
    let skip = Skip { lsn: Lsn(START + 30), seq: None, by: "me".into(), why: "test".into() };
    history.order_skip(&skip).await.unwrap();
    drop(writer);
    // Once more, nothing is left to do.
    drop(History::open(&config(&database)).await.unwrap());
    let undocumented = "SELECT string_agg(relname, ' ') FROM pg_class WHERE relname IN ('gaps', 'gaps_open_idx', 'source_fingerprints', 'epochs', 'skips', 'skips_place_idx')
        AND obj_description(oid, 'pg_class') IS NULL";
    assert_eq!(database.query(undocumented).await, [[None]]);
}

#[tokio::test]
async fn a_history_begun_anew_has_an_epoch_that_no_cursor_has() {
    let database = TestDatabase::create("history_epochs").await;
    let history = begun(&database).await;
    let mut old = history.writer("test").await.unwrap();
    let orders = old.number(table(1, "orders")).table;
    old.append(vec![transaction(START, vec![insert(&orders, 0, 1)])]).await.unwrap();
    old.release().await.unwrap();
    let cursor = history.feed().head().cursor();
    history.drop_everything().await.unwrap();

    let history = History::open(&config(&database)).await.unwrap();
    let now: u32 = database
        .query_text("SELECT extract(epoch FROM now() - '2025-01-01 00:00:00+00')::int")
        .await
        .parse()
        .unwrap();
    let begun = history.begin_anew(&captured(), end(START), "test").await.unwrap();
    assert!(begun.epoch.0.abs_diff(now) < 600, "{} at {now}", begun.epoch.0);
    assert!(begun.epoch > cursor.epoch);
    assert_eq!(history.captured().await.unwrap(), Some((captured(), begun)));
    let mut writer = history.writer("test").await.unwrap();
    assert_eq!(writer.epoch(), begun.epoch);
    let mut piece = transaction(START, vec![insert(&writer.number(table(1, "other")).table, 0, 9)]);
    piece.head.epoch = begun.epoch;
    writer.append(vec![piece]).await.unwrap();
    // Before all of it, whatever its LSN, and of an epoch that this history never had.
    assert_eq!(history.read_after(cursor, writer.head().cursor(), ALL).await.unwrap(), Page::default());
    let from = Position::before(begun.epoch, end(START));
    let page = history.read_after(from, writer.head().cursor(), ALL).await.unwrap();
    assert_eq!(page.parts[0].head.epoch, begun.epoch);
    assert_eq!(page.parts[0].changes[0].table.as_ref().unwrap().name.name, "other");
    assert_eq!(history.floor().await.unwrap(), Position::before(begun.epoch, end(START)));
    let twice = history.begin_anew(&captured(), end(START), "test").await;
    assert!(matches!(twice, Err(Error::AlreadyBegun)), "{twice:?}");
}

#[tokio::test]
async fn settings_of_the_database_that_forbid_to_write_are_no_matter() {
    let database = TestDatabase::create("history_readonly").await;
    let set = format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name());
    database.exec(&set).await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    writer.append(vec![transaction(START, vec![insert(&orders, 0, 1)])]).await.unwrap();
    writer.append(vec![transaction(START + 1, Vec::new())]).await.unwrap();
    writer.advance(end(START + 10)).await.unwrap();
    writer.note_source(Vec::new(), vec![(1, "{}".into())]).await.unwrap();
    history.record_ack("web-7", whole(START)).await.unwrap();
    let (keeper, stop) = (writer.lease_keeper(), tokio_util::sync::CancellationToken::new());
    let client = database.client().await;
    client.batch_execute("SET default_transaction_read_only = off").await.unwrap();
    client.batch_execute("UPDATE waldelta.leases SET renewed_at = 'epoch'").await.unwrap();
    let renewed = async {
        waldelta_testkit::wait_until(
            "the lease is renewed",
            std::time::Duration::from_secs(60),
            async || database.query_text("SELECT renewed_at > 'epoch' FROM waldelta.leases").await == "t",
        )
        .await;
        stop.cancel();
    };
    let (kept, ()) = tokio::join!(keeper.run(stop.clone()), renewed);
    kept.unwrap();
}

#[tokio::test]
async fn a_role_that_may_not_create_schemas_can_use_one_that_is_there() {
    let database = TestDatabase::create("history_role").await;
    let role = format!("r_{}", database.name());
    database.exec(&format!("CREATE ROLE {role} LOGIN; CREATE SCHEMA waldelta AUTHORIZATION {role}")).await;
    let mut config = config(&database);
    let url = database.url().replacen("postgres@", &format!("{role}@"), 1);
    assert_ne!(url, database.url(), "the test's URL names the superuser");
    config.target = waldelta_pgconn::Target::parse(&url, &waldelta_pgconn::Environment::default()).unwrap();
    let history = History::open(&config).await.unwrap();
    history.begin(&captured(), end(START), "test").await.unwrap();
    let mut writer = history.writer("test").await.unwrap();
    let orders = writer.number(table(1, "orders")).table;
    writer.append(vec![transaction(START, vec![insert(&orders, 0, 1)])]).await.unwrap();
    drop((writer, history));
    database.exec(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

/// Whoever brings a schema up to date may be another role than the one that the service runs as.
#[tokio::test]
async fn what_is_added_belongs_to_the_owner_of_the_rest() {
    let database = TestDatabase::create("history_owner").await;
    let role = format!("r_{}", database.name());
    of_the_first_version(&database).await;
    database.exec(&format!("CREATE ROLE {role}; ALTER TABLE waldelta.captures OWNER TO {role}")).await;
    database.exec(&format!("ALTER TABLE waldelta.clients OWNER TO {role}")).await;
    History::open(&config(&database)).await.unwrap();
    let owned = format!(
        "SELECT string_agg(name, ' ' ORDER BY name) FROM (
            SELECT relname::text AS name FROM pg_class WHERE relkind IN ('r', 'S') AND relowner = '{role}'::regrole
            UNION ALL SELECT proname::text FROM pg_proc WHERE proowner = '{role}'::regrole) AS owned"
    );
    assert_eq!(
        database.query_text(&owned).await,
        "access_revisions audit audit_id_seq captures client_connections clients count_access_change prune_orders \
         prune_orders_id_seq refuse_audit_change retention_marks revocations revocations_id_seq seals skips \
         source_fingerprints tickets tokens"
    );
    database.exec(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn dropping_leaves_what_others_made() {
    let database = TestDatabase::create("history_drop").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    writer.append(vec![transaction(START, vec![insert(&orders, 0, 1)])]).await.unwrap();
    let held = history.drop_everything().await.unwrap_err();
    assert!(matches!(held, Error::LeaseHeld { .. }), "{held:?}");
    drop(writer);
    database.exec("CREATE TABLE waldelta.canary (beat int)").await;
    // The dropped writer's backend needs a moment to be gone.
    waldelta_testkit::wait_until("history is dropped", std::time::Duration::from_secs(60), async || {
        history.drop_everything().await.is_ok()
    })
    .await;
    let left = "SELECT string_agg(relname, ' ') FROM pg_class WHERE relnamespace = 'waldelta'::regnamespace";
    assert_eq!(database.query_text(left).await, "canary");
    database.exec("DROP TABLE waldelta.canary").await;
    // And again, now that nothing is left; then it can begin anew.
    history.drop_everything().await.unwrap();
    assert_eq!(
        database.query_text("SELECT count(*) FROM pg_namespace WHERE nspname = 'waldelta'").await,
        "0"
    );
    begun(&database).await;
}
