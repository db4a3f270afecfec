//! Requests as no client would write them: each gets an answer that says what is wrong, or the connection ends; none is answered as
//! if it were our fault (5xx), and none waits. Where a request ends is the listener's to find (`waldelta::listener::tests::hostile`).

use std::fmt::Write;
use std::net::SocketAddr;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

/// Status and code of an answer; of one that is no problem its status alone, and of none at all `closed`.
async fn told(address: SocketAddr, request: Vec<u8>) -> String {
    let asking = async {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let mut answer = Vec::new();
        // It may be answered before it has ended, and cut off then.
        let _ = socket.write_all(&request).await;
        let _ = socket.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    let Ok(answer) = tokio::time::timeout(PATIENCE, asking).await else { return "nothing".to_owned() };
    let Some(status) = answer.split(' ').nth(1) else { return "closed".to_owned() };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    if !head.contains("application/problem+json") {
        return status.to_owned();
    }
    let problem: Value = serde_json::from_str(body).unwrap();
    assert_eq!(problem["status"].to_string(), status);
    format!("{status} {}", problem["code"].as_str().unwrap())
}

fn request(first: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("{first}\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

fn get(target: &str) -> Vec<u8> {
    request(&format!("GET {target} HTTP/1.1"), "", b"")
}

async fn check(address: SocketAddr, cases: Vec<(String, Vec<u8>, &str)>) {
    let all = cases.iter().map(|(_, request, _)| told(address, request.clone()));
    let mut wrong = String::new();
    for ((name, _, expected), told) in cases.iter().zip(join_all(all).await) {
        if told != *expected {
            writeln!(wrong, "{name}: expected {expected}, told {told}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

const INVALID: &str = "400 WD-REQUEST-INVALID";

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_a_target_is_read_or_refused() {
    let mut world = World::new("hostile_targets").await;
    let cursor = world.commit_inserts(1..3).await[0];
    let change = waldelta_wal::Position { index: 0, ..cursor };
    let value = |image: &str, column: &str| format!("/v1/values/{change}/{image}/{column}");
    let (cursor_wrong, filter_wrong) = ("400 WD-CURSOR-INVALID", "400 WD-FILTER-INVALID");
    let unknown_row = "404 WD-ROW-NOT-FOUND";
    let cases = [
        ("/v1/changes?after=%00".to_owned(), cursor_wrong),
        ("/v1/changes?after=%".into(), cursor_wrong),
        ("/v1/changes?after=%FF".into(), INVALID),
        ("/v1/changes?%FF=1".into(), INVALID),
        ("/v1/changes?client_id=%00".into(), INVALID),
        ("/v1/changes?client_id=%1B%5B2J".into(), INVALID),
        ("/v1/changes?client_id=%FE".into(), INVALID),
        ("/v1/changes?client_id=%C3%BC".into(), "200"),
        ("/v1/changes?limit=1&limit=2".into(), INVALID),
        ("/v1/changes?limit=1&%6Cimit=1".into(), INVALID),
        ("/v1/changes?table=t&where=id%3D1&where=id%3D2".into(), INVALID),
        ("/v1/changes?after=0/1&after=0/1".into(), INVALID),
        ("/v1/changes?table=t&table=u".into(), "200"),
        ("/v1/changes?limit=-1".into(), INVALID),
        ("/v1/changes?limit=99999999999999999999".into(), INVALID),
        ("/v1/changes?limit=1e3".into(), INVALID),
        ("/v1/changes?wait=-1".into(), INVALID),
        ("/v1/changes?wait=18446744073709551615s".into(), INVALID),
        ("/v1/changes?since=99999-01-01T00:00:00Z".into(), INVALID),
        ("/v1/changes?since=0000-00-00T00:00:00Z".into(), INVALID),
        ("/v1/changes?&&&".into(), "200"),
        ("/v1/changes?=".into(), INVALID),
        (format!("/v1/changes?after={}", "9".repeat(10_000)), cursor_wrong),
        ("/v1/changes?table=%22a%00b%22".into(), INVALID),
        ("/v1/changes?table=t&where=v%3D%27%00%27".into(), filter_wrong),
        (format!("/v1/changes?table=t&where={}", "(".repeat(10_000)), filter_wrong),
        ("/v1/snapshot?table=t&table=t".into(), INVALID),
        ("/v1/snapshot?table=t&where=v%3D%27%FF%27".into(), INVALID),
        ("/v1/rows/%22a%00b%22/1".into(), INVALID),
        ("/v1/rows/%FF/1".into(), INVALID),
        ("/v1/rows/public.t/%FF".into(), INVALID),
        ("/v1/rows/public.t/%00".into(), unknown_row),
        ("/v1/rows/public.t/%22%5Cu0000%22".into(), unknown_row),
        ("/v1/rows/public.t/%5B%22%5Cud800%22%5D".into(), unknown_row),
        ("/v1/rows/public.t/99999999999999999999999".into(), unknown_row),
        (format!("/v1/rows/public.t/{}", "%5B".repeat(5_000)), unknown_row),
        ("/v1/rows/public.t/1?at=0/1&at=0/1".into(), INVALID),
        ("/v1/rows/public.t/1/history?limit=1&limit=1".into(), INVALID),
        ("/v1/rows/public.t/1/history?from=%FF".into(), INVALID),
        (value("data", "%00"), "404 WD-VALUE-NOT-FOUND"),
        (value("%00", "v"), INVALID),
        (value("data", "%FF"), INVALID),
        ("/v1/../v1/changes".into(), "404 WD-REQUEST-INVALID"),
        ("//v1/changes".into(), "404 WD-REQUEST-INVALID"),
        ("/v1/%63hanges".into(), "404 WD-REQUEST-INVALID"),
        ("/v1/changes/".into(), "404 WD-REQUEST-INVALID"),
        ("/v1/changes%00".into(), "404 WD-REQUEST-INVALID"),
        (format!("/{}", "p".repeat(20_000)), "404 WD-REQUEST-INVALID"),
        ("*".into(), "404 WD-REQUEST-INVALID"),
        ("/v1/changes?where=a = 1".into(), "400"),
    ];
    let cases = cases.map(|(target, expected)| {
        let name = target.chars().take(80).collect();
        (name, get(&target), expected)
    });
    check(world.address(), cases.into()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_refused_before_it_can_mean_two_things() {
    let mut world = World::new("hostile_requests").await;
    let cursor = world.commit_inserts(1..3).await[0].to_string();
    let ack = |body: &str| {
        let headers = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        request("POST /v1/ack HTTP/1.1", &headers, body.as_bytes())
    };
    let by = |first: &str| request(first, "", b"");
    let with = |headers: &str| request("GET /v1/changes HTTP/1.1", headers, b"");
    let text = |text: &str| text.as_bytes().to_vec();
    let mut cases = vec![
        ("the whole URL", by("GET http://localhost/v1/changes HTTP/1.1"), "200"),
        ("that of another host", by("GET http://evil.example/v1/changes HTTP/1.1"), "403 WD-HOST-REFUSED"),
        ("a tunnel", by("CONNECT evil.example:443 HTTP/1.1"), "404 WD-REQUEST-INVALID"),
        ("two hosts", with("Host: evil.example\r\n"), INVALID),
        ("the same host twice", with("Host: localhost\r\n"), INVALID),
        ("no host", text("GET /v1/changes HTTP/1.1\r\nConnection: close\r\n\r\n"), INVALID),
        (
            "an empty host",
            text("GET /v1/changes HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n"),
            "403 WD-HOST-REFUSED",
        ),
        ("no host, long ago", text("GET /v1/changes HTTP/1.0\r\n\r\n"), "200"),
        ("no version", text("GET /v1/changes\r\n\r\n"), "400"),
        ("a version to come", by("GET /v1/changes HTTP/1.2"), "400"),
        ("another version", by("GET /v1/changes HTTP/3.0"), "400"),
        ("nothing asked for", text("GET  HTTP/1.1\r\nHost: localhost\r\n\r\n"), "400"),
        ("a method of no letters", by("G\0T /v1/changes HTTP/1.1"), "400"),
        // Of lines that end without one a reader may think so (RFC 9112, section 2.2).
        ("line feeds alone", text("GET /v1/changes HTTP/1.1\nHost: localhost\nConnection: close\n\n"), "200"),
        ("a header that is folded", with("X: a\r\n b\r\n"), "400"),
        ("a header without a colon", with("nonsense\r\n"), "400"),
        ("a name with a space", with("X y: a\r\n"), "400"),
        ("a NUL in a header", with("X: a\0b\r\n"), "400"),
        ("no upgrade to anything else", with("Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"), "200"),
        ("an id of no client", ack(&json!({"client_id": "a\0b", "cursor": cursor}).to_string()), INVALID),
        ("half a character", ack(r#"{"client_id":"\ud800","cursor":"0/1"}"#), INVALID),
        ("a name twice", ack(r#"{"client_id":"a","client_id":"b","cursor":"0/1"}"#), INVALID),
        ("what nests", ack(&"[".repeat(4_000)), INVALID),
        ("no body", ack(""), INVALID),
        ("as it should be", ack(&json!({"client_id": "a", "cursor": cursor}).to_string()), "204"),
    ];
    for method in ["OPTIONS", "TRACE", "PATCH", "DELETE", "BREW", "get"] {
        cases.push((method, by(&format!("{method} /v1/changes HTTP/1.1")), "405 WD-REQUEST-INVALID"));
    }
    let cases = cases.into_iter().map(|(name, request, expected)| (name.to_owned(), request, expected));
    check(world.address(), cases.collect()).await;
}
