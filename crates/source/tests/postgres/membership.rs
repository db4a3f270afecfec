//! Tables that go into the publication and out of it.

use waldelta_source::setup::{Membership, Wish, add_tables, change, remove_tables};
use waldelta_source::{Error, Plugin, Source, catalog};
use waldelta_testkit::{TestDatabase, wait_until};
use waldelta_wal::{Code, TableName};

use crate::{PATIENCE, set_up, source, source_as};

fn tables(names: &[&str]) -> Vec<TableName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn wish(names: &[&str]) -> Wish {
    Wish { tables: tables(names), ..Wish::default() }
}

async fn add(source: &Source, wish: &Wish) -> Result<Membership, Error> {
    add_tables(&source.connect().await.unwrap(), source, wish).await
}

async fn remove(source: &Source, names: &[&str]) -> Result<Membership, Error> {
    remove_tables(&source.connect().await.unwrap(), source, &tables(names)).await
}

async fn carry_out(source: &Source, membership: &Membership) {
    change(&source.connect().await.unwrap(), source, membership).await.unwrap();
}

async fn published(source: &Source) -> Vec<String> {
    let client = source.connect().await.unwrap();
    let tables = catalog::published_tables(&client, source).await.unwrap();
    tables.iter().map(|published| published.table.name.to_string()).collect()
}

/// A source that is set up for table `t`, with other tables beside it.
async fn world(hint: &str, sql: &str) -> (TestDatabase, Source) {
    let database = TestDatabase::create(hint).await;
    let source = source(&database);
    database.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
    set_up(&source).await;
    database.exec(sql).await;
    (database, source)
}

#[tokio::test]
async fn tables_go_in_and_out() {
    let sql = "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE child () INHERITS (a);
               CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
               CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9)";
    let (database, source) = world("in_and_out", sql).await;
    let added = add(&source, &wish(&["a", "p"])).await.unwrap();
    assert_eq!(
        added.plan.steps[0].sql,
        "ALTER PUBLICATION waldelta ADD TABLE\n    ONLY public.a,\n    public.p"
    );
    assert_eq!(
        (published(&source).await, added.owner.clone()),
        (vec!["public.t".to_owned()], None),
        "nothing is done yet"
    );
    carry_out(&source, &added).await;
    assert_eq!(
        published(&source).await,
        ["public.a", "public.p", "public.t"],
        "heirs do not come along unasked"
    );
    let again = add(&source, &wish(&["a"])).await.unwrap();
    assert!(again.plan.is_empty() && again.plan.remarks[0].ends_with("in publication waldelta already"));

    let removed = remove(&source, &["a", "p", "child"]).await.unwrap();
    assert_eq!(removed.plan.remarks, ["public.child is not in publication waldelta"]);
    carry_out(&source, &removed).await;
    assert_eq!(published(&source).await, ["public.t"]);
    let missing = add(&source, &wish(&["a", "nothing"])).await.unwrap_err();
    assert!(
        matches!(&missing, Error::TablesMissing { tables } if tables[0].name == "nothing"),
        "{missing:?}"
    );
    database.exec("DROP PUBLICATION waldelta").await;
    for error in [add(&source, &wish(&["a"])).await.unwrap_err(), remove(&source, &["a"]).await.unwrap_err()]
    {
        assert_eq!(error.code(), Code::PublicationMissing);
    }
}

#[tokio::test]
async fn a_table_whose_writes_would_fail_is_refused() {
    let sql = "CREATE TABLE keyless (v text); INSERT INTO keyless VALUES ('x'); CREATE UNLOGGED TABLE fast (id int PRIMARY KEY);
               CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
               CREATE VIEW looking AS SELECT * FROM t; CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
               CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9)";
    let (database, source) = world("refused", sql).await;
    for (table, code, said) in [
        ("keyless", Code::ReplicaIdentityMissing, "has no primary key"),
        ("nothing", Code::ReplicaIdentityMissing, "REPLICA IDENTITY NOTHING"),
        ("fast", Code::TableUncapturable, "unlogged"),
        ("looking", Code::TableUncapturable, "a view"),
        ("p1", Code::TableUncapturable, "as those of its root table"),
    ] {
        let error = add(&source, &wish(&["t", table])).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(said) && !error.is_retryable(), "{error}");
    }
    let Err(Error::NotCapturable { mends, .. }) = add(&source, &wish(&["nothing"])).await else {
        panic!("not refused")
    };
    database.exec(&mends[0]).await;
    carry_out(&source, &add(&source, &wish(&["nothing"])).await.unwrap()).await;
    database.exec("DELETE FROM keyless; INSERT INTO keyless VALUES ('y')").await;
    let keyless = Wish { allow_keyless: true, ..wish(&["keyless"]) };
    let added = add(&source, &keyless).await.unwrap();
    assert!(added.plan.remarks[0].contains("UPDATE AND DELETE ON IT FAIL"), "{:?}", added.plan.remarks);
    carry_out(&source, &added).await;
    assert!(database.client().await.batch_execute("DELETE FROM keyless").await.is_err(), "as announced");

    // wal2json would lose its changes.
    let lossy = Source { plugin: Plugin::Wal2json, ..source.clone() };
    database.exec("ALTER PUBLICATION waldelta DROP TABLE keyless").await;
    assert_eq!(add(&lossy, &keyless).await.unwrap_err().code(), Code::ReplicaIdentityMissing);
}

#[tokio::test]
async fn publications_that_name_no_tables_say_what_can_be_done() {
    let (database, source) = world("unnamed", "CREATE TABLE a (id int PRIMARY KEY)").await;
    database.exec("DROP PUBLICATION waldelta; CREATE PUBLICATION waldelta FOR ALL TABLES").await;
    let added = add(&source, &wish(&["a"])).await.unwrap();
    assert!(added.plan.is_empty());
    assert_eq!(
        added.plan.remarks,
        ["public.a is in publication waldelta already, which publishes all tables"]
    );
    let error = remove(&source, &["a"]).await.unwrap_err();
    assert_eq!(error.code(), Code::PublicationWhole);
    assert!(error.to_string().contains("published with all tables: keep history in another"), "{error}");
    if database.server_major().await < 15 {
        println!("publications of schemas came with PostgreSQL 15");
        return;
    }
    database
        .exec(
            "DROP PUBLICATION waldelta; CREATE SCHEMA s; CREATE TABLE s.b (id int PRIMARY KEY);
             CREATE PUBLICATION waldelta FOR TABLES IN SCHEMA s, TABLE t WHERE (id > 3)",
        )
        .await;
    let added = add(&source, &wish(&["s.b", "a"])).await.unwrap();
    assert_eq!(
        added.plan.remarks,
        ["s.b is in publication waldelta already, which publishes all of its schema"]
    );
    carry_out(&source, &added).await;
    assert_eq!(published(&source).await, ["public.a", "public.t", "s.b"]);
    let filter = "SELECT prqual IS NOT NULL FROM pg_publication_rel WHERE prrelid = 't'::regclass";
    assert_eq!(database.query_text(filter).await, "t", "others' filters are left alone");
    let error = remove(&source, &["s.b"]).await.unwrap_err();
    assert!(error.to_string().contains("move it to another schema"), "{error}");
    carry_out(&source, &remove(&source, &["a"]).await.unwrap()).await;
    assert_eq!(published(&source).await, ["public.t", "s.b"]);
}

#[tokio::test]
async fn who_may_not_is_told_who_may() {
    let (database, source) = world("owners", "CREATE TABLE a (id int PRIMARY KEY)").await;
    let role = format!("{}_r", database.name());
    database.exec(&format!("CREATE ROLE {role} LOGIN; ALTER TABLE a OWNER TO {role}")).await;
    let plain = source_as(&database, &format!("?user={role}"));
    let added = add(&plain, &wish(&["a"])).await.unwrap();
    assert_eq!(added.owner, Some(format!("postgres and {role}")));
    assert_eq!(remove(&plain, &["t"]).await.unwrap().owner.as_deref(), Some("postgres"));
    database.exec(&format!("ALTER PUBLICATION waldelta OWNER TO {role}")).await;
    let added = add(&plain, &wish(&["a"])).await.unwrap();
    assert_eq!(added.owner, None);
    carry_out(&plain, &added).await;
    assert_eq!(remove(&plain, &["t"]).await.unwrap().owner, None, "the table need not be its own");
    assert_eq!(add(&source, &wish(&["a"])).await.unwrap().owner, None);
    database.exec(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

/// It waits for somebody who vacuums or alters the table, and never for those who read and write it.
#[tokio::test]
async fn a_table_that_is_in_use_can_be_added() {
    let (database, source) = world("in_use", "CREATE TABLE a (id int PRIMARY KEY)").await;
    let writer = database.client().await;
    writer.batch_execute("BEGIN; INSERT INTO a VALUES (1)").await.unwrap();
    carry_out(&source, &add(&source, &wish(&["a"])).await.unwrap()).await;
    writer.batch_execute("COMMIT").await.unwrap();

    database.exec("ALTER PUBLICATION waldelta DROP TABLE a").await;
    let added = add(&source, &wish(&["a"])).await.unwrap();
    let client = source.connect().await.unwrap();
    client.batch_execute("SET lock_timeout = '50ms'").await.unwrap();
    writer.batch_execute("BEGIN; LOCK TABLE a IN SHARE UPDATE EXCLUSIVE MODE").await.unwrap();
    let error = change(&client, &source, &added).await.unwrap_err();
    assert_eq!((error.code(), error.is_retryable()), (Code::LockTimeout, true), "bounded");
    // It is tried again meanwhile, and others are not held up.
    client.batch_execute("SET lock_timeout = '2s'").await.unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let meanwhile = async {
        wait_until("it waits", PATIENCE, async || database.query_text(waits).await == "1").await;
        database.exec("INSERT INTO a VALUES (2)").await;
        writer.batch_execute("COMMIT").await.unwrap();
    };
    let (changed, ()) = tokio::join!(change(&client, &source, &added), meanwhile);
    changed.unwrap();
    assert_eq!(published(&source).await, ["public.a", "public.t"]);
}
