//! Enums, domains, composites, and the row types of tables.

use super::matrix::{Case, check, check_in};
use super::world::World;
use waldelta_testkit::TestDatabase;

#[tokio::test]
async fn enums_and_domains() {
    check(
        "domains",
        "CREATE TYPE mood AS ENUM ('fine', 'so, so', '\"q\"', '\\', '', 'NULL', 'caf\u{e9}');
         CREATE DOMAIN feeling AS mood;
         CREATE DOMAIN small AS int CHECK (VALUE < 10); CREATE DOMAIN smaller AS small CHECK (VALUE < 5);
         CREATE DOMAIN flag AS bool; CREATE DOMAIN day AS date; CREATE DOMAIN moment AS timestamptz(3);
         CREATE DOMAIN doc AS jsonb; CREATE DOMAIN amount AS numeric(10,2); CREATE DOMAIN code AS char(4);
         CREATE DOMAIN area AS box;
         CREATE DOMAIN numbers AS int[]; CREATE DOMAIN named AS numbers CHECK (cardinality(VALUE) < 9);
         CREATE DOMAIN days AS day[]; CREATE DOMAIN areas AS area[]",
        &[
            Case("mood", &["fine", "so, so", "\"q\"", "\\", "", "NULL", "caf\u{e9}"]),
            Case("feeling", &["", "NULL"]),
            Case("small", &["9"]),
            Case("smaller", &["-1"]),
            Case("flag", &["t", "f"]),
            Case("day", &["2024-02-29", "infinity", "0044-03-15 BC"]),
            Case("moment", &["2024-02-29 01:02:03.4567+02"]),
            Case("doc", &["null", "{\"a\": [1.0]}"]),
            Case("amount", &["1.5", "NaN"]),
            Case("code", &["ab"]),
            Case("area", &["(3,4),(1,2)"]),
            Case("numbers", &["{}", "{1,NULL}", "{{1,2},{3,4}}", "[0:1]={5,6}"]),
            Case("named", &["{}", "{1,2,NULL}"]),
            Case("days", &["{2024-02-29,NULL,infinity,\"0044-03-15 BC\"}"]),
            Case("areas", &["{(3,4),(1,2);(1,1),(0,0)}"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn composites() {
    check(
        "composites",
        "CREATE TYPE pair AS (\"A \"\"x\"\"\" int, b text);
         CREATE TYPE wide AS (i int, f float8, n numeric, b bool, x bytea, d date, ts timestamp, tz timestamptz, j json,
             jb jsonb, c char(3), m money, r int4range, bx box, ia int[], ta text[]);
         CREATE DOMAIN checked AS pair CHECK ((VALUE).b <> 'no');
         CREATE DOMAIN pairs AS pair[];
         CREATE TYPE nested AS (p pair, ps pair[], c checked, bs box[], deep pairs);
         CREATE TYPE deeper AS (n nested, ns nested[], \"\u{e9},()\" text);
         CREATE TYPE one AS (\"only\" text); CREATE TYPE bare AS ();",
        &[
            Case(
                "pair",
                &[
                    "(1,plain)",
                    "(,)",
                    "(,\"\")",
                    "(-1,\"a,b\")",
                    "(2,\"(nested)\")",
                    "(3,\"q\"\"uo\\\\te\\\"d\")",
                    "(4,\" \")",
                    "(5,\"new\nline\ttab\")",
                    "(6,NULL)",
                    "(7,caf\u{e9})",
                ],
            ),
            Case(
                "wide",
                &[
                    "(,,,,,,,,,,,,,,,)",
                    "(1,1e20,1.50,t,\"\\\\x00ff\",2024-02-29,\"2024-02-29 01:02:03.4\",\"0044-03-15 12:13:14+00 BC\",\"{\"\"a\"\": 1.0}\",null,a,1.5,\"[1,5)\",\"(3,4),(1,2)\",\"{1,NULL}\",\"{\"\"a,b\"\",NULL}\")",
                    "(1,NaN,-Infinity,f,\"\\\\x\",infinity,-infinity,infinity,\"[ ]\",\"\"\"text\"\"\",,,empty,,{},{})",
                ],
            ),
            Case("checked", &["(1,a)", "(,\"\")"]),
            Case("pairs", &["{}", "{\"(1,a)\",NULL,\"(,)\"}"]),
            Case(
                "nested",
                &[
                    "(,,,,)",
                    "(\"(1,\"\"a,b\"\")\",\"{\"\"(1,\\\\\"\"x y\\\\\"\")\"\",NULL}\",\"(2,c)\",\"{(3,4),(1,2);(1,1),(0,0)}\",\"{\"\"(,)\"\"}\")",
                    "(\"(,)\",{},,{},{})",
                ],
            ),
            Case("one", &["()", "(\"\")", "(x)"]),
            Case("bare", &["()"]),
        ],
    )
    .await;
}

/// Built by PostgreSQL, so that nobody has to write what it quotes.
#[tokio::test]
async fn composites_within_composites() {
    let database = TestDatabase::create("within").await;
    database
        .exec(
            "CREATE TYPE c1 AS (a text, b int); CREATE TYPE c2 AS (a c1, b c1[], c text);
             CREATE TYPE c3 AS (a c2[], b c2, c text[]); CREATE TYPE c4 AS (a c3[], b c3);
             CREATE FUNCTION c3() RETURNS c3 LANGUAGE sql AS $$
                 SELECT ROW(ARRAY[v, NULL, v], v, ARRAY['\"', '\\', NULL])::c3
                 FROM (SELECT ROW(ROW('a\"b\\c,(d){e}', 1), ARRAY[ROW('''', 2)::c1, NULL, ROW('', NULL)::c1], '')::c2) AS s (v) $$;
             CREATE TABLE given AS SELECT ROW(ARRAY[c3(), NULL], c3())::c4::text AS v",
        )
        .await;
    let value = database.query_text("SELECT v FROM given").await;
    database.exec("DROP TABLE given").await;
    check_in(World::new(database).await, &[Case("c4", &["(,)", &value])]).await;
}

#[tokio::test]
async fn row_types_of_tables_and_attributes_that_came_and_went() {
    check(
        "row_types",
        "CREATE TYPE mood AS ENUM ('fine');
         CREATE TABLE waldelta_like (id int, gone text, at date, feeling mood[]); ALTER TABLE waldelta_like DROP COLUMN gone;
         CREATE TABLE parted (id int, at date) PARTITION BY RANGE (at);
         CREATE VIEW seen AS SELECT 1 AS a, 'x'::text AS b; CREATE MATERIALIZED VIEW kept AS SELECT 1 AS a, NULL::date AS b;
         CREATE TYPE changed AS (a int, b text, c date); ALTER TYPE changed DROP ATTRIBUTE b; ALTER TYPE changed ADD ATTRIBUTE d bool;
         ALTER TYPE changed RENAME ATTRIBUTE c TO \"day \"\"of\"\"\";
         CREATE TYPE emptied AS (a int); ALTER TYPE emptied DROP ATTRIBUTE a;
         CREATE TABLE made (a int, twice int GENERATED ALWAYS AS (a * 2) STORED)",
        &[
            Case("waldelta_like", &["(1,2024-02-29,{fine})", "(,,)"]),
            Case("parted", &["(1,infinity)"]),
            Case("seen", &["(1,x)"]),
            Case("kept", &["(1,2024-02-29)"]),
            Case("changed", &["(1,2024-02-29,t)", "(,,)"]),
            Case("emptied", &["()"]),
            Case("made", &["(1,2)", "(,)"]),
        ],
    )
    .await;
}
