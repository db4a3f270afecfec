//! Requests through proxies, and such as pretend to be.

use super::*;

const FORWARDED: &str = "X-Forwarded-For: 203.0.113.9, 198.51.100.7\r\nX-Forwarded-Proto: https\r\n";

fn asking(headers: &str) -> String {
    format!("GET /peer HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")
}

#[tokio::test]
async fn who_says_to_be_a_proxy_is_not_believed() {
    let world = World::new(FOR_EVER);
    assert!(world.tell(&asking(FORWARDED)).await.ends_with("\r\n\r\n127.0.0.1 false"));
    let world = World::with(FOR_EVER, MANY, &["10.0.0.0/8", "::1"], None);
    assert!(world.tell(&asking(FORWARDED)).await.ends_with("\r\n\r\n127.0.0.1 false"));
}

#[tokio::test]
async fn a_trusted_proxy_says_who_asks_and_is_no_address_of_its_own() {
    let one = Bounds { all: 10, per_address: 1 };
    let world = World::with(FOR_EVER, one, &["127.0.0.0/8"], None);
    let _kept = [world.connect().await, world.connect().await, world.connect().await];
    assert!(world.tell(&asking(FORWARDED)).await.ends_with("\r\n\r\n198.51.100.7 true"));
    assert!(world.tell(&asking("")).await.ends_with("\r\n\r\n127.0.0.1 false"));
}

#[tokio::test]
async fn the_connections_that_a_proxy_keeps_are_kept_for_longer() {
    let patience = Patience { head: SHORT, ..FOR_EVER };
    let proxied = World::with(patience, MANY, &["127.0.0.1"], None);
    let others = World::new(patience);
    let mut kept = proxied.connect().await;
    let ask = b"GET /said/first HTTP/1.1\r\nHost: localhost\r\n\r\n";
    kept.write_all(ask).await.unwrap();
    read_until(&mut kept, "first").await;
    let mut idle = others.connect().await;
    idle.write_all(ask).await.unwrap();
    assert!(until_closed(&mut idle).await.ends_with("first"), "it was idle for as long as one may be");
    kept.write_all(asking("").as_bytes()).await.unwrap();
    assert!(until_closed(&mut kept).await.starts_with("HTTP/1.1 200 "));
}
