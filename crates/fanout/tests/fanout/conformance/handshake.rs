//! Sections 4.1 and 4.2: the request that makes a connection a WebSocket, and its answer.

use tokio::io::BufReader;
use tokio::net::TcpStream;

use super::*;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer to that key (section 1.3).
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const GET: &str = "GET /v1/stream HTTP/1.1";
/// What a request must have, apart from its first line.
const LINES: [(&str, &str); 5] = [
    ("Host", "localhost"),
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", KEY),
];

/// Connection and answer: its head, as it came.
async fn ask(address: SocketAddr, request: &str, then: &[u8]) -> (BufReader<TcpStream>, String) {
    let asking = async {
        let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
        stream.write_all(&[request.as_bytes(), then].concat()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        (stream, String::from_utf8(head).unwrap())
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("an answer comes")
}

/// The request with some of its lines changed: `None` leaves one out. Lines that it does not have are added.
fn request(first: &str, changes: &[(&str, Option<&str>)]) -> String {
    let mut lines: Vec<(&str, &str)> = LINES.to_vec();
    for (name, _) in changes {
        lines.retain(|(line, _)| line != name);
    }
    lines.extend(changes.iter().filter_map(|(name, value)| Some((*name, (*value)?))));
    let lines: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{first}\r\n{lines}\r\n")
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find_map(|(line, value)| line.eq_ignore_ascii_case(name).then_some(value))
}

/// Status and subprotocol of the answers to all these, and what is wrong with them.
async fn check(hint: &str, cases: Vec<(&str, String, &str)>) {
    let world = World::new(hint).await;
    let mut wrong = String::new();
    for (name, request, expected) in cases {
        let (_, head) = ask(world.address(), &request, b"").await;
        let status = head.split(' ').nth(1).unwrap_or("closed");
        let seen = match header(&head, "sec-websocket-protocol") {
            Some(protocol) => format!("{status} {protocol}"),
            None => status.to_owned(),
        };
        let mut well = seen == expected;
        match status {
            "101" => {
                well &= header(&head, "sec-websocket-accept").is_some_and(|accept| accept.len() == 28)
                    && header(&head, "upgrade") == Some("websocket")
                    && header(&head, "connection") == Some("upgrade")
                    && header(&head, "sec-websocket-extensions").is_none();
            }
            // Says what is spoken here (section 4.4).
            "426" => {
                well &= header(&head, "sec-websocket-version") == Some("13")
                    && header(&head, "upgrade") == Some("websocket");
            }
            _ => {}
        }
        if status != "101" && status != "closed" {
            well &= header(&head, "content-type") == Some("application/problem+json");
        }
        if !well {
            writeln!(wrong, "{name}: expected {expected}, seen {seen}\n{head}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_as_it_should_be_is_accepted_however_it_is_written() {
    let with = |changes: &[(&str, Option<&str>)]| request(GET, changes);
    let of_browsers: &[(&str, Option<&str>)] = &[
        ("Connection", Some("keep-alive, Upgrade")),
        ("Origin", Some("http://localhost:5173")),
        ("Sec-WebSocket-Extensions", Some("permessage-deflate; client_max_window_bits")),
        ("Cookie", Some("a=b; c=d")),
        ("User-Agent", Some("Mozilla/5.0")),
        ("Pragma", Some("no-cache")),
        ("Sec-Fetch-Mode", Some("websocket")),
    ];
    let protocol = |value| with(&[("Sec-WebSocket-Protocol", Some(value))]);
    let name = "waldelta.v1.json";
    let named = "101 waldelta.v1.json";
    let cases = vec![
        ("as it is", with(&[]), "101"),
        ("names in lower case", with(&[]).to_lowercase().replace(&KEY.to_lowercase(), KEY), "400"),
        ("names in upper case", upper_names(&with(&[])), "101"),
        (
            "values in upper case",
            with(&[("Upgrade", Some("WEBSOCKET")), ("Connection", Some("UPGRADE"))]),
            "101",
        ),
        ("values in lower case", with(&[("Connection", Some("upgrade"))]), "101"),
        (
            "lists",
            with(&[("Connection", Some("keep-alive, Upgrade")), ("Upgrade", Some("h2c, websocket"))]),
            "101",
        ),
        ("lists without spaces", with(&[("Connection", Some("a,upgrade,,b"))]), "101"),
        (
            "lists over several lines",
            with(&[("Connection", Some("a")), ("connection", Some("upgrade"))]),
            "101",
        ),
        ("more than it needs", with(&[("X-Anything", Some("of any kind"))]), "101"),
        ("as browsers write it", with(of_browsers), "101"),
        ("an empty body", with(&[("Content-Length", Some("0"))]), "101"),
        ("the whole URL", request("GET http://localhost/v1/stream HTTP/1.1", &[]), "101"),
        ("a subprotocol", protocol(name), named),
        ("several", protocol("other, waldelta.v1.json, more"), named),
        ("several without spaces", protocol("other,waldelta.v1.json"), named),
        (
            "several over lines",
            with(&[("Sec-WebSocket-Protocol", Some("other")), ("sec-websocket-protocol", Some(name))]),
            named,
        ),
        // Accepted, and closed with 4406 (see the test below). Clients see that; pages see 1006, as browsers take it for a failure.
        ("a subprotocol in another case", protocol("WALDELTA.V1.JSON"), "101"),
        ("another subprotocol", protocol("other"), "101"),
    ];
    let cases = cases.into_iter().map(|(name, request, expected)| match name {
        // A first line has a case of its own.
        "names in lower case" => (name, request.replacen("get /v1/stream http/1.1", GET, 1), "101"),
        _ => (name, request, expected),
    });
    check("handshake_well", cases.collect()).await;
}

fn upper_names(request: &str) -> String {
    let (first, rest) = request.split_once("\r\n").unwrap();
    let lines = rest.lines().map(|line| match line.split_once(": ") {
        Some((name, value)) => format!("{}: {value}\r\n", name.to_uppercase()),
        None => "\r\n".to_owned(),
    });
    format!("{first}\r\n{}", lines.collect::<String>())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_lacks_something_is_told_what() {
    let with = |name, value| request(GET, &[(name, value)]);
    let by = |first: &str| request(first, &[]);
    let mut cases = vec![
        ("no Connection", with("Connection", None), "426"),
        ("another Connection", with("Connection", Some("keep-alive")), "426"),
        ("a word that only begins so", with("Connection", Some("upgraded")), "426"),
        ("no Upgrade", with("Upgrade", None), "426"),
        ("another Upgrade", with("Upgrade", Some("h2c")), "426"),
        ("Upgrade with a version", with("Upgrade", Some("websocket/13")), "426"),
        ("no version", with("Sec-WebSocket-Version", None), "426"),
        ("no version in it", with("Sec-WebSocket-Version", Some("")), "426"),
        ("version 8", with("Sec-WebSocket-Version", Some("8")), "426"),
        ("version 14", with("Sec-WebSocket-Version", Some("14")), "426"),
        ("version 013", with("Sec-WebSocket-Version", Some("013")), "426"),
        ("two versions", with("Sec-WebSocket-Version", Some("13, 8")), "426"),
        ("no key", with("Sec-WebSocket-Key", None), "400"),
        ("nothing in the key", with("Sec-WebSocket-Key", Some("")), "400"),
        ("a key that is short", with("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZQ==")), "400"),
        ("a key that is long", with("Sec-WebSocket-Key", Some(&"A".repeat(44))), "400"),
        ("a key without its filling", with("Sec-WebSocket-Key", Some(&KEY[..22])), "400"),
        ("a key that is no base64", with("Sec-WebSocket-Key", Some("**********************==")), "400"),
        ("a key of 17 bytes", with("Sec-WebSocket-Key", Some("AAAAAAAAAAAAAAAAAAAAAAA=")), "400"),
        ("bits left over in a key", with("Sec-WebSocket-Key", Some("AAAAAAAAAAAAAAAAAAAAAB==")), "400"),
        ("two keys in one", with("Sec-WebSocket-Key", Some(&format!("{KEY}, {KEY}"))), "400"),
        ("HTTP/1.0", by("GET /v1/stream HTTP/1.0"), "426"),
        ("HEAD", by("HEAD /v1/stream HTTP/1.1"), "405"),
        ("no host", with("Host", None), "400"),
        ("another host", with("Host", Some("evil.example")), "403"),
        ("another host in the first line", by("GET http://evil.example/v1/stream HTTP/1.1"), "403"),
        ("another origin", with("Origin", Some("https://evil.example")), "403"),
        ("no origin", with("Origin", Some("null")), "403"),
        ("a body", with("Content-Length", Some("5")), "400"),
        ("a body in chunks", with("Transfer-Encoding", Some("chunked")), "400"),
        ("another resource", by("GET /v1/streams HTTP/1.1"), "404"),
    ];
    // What may come once, twice.
    for (name, value, status) in [
        ("Sec-WebSocket-Version", "13", "426"),
        ("Sec-WebSocket-Key", KEY, "400"),
        ("Host", "localhost", "400"),
    ] {
        let twice = request(GET, &[]).replacen("\r\n", &format!("\r\n{name}: {value}\r\n"), 1);
        cases.push((name, twice, status));
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        cases.push((method, by(&format!("{method} /v1/stream HTTP/1.1")), "405"));
    }
    check("handshake_ill", cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_is_to_the_key_that_was_sent() {
    let world = World::new("handshake_key").await;
    let (_, head) = ask(world.address(), &request(GET, &[]), b"").await;
    assert_eq!(header(&head, "sec-websocket-accept"), Some(ACCEPT));
    let zeros = request(GET, &[("Sec-WebSocket-Key", Some("AAAAAAAAAAAAAAAAAAAAAA=="))]);
    let (_, head) = ask(world.address(), &zeros, b"").await;
    assert_eq!(header(&head, "sec-websocket-accept"), Some("ICX+Yqv66kxgM0FcWaLWlFLwTAI="));
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_may_come_with_the_request_and_other_subprotocols_are_told_so() {
    let world = World::new("handshake_early").await;
    let hello = json!({"type": "hello", "client_id": "early", "snapshot": false, "subscriptions": []});
    let frames = [frame(WHOLE_TEXT, hello.to_string()), frame(FIN | PING, "a")].concat();
    let (stream, answer) = ask(world.address(), &request(GET, &[]), &frames).await;
    let mut raw = Raw { stream, answer };
    let mut seen = vec![next(&mut raw).await.unwrap(), next(&mut raw).await.unwrap()];
    seen.sort();
    assert!(seen.contains(&"pong a".to_owned()), "{seen:?}");

    for protocol in ["other", "WALDELTA.V1.JSON", "waldelta.v2.json"] {
        let offer = request(GET, &[("Sec-WebSocket-Protocol", Some(protocol))]);
        let (stream, answer) = ask(world.address(), &offer, b"").await;
        let mut raw = Raw { stream, answer };
        assert_eq!(observed(&mut raw).await, "close 4406 WD-SUBPROTOCOL-UNKNOWN, end", "{protocol}");
    }
}
