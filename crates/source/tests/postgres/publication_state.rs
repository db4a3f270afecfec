//! Whether the canary is published, asked of the catalogs themselves: as the server's own view answers, and without waiting.

use tokio_postgres::error::SqlState;
use waldelta_testkit::TestDatabase;

use crate::source;

const STATE: &str = include_str!("../../../../sql/source/publication_state.sql");
/// The same by the view, which waits for tables that are locked.
const BY_VIEW: &str = "SELECT p.pubupdate AND EXISTS (SELECT FROM pg_publication_tables t
    WHERE t.pubname = p.pubname AND t.schemaname = 'waldelta' AND t.tablename = 'canary')
    FROM pg_publication p WHERE p.pubname = $1";

#[tokio::test]
async fn the_catalogs_say_what_the_view_says() {
    let database = TestDatabase::create("state").await;
    database
        .exec(
            "CREATE SCHEMA waldelta; CREATE SCHEMA other; CREATE TABLE t (id int PRIMARY KEY);
             CREATE TABLE waldelta.canary (id int PRIMARY KEY, beat bigint, at timestamptz);
             CREATE TABLE waldelta.sibling (id int PRIMARY KEY); CREATE TABLE other.canary (id int PRIMARY KEY)",
        )
        .await;
    let mut publications = vec![
        ("FOR TABLE t, waldelta.canary", true),
        ("FOR TABLE t, waldelta.canary WITH (publish = 'insert')", false),
        ("FOR TABLE t, waldelta.canary WITH (publish = 'update', publish_via_partition_root = true)", true),
        ("FOR TABLE t, waldelta.sibling, other.canary", false),
        ("FOR ALL TABLES", true),
        ("FOR ALL TABLES WITH (publish_via_partition_root = true)", true),
        ("FOR ALL TABLES WITH (publish = 'delete')", false),
        ("", false),
    ];
    if database.server_major().await >= 15 {
        publications.extend([
            ("FOR TABLES IN SCHEMA waldelta", true),
            ("FOR TABLES IN SCHEMA other, public", false),
            ("FOR TABLES IN SCHEMA waldelta, TABLE t", true),
            ("FOR TABLE waldelta.canary (id) WHERE (id > 0)", true),
            ("FOR TABLES IN SCHEMA waldelta WITH (publish = 'truncate')", false),
        ]);
    }
    let client = source(&database).connect().await.unwrap();
    for (number, (what, published)) in publications.iter().enumerate() {
        let name = format!("P {number}");
        database.exec(&format!("CREATE PUBLICATION \"{name}\" {what}")).await;
        for sql in [STATE, BY_VIEW] {
            let state: bool = client.query_one(sql, &[&name]).await.unwrap().get(0);
            assert_eq!(state, *published, "{what}: {sql}");
        }
    }
    assert!(client.query_opt(STATE, &[&"none"]).await.unwrap().is_none());

    // Somebody alters a table for long.
    let holder = database.client().await;
    holder.batch_execute("BEGIN; LOCK TABLE t, waldelta.canary IN ACCESS EXCLUSIVE MODE").await.unwrap();
    client.batch_execute("SET lock_timeout = '100ms'").await.unwrap();
    assert!(client.query_one(STATE, &[&"P 0"]).await.unwrap().get::<_, bool>(0));
    if database.server_major().await >= 16 {
        let waited = client.query_one(BY_VIEW, &[&"P 0"]).await.unwrap_err();
        assert_eq!(waited.code(), Some(&SqlState::LOCK_NOT_AVAILABLE), "what is avoided");
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
    // An unlogged table is not published, whatever names everything.
    database.exec("DROP TABLE waldelta.canary; CREATE UNLOGGED TABLE waldelta.canary (id int)").await;
    for sql in [STATE, BY_VIEW] {
        assert!(!client.query_one(sql, &[&"P 4"]).await.unwrap().get::<_, bool>(0), "{sql}");
    }
}
