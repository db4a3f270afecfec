//! Those who are slow on purpose, send what is no request, or more than anybody needs.

use super::*;

const GET: &str = "GET /peer HTTP/1.1\r\nHost: localhost\r\n";

#[tokio::test]
async fn who_sends_the_head_of_a_request_slowly_is_let_go() {
    let world = World::new(Patience { head: SHORT, ..FOR_EVER });
    let mut silent = world.connect().await;
    let mut half = world.connect().await;
    half.write_all(GET.as_bytes()).await.unwrap();
    let mut slow = world.connect().await;
    slow.write_all(format!("{GET}X: ").as_bytes()).await.unwrap();
    assert!(world.is_served().await, "they hold up nobody");
    let (silent, half, slow) =
        tokio::join!(until_closed(&mut silent), until_closed(&mut half), trickle(slow, b'x'));
    for answer in [silent, half, slow] {
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    assert_eq!(world.requests(), 1);
}

#[tokio::test]
async fn who_sends_a_body_slowly_is_let_go() {
    let world = World::new(Patience { body: SHORT, ..FOR_EVER });
    for framing in ["Content-Length: 100000", "Transfer-Encoding: chunked"] {
        let mut slow = world.connect().await;
        let head = format!("POST /body HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n");
        slow.write_all(head.as_bytes()).await.unwrap();
        // Of a chunk's size zeros are no end either.
        let answer = trickle(slow, b'0').await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{framing}: {answer}");
    }
    let whole =
        "POST /body HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 5\r\n\r\n12345";
    assert!(world.tell(whole).await.ends_with("\r\n\r\n5 bytes"));
}

#[tokio::test]
async fn a_body_that_nobody_asked_for_holds_nothing_open() {
    let world = World::new(FOR_EVER);
    let answer = world.tell(&format!("{GET}Content-Length: 100000\r\n\r\n1")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_body_without_end_is_not_read() {
    let world = World::new(FOR_EVER);
    let large = 3 << 20;
    let told = format!("POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: {large}\r\n\r\n");
    let answer = world.tell(&told).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(world.requests(), 0, "it is not even asked for");
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 16, "x".repeat(1 << 16));
    let chunks = chunk.repeat(large >> 16);
    let untold = "POST /body HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = world.tell(&format!("{untold}{chunks}0\r\n\r\n")).await;
    assert!(!answer.contains(" 200 "), "{answer}");
    assert!(world.is_served().await);
}

#[tokio::test]
async fn thousands_of_headers_and_a_huge_one_are_refused() {
    let world = World::new(FOR_EVER);
    let many = |count: usize| (0..count).map(|n| format!("X-{n}: v\r\n")).collect::<String>();
    let answer = world.tell(&format!("{GET}{}\r\n", many(120))).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let one_of = |bytes: usize| format!("{GET}X: {}\r\n\r\n", "v".repeat(bytes));
    let path_of = |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "p".repeat(bytes));
    for request in
        [format!("{GET}{}\r\n", many(50_000)), one_of(40_000), one_of(5_000_000), path_of(5_000_000)]
    {
        // Whoever still sends when the answer comes may not see it.
        let answer = world.tell(&request).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(world.requests(), 0);
    let most = format!("{GET}Connection: close\r\nCookie: {}\r\n{}\r\n", "c".repeat(16_000), many(90));
    assert!(world.tell(&most).await.starts_with("HTTP/1.1 200 "), "what a browser may send is taken");
}

/// A proxy in front may see another end of the first request than the service does: then the second is somebody else's.
#[tokio::test]
async fn a_request_with_two_ends_is_the_last_of_its_connection() {
    let world = World::new(FOR_EVER);
    let (te, cl) = ("Transfer-Encoding: chunked\r\n", "Content-Length: 5\r\n");
    for framing in [format!("{te}{cl}"), format!("{cl}{te}"), format!("{cl}{te}{cl}")] {
        let before = world.requests();
        let first = format!("POST /body HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n0\r\n\r\n");
        let answers = world.tell(&format!("{first}{GET}\r\n{GET}\r\n")).await;
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{framing}: {answers}");
        assert!(world.requests() <= before + 1, "{framing}");
    }
}

#[tokio::test]
async fn a_request_whose_end_is_in_doubt_is_refused() {
    let world = World::new(FOR_EVER);
    for framing in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 99999999999999999999",
        "Content-Length : 5",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked",
        "X: a\r\n Content-Length: 5",
        "Content-Length:\u{b}5",
        // What some take for the end of a line and others do not.
        "Content-Length: 5\r",
        "X: a\rContent-Length: 5",
        "X: a\r\rContent-Length: 5",
    ] {
        let answers = world
            .tell(&format!("POST /body HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n12345{GET}\r\n"))
            .await;
        assert!(answers.starts_with("HTTP/1.1 400 "), "{framing}: {answers}");
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{framing}: {answers}");
    }
    let old = "POST /body HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert!(world.tell(old).await.contains(" 400 "));
    for chunk in [
        "5;\r\n",
        "-5\r\n12345\r\n",
        "5\n12345\r\n",
        "5\r12345\r",
        "5\r\n12345X\r\n",
        "ffffffffffffffffff\r\n",
    ] {
        let head = "POST /body HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answers = world.tell(&format!("{head}{chunk}0\r\n\r\n{GET}\r\n")).await;
        assert!(
            answers.matches("HTTP/1.1 ").count() <= 1 && !answers.contains(" 200 "),
            "{chunk}: {answers}"
        );
    }
    assert_eq!(world.tell("\u{16}\u{3}\u{1}\0\u{5}hello\r\n\r\n").await.matches(" 200 ").count(), 0);
    assert!(world.is_served().await);
}

#[tokio::test]
async fn requests_that_come_at_once_are_answered_in_their_order() {
    let world = World::new(FOR_EVER);
    let request = |n: u32, more: &str| format!("GET /said/{n}. HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
    let all: String = (1..=50).map(|n| request(n, "")).collect();
    let answers = world.tell(&format!("{all}{}", request(51, "Connection: close\r\n"))).await;
    let bodies: Vec<&str> = answers
        .split("HTTP/1.1 200 OK\r\n")
        .skip(1)
        .map(|answer| answer.split("\r\n\r\n").nth(1).unwrap())
        .collect();
    assert_eq!(bodies, (1..=51).map(|n| format!("{n}.")).collect::<Vec<_>>());
}
