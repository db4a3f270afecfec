//! The schema comes up once, and goes without taking others' objects with it.

use waldelta_history::{Error, History};
use waldelta_testkit::TestDatabase;
use waldelta_wal::Code;

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
    assert_eq!(database.query_text("SELECT count(*) FROM waldelta._sqlx_migrations").await, "1");
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
    let orders = writer.number(table(1, "orders"));
    writer.append(vec![transaction(START, vec![insert(&orders, 0, 1)])]).await.unwrap();
    drop((writer, history));
    database.exec(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn dropping_leaves_what_others_made() {
    let database = TestDatabase::create("history_drop").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders"));
    writer.append(vec![transaction(START, vec![insert(&orders, 0, 1)])]).await.unwrap();
    let held = history.drop_everything().await.unwrap_err();
    assert!(matches!(held, Error::LeaseHeld { .. }), "{held:?}");
    drop(writer);
    database.exec("CREATE TABLE waldelta.canary (beat int)").await;
    // The dropped writer's backend needs a moment to be gone.
    waldelta_testkit::wait_until("history is dropped", std::time::Duration::from_secs(10), async || {
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
