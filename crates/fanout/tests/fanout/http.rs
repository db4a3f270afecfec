//! What all resources over HTTP have in common, and `POST /v1/ack`.

use serde_json::{Value, json};
use waldelta_fanout::{Config, Policy};
use waldelta_testkit::HttpStream;
use waldelta_wal::{Epoch, Position};

use crate::support::*;

const JSON: &str = "Content-Type: application/json\r\n";
const PAGE: &str = "Origin: https://app.example.com\r\n";

fn address(world: &World) -> String {
    world.stream_url().trim_start_matches("ws://").trim_end_matches("/v1/stream").to_owned()
}

async fn request(world: &World, method: &str, path: &str, headers: &str, body: &str) -> HttpStream {
    HttpStream::request(&address(world), method, path, headers, body).await
}

async fn problem(answer: HttpStream) -> (u16, String) {
    let status = answer.status();
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let body: Value = serde_json::from_str(&answer.body(PATIENCE).await).unwrap();
    assert_eq!(body["status"], status);
    assert!(body["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{body}");
    (status, body["code"].as_str().unwrap().to_owned())
}

async fn allowing(hint: &str) -> World {
    let config = Config {
        policy: Policy { allowed_origins: vec!["https://app.example.com".into()], ..Policy::default() },
        ..Config::default()
    };
    World::with(hint, Setup { config, ..Setup::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_cursor_is_kept() {
    let mut world = World::new("http_ack").await;
    let positions = world.commit_inserts(1..4).await;
    let ack = async |client_id: &str, cursor: String| {
        let body = json!({"client_id": client_id, "cursor": cursor}).to_string();
        request(&world, "POST", "/v1/ack", JSON, &body).await
    };
    for cursor in [positions[1], positions[0], Position { index: 0, ..positions[2] }] {
        let answer = ack("web-7", cursor.to_string()).await;
        assert_eq!(answer.status(), 204);
        assert_eq!(answer.body(PATIENCE).await, "");
    }
    let acked = world.history.acked("web-7").await.unwrap();
    assert_eq!(acked, Some(Position { index: 0, ..positions[2] }), "it only rises");
    // By an LSN: everything strictly before it.
    assert_eq!(ack("other", positions[1].commit_lsn.to_string()).await.status(), 204);
    assert!(world.history.acked("other").await.unwrap().unwrap() < positions[1]);

    let beyond = Position { epoch: Epoch(7), ..positions[0] };
    let never_sent = Position { commit_lsn: waldelta_wal::Lsn(u64::MAX >> 1), ..positions[0] };
    for (client_id, cursor, code) in [
        ("c", "x".to_owned(), "WD-CURSOR-INVALID"),
        ("c", beyond.to_string(), "WD-CURSOR-INVALID"),
        ("c", never_sent.to_string(), "WD-CURSOR-INVALID"),
        ("", positions[0].to_string(), "WD-REQUEST-INVALID"),
    ] {
        assert_eq!(problem(ack(client_id, cursor.clone()).await).await, (400, code.into()), "{cursor}");
    }
    let large = format!(r#"{{"client_id":"c","cursor":"{}"}}"#, "x".repeat(5_000));
    for (headers, body, status) in [
        (JSON, "", 400),
        (JSON, "[]", 400),
        (JSON, r#"{"client_id":"c"}"#, 400),
        ("Content-Type: text/plain\r\n", "{}", 415),
        ("", "{}", 415),
        (JSON, &large, 413),
    ] {
        let answer = request(&world, "POST", "/v1/ack", headers, body).await;
        assert_eq!(problem(answer).await, (status, "WD-REQUEST-INVALID".into()), "{headers} {status}");
    }
    assert_eq!(world.history.acked("c").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_refused_is_not_repeated() {
    let world = World::new("http_repeated").await;
    for body in
        [r#""a.token""#, r#"{"client_id":["a.token"],"cursor":"0/1"}"#, r#"{"client_id":{"a.token":1}}"#]
    {
        let answer = request(&world, "POST", "/v1/ack", JSON, body).await;
        assert_eq!(answer.status(), 400, "{body}");
        let told = answer.body(PATIENCE).await;
        assert!(told.contains("expected ") && !told.contains("a.token"), "{body}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_a_resource_does_not_have_is_refused_with_those_it_has() {
    let world = World::new("http_methods").await;
    for (method, path, allowed) in [
        ("POST", "/v1/changes", "get,head"),
        ("DELETE", "/v1/rows/public.t/7", "get,head"),
        ("PUT", "/v1/rows/public.t/7/history", "get,head"),
        ("BREW", "/v1/changes", "get,head"),
        ("GET", "/v1/ack", "post"),
        ("OPTIONS", "/v1/changes", "get,head"),
    ] {
        let answer = request(&world, method, path, "", "").await;
        assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
        assert_eq!(problem(answer).await, (405, "WD-REQUEST-INVALID".into()), "{method} {path}");
    }
    let head = request(&world, "HEAD", "/v1/changes", "", "").await;
    assert_eq!((head.status(), head.header("content-type")), (200, Some("application/json")));
    assert_eq!(head.body(PATIENCE).await, "");
    // One that follows ends at once, and leaves nothing waiting.
    let head = request(&world, "HEAD", "/v1/changes", "Accept: text/event-stream\r\n", "").await;
    assert_eq!((head.status(), head.body(PATIENCE).await), (200, String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn web_pages_of_allowed_origins_may_read_and_no_others() {
    let mut world = allowing("http_cors").await;
    world.commit_inserts(1..3).await;
    let preflight = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n";
    for path in ["/v1/changes", "/v1/ack", "/v1/rows/public.t/1", "/v1/rows/public.t/1/history"] {
        let answer = request(&world, "OPTIONS", path, &format!("{PAGE}{preflight}"), "").await;
        assert_eq!(answer.status(), 204, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example.com"));
        assert_eq!(answer.header("access-control-allow-methods"), Some("get, head, post"));
        let headers = answer.header("access-control-allow-headers").unwrap();
        assert!(headers.contains("content-type") && headers.contains("last-event-id"), "{headers}");
        assert!(answer.header("access-control-max-age").is_some() && answer.header("vary") == Some("origin"));
        let refused = format!("Origin: https://evil.example\r\n{preflight}");
        let answer = request(&world, "OPTIONS", path, &refused, "").await;
        assert_eq!(answer.header("access-control-allow-origin"), None);
        assert_eq!(problem(answer).await, (403, "WD-ORIGIN-REFUSED".into()), "{path}");
    }
    let streams =
        [("/v1/changes", ""), ("/v1/changes", "Accept: text/event-stream\r\n"), ("/v1/rows/public.t/9", "")];
    for (path, accept) in streams {
        let answer = request(&world, "GET", path, &format!("{PAGE}{accept}"), "").await;
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example.com"), "{path}");
        assert!(answer.header("access-control-expose-headers").unwrap().contains("etag"));
        assert_eq!(answer.header("access-control-allow-credentials"), None);
        let evil = format!("Origin: https://evil.example\r\n{accept}");
        assert_eq!(request(&world, "GET", path, &evil, "").await.status(), 403, "{path}");
        // Whoever keeps the answer must not give it to a page.
        let answer = request(&world, "GET", path, accept, "").await;
        assert_eq!(
            (answer.header("access-control-allow-origin"), answer.header("vary")),
            (None, Some("origin"))
        );
    }
}
