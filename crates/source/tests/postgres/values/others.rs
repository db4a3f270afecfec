//! Addresses, shapes, words to search for.

use super::matrix::{Case, check};

#[tokio::test]
async fn addresses_and_identifiers() {
    check(
        "addresses",
        "",
        &[
            Case("uuid", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "{00000000000000000000000000000000}"]),
            Case(
                "inet",
                &["192.168.0.1/24", "192.168.0.1", "::1", "fe80::1/64", "::ffff:1.2.3.4/128", "0.0.0.0/0"],
            ),
            Case("cidr", &["10.0.0.0/8", "10.1.2.3/32", "2001:db8::/32", "::/0"]),
            Case("macaddr", &["08:00:2b:01:02:03", "ffffffffffff"]),
            Case("macaddr8", &["08:00:2b:01:02:03:04:05", "08:00:2b:01:02:03"]),
            Case("txid_snapshot", &["10:20:12,15", "1:1:"]),
            Case("pg_snapshot", &["10:20:12,15", "1:1:"]),
            Case("refcursor", &["", "c\"ur,sor"]),
            Case("aclitem", &["postgres=r/postgres", "=r/postgres"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn geometry() {
    check(
        "geometry",
        "",
        &[
            Case("point", &["(1.5,-2)", "(NaN,Infinity)", "(1e300,5e-324)", "(-0,0)"]),
            Case("line", &["{1,2,3}", "{-1,0,1e-10}"]),
            Case("lseg", &["[(1,2),(3,4)]", "[(0,0),(0,0)]"]),
            Case("box", &["(3,4),(1,2)", "(0,0),(0,0)", "(NaN,1),(0,Infinity)"]),
            Case("path", &["((1,2),(3,4))", "[(1,2),(3,4)]", "[(0,0)]"]),
            Case("polygon", &["((1,2),(3,4),(5,6))", "((0,0))"]),
            Case("circle", &["<(1,2),3>", "<(0,0),0>", "<(0,0),Infinity>"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn text_search() {
    check(
        "search",
        "",
        &[
            Case("tsvector", &["", "a b", "'a' 'b\\\\c':1A,2B 'it''s':3 ' ':4 '\"':5", "'\u{e9}':16383"]),
            Case("tsquery", &["", "a & !b | (c <-> d:AB*)", "'it''s' & '\"' & '\\\\'", "a <3> b"]),
            Case("regconfig", &["simple", "english"]),
            Case("regdictionary", &["simple"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn names_of_objects() {
    check(
        "objects",
        "CREATE SCHEMA \"Od d\"; CREATE TABLE \"Od d\".\"T,a\" (); CREATE FUNCTION \"Od d\".f(int, text) RETURNS int LANGUAGE sql AS 'SELECT 1';",
        &[
            Case("regclass", &["pg_class", "0", "4294967295", "\"Od d\".\"T,a\""]),
            Case("regproc", &["now", "0", "\"Od d\".f"]),
            Case("regprocedure", &["now()", "\"Od d\".f(int,text)"]),
            Case("regoper", &["0", "||/"]),
            Case("regoperator", &["+(integer,integer)", "||/(NONE,double precision)"]),
            Case("regtype", &["integer", "\"char\"", "\"Od d\".\"T,a\""]),
            Case("regnamespace", &["pg_catalog", "\"Od d\""]),
            Case("regrole", &["postgres"]),
            Case("regcollation", &["\"C\""]),
            Case("int2vector", &["", "1", "1 -2 32767"]),
            Case("oidvector", &["", "1", "1 4294967295"]),
        ],
    )
    .await;
}
