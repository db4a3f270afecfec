//! DDL that changes rows and sends no message for them, as both nets find it: what the event triggers tell in the stream, and
//! what two looks at the catalog tell. Beside it, DDL that either must leave alone.

use std::collections::HashMap;

use serde_json::Value;
use tokio_postgres::Client;
use waldelta_source::catalog::{self, Fingerprint, TableFingerprint};
use waldelta_testkit::TestDatabase;

use crate::{set_up, source};

/// A source that was set up, with rows in its tables, and what is known of it.
pub(crate) struct Source {
    pub(crate) database: TestDatabase,
    pub(crate) source: waldelta_source::Source,
    pub(crate) client: Client,
    known: HashMap<u32, TableFingerprint>,
}

impl Source {
    pub(crate) async fn with(hint: &str, sql: &str) -> Self {
        let database = TestDatabase::create(hint).await;
        database.exec("SET timezone = 'UTC'").await;
        database.exec(sql).await;
        let source = source(&database);
        set_up(&source).await;
        let slot = database.slot("t");
        database
            .query(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'test_decoding')"))
            .await;
        let client = source.connect().await.unwrap();
        let mut this = Source { database, source, client, known: HashMap::new() };
        this.seen(&[]).await;
        this
    }

    /// Runs DDL and expects what the triggers tell of it and what the catalog shows of it, both as `table reason`.
    pub(crate) async fn check(&mut self, ddl: &str, told: &[&str], seen: &[&str]) {
        self.database.exec(ddl).await;
        assert_eq!(self.told().await, told, "what the triggers tell of {ddl}");
        assert_eq!(self.seen(&[]).await, seen, "what the catalog shows of {ddl}");
    }

    async fn check_both(&mut self, ddl: &str, expected: &[&str]) {
        self.check(ddl, expected, expected).await;
    }

    /// The repairs that were told since it was last asked, sorted, each once.
    pub(crate) async fn told(&self) -> Vec<String> {
        let mut told = Vec::new();
        for content in self.contents().await {
            for repair in content["repairs"].as_array().unwrap() {
                let oid = repair["table"].as_u64().unwrap();
                told.push(format!("{} {}", self.name(oid).await, repair["reason"].as_str().unwrap()));
            }
        }
        told.sort_unstable();
        told.dedup();
        told
    }

    /// The tables that are to be asked for again.
    async fn forgotten(&self) -> Vec<String> {
        let mut forgotten = Vec::new();
        for content in self.contents().await {
            for oid in content["forget"].as_array().unwrap() {
                forgotten.push(self.name(oid.as_u64().unwrap()).await);
            }
        }
        forgotten.sort_unstable();
        forgotten.dedup();
        forgotten
    }

    async fn contents(&self) -> Vec<Value> {
        let slot = self.database.slot("t");
        let sql = format!("SELECT data FROM pg_logical_slot_get_changes('{slot}', NULL, NULL)");
        let rows = self.database.query(&sql).await;
        let content = |row: Vec<Option<String>>| {
            let line = row[0].clone().unwrap();
            let (head, content) = line.split_once(" content:")?;
            assert!(head.starts_with("message: transactional: 1"), "{line}");
            head.contains("prefix: waldelta.ddl,").then(|| serde_json::from_str(content).unwrap())
        };
        rows.into_iter().filter_map(content).collect()
    }

    async fn name(&self, oid: u64) -> String {
        self.database.query_text(&format!("SELECT {oid}::regclass")).await
    }

    /// What the catalog shows since the last look, where these transactions are known to have truncated whole tables.
    pub(crate) async fn seen(&mut self, truncated_by: &[u32]) -> Vec<String> {
        let now = catalog::fingerprints(&self.client, &self.source).await.unwrap();
        let mut seen = Vec::new();
        for table in &now {
            assert_eq!(
                Fingerprint::from_json(&table.fingerprint.to_json()).as_ref(),
                Some(&table.fingerprint)
            );
            let Some(then) = self.known.get(&table.oid) else { continue };
            let repairs = Fingerprint::repairs_beside(&then.fingerprint, &table.fingerprint, truncated_by);
            for reason in repairs {
                seen.push(format!("{} {}", self.name(table.oid.into()).await, reason.as_str()));
            }
        }
        self.known = now.into_iter().map(|table| (table.oid, table)).collect();
        seen.sort_unstable();
        seen
    }

    /// The published tables as the catalog has them now.
    pub(crate) async fn look(&self) -> HashMap<u32, Fingerprint> {
        let now = catalog::fingerprints(&self.client, &self.source).await.unwrap();
        now.into_iter().map(|table| (table.oid, table.fingerprint)).collect()
    }
}

#[tokio::test]
async fn columns_of_a_table() {
    let mut source = Source::with(
        "ddl_columns",
        "CREATE TABLE t (id int PRIMARY KEY, n int DEFAULT 0, v varchar(10), at timestamp, k int, m int);
         INSERT INTO t VALUES (1), (2); CREATE TABLE empty (id int PRIMARY KEY, n int);
         CREATE TABLE heir (PRIMARY KEY (id)) INHERITS (t); INSERT INTO heir VALUES (3); CREATE TABLE unpublished (id int)",
    )
    .await;
    source.database.exec("INSERT INTO unpublished VALUES (1)").await;
    source.check_both("ALTER TABLE ONLY t ADD CHECK (id > 0) NO INHERIT", &[]).await;
    source
        .check_both("ALTER TABLE t ADD COLUMN d int DEFAULT 7", &["heir default_added", "t default_added"])
        .await;
    source.check_both("ALTER TABLE t ALTER d SET NOT NULL", &[]).await;
    source.check_both("ALTER TABLE t ALTER d SET STATISTICS 50, ALTER d SET DEFAULT 8", &[]).await;
    source.check_both("VACUUM FULL t", &[]).await;
    let rewritten = &["heir rewritten", "t rewritten"];
    source.check_both("ALTER TABLE t ALTER d TYPE int USING d + 1", rewritten).await;
    source
        .check_both("ALTER TABLE t ADD COLUMN x int DEFAULT 1", &["heir default_added", "t default_added"])
        .await;
    source.check_both("ALTER TABLE t ALTER x DROP DEFAULT", &[]).await;
    // A false alarm: it writes what was missing into every row, and nothing says that it was not ALTER TYPE.
    source.check("VACUUM FULL heir", &[], &["heir rewritten"]).await;
    source.check_both("ALTER TABLE t ADD COLUMN e int", &[]).await;
    source.check_both("ALTER TABLE t ALTER e TYPE bigint", rewritten).await;
    source.check_both("ALTER TABLE t ALTER k TYPE int USING 1", rewritten).await;
    source.check_both("ALTER TABLE t ALTER n TYPE int USING n + 1", rewritten).await;
    let random = "ALTER TABLE ONLY heir ADD COLUMN f float8 DEFAULT random()";
    source.check_both(random, &["heir rewritten"]).await;
    source.check_both("ALTER TABLE t RENAME e TO ee", &["heir column_renamed", "t column_renamed"]).await;
    source.check_both("ALTER TABLE heir RENAME TO child", &[]).await;
    source.check_both("ALTER TABLE t DROP COLUMN ee", &[]).await;
    source.check_both("ALTER TABLE t ALTER v TYPE varchar(20)", &[]).await;
    source.check_both("ALTER TABLE t ALTER v TYPE text", &[]).await;
    // The same bytes print differently: nothing is rewritten, so that only the catalog tells.
    let zoned = "ALTER TABLE t ALTER at TYPE timestamptz";
    source.check(zoned, &[], &["child rewritten", "t rewritten"]).await;
    let unsigned = "ALTER TABLE t ALTER m TYPE oid";
    source.check(unsigned, &[], &["child rewritten", "t rewritten"]).await;
    let generated = "ALTER TABLE child ADD COLUMN g int GENERATED ALWAYS AS (id * 2) STORED";
    let told = if source.database.server_major().await < 18 { &[][..] } else { &["child rewritten"] };
    source.check(generated, told, &[]).await;
    // Published from now on, with values that nobody sent.
    source.check("ALTER TABLE child ALTER g DROP EXPRESSION", &[], &["child default_added"]).await;

    // Nothing was there that could have changed.
    source.check("ALTER TABLE empty ADD COLUMN d int DEFAULT 7", &[], &["empty default_added"]).await;
    source.check("ALTER TABLE empty ALTER n TYPE bigint", &[], &["empty rewritten"]).await;
    source.check("ALTER TABLE empty RENAME n TO nn", &[], &["empty column_renamed"]).await;
    for ddl in ["ADD COLUMN d int DEFAULT 7", "ALTER id TYPE bigint", "RENAME d TO dd"] {
        source.check_both(&format!("ALTER TABLE unpublished {ddl}"), &[]).await;
    }
}

#[tokio::test]
async fn what_changes_no_row_is_no_alarm() {
    let mut source = Source::with(
        "ddl_harmless",
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, b text); CREATE SCHEMA s;
         CREATE TABLE t (id int PRIMARY KEY, v text, how mood, p pair); INSERT INTO t VALUES (1, 'a', 'ok', '(1,b)');
         CREATE TABLE r (id int PRIMARY KEY REFERENCES t); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    )
    .await;
    for ddl in [
        "CREATE INDEX v ON t (v)",
        "CREATE INDEX CONCURRENTLY v2 ON t (v)",
        "REINDEX TABLE t",
        "DROP INDEX v2",
        "VACUUM FULL t",
        "CLUSTER t USING v",
        "VACUUM FREEZE t",
        "ANALYZE t",
        "COMMENT ON COLUMN t.v IS 'a value'",
        "GRANT SELECT (v) ON t TO PUBLIC",
        "ALTER TABLE t ADD COLUMN w int",
        "ALTER TABLE t ALTER w SET DEFAULT 1",
        "ALTER TABLE t ALTER v SET NOT NULL",
        "ALTER TABLE t ALTER v SET STORAGE EXTERNAL",
        "ALTER TABLE t ALTER v SET (n_distinct = 5)",
        "ALTER TABLE t ADD CONSTRAINT c CHECK (id > 0) NOT VALID",
        "ALTER TABLE t VALIDATE CONSTRAINT c",
        "ALTER TABLE t RENAME CONSTRAINT c TO cc",
        "ALTER TABLE t ADD UNIQUE (v)",
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "ALTER TABLE t DROP COLUMN w",
        "ALTER TABLE t SET (fillfactor = 90)",
        "ALTER TABLE t OWNER TO CURRENT_USER",
        "ALTER TABLE t SET TABLESPACE pg_default",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
        "ALTER TABLE t DISABLE TRIGGER tr",
        "ALTER TABLE t SET SCHEMA s",
        "ALTER TABLE s.t RENAME TO u",
        "ALTER SCHEMA s RENAME TO ss",
        "TRUNCATE ss.u CASCADE",
        "ALTER TYPE mood ADD VALUE 'happy' BEFORE 'ok'",
        "ALTER TYPE mood RENAME TO feeling",
        "ALTER TYPE pair OWNER TO CURRENT_USER",
        "ALTER TYPE pair RENAME TO two",
        "ALTER DOMAIN positive SET DEFAULT 1",
        "CREATE TABLE n (id int PRIMARY KEY); INSERT INTO n VALUES (1)",
        "DROP TABLE n",
        "CREATE TEMP TABLE passing (id int); ALTER TABLE passing ADD COLUMN d int DEFAULT 1; DROP TABLE passing",
        "CREATE MATERIALIZED VIEW m AS SELECT id FROM ss.u",
        "REFRESH MATERIALIZED VIEW m",
        "DROP TABLE ss.u CASCADE",
    ] {
        source.check_both(ddl, &[]).await;
    }
}

#[tokio::test]
async fn types_that_columns_are_made_of() {
    let mut source = Source::with(
        "ddl_types",
        "CREATE TYPE pair AS (a int, b text); CREATE DOMAIN pairs AS pair[]; CREATE TYPE nest AS (p pairs, n int);
         CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE moods AS RANGE (subtype = mood);
         CREATE TYPE shape AS (a int, b text); CREATE TABLE typed OF shape (PRIMARY KEY (a)); INSERT INTO typed VALUES (1);
         CREATE TABLE other (id int PRIMARY KEY, x int); INSERT INTO other VALUES (1);
         CREATE TABLE nested (id int PRIMARY KEY, n nest[], r other); INSERT INTO nested VALUES (1);
         CREATE TABLE feels (id int PRIMARY KEY, how mood[]); INSERT INTO feels VALUES (1);
         CREATE TABLE ranges (id int PRIMARY KEY, r moods); INSERT INTO ranges VALUES (1)",
    )
    .await;
    source.check_both("ALTER TYPE pair ADD ATTRIBUTE c int", &["nested type_changed"]).await;
    source.check_both("ALTER TYPE pair RENAME ATTRIBUTE c TO d", &["nested type_changed"]).await;
    source.check_both("ALTER TYPE pair DROP ATTRIBUTE d", &["nested type_changed"]).await;
    source.check_both("ALTER TABLE other ADD COLUMN y int", &["nested type_changed"]).await;
    source.check_both("ALTER TABLE other ALTER y SET STATISTICS 5", &[]).await;
    source.check_both("ALTER TABLE other DROP COLUMN x", &["nested type_changed"]).await;
    let renamed = ["feels enum_renamed", "ranges enum_renamed"];
    source.check_both("ALTER TYPE mood RENAME VALUE 'sad' TO 'low'", &renamed).await;
    source.check_both("ALTER TYPE mood ADD VALUE 'new'", &[]).await;
    source
        .check_both(
            "BEGIN; ALTER TYPE mood ADD VALUE 'newer'; ALTER TYPE mood RENAME VALUE 'newer' TO 'n'; COMMIT",
            &[],
        )
        .await;
    source.check_both("ALTER TYPE shape RENAME ATTRIBUTE b TO bb CASCADE", &["typed column_renamed"]).await;
    source.check_both("ALTER TYPE shape ADD ATTRIBUTE c int CASCADE", &[]).await;
    source.check_both("ALTER TYPE shape ALTER ATTRIBUTE c TYPE bigint CASCADE", &["typed rewritten"]).await;
}

pub(crate) const PARTITIONED: &str = "
    CREATE TABLE root (id int, k int, v text DEFAULT 'a', PRIMARY KEY (id, k)) PARTITION BY LIST (k);
    CREATE TABLE p1 PARTITION OF root FOR VALUES IN (1); CREATE TABLE p2 PARTITION OF root FOR VALUES IN (2);
    CREATE TABLE p3 PARTITION OF root FOR VALUES IN (3) PARTITION BY LIST (id); CREATE TABLE p31 PARTITION OF p3 DEFAULT;
    CREATE TABLE p4 PARTITION OF root FOR VALUES IN (4); CREATE TABLE p5 PARTITION OF root FOR VALUES IN (5);
    INSERT INTO root SELECT n, k FROM generate_series(1, 3) n, generate_series(1, 4) k";

#[tokio::test]
async fn partitions_that_are_published_as_their_root() {
    let mut source = Source::with("ddl_via_root", PARTITIONED).await;
    let moved = ["root partitions_changed"];
    source.check_both("CREATE TABLE p6 PARTITION OF root FOR VALUES IN (6)", &[]).await;
    source
        .check_both(
            "CREATE TABLE p7 PARTITION OF root FOR VALUES IN (7) PARTITION BY LIST (id);
             CREATE TABLE p71 PARTITION OF p7 DEFAULT; INSERT INTO root VALUES (1, 7);
             ALTER TABLE root ADD COLUMN w int",
            &[],
        )
        .await;
    // Only the triggers can look whether there is anything in it.
    let attach =
        "CREATE TABLE p8 (LIKE root INCLUDING ALL); ALTER TABLE root ATTACH PARTITION p8 FOR VALUES IN (8)";
    source.check(attach, &[], &moved).await;
    source.check("ALTER TABLE root DETACH PARTITION p8", &[], &moved).await;
    source.check("ALTER TABLE root DETACH PARTITION p5 CONCURRENTLY", &[], &moved).await;
    let attach = "CREATE TABLE p9 (LIKE root INCLUDING ALL); INSERT INTO p9 VALUES (1, 9);
                  ALTER TABLE root ATTACH PARTITION p9 FOR VALUES IN (9)";
    source.check_both(attach, &moved).await;
    let nested = "CREATE TABLE p32 (LIKE root INCLUDING ALL); INSERT INTO p32 VALUES (99, 3);
                  ALTER TABLE p3 ATTACH PARTITION p32 FOR VALUES IN (99)";
    source.check_both(nested, &moved).await;
    source.check_both("ALTER TABLE root DETACH PARTITION p9", &moved).await;
    source.check_both("ALTER TABLE root DETACH PARTITION p2 CONCURRENTLY", &moved).await;
    // Gone and back again with another row.
    let moved_in = "INSERT INTO p2 VALUES (9, 2); ALTER TABLE root ATTACH PARTITION p2 FOR VALUES IN (2)";
    source.check_both(moved_in, &moved).await;
    let swap = "ALTER TABLE root DETACH PARTITION p2; DELETE FROM p2 WHERE id = 9;
                ALTER TABLE root ATTACH PARTITION p2 FOR VALUES IN (2)";
    source.check_both(swap, &moved).await;
    source.check_both("DROP TABLE p9", &[]).await;
    source.check_both("DROP TABLE p2", &moved).await;
    source.check_both("ALTER TABLE root DETACH PARTITION p3", &moved).await;
    source.check_both("CREATE TABLE unrelated (id int); DROP TABLE unrelated", &[]).await;
    source.check_both("ALTER TABLE root ADD COLUMN d int DEFAULT 7", &["root default_added"]).await;
    source.check_both("ALTER TABLE root ALTER d TYPE bigint", &["root rewritten"]).await;
    source.check_both("ALTER TABLE root RENAME d TO dd", &["root column_renamed"]).await;
    source.check_both("ALTER TABLE root ALTER dd SET NOT NULL", &[]).await;
    source.check_both("ALTER TABLE root RENAME TO parted", &[]).await;
    source.check_both("ANALYZE parted", &[]).await;
    source.check_both("DROP TABLE parted", &[]).await;
}

#[tokio::test]
async fn partitions_that_are_published_by_themselves() {
    let publication = "CREATE PUBLICATION waldelta FOR TABLE root";
    let mut source = Source::with("ddl_leaves", &format!("{PARTITIONED}; {publication}")).await;
    source.check_both("ALTER TABLE root DETACH PARTITION p1", &[]).await;
    source.check_both("ALTER TABLE root ATTACH PARTITION p1 FOR VALUES IN (1)", &[]).await;
    source.check_both("DROP TABLE p2", &[]).await;
    source.check_both("TRUNCATE p4", &[]).await;
    let (renamed, filled) = ("ALTER TABLE root RENAME v TO w", "ALTER TABLE root ADD COLUMN d int DEFAULT 7");
    let with = |reason: &str, tables: &[&str]| -> Vec<String> {
        tables.iter().map(|table| format!("{table} {reason}")).collect()
    };
    for (ddl, reason) in [(renamed, "column_renamed"), (filled, "default_added")] {
        source.database.exec(ddl).await;
        assert_eq!(source.told().await, with(reason, &["p1", "p31"]), "those with rows");
        assert_eq!(source.seen(&[]).await, with(reason, &["p1", "p31", "p4", "p5"]));
    }
}

#[tokio::test]
async fn tables_to_be_asked_for_again() {
    let source = Source::with(
        "ddl_forget",
        "CREATE TYPE pair AS (a int, b text); CREATE TYPE mood AS ENUM ('sad');
         CREATE TABLE t (id int PRIMARY KEY, p pair, m mood); CREATE TABLE u (id int PRIMARY KEY); CREATE TABLE w (id int);
         CREATE TABLE root (id int, PRIMARY KEY (id)) PARTITION BY LIST (id)",
    )
    .await;
    for (ddl, expected) in [
        ("ALTER TABLE t ALTER p SET NOT NULL", &["t"][..]),
        ("ALTER TABLE t DROP CONSTRAINT t_pkey", &["t"]),
        ("ALTER TABLE t ADD PRIMARY KEY (id)", &["t"]),
        ("ALTER TABLE t REPLICA IDENTITY FULL", &["t"]),
        ("ALTER TYPE pair RENAME TO two", &["t"]),
        ("ALTER TYPE two ADD ATTRIBUTE c int", &["t"]),
        ("ALTER TYPE mood RENAME TO feeling", &["t"]),
        ("CREATE TABLE leaf PARTITION OF root DEFAULT", &["root"]),
        ("ALTER TABLE leaf REPLICA IDENTITY FULL", &["root"]),
        ("DROP TABLE leaf", &["root"]),
        ("ALTER TYPE feeling ADD VALUE 'ok'", &[]),
        ("ALTER TABLE w ADD COLUMN n int", &[]),
        ("CREATE TABLE z (id int); DROP TABLE z", &[]),
        ("TRUNCATE t", &[]),
    ] {
        source.database.exec(ddl).await;
        assert_eq!(source.forgotten().await, expected, "{ddl}");
    }
}

#[tokio::test]
async fn a_table_that_was_unlogged_comes_back_with_rows_that_nobody_knows() {
    let all = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE PUBLICATION waldelta FOR ALL TABLES";
    let mut source = Source::with("ddl_unlogged", all).await;
    source.check_both("ALTER TABLE t ADD COLUMN d int DEFAULT 7", &["t default_added"]).await;
    source.check_both("ALTER TABLE t SET UNLOGGED", &[]).await;
    source.check("ALTER TABLE t SET LOGGED", &["t rewritten"], &[]).await;
    source.check_both("ALTER TABLE t SET UNLOGGED", &[]).await;
    source.check_both("ALTER TABLE t RENAME TO tt; DROP TABLE tt", &[]).await;
    // Everything is new, and empty.
    let new = "CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE n (id int PRIMARY KEY, m mood); ALTER TYPE mood ADD VALUE 'ok';
               ALTER TYPE mood RENAME VALUE 'sad' TO 'low'; ALTER TABLE n ADD COLUMN d int DEFAULT 7";
    source.check_both(new, &[]).await;
}

#[tokio::test]
async fn what_is_published_decides() {
    let schema = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1);
        CREATE TABLE o (id int); INSERT INTO o VALUES (1); CREATE TABLE l (id int PRIMARY KEY); INSERT INTO l VALUES (1);
        CREATE PUBLICATION waldelta FOR TABLES IN SCHEMA s";
    if TestDatabase::create("ddl_version").await.server_major().await < 15 {
        println!("publications of schemas and column lists came with PostgreSQL 15");
        return;
    }
    let mut source = Source::with("ddl_schema", schema).await;
    source.check_both("ALTER TABLE s.t ADD COLUMN d int DEFAULT 7", &["s.t default_added"]).await;
    source.check_both("ALTER TABLE o ADD COLUMN d int DEFAULT 7", &[]).await;
    source.check_both("ALTER TABLE o SET SCHEMA s", &[]).await;
    source.check_both("ALTER TABLE s.o RENAME d TO dd", &["s.o column_renamed"]).await;

    let lists = "ALTER PUBLICATION waldelta SET TABLE l (id), waldelta.canary";
    source.check_both(lists, &[]).await;
    source.check_both("ALTER TABLE l ADD COLUMN d int DEFAULT 7", &[]).await;
    source.check("ALTER TABLE l ADD COLUMN e float8 DEFAULT random()", &["l rewritten"], &[]).await;
    let more = "ALTER PUBLICATION waldelta SET TABLE l (id, d), waldelta.canary";
    source.check(more, &[], &["l default_added"]).await;
}

#[tokio::test]
async fn whoever_runs_it_and_however() {
    let revoked = "DO $$ DECLARE f regprocedure; BEGIN
        FOR f IN SELECT oid FROM pg_proc WHERE proname = 'pg_logical_emit_message' LOOP
          EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
        END LOOP; END $$;
        CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)";
    let mut source = Source::with("ddl_roles", revoked).await;
    let role = format!("{}_app", source.database.name());
    source.database.exec(&format!("CREATE ROLE {role}; ALTER TABLE t OWNER TO {role}")).await;
    let alter = |column: &str| format!("ALTER TABLE t ADD COLUMN {column} int DEFAULT 7");
    let [a, b, c, d, e, f] = ["a", "b", "c", "d", "e", "f"].map(alter);
    for ddl in [
        format!("SET ROLE {role}; {a}; RESET ROLE"),
        format!("SET session_replication_role = replica; {b}; RESET session_replication_role"),
        format!("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1; {c}; COMMIT"),
        format!(
            "BEGIN; SAVEPOINT one; ALTER TABLE t RENAME a TO aa; ROLLBACK TO one; SAVEPOINT two; {d}; RELEASE two; COMMIT"
        ),
        format!("DO $$ BEGIN EXECUTE '{e}'; EXCEPTION WHEN OTHERS THEN NULL; END $$"),
    ] {
        source.check_both(&ddl, &["t default_added"]).await;
    }
    source.check_both(&format!("BEGIN; {f}; ROLLBACK"), &[]).await;
    source.database.exec(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

/// The application's DDL neither fails nor waits because of the triggers.
#[tokio::test]
async fn ddl_goes_on_whatever_becomes_of_the_triggers() {
    let mut source = Source::with(
        "ddl_safe",
        "CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE t (id int PRIMARY KEY, m mood); INSERT INTO t VALUES (1, 'sad');
         CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1)",
    )
    .await;
    let locker = source.database.client().await;
    locker.batch_execute("BEGIN; LOCK TABLE t, waldelta.canary IN ACCESS EXCLUSIVE MODE").await.unwrap();
    source.database.exec("SET lock_timeout = '1s'").await;
    source.check_both("ALTER TYPE mood RENAME VALUE 'sad' TO 'low'", &["t enum_renamed"]).await;
    source.check_both("ALTER TABLE u ADD COLUMN d int DEFAULT 7", &["u default_added"]).await;
    locker.batch_execute("COMMIT").await.unwrap();

    let published = "DROP FUNCTION waldelta.ddl_published(oid[])";
    source.check_both(published, &[]).await;
    source.check("ALTER TABLE u ADD COLUMN e int DEFAULT 7", &[], &["u default_added"]).await;
    source.check("ALTER TABLE u ALTER e TYPE bigint", &[], &["u rewritten"]).await;
    source.check_both("DROP TABLE t", &[]).await;
    assert_eq!(source.database.query_text("SELECT sum(e) FROM u").await, "7");
}
