//! Numbers, and what looks like them.

use super::matrix::{Case, check};

#[tokio::test]
async fn whole_numbers_and_booleans() {
    check(
        "whole",
        "",
        &[
            Case("bool", &["t", "f"]),
            Case("int2", &["0", "-32768", "32767"]),
            Case("int4", &["0", "-2147483648", "2147483647"]),
            Case("int8", &["9007199254740993", "-9223372036854775808", "9223372036854775807"]),
            Case("oid", &["0", "4294967295"]),
            Case("xid", &["4294967295"]),
            Case("xid8", &["18446744073709551615"]),
            Case("cid", &["4294967295"]),
            Case("tid", &["(4294967295,65535)"]),
            Case("pg_lsn", &["0/0", "FFFFFFFF/FFFFFFFF", "16/B374D848"]),
            Case("money", &["12.5", "-1234567.89", "92233720368547758.07"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn numeric() {
    let nines = "9".repeat(1_000);
    let long = format!("{nines}.{nines}");
    let values = [
        "0",
        "-0",
        "0.000",
        "1.500",
        "NaN",
        "Infinity",
        "-Infinity",
        "1e100",
        "1e-100",
        "-123456789012345678901234567890.12345678901234567890",
        &long,
        "1e131071",
        "1e-16383",
    ];
    let few = &["0", "-7", "12345678.9999", "NaN"];
    check("numeric", "", &[Case("numeric", &values), Case("numeric(12,3)", few), Case("numeric(9,0)", few)])
        .await;
}

#[tokio::test]
async fn floats() {
    let doubles = [
        "0",
        "-0",
        "1",
        "-1.5",
        "0.1",
        "NaN",
        "Infinity",
        "-Infinity",
        "1e15",
        "1e16",
        "123456789012345680",
        "1e-5",
        "0.0001",
        "1.7976931348623157e308",
        "2.2250738585072014e-308",
        "5e-324",
        "-4.9406564584124654e-324",
    ];
    let singles = [
        "0",
        "-0",
        "0.1",
        "16777217",
        "NaN",
        "Infinity",
        "-Infinity",
        "3.4028235e38",
        "1e-45",
        "-1.1754944e-38",
    ];
    check("floats", "", &[Case("float8", &doubles), Case("float4", &singles)]).await;
}
