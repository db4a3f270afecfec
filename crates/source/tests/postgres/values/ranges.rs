//! Ranges and multiranges.

use super::matrix::{Case, check};

#[tokio::test]
async fn ranges() {
    check(
        "ranges",
        "",
        &[
            Case("int4range", &["empty", "[1,5)", "(,5)", "[1,)", "(,)", "[-2147483648,2147483646]"]),
            Case("int8range", &["empty", "[1,9223372036854775807)", "(,)"]),
            Case("numrange", &["empty", "[1.10,2.20]", "(NaN,)", "(-Infinity,Infinity)", "[-0,0]"]),
            Case(
                "tsrange",
                &["empty", "[2024-01-01,2024-01-02 03:04:05.6)", "(-infinity,infinity)", "[0044-03-15 BC,)"],
            ),
            Case("tstzrange", &["[2024-01-01 00:00+02,2024-01-02]", "[,infinity]", "[0044-03-15 BC,)"]),
            Case("daterange", &["[2024-01-01,infinity]", "empty", "[0044-03-15 BC,2024-01-01)"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn multiranges() {
    check(
        "multiranges",
        "",
        &[
            Case("int4multirange", &["{}", "{[1,2),[5,6)}", "{(,)}"]),
            Case("int8multirange", &["{}", "{(,1),[5,)}"]),
            Case("nummultirange", &["{[1.10,2.2],(3,)}"]),
            Case("tsmultirange", &["{[2024-01-01,2024-01-02 03:04:05),[infinity,)}"]),
            Case("tstzmultirange", &["{[2024-01-01,2024-01-02)}"]),
            Case("datemultirange", &["{[2024-01-01,2024-01-02),[2025-01-01,)}", "{}"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn ranges_of_own_types() {
    check(
        "own_ranges",
        "CREATE TYPE texts AS RANGE (subtype = text, collation = \"C\");
         CREATE TYPE pair AS (a int, b text);
         CREATE TYPE pairs AS RANGE (subtype = pair);
         CREATE DOMAIN positive AS int4range CHECK (NOT VALUE @> -1);",
        &[
            Case("texts", &["empty", "[a,\"b,\\\"c\\\\\"]", "(,\"\")", "[\"\u{e9} \",\u{ea})"]),
            Case("texts_multirange", &["{}", "{[a,b),[c,)}"]),
            Case("pairs", &["empty", "[\"(1,\\\"a,b\\\")\",\"(2,)\")"]),
            Case("positive", &["[1,5)", "empty"]),
        ],
    )
    .await;
}
