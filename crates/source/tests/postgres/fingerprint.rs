//! Two looks at the catalog: what only they show, and what of it is no repair.

use waldelta_source::Error;
use waldelta_source::catalog::{self, Fingerprint};
use waldelta_testkit::TestDatabase;

use crate::ddl_trigger::{PARTITIONED, Source};
use crate::{set_up, source};

#[tokio::test]
async fn partitions_that_are_emptied_are_seen_in_the_catalog_only() {
    let mut source = Source::with("print_emptied", PARTITIONED).await;
    source.check("TRUNCATE p1", &[], &["root partition_emptied"]).await;
    // A false alarm: the catalog shows the same.
    source.check("VACUUM FULL p2", &[], &["root partition_emptied"]).await;
    let born = "CREATE TABLE p6 PARTITION OF root FOR VALUES IN (6); INSERT INTO root VALUES (1, 6)";
    source.check(born, &[], &[]).await;
    source
        .database
        .exec("CREATE TABLE p7 PARTITION OF root FOR VALUES IN (7); INSERT INTO root VALUES (1, 7)")
        .await;
    source.database.exec("TRUNCATE p7").await;
    assert_eq!(source.seen(&[]).await, ["root partition_emptied"], "a new one, too");

    // What truncates the whole table sends a message for it, which whoever knows of it can say.
    let truncated_by = truncate(&source).await;
    assert_eq!(source.seen(&[truncated_by]).await, [] as [&str; 0]);
    let truncated_by = truncate(&source).await;
    source.database.exec("TRUNCATE p4").await;
    assert_eq!(source.seen(&[truncated_by]).await, ["root partition_emptied"], "one was emptied once more");
    truncate(&source).await;
    assert_eq!(source.seen(&[]).await, ["root partition_emptied"]);
    assert_eq!(source.told().await, [] as [&str; 0]);
}

/// Truncates the whole table, and says in which transaction.
async fn truncate(source: &Source) -> u32 {
    let client = source.database.client().await;
    client.batch_execute("BEGIN; TRUNCATE root").await.unwrap();
    let xid = client.query_one("SELECT pg_current_xact_id()::text", &[]).await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    let xid: u64 = xid.get::<_, String>(0).parse().unwrap();
    u32::try_from(xid & u64::from(u32::MAX)).unwrap()
}

#[tokio::test]
async fn the_catalog_tells_of_a_new_shape() {
    let source = Source::with(
        "print_shapes",
        "CREATE TYPE pair AS (a int, b text); CREATE TYPE mood AS ENUM ('sad');
         CREATE TABLE t (id int PRIMARY KEY, p pair, m mood); CREATE TABLE u (id int PRIMARY KEY);
         CREATE TABLE root (id int PRIMARY KEY) PARTITION BY LIST (id);
         CREATE TABLE leaf PARTITION OF root DEFAULT; ALTER TABLE leaf REPLICA IDENTITY FULL;
         ALTER TABLE root REPLICA IDENTITY FULL",
    )
    .await;
    for (ddl, tells) in [
        ("ALTER TABLE t ALTER id TYPE bigint", true),
        ("ALTER TABLE t ALTER m SET NOT NULL", true),
        ("ALTER TABLE t RENAME m TO mm", true),
        ("ALTER TABLE t RENAME TO tt", true),
        ("ALTER TABLE tt REPLICA IDENTITY FULL", true),
        ("ALTER TABLE tt DROP CONSTRAINT t_pkey", true),
        ("ALTER TYPE pair ADD ATTRIBUTE d int", true),
        ("ALTER TYPE pair RENAME TO two", true),
        ("ALTER TABLE tt DROP COLUMN p", true),
        ("ALTER TABLE leaf REPLICA IDENTITY DEFAULT", true),
        ("ALTER TYPE mood ADD VALUE 'new'", false),
        ("ALTER TABLE tt ALTER mm SET STATISTICS 5", false),
        ("VACUUM FULL tt", false),
        ("TRUNCATE root", false),
    ] {
        let then = source.look().await;
        source.database.exec(ddl).await;
        let now = source.look().await;
        let telling = now.iter().filter(|(oid, now)| Fingerprint::tells_new_shape(&then[oid], now));
        assert_eq!(telling.count(), usize::from(tells), "{ddl}");
    }
}

#[tokio::test]
async fn tables_are_those_of_the_publication() {
    let database = TestDatabase::create("print_tables").await;
    let source = source(&database);
    let client = source.connect().await.unwrap();
    let error = catalog::fingerprints(&client, &source).await.unwrap_err();
    assert!(matches!(error, Error::PublicationMissing { .. }), "{error:?}");
    database.exec("CREATE PUBLICATION waldelta").await;
    assert_eq!(catalog::fingerprints(&client, &source).await.unwrap(), []);
    database.exec("DROP PUBLICATION waldelta").await;

    database.exec(PARTITIONED).await;
    database
        .exec(
            r#"CREATE SCHEMA "a.b"; CREATE TABLE "a.b"."Say ""hi""" (id int PRIMARY KEY, "K ey" text);
               CREATE TABLE nothing (); CREATE TABLE unpublished (id int)"#,
        )
        .await;
    set_up(&source).await;
    database.exec("ALTER PUBLICATION waldelta ADD TABLE nothing").await;
    let names = async || {
        let published = catalog::published_tables(&client, &source).await.unwrap();
        let prints = catalog::fingerprints(&client, &source).await.unwrap();
        assert_eq!(
            prints.iter().map(|table| table.oid).collect::<Vec<_>>(),
            published.iter().map(|published| published.table.oid).collect::<Vec<_>>()
        );
        prints.iter().map(|table| table.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["\"a.b\".\"Say \"\"hi\"\"\"", "public.nothing", "public.root"]);
    database.exec("ALTER PUBLICATION waldelta SET (publish_via_partition_root = false)").await;
    let leaves = ["public.p1", "public.p2", "public.p31", "public.p4", "public.p5"];
    assert_eq!(names().await[2..], leaves);
    database.exec("CREATE UNLOGGED TABLE fast (id int PRIMARY KEY)").await;
    for options in ["", "WITH (publish_via_partition_root = true)"] {
        database.exec("DROP PUBLICATION waldelta").await;
        database.exec(&format!("CREATE PUBLICATION waldelta FOR ALL TABLES {options}")).await;
        let names = names().await;
        assert!(names.contains(&"public.unpublished".to_owned()), "{names:?}");
        assert_eq!(names.contains(&"public.root".to_owned()), !options.is_empty());
    }
}

#[test]
fn what_another_version_kept_is_no_fingerprint() {
    for text in ["", "{}", "[]", "{\"schema\":\"a\"}", "x"] {
        assert_eq!(Fingerprint::from_json(text), None, "{text}");
    }
}
