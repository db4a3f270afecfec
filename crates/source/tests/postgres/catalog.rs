//! Identity, slot and table shapes.

use waldelta_source::{Error, catalog};
use waldelta_testkit::TestDatabase;
use waldelta_wal::{Code, Lsn, ReplicaIdentity};

use crate::{set_up, source};

#[tokio::test]
async fn the_source_says_who_it_is() {
    let database = TestDatabase::create("identity").await;
    let client = source(&database).connect().await.unwrap();
    let identity = catalog::identity(&client).await.unwrap();
    let system = database.query_text("SELECT system_identifier FROM pg_control_system()").await;
    assert_eq!(identity.system_id.to_string(), system);
    assert_eq!((identity.timeline, identity.database.as_str()), (1, database.name()));
    assert_eq!(
        identity.database_oid.to_string(),
        database.query_text("SELECT oid FROM pg_database WHERE datname = current_database()").await
    );
    assert!(identity.version >= 140_000);
    database.exec("CREATE TABLE t (id int)").await;
    let later = catalog::identity(&client).await.unwrap();
    assert!(later.wal_end > identity.wal_end && later.next_xid > identity.next_xid);
}

#[tokio::test]
async fn a_connection_prints_values_in_the_pinned_form() {
    let database = TestDatabase::create("pinned").await;
    let name = database.name();
    database
        .exec(&format!(
            "ALTER DATABASE {name} SET datestyle = 'German'; ALTER DATABASE {name} SET timezone = 'Asia/Tokyo';
             ALTER DATABASE {name} SET extra_float_digits = -5; ALTER DATABASE {name} SET bytea_output = 'escape';
             ALTER DATABASE {name} SET search_path = public; ALTER DATABASE {name} SET statement_timeout = '1ms'"
        ))
        .await;
    let client = source(&database).connect().await.unwrap();
    let sql =
        "SELECT concat_ws('|', '2024-01-02 03:04:05+09'::timestamptz, 0.1::float8 + 0.2, '\\x01'::bytea,
        current_setting('search_path'), current_setting('application_name'))";
    let text: String = client.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(text, "2024-01-01 18:04:05+00|0.30000000000000004|\\x01|pg_catalog|waldelta");
}

#[tokio::test]
async fn tables_have_the_columns_and_keys_that_the_stream_will_have() {
    let database = TestDatabase::create("shapes").await;
    let source = source(&database);
    database
        .exec(
            r#"CREATE SCHEMA "a.b";
               CREATE TABLE "a.b"."Say ""hi""; --" ("K ey" int, v text, "select" numeric(10,2) NOT NULL,
                   PRIMARY KEY ("select", "K ey") INCLUDE (v));
               CREATE TABLE gone (id int PRIMARY KEY, dropped int, kept varchar(5)[], made int GENERATED ALWAYS AS (id + 1) STORED);
               ALTER TABLE gone DROP COLUMN dropped;
               CREATE TABLE whole (a int, b int); ALTER TABLE whole REPLICA IDENTITY FULL;
               CREATE TABLE chosen (id int PRIMARY KEY, code text NOT NULL, UNIQUE (code));
               ALTER TABLE chosen REPLICA IDENTITY USING INDEX chosen_code_key;
               CREATE TABLE late (id int PRIMARY KEY DEFERRABLE);
               CREATE TABLE parted (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
               CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
               INSERT INTO parted SELECT n, '2024-05-05' FROM generate_series(1, 100) n; ANALYZE parted;
               CREATE TABLE elsewhere (id int PRIMARY KEY);
               CREATE SCHEMA waldelta; CREATE TABLE waldelta.own (id int PRIMARY KEY);
               CREATE PUBLICATION waldelta FOR TABLE "a.b"."Say ""hi""; --", gone, whole, chosen, late, parted, waldelta.own
                   WITH (publish_via_partition_root = true)"#,
        )
        .await;
    let client = source.connect().await.unwrap();
    let tables = catalog::published_tables(&client, &source).await.unwrap();
    let shown: Vec<String> = tables
        .iter()
        .map(|published| {
            let table = &published.table;
            let columns: Vec<String> = table
                .columns
                .iter()
                .map(|column| {
                    let (null, identity) =
                        (["", "?"][usize::from(column.nullable)], ["", "!"][usize::from(column.identity)]);
                    format!("{}:{}{null}{identity}", column.name, column.type_name)
                })
                .collect();
            format!("{} {} key={:?} {:?}", table.name, columns.join(","), table.key, table.identity)
        })
        .collect();
    assert_eq!(
        shown,
        [
            "\"a.b\".\"Say \"\"hi\"\"; --\" K ey:integer!,v:text?,select:numeric! key=[0, 2] Default",
            "public.chosen id:integer,code:text! key=[1] Index",
            "public.gone id:integer!,kept:character varying[]? key=[0] Default",
            "public.late id:integer key=[0] Default",
            "public.parted id:integer!,at:date! key=[0, 1] Default",
            "public.whole a:integer?!,b:integer?! key=[] Full",
        ]
    );
    assert_eq!(tables[0].primary_key.as_deref(), Some(&["select".to_owned(), "K ey".to_owned()][..]));
    assert_eq!(tables[4].rows_estimate, 100);
    assert_eq!(tables[0].table.columns[2].type_modifier, (10 << 16 | 2) + 4);
    assert_eq!(catalog::unsupported(&tables), []);

    let alone = catalog::table_by_oid(&client, tables[2].table.oid).await.unwrap().unwrap();
    assert_eq!(alone.table, tables[2].table);
    database.exec("DROP TABLE gone").await;
    assert_eq!(catalog::table_by_oid(&client, alone.table.oid).await.unwrap(), None);
}

#[tokio::test]
async fn a_column_list_is_kept_to() {
    let database = TestDatabase::create("column_list").await;
    let source = source(&database);
    let version: i32 = database.query_text("SHOW server_version_num").await.parse().unwrap();
    if version < 150_000 {
        return;
    }
    database
        .exec(
            "CREATE TYPE mood AS ENUM ('fine');
             CREATE TABLE t (id int PRIMARY KEY, feeling mood, secret text, shown text);
             CREATE PUBLICATION waldelta FOR TABLE t (id, shown)",
        )
        .await;
    let client = source.connect().await.unwrap();
    let tables = catalog::published_tables(&client, &source).await.unwrap();
    let names: Vec<_> = tables[0].table.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!((names, &tables[0].table.key[..]), (vec!["id", "shown"], &[0][..]));
    assert_eq!(catalog::unsupported(&tables), [], "what is not published does not matter");
    database.exec("ALTER PUBLICATION waldelta SET TABLE t").await;
    let tables = catalog::published_tables(&client, &source).await.unwrap();
    let unsupported = catalog::unsupported(&tables);
    assert_eq!(unsupported.len(), 1);
    assert_eq!((unsupported[0].1.as_str(), unsupported[0].2.as_str()), ("feeling", "public.mood"));
    assert_eq!(tables[0].table.identity, ReplicaIdentity::Default);
}

#[tokio::test]
async fn a_missing_publication_is_an_error_and_an_empty_one_is_not() {
    let database = TestDatabase::create("no_publication").await;
    let source = source(&database);
    let client = source.connect().await.unwrap();
    let error = catalog::published_tables(&client, &source).await.unwrap_err();
    assert!(matches!(error, Error::PublicationMissing { .. }), "{error:?}");
    assert_eq!((error.code(), error.is_retryable()), (Code::PublicationMissing, false));
    database.exec("CREATE PUBLICATION waldelta").await;
    assert_eq!(catalog::published_tables(&client, &source).await.unwrap(), []);
}

#[tokio::test]
async fn the_slot_says_where_it_is() {
    let database = TestDatabase::create("slot").await;
    let source = source(&database);
    let client = source.connect().await.unwrap();
    assert_eq!(catalog::slot(&client, &source.slot).await.unwrap(), None);
    set_up(&source).await;
    let slot = catalog::slot(&client, &source.slot).await.unwrap().unwrap();
    assert_eq!((slot.plugin.as_str(), slot.database.as_str()), ("pgoutput", database.name()));
    assert_eq!(
        (slot.active_pid, slot.wal_status.as_deref(), slot.is_lost()),
        (None, Some("reserved"), false)
    );
    assert!(slot.restart.unwrap() <= slot.confirmed.unwrap().0 && slot.restart > Some(Lsn(0)));
    assert!(slot.retained_bytes >= 0);
}
