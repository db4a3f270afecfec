//! Types of extensions. Where one is not installed that is printed, and nothing else is tested.

use waldelta_testkit::TestDatabase;

use super::matrix::{Case, check_in};
use super::world::World;

/// As `check`, where the server has the extensions.
async fn check_with(extensions: &[&str], setup: &str, cases: &[Case<'_>]) {
    check_placed(extensions, "", setup, cases).await;
}

/// `place` is what follows CREATE EXTENSION.
#[expect(clippy::print_stdout, reason = "a test that did not take place says so")]
async fn check_placed(extensions: &[&str], place: &str, setup: &str, cases: &[Case<'_>]) {
    let database = TestDatabase::create(extensions[0]).await;
    for extension in extensions {
        let sql = format!("SELECT count(*) FROM pg_available_extensions WHERE name = '{extension}'");
        if database.query_text(&sql).await == "0" {
            println!("not tested: the server has no extension {extension}");
            return;
        }
        database.exec(&format!("CREATE EXTENSION \"{extension}\" {place}")).await;
    }
    database.exec(setup).await;
    check_in(World::new(database).await, cases).await;
}

#[tokio::test]
async fn hstore() {
    check_with(
        &["hstore"],
        "CREATE TYPE holder AS (h hstore, hs hstore[]); CREATE DOMAIN held AS hstore;
         -- Not the extension's, though it has the name.
         CREATE SCHEMA other; CREATE TYPE other.hstore AS (\"a\" text)",
        &[
            Case(
                "hstore",
                &[
                    "",
                    "a=>1",
                    "a=>NULL, b=>\"NULL\", c=>\"\"",
                    "\"\"=>\"x\", \" \"=>\" \"",
                    "\"q\\\"uo\\\\te\"=>\"q\\\"uo\\\\te\"",
                    "\"a=>b, c\"=>\"=>, \\\"\"",
                    "\"caf\u{e9}\u{1F600}\"=>\"\u{6f22}\", \"new\nline\"=>\"\ttab\u{1}\"",
                    "t=>t, n=>1.50, nan=>NaN",
                ],
            ),
            Case("held", &["a=>1"]),
            Case(
                "holder",
                &[
                    "(,)",
                    "(\"\"\"a\"\"=>\"\"1, \\\\\"\"\"\"\",{})",
                    "(\"a=>NULL\",\"{\"\"b=>\\\\\"\"c d\\\\\"\"\"\",NULL}\")",
                ],
            ),
            Case("other.hstore", &["(1)"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn hstore_in_another_schema() {
    let cases = [Case("information_schema.hstore", &["a=>1, b=>NULL"])];
    check_placed(&["hstore"], "SCHEMA information_schema", "", &cases).await;
}

#[tokio::test]
async fn texts_of_other_kinds() {
    check_with(
        &["citext"],
        "CREATE DOMAIN mail AS citext; CREATE TYPE named AS (c citext)",
        &[
            Case("citext", &["", "ABC", "q\"\\,{}"]),
            Case("mail", &["A@b.C"]),
            Case("named", &["(AbC)", "()"]),
        ],
    )
    .await;
    check_with(&["ltree"], "", &[Case("ltree", &["", "a.b.c"]), Case("lquery", &["*.a|b.*{1,2}"])]).await;
}

#[tokio::test]
async fn numbers_of_other_kinds() {
    check_with(
        &["cube", "seg", "isn", "intarray"],
        "",
        &[
            Case("cube", &["(1, 2),(3, 4)", "(1.5)", "()"]),
            Case("seg", &["1.50", "<1", "1(+-)0.5", "~1 .. 2"]),
            Case("ean13", &["978-0-393-04002-9"]),
            Case("isbn", &["0-393-04002-X"]),
            Case("query_int", &["1&(2|!3)"]),
        ],
    )
    .await;
}

/// Many sources have it; some machines do.
#[tokio::test]
async fn vectors() {
    check_with(&["vector"], "", &[Case("vector(3)", &["[1,2.5,-3e-10]"]), Case("vector", &["[0]"])]).await;
}
