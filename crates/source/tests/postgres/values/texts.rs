//! Texts, bytes, JSON.

use super::matrix::{Case, check};

/// What has a meaning to JSON, to COPY, to arrays, to composites, or to nobody.
const TEXTS: &[&str] = &[
    "",
    " ",
    "plain",
    "NULL",
    "null",
    "\\N",
    "\\.",
    "\"quoted\"",
    "back\\slash\\\\",
    "a,b;c:d(e)f{g}h[i]j<k>l=m>n",
    "'",
    "''",
    "tab\tnew\nline\rreturn\u{b}\u{c}\u{8}\u{1}\u{1f}\u{7f}",
    "\u{e9}\u{df}\u{6f22}\u{1F600}\u{2028}\u{2029}\u{feff}\u{fffd}\u{ffff}\u{10ffff}",
    "e\u{301}",
    "\\u0000 \\x00",
    "{}",
    "[]",
    "()",
    "(,)",
    "{\"a\": 1}",
];

#[tokio::test]
async fn texts() {
    const LONG: &str = "long";
    check(
        "texts",
        "CREATE DOMAIN long AS text",
        &[
            Case("text", TEXTS),
            Case("varchar", TEXTS),
            Case("varchar(3)", &["", "abc", "  ", "\u{6f22}\u{1F600}\u{e9}"]),
            Case("bpchar", &["ab ", "", "  "]),
            Case("char(5)", &["ab", "", "a\u{e9} ", "\"\\,"]),
            Case("name", TEXTS),
            Case("\"char\"", &["x", "", "\"", "\\", "{", ",", " ", "\\200", "\\377"]),
            Case(LONG, TEXTS),
        ],
    )
    .await;
}

#[tokio::test]
async fn long_texts_that_are_stored_elsewhere() {
    let random: String = (0..40_000u32)
        .map(|n| char::from_u32(0x4e00 + n.wrapping_mul(2_654_435_761) % 20_000).unwrap())
        .collect();
    let plain = "x".repeat(1 << 20);
    check(
        "long",
        "",
        &[Case("text", &[&random, &plain]), Case("bytea", &["\\x00"]), Case("jsonb", &["{\"a\":1}"])],
    )
    .await;
}

#[tokio::test]
async fn bytes_and_bits() {
    check(
        "bytes",
        "",
        &[
            Case("bytea", &["", "\\x", "\\x00", "\\x00ff5c22277b7d2c", "abc"]),
            Case("bit(3)", &["101", "000"]),
            Case("bit", &["1"]),
            Case("varbit", &["", "1", "0110100110010110100110010110100101"]),
            Case("varbit(5)", &["", "10101"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn json() {
    const OBJECTS: &[&str] = &[
        "null",
        "true",
        "0",
        "-0",
        "\"\"",
        "\"text\"",
        "{}",
        "[]",
        " [ 1 , { \"b\" : [ ] } , null ] ",
        "{\"a\": 1.500, \"b\":1e5, \"a\":2, \"\":3, \"c d\":\"\\u00e9\\ud83d\\ude00\\n\"}",
        "{\n  \"multi\":\r\n\t\"line\"\n}",
        "\"\\\\u0000\"",
        "\"\\u0001\\u007f\\/\"",
        "[1e400, 1e-400, -0.0, 12345678901234567890.12345678901234567890]",
        "{\"$too_large\": {\"bytes\": 1}}",
    ];
    let deep = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
    let mut values = OBJECTS.to_vec();
    values.push(&deep);
    let values = &values;
    check(
        "json",
        "",
        &[
            Case("json", values),
            Case("jsonb", values),
            Case("jsonpath", &["$", "$.a[*] ? (@ > 1 && @ like_regex \"^\\\\d\")", "strict $.\"a b\""]),
            Case("xml", &["", "<a b=\"c\">\u{e9}</a>", "text &amp; <b/>", "<a>\n</a>"]),
        ],
    )
    .await;
}
