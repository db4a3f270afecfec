//! Who is let in over plain HTTP, and for how long. What they see then is in `http_rules.rs`.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use axum::routing::get;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use waldelta_access::NewToken;
use waldelta_fanout::{Config, Limits, LivePolicy, Peer, Policy, Rule, Rules};
use waldelta_testkit::{HttpStream, wait_until};

use crate::support::*;

const JSON: &str = "Content-Type: application/json\r\n";

/// Static tokens are taken, and needed.
pub(crate) fn by_tokens() -> waldelta_access::Config {
    waldelta_access::Config { required: true, static_tokens: true, ..waldelta_access::Config::default() }
}

/// A token: what names it, and the header that presents it.
pub(crate) struct Token {
    pub id: String,
    pub text: String,
    pub header: String,
}

pub(crate) async fn token(world: &World, subject: &str, more: impl FnOnce(&mut NewToken)) -> Token {
    let mut new = NewToken {
        name: format!("of {subject}"),
        subject: subject.into(),
        claims: Map::new(),
        client_ids: Vec::new(),
        is_admin: false,
        expires_at: None,
    };
    more(&mut new);
    let made = new.make(&world.history).await.unwrap();
    world.access.load().await.unwrap();
    let header = format!("Authorization: Bearer {}\r\n", made.secret.0);
    Token { id: made.id, text: made.secret.0, header }
}

fn guarded_world() -> Setup {
    Setup { access: by_tokens(), ..Setup::default() }
}

async fn ask(world: &World, method: &str, path: &str, headers: &str, body: &str) -> HttpStream {
    HttpStream::request(&world.address().to_string(), method, path, headers, body).await
}

/// Status and code of a problem.
async fn problem(answer: HttpStream) -> (u16, String) {
    let status = answer.status();
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{status}");
    let body: Value = serde_json::from_str(&answer.body(PATIENCE).await).unwrap();
    (status, body["code"].as_str().unwrap().to_owned())
}

/// Status line and what follows the head, of a request that is sent as it stands.
async fn raw(address: SocketAddr, method: &str, path: &str, headers: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Connection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Every path that is described, with its parameters filled in.
fn described() -> Vec<String> {
    let described: Value = serde_json::from_str(waldelta_fanout::openapi_text()).unwrap();
    let cursor = "00000001-00000000016b3748-00000000";
    let fill = |path: &String| {
        let path = path.replace("{table}", "public.t").replace("{key}", "1").replace("{cursor}", cursor);
        path.replace("{image}", "data").replace("{column}", "v")
    };
    described["paths"].as_object().unwrap().keys().map(fill).collect()
}

/// The same path in spellings that a check of its text could take for another.
fn spellings(path: &str) -> Vec<String> {
    let tail = &path[1..];
    vec![
        path.to_owned(),
        format!("/{path}"),
        format!("/.{path}"),
        format!("/livez/..{path}"),
        format!("{path}/"),
        format!("{path}//"),
        format!("{path};a=b"),
        format!("{path}%20"),
        format!("{path}?verbose"),
        format!("{path}?/livez"),
        format!("/%2f{tail}"),
        format!("/{}", tail.replace('/', "%2f")),
        format!("/{}", tail.replacen('s', "%73", 1)),
        path.to_uppercase(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_answers_without_a_token_however_it_is_spelt() {
    let mut world = World::with("access_routes", guarded_world()).await;
    world.commit_inserts(1..4).await;
    let others = || {
        let told = || get(|| async { "told" }).post(|| async { "told" }).options(|| async { "told" });
        let paths =
            ["/metrics", "/v1/status", "/v1/clients", "/", "/page/page.js", "/example/", "/of_tomorrow"];
        let routes = paths.into_iter().fold(axum::Router::new(), |routes, path| routes.route(path, told()));
        routes.route("/livez", get(|| async { "lives" })).route("/readyz", get(|| async { "ready" }))
    };
    let address = world.serve_also(|fanout| fanout.router_with(others())).await;
    let mut paths = described();
    assert!(paths.len() > 12, "{paths:?}");
    paths.extend(["/of_tomorrow", "/nowhere"].map(str::to_owned));
    let open = ["/livez", "/readyz", "/openapi.json", "/asyncapi.json", "/v1/dictionaries/1"];
    for path in &paths {
        for spelt in spellings(path) {
            for method in ["GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "BREW"] {
                let (status, body) = raw(address, method, &spelt, "").await;
                let text = format!("{method} {spelt}: {status} {body}");
                let resolved = spelt.split('?').next().unwrap();
                if open.contains(&resolved) && spelt != "/readyz?verbose" {
                    continue;
                }
                // A WebSocket may bring its token later, and this is none.
                if resolved == "/v1/stream" {
                    assert!([405, 426].contains(&status), "{text}");
                    continue;
                }
                assert!(matches!(status, 401 | 404), "{text}");
                assert!(!body.contains("told") && !body.contains("transactions"), "{text}");
                match (status, method) {
                    (_, "HEAD") => assert_eq!(body, "", "{text}"),
                    (404, _) => assert!(body.contains("there is no such resource"), "{text}"),
                    _ => assert!(body.contains("WD-TOKEN-MISSING"), "{text}"),
                }
            }
        }
    }
    for (path, told) in [("/livez", "lives"), ("/readyz", "ready")] {
        assert_eq!(raw(address, "GET", path, "").await, (200, told.to_owned()));
    }
    for path in ["/openapi.json", "/asyncapi.json", "/v1/dictionaries/1"] {
        assert_eq!(raw(address, "GET", path, "").await.0, 200);
    }
    // Pages are files, and ask for a token themselves.
    for path in ["/", "/page/page.js", "/example/"] {
        assert_eq!(raw(address, "GET", path, "").await, (200, "told".to_owned()), "{path}");
        for spelt in spellings(path).iter().filter(|spelt| spelt.split('?').next() != Some(path)) {
            assert_eq!(raw(address, "GET", spelt, "").await.0, 404, "{spelt}");
        }
    }

    // With one, what is for operators is for them alone.
    let (clerk, operator) = (
        token(&world, "clerk", |_| {}).await,
        token(&world, "operator", |token| token.is_admin = true).await,
    );
    for path in ["/metrics", "/v1/status", "/v1/clients", "/of_tomorrow"] {
        let (status, body) = raw(address, "GET", path, &clerk.header).await;
        assert!(status == 403 && body.contains("WD-NOT-PERMITTED"), "{path}: {status} {body}");
        assert_eq!(raw(address, "GET", path, &operator.header).await, (200, "told".to_owned()), "{path}");
    }
    assert_eq!(raw(address, "GET", "/readyz?verbose", &clerk.header).await.0, 403);
    assert_eq!(raw(address, "GET", "/readyz?verbose", &operator.header).await.0, 200);
    // And a process that serves no clients locks them, too.
    let policy = LivePolicy::new(Policy::default());
    let locked =
        world.serve_also(|_| waldelta_fanout::operators_only(&policy, world.access.clone(), others())).await;
    for (headers, path, status) in [
        ("", "/metrics", 401),
        (&*clerk.header, "/metrics", 403),
        (&*operator.header, "/metrics", 200),
        ("", "/livez", 200),
        ("", "/readyz?verbose", 401),
    ] {
        assert_eq!(raw(locked, "GET", path, headers).await.0, status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_let_in_is_told_why_and_nothing_else() {
    let mut world = World::with("access_refusals", guarded_world()).await;
    world.commit_inserts(1..4).await;
    let (good, revoked) = (token(&world, "a", |_| {}).await, token(&world, "b", |_| {}).await);
    let expired =
        token(&world, "c", |token| token.expires_at = Some(now() - Duration::from_secs(3_600))).await;
    assert!(world.history.revoke_token(&revoked.id).await.unwrap());
    world.access.load().await.unwrap();
    let (begin, last) = good.text.split_at(good.text.len() - 1);
    let last = if last == "0" { "1" } else { "0" };
    let other = format!("Authorization: Bearer {begin}{last}\r\n");
    let invalid = Some("bearer error=\"invalid_token\"");
    for (headers, code, challenge) in [
        ("", "WD-TOKEN-MISSING", Some("bearer")),
        ("Authorization: Basic dTpw\r\n", "WD-TOKEN-MISSING", Some("bearer")),
        ("Authorization: Bearer \r\n", "WD-TOKEN-MISSING", Some("bearer")),
        ("Authorization: Bearer x\r\n", "WD-TOKEN-INVALID", invalid),
        (&other, "WD-TOKEN-INVALID", invalid),
        (&revoked.header, "WD-TOKEN-REVOKED", invalid),
        (&expired.header, "WD-TOKEN-EXPIRED", invalid),
    ] {
        let answer = ask(&world, "GET", "/v1/changes", headers, "").await;
        assert_eq!(answer.header("www-authenticate"), challenge, "{code}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{code}");
        assert_eq!(problem(answer).await, (401, code.to_owned()), "{code}");
    }
    let answer = ask(&world, "GET", "/v1/changes", &good.header, "").await;
    assert_eq!(answer.status(), 200);
    let body = answer.body(PATIENCE).await;
    assert!(body.contains("\"id\":3"), "{body}");

    // A page of another origin may read why, and may ask beforehand without a token.
    let page = "Origin: http://localhost:5173\r\n";
    let answer = ask(&world, "GET", "/v1/changes", page, "").await;
    assert_eq!(
        (answer.status(), answer.header("access-control-allow-origin")),
        (401, Some("http://localhost:5173"))
    );
    let preflight = format!(
        "{page}Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: authorization\r\n"
    );
    let answer = ask(&world, "OPTIONS", "/v1/changes", &preflight, "").await;
    assert_eq!(answer.status(), 204);
    assert!(answer.header("access-control-allow-headers").unwrap().contains("authorization"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_a_url_is_refused_even_a_good_one() {
    let world = World::with("access_url", guarded_world()).await;
    let good = token(&world, "a", |_| {}).await;
    for name in ["token", "access_token", "jwt", "authorization", "Token", "%74oken"] {
        for (path, headers) in [("/v1/changes", ""), ("/v1/snapshot", &*good.header), ("/v1/stream", "")] {
            let answer = ask(&world, "GET", &format!("{path}?{name}={}", good.text), headers, "").await;
            assert_eq!(problem(answer).await, (400, "WD-TOKEN-IN-URL".to_owned()), "{path} {name}");
        }
    }
    // Where nobody authenticates it is a parameter that nobody knows, as before.
    let open = World::new("access_url_open").await;
    let answer = ask(&open, "GET", "/v1/changes?token=x", "", "").await;
    assert_eq!(problem(answer).await, (400, "WD-REQUEST-INVALID".to_owned()));
}

async fn ticket(world: &World, headers: &str) -> String {
    let answer = ask(world, "POST", "/v1/tickets", headers, "{}").await;
    assert_eq!((answer.status(), answer.header("cache-control")), (201, Some("no-store")));
    let body: Value = serde_json::from_str(&answer.body(PATIENCE).await).unwrap();
    assert!(body["expires_in_ms"].as_u64().is_some_and(|ms| ms > 0 && ms <= 60_000), "{body}");
    body["ticket"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_stands_for_its_token_once() {
    let mut world = World::with("access_tickets", guarded_world()).await;
    world.commit_inserts(1..3).await;
    let good = token(&world, "a", |_| {}).await;
    let one = ticket(&world, &good.header).await;
    assert_ne!(one, ticket(&world, &good.header).await);
    let path = format!("/v1/changes?table=t&ticket={one}");
    let mut events =
        HttpStream::get(&world.address().to_string(), &path, "Accept: text/event-stream\r\n").await;
    assert_eq!(events.status(), 200);
    while events.event(PATIENCE).await.unwrap().kind != "live" {}
    let again = ask(&world, "GET", &path, "", "").await;
    assert_eq!(problem(again).await.0, 401);
    // Another one of it, and one together with a token.
    let makes = format!("/v1/tickets?ticket={}", ticket(&world, &good.header).await);
    assert_eq!(problem(ask(&world, "POST", &makes, "", "").await).await.0, 401);
    let both = format!("/v1/changes?ticket={}", ticket(&world, &good.header).await);
    assert_eq!(problem(ask(&world, "GET", &both, &good.header, "").await).await.0, 400);

    for (headers, body, refused) in [
        ("", "", (401, "WD-TOKEN-MISSING")),
        (&*good.header, "[]", (400, "WD-REQUEST-INVALID")),
        (&*good.header, "{\"for\":1}", (400, "WD-REQUEST-INVALID")),
        (&*good.header, &" ".repeat(2_000), (413, "WD-REQUEST-INVALID")),
    ] {
        let answer = ask(&world, "POST", "/v1/tickets", headers, body).await;
        assert_eq!(problem(answer).await, (refused.0, refused.1.to_owned()), "{refused:?}");
    }
    assert_eq!(ask(&world, "GET", "/v1/tickets", &good.header, "").await.status(), 405);
    let open = World::new("access_tickets_open").await;
    assert_eq!(problem(ask(&open, "POST", "/v1/tickets", JSON, "{}").await).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_let_go_when_its_token_is_taken_back() {
    let mut world = World::with("access_revoked", guarded_world()).await;
    world.commit_inserts(1..3).await;
    let (taken, kept) = (token(&world, "a", |_| {}).await, token(&world, "a", |_| {}).await);
    let address = world.address().to_string();
    let follow = async |headers: &str, accept: &str| {
        let headers = format!("{headers}Accept: {accept}\r\n");
        let wait = if accept == "text/event-stream" { "" } else { "?wait=60s" };
        HttpStream::get(&address, &format!("/v1/changes{wait}"), &headers).await
    };
    let mut events = follow(&taken.header, "text/event-stream").await;
    let mut lines = follow(&taken.header, "application/x-ndjson").await;
    let mut others = follow(&kept.header, "application/x-ndjson").await;
    while events.event(PATIENCE).await.unwrap().kind != "live" {}
    while lines.json(PATIENCE).await.unwrap()["type"] != "live" {}
    while others.json(PATIENCE).await.unwrap()["type"] != "live" {}
    let head = world.head();
    let poll = async {
        let path = format!("/v1/changes?wait=60s&after={head}");
        problem(ask(&world, "GET", &path, &taken.header, "").await).await
    };
    let revoke = async {
        assert!(world.history.revoke_token(&taken.id).await.unwrap());
        world.access.load().await.unwrap();
    };
    let (polled, ()) = tokio::join!(poll, revoke);
    assert_eq!(polled, (401, "WD-TOKEN-REVOKED".to_owned()));
    let last = events.event(PATIENCE).await.unwrap();
    assert_eq!((&*last.kind, &last.data["code"]), ("error", &json!("WD-TOKEN-REVOKED")));
    assert_eq!(last.id, None, "the place to go on from stays");
    assert!(events.event(PATIENCE).await.is_none());
    let last = lines.json(PATIENCE).await.unwrap();
    assert_eq!((&last["type"], &last["code"]), (&json!("error"), &json!("WD-TOKEN-REVOKED")));
    assert!(lines.json(PATIENCE).await.is_none());
    // Another token of the same subject goes on.
    world.commit_inserts(7..8).await;
    assert_eq!(ids(&others.json(PATIENCE).await.unwrap()), [7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_is_let_go_when_its_token_expires() {
    let mut world = World::with("access_expired", guarded_world()).await;
    world.commit_inserts(1..3).await;
    let address = world.address().to_string();
    // Long enough to be let in, however slow the machine is.
    for seconds in [1, 4, 16, 50] {
        let expires_at = now() + Duration::from_secs(seconds);
        let short = token(&world, "a", |token| token.expires_at = Some(expires_at)).await;
        let headers = format!("{}Accept: text/event-stream\r\n", short.header);
        let mut events = HttpStream::get(&address, "/v1/changes", &headers).await;
        if events.status() == 401 {
            continue;
        }
        let mut last = None;
        while let Some(event) = events.event(PATIENCE).await {
            last = Some(event);
        }
        let last = last.unwrap();
        assert_eq!((&*last.kind, &last.data["code"]), ("error", &json!("WD-TOKEN-EXPIRED")));
        assert!(now() >= expires_at);
        return;
    }
    panic!("nobody was let in");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_is_let_go_when_it_may_see_something_else() {
    let rules = |table: &str| {
        let rule = Rule { table: table.into(), ..Rule::default() };
        Policy { rules: Rules::parse(&[rule]).unwrap(), ..Policy::default() }
    };
    let config = Config { policy: rules("public.t"), ..Config::default() };
    let mut world =
        World::with("access_changed", Setup { config, access: by_tokens(), ..Setup::default() }).await;
    world.commit_inserts(1..3).await;
    let good = token(&world, "a", |_| {}).await;
    let address = world.address().to_string();
    let headers = format!("{}Accept: text/event-stream\r\n", good.header);
    let mut events = HttpStream::get(&address, "/v1/changes", &headers).await;
    while events.event(PATIENCE).await.unwrap().kind != "live" {}
    // The same by other words is no change.
    world.fanout.apply(Policy { allowed_hosts: vec!["a.example".into()], ..rules("public.t") });
    world.commit_inserts(7..8).await;
    assert_eq!(ids(&events.event(PATIENCE).await.unwrap().data), [7]);
    let head = world.head();
    world.fanout.apply(rules("public.u"));
    let last = events.event(PATIENCE).await.unwrap();
    assert_eq!((&*last.kind, &last.data["code"]), ("error", &json!("WD-PERMISSION-CHANGED")));
    assert!(events.event(PATIENCE).await.is_none());
    let (t, u) = world.both();
    world.commit(FUTURE_XID, vec![insert(&t, 0, 8), insert(&u, 1, 9)]).await;
    let (status, body) = world.get(&format!("/v1/changes?after={head}"), &good.header).await;
    assert_eq!((status, ids(&body["transactions"][0])), (200, vec![9]), "{body}");
    // One that waits is told to ask again. It is not known from when on it waits: the rules change until it has noticed.
    let path = format!("/v1/changes?wait=60s&after={}", world.head());
    let mut turns = tokio::time::interval(Duration::from_millis(20));
    let mut tables = ["public.t", "public.u"].into_iter().cycle();
    let change = async {
        loop {
            turns.tick().await;
            world.fanout.apply(rules(tables.next().unwrap()));
        }
    };
    let polled = tokio::select! {
        polled = ask(&world, "GET", &path, &good.header, "") => polled,
        () = change => panic!("it never ends"),
    };
    assert_eq!(polled.header("retry-after"), Some("1"));
    assert_eq!(problem(polled).await, (503, "WD-PERMISSION-CHANGED".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_id_is_one_that_the_token_allows_and_that_of_its_subject() {
    let mut world = World::with("access_clients", guarded_world()).await;
    let positions = world.commit_inserts(1..4).await;
    let (a, b) = (
        token(&world, "a", |token| token.client_ids = vec!["web-*".into(), "cli".into()]).await,
        token(&world, "b", |_| {}).await,
    );
    for (client_id, headers, status) in [
        ("web-7", &a.header, 200),
        ("cli", &a.header, 200),
        ("clique", &a.header, 403),
        ("other", &a.header, 403),
        ("other", &b.header, 200),
    ] {
        let answer = ask(&world, "GET", &format!("/v1/changes?client_id={client_id}"), headers, "").await;
        assert_eq!(answer.status(), status, "{client_id}");
        let body = json!({"client_id": client_id, "cursor": positions[0].to_string()}).to_string();
        let acked = ask(&world, "POST", "/v1/ack", &format!("{headers}{JSON}"), &body).await;
        assert_eq!(acked.status(), if status == 200 { 204 } else { 403 }, "{client_id}");
        if status == 403 {
            assert_eq!(problem(answer).await, (403, "WD-CLIENT-ID-FOREIGN".to_owned()));
            assert_eq!(problem(acked).await, (403, "WD-CLIENT-ID-FOREIGN".to_owned()));
        }
    }
    // Of two subjects with the same id, each has a cursor of its own.
    let body = json!({"client_id": "web-7", "cursor": positions[2].to_string()}).to_string();
    let acked = ask(&world, "POST", "/v1/ack", &format!("{}{JSON}", b.header), &body).await;
    assert_eq!(acked.status(), 204);
    assert_eq!(world.history.acked(r#"["a","web-7"]"#).await.unwrap(), Some(positions[0]));
    assert_eq!(world.history.acked(r#"["b","web-7"]"#).await.unwrap(), Some(positions[2]));
    assert_eq!(world.history.acked("web-7").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_is_told_when_to_come_back() {
    let limits = Limits { requests_per_second_max: 1, requests_burst_max: 2, ..Limits::default() };
    let config = Config { policy: Policy { limits, ..Policy::default() }, ..Config::default() };
    let world = World::with("access_rate", Setup { config, access: by_tokens(), ..Setup::default() }).await;
    let (a, b) = (token(&world, "a", |_| {}).await, token(&world, "b", |_| {}).await);
    let too_many = async |address: SocketAddr, headers: &str| {
        for _ in 0..200 {
            let answer = HttpStream::get(&address.to_string(), "/v1/changes", headers).await;
            if answer.status() == 429 {
                return answer;
            }
        }
        panic!("everything was answered");
    };
    let refused = too_many(world.address(), &a.header).await;
    assert_eq!(refused.header("retry-after"), Some("1"));
    let body: Value = serde_json::from_str(&refused.body(PATIENCE).await).unwrap();
    assert_eq!(body["code"], "WD-TOO-MANY-REQUESTS");
    assert!(body["retry_after_ms"].as_u64().is_some_and(|ms| ms <= 1_000), "{body}");
    assert_eq!(ask(&world, "GET", "/v1/changes", &b.header, "").await.status(), 200, "another subject");

    // By address: whoever guesses tokens is slowed down too, and whoever looks whether the service lives is not.
    let peer = Peer { address: IpAddr::from([192, 0, 2, 1]), secure: true };
    let routes = axum::Router::new().route("/livez", get(|| async { "lives" }));
    let address = world.serve_also(|fanout| fanout.router_with(routes).layer(axum::Extension(peer))).await;
    let refused = too_many(address, "Authorization: Bearer guessed\r\n").await;
    assert_eq!(problem(refused).await, (429, "WD-TOO-MANY-REQUESTS".to_owned()));
    for _ in 0..10 {
        assert_eq!(raw(address, "GET", "/livez", "").await.0, 200);
    }
    let told = refusals(world).await;
    let of = |subject: &str, address: &str| {
        let same = told.iter().filter(|entry| entry[..3] == ["WD-TOO-MANY-REQUESTS", subject, address]);
        same.map(|entry| entry[3].parse::<u64>().unwrap()).sum::<u64>()
    };
    assert_eq!((of("a", "-"), of("-", "192.0.2.1")), (1, 1), "{told:?}");
}

/// Who was turned away, as the audit has it when the service has stopped: code, subject, address, and how often.
async fn refusals(world: World) -> Vec<Vec<String>> {
    world.stop.cancel();
    world.running.await.unwrap();
    let entries = world
        .database
        .query_text(
            "SELECT coalesce(string_agg(concat_ws(' ', detail ->> 'code', coalesce(subject, '-'), coalesce(host(address), '-'),
                detail ->> 'count', coalesce(client_id, '-')), E'\\n'), '') FROM waldelta.audit WHERE action = 'session_refused'",
        )
        .await;
    entries.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_waits_or_is_downloaded_counts_as_a_session() {
    let limits = Limits { sessions_per_subject_max: 1, ..Limits::default() };
    let config = Config { policy: Policy { limits, ..Policy::default() }, ..Config::default() };
    let world = World::with("access_shares", Setup { config, access: by_tokens(), ..Setup::default() }).await;
    let (a, b) = (token(&world, "a", |_| {}).await, token(&world, "b", |_| {}).await);
    let address = world.address().to_string();
    let poll = format!("/v1/changes?after={}&wait=60s", world.head());
    let with = |token: &Token, kind: &str| format!("{}Accept: {kind}\r\n", token.header);
    let (lines, events) = (with(&a, "application/x-ndjson"), with(&a, "text/event-stream"));
    let too_many = (429, "WD-TOO-MANY-CONNECTIONS".to_owned());
    let mut turned_away = 0;

    let mut following = HttpStream::get(&address, &poll, &lines).await;
    while following.json(PATIENCE).await.unwrap()["type"] != "live" {}
    for path in [&*poll, "/v1/snapshot?table=t"] {
        assert_eq!(problem(ask(&world, "GET", path, &a.header, "").await).await, too_many, "{path}");
        turned_away += 1;
    }
    let late = HttpStream::get(&address, "/v1/changes", &events).await.body(PATIENCE).await;
    assert!(late.contains(&too_many.1) && late.contains("retry: "), "{late}");
    assert_eq!(ask(&world, "GET", "/v1/changes", &a.header, "").await.status(), 200, "a page is no session");
    let another = ask(&world, "GET", "/v1/snapshot?table=t", &b.header, "").await;
    assert_eq!(another.status(), 200, "another subject");

    // What has ended gives its place back, to whatever comes.
    drop(following);
    wait_until("there is room for a snapshot", PATIENCE, || async {
        let snapshot = ask(&world, "GET", "/v1/snapshot?table=t", &a.header, "").await;
        snapshot.status() == 200 && !snapshot.body(PATIENCE).await.is_empty()
    })
    .await;
    turned_away += 1;
    let mut following = HttpStream::get(&address, "/v1/changes", &events).await;
    while following.event(PATIENCE).await.is_none() {
        following = HttpStream::get(&address, "/v1/changes", &events).await;
    }
    let named = format!("{poll}&client_id=web-7");
    assert_eq!(problem(HttpStream::get(&address, &named, &lines).await).await, too_many);
    turned_away += 1;

    // The audit has them as it has sessions that were turned away: counted.
    drop(following);
    let told = refusals(world).await;
    let counts = told.iter().filter(|entry| entry[..2] == [&*too_many.1, "a"]);
    let counts: Vec<u64> = counts.map(|entry| entry[3].parse().unwrap()).collect();
    assert!(counts.iter().sum::<u64>() >= turned_away, "{told:?}");
    assert!(counts.len() < 4, "few entries: {told:?}");
}

#[expect(clippy::disallowed_methods, reason = "tokens end by the wall clock")]
fn now() -> SystemTime {
    SystemTime::now()
}
