//! Identity, slot and table shapes.

use std::sync::Arc;

use waldelta_source::{Error, catalog};
use waldelta_testkit::TestDatabase;
use waldelta_wal::{ArrayKind, Code, Kind, Lsn, ReplicaIdentity, Table, TableName};

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
    assert_eq!(identity.encoding, "UTF8");
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

    let alone = catalog::table_by_oid(&client, tables[2].table.oid).await.unwrap().unwrap();
    assert_eq!(alone.table, tables[2].table);
    database.exec("DROP TABLE gone").await;
    assert_eq!(catalog::table_by_oid(&client, alone.table.oid).await.unwrap(), None);
}

#[tokio::test]
async fn a_column_list_is_kept_to() {
    let database = TestDatabase::create("column_list").await;
    let source = source(&database);
    if database.server_major().await < 15 {
        println!("nothing to test: column lists came with PostgreSQL 15");
        return;
    }
    database
        .exec(
            "CREATE TYPE mood AS ENUM ('fine');
             CREATE TABLE t (gone int, id int PRIMARY KEY, feeling mood, secret text, shown text,
                 made int GENERATED ALWAYS AS (id) STORED);
             ALTER TABLE t DROP COLUMN gone; CREATE TABLE other (id int PRIMARY KEY, made int GENERATED ALWAYS AS (id) STORED);
             CREATE TABLE parted (hidden int, id int PRIMARY KEY) PARTITION BY RANGE (id);
             CREATE TABLE leaf (id int NOT NULL, hidden int);
             ALTER TABLE parted ATTACH PARTITION leaf FOR VALUES FROM (0) TO (9);
             CREATE PUBLICATION waldelta FOR TABLE t (id, shown), other, parted (id) WITH (publish_via_partition_root = true)",
        )
        .await;
    let client = source.connect().await.unwrap();
    let tables = catalog::published_tables(&client, &source).await.unwrap();
    let names =
        |table: &Table| -> Vec<String> { table.columns.iter().map(|column| column.name.clone()).collect() };
    let shown: Vec<_> = tables.iter().map(|published| names(&published.table)).collect();
    assert_eq!(shown, [vec!["id"], vec!["id"], vec!["id", "shown"]]);
    let table = &tables[2];
    assert_eq!((table.table.identity, &table.table.key[..]), (ReplicaIdentity::Default, &[0][..]));
    for published in &tables {
        let (name, oid) = (&published.table.name, published.table.oid);
        let by_oid = catalog::published_table(&client, &source, oid).await.unwrap();
        let by_name = catalog::table_by_name(&client, &source, name).await.unwrap();
        assert_eq!((by_oid.as_ref(), by_name.as_ref()), (Some(published), Some(published)), "{name}");
    }

    let printed = catalog::printed_table(&client, &source, &table.table.name).await.unwrap().unwrap();
    assert_eq!(&printed.published, table);
    let columns: Vec<&str> = printed.printed.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(columns, ["id", "feeling", "secret", "shown", "made"]);
    assert_eq!(printed.unpublished, ["feeling", "secret", "made"]);
    let leaf = TableName { schema: "public".into(), name: "leaf".into() };
    let printed = catalog::printed_table(&client, &source, &leaf).await.unwrap().unwrap();
    assert_eq!(printed.unpublished, ["hidden"], "the column list is its root's");

    let whole = catalog::table_by_oid(&client, table.table.oid).await.unwrap().unwrap();
    assert_eq!(names(&whole.table), ["id", "feeling", "secret", "shown"], "it does not look at the list");
    for name in ["nothing", "t_pkey"] {
        let name = TableName { schema: "public".into(), name: name.into() };
        assert_eq!(catalog::table_by_name(&client, &source, &name).await.unwrap(), None);
    }
    database.exec("DROP TABLE t").await;
    assert_eq!(catalog::published_table(&client, &source, table.table.oid).await.unwrap(), None);
}

#[tokio::test]
async fn columns_say_what_their_types_are_made_of() {
    let database = TestDatabase::create("kinds").await;
    let source = source(&database);
    database
        .exec(
            r#"CREATE TYPE mood AS ENUM ('fine'); CREATE DOMAIN whole AS int; CREATE DOMAIN wholes AS whole[];
               CREATE TYPE pair AS (gone int, a whole, "B " text); ALTER TYPE pair DROP ATTRIBUTE gone;
               CREATE TABLE t (dropped int, id int PRIMARY KEY, feeling mood, feelings mood[], n whole, ns wholes, held pair,
                   name name, range_ int4range, boxes box[]);
               ALTER TABLE t DROP COLUMN dropped; CREATE TABLE u (n int PRIMARY KEY, row_ t[]);
               CREATE PUBLICATION waldelta FOR TABLE t, u"#,
        )
        .await;
    let client = source.connect().await.unwrap();
    let tables = catalog::published_tables(&client, &source).await.unwrap();
    let columns = &tables[0].table.columns;
    let array = |element, delimiter| Kind::Array(Arc::new(ArrayKind { element, delimiter }));
    let integer = Kind::builtin(23).unwrap();
    let Kind::Composite(pair) = &columns[5].kind else { panic!("{:?}", columns[5]) };
    let fields: Vec<_> = pair
        .fields
        .iter()
        .map(|field| (field.number, field.name.as_str(), field.type_name.as_str(), field.kind.clone()))
        .collect();
    assert_eq!(fields, [(2, "a", "public.whole", integer.clone()), (3, "B ", "text", Kind::TEXT)]);
    let kinds: Vec<_> = columns
        .iter()
        .map(|column| (column.number, column.type_name.as_str(), column.kind.clone()))
        .collect();
    assert_eq!(
        kinds,
        [
            (2, "integer", integer.clone()),
            (3, "public.mood", Kind::TEXT),
            (4, "public.mood[]", array(Kind::TEXT, b',')),
            (5, "public.whole", integer.clone()),
            (6, "public.wholes", array(integer, b',')),
            (7, "public.pair", Kind::Composite(pair.clone())),
            (8, "name", Kind::TEXT),
            (9, "int4range", Kind::TEXT),
            (10, "box[]", array(Kind::TEXT, b';')),
        ]
    );
    let Kind::Array(rows) = &tables[1].table.columns[1].kind else { panic!("{:?}", tables[1]) };
    let Kind::Composite(row) = &rows.element else { panic!("{rows:?}") };
    let of_row: Vec<_> = row.fields.iter().map(|field| (field.number, field.kind.clone())).collect();
    let of_table: Vec<_> = columns.iter().map(|column| (column.number, column.kind.clone())).collect();
    assert_eq!(of_row, of_table, "a table's row type");

    let gone = columns[5].type_oid;
    database.exec("ALTER TABLE t DROP COLUMN held; DROP TYPE pair").await;
    let kinds = catalog::kinds(&client, [gone, 25, 16_000, 0]).await.unwrap();
    assert_eq!(kinds.len(), 4);
    assert!(kinds.values().all(|kind| *kind == Kind::TEXT), "{kinds:?}");
}

#[tokio::test]
async fn a_partitioned_table_with_full_says_whether_all_of_it_has_it() {
    let database = TestDatabase::create("mixed").await;
    let source = source(&database);
    database
        .exec(
            "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
             CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (10);
             CREATE TABLE high PARTITION OF t FOR VALUES FROM (10) TO (30) PARTITION BY RANGE (id);
             CREATE TABLE higher PARTITION OF high FOR VALUES FROM (10) TO (20);
             CREATE TABLE plain (id int PRIMARY KEY); ALTER TABLE plain REPLICA IDENTITY FULL;
             CREATE PUBLICATION waldelta FOR TABLE t, plain WITH (publish_via_partition_root = true)",
        )
        .await;
    let client = source.connect().await.unwrap();
    let identity = async |sql: &str| {
        database.exec(sql).await;
        let tables = catalog::published_tables(&client, &source).await.unwrap();
        let [plain, t] = &tables[..] else { panic!("{tables:?}") };
        assert_eq!(plain.table.identity, ReplicaIdentity::Full);
        let columns: Vec<bool> = t.table.columns.iter().map(|column| column.identity).collect();
        (t.table.identity, columns, t.table.key.clone())
    };
    use ReplicaIdentity::*;
    let expected = |identity, of_v| (identity, vec![true, of_v], vec![0]);
    assert_eq!(identity("SELECT").await, expected(Default, false));
    assert_eq!(identity("ALTER TABLE t REPLICA IDENTITY FULL").await, expected(Mixed, true));
    assert_eq!(identity("ALTER TABLE low REPLICA IDENTITY FULL").await, expected(Mixed, true));
    assert_eq!(
        identity("ALTER TABLE higher REPLICA IDENTITY FULL").await,
        expected(Full, true),
        "of the leaves"
    );
    assert_eq!(identity("ALTER TABLE low REPLICA IDENTITY NOTHING").await, expected(Mixed, true));
    assert_eq!(identity("DROP TABLE low").await, expected(Full, true));
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
