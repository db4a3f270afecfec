//! Other machines are let in with encryption and tokens only, and what is for operators is for them alone.

use std::process::{Command, Output};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use waldelta_testkit::{Service, ServiceOptions, TestDatabase, program, tls, wait_until};

use crate::setting::{ConfigFile, PATIENCE, config_file, run_options, waldelta, waldelta_ok, with_databases};

/// What is for operators, and JSON or pages.
const OPERATORS: [&str; 5] = ["/metrics", "/v1/status", "/", "/page/page.js", "/page/page.css"];

/// Whether it is a file of the page, which asks for a token itself.
fn is_file(path: &str) -> bool {
    path == "/" || path.starts_with("/page/")
}

/// Source and history, with a table that is captured.
struct Databases {
    source: TestDatabase,
    history: TestDatabase,
}

impl Databases {
    async fn new(hint: &str) -> Self {
        let source = TestDatabase::create(hint).await;
        let history = TestDatabase::create(&format!("{hint}_h")).await;
        source.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
        waldelta_ok(&with_databases(&["init", "--apply"], &source, &history));
        Databases { source, history }
    }

    fn run(&self, config: &ConfigFile) -> ServiceOptions {
        config.add_to(run_options(&self.source, &self.history))
    }

    fn command(&self, words: &[&str]) -> Vec<String> {
        with_databases(words, &self.source, &self.history)
    }
}

/// Below those that the system gives to connections, so that none of these takes it meanwhile.
fn free_port() -> u16 {
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    let is_free = |port: &u16| std::net::TcpListener::bind(("0.0.0.0", *port)).is_ok();
    (first..32_000).find(is_free).unwrap()
}

/// Status and body of a GET; 0 where nobody answers.
async fn get(port: u16, path: &str, headers: &str) -> (u16, String) {
    let Ok(mut socket) = TcpStream::connect(("127.0.0.1", port)).await else { return (0, String::new()) };
    socket.write_all(format!("GET {path} HTTP/1.0\r\n{headers}\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

async fn ready(port: u16) {
    wait_until("it is ready", PATIENCE, async || get(port, "/readyz", "").await.0 == 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_have_an_address_of_their_own() {
    let databases = Databases::new("admin").await;
    let admin = free_port();
    let text = format!("[server]\nadmin_listen = '127.0.0.1:{admin}'");
    let config = config_file(&text);
    let mut service = Service::start(databases.run(&config)).await;
    for role in ["all", "fanout", "capture"] {
        if role != "all" {
            assert!(service.stop().await.success(), "{}", service.log());
            service.start_again_with(databases.run(&config).args(["--role", role])).await;
        }
        for path in OPERATORS {
            assert_eq!(get(service.port(), path, "").await.0, 404, "{role} {path}");
            assert_eq!(get(admin, path, "").await.0, 200, "{role} {path}");
            let elsewhere = "Host: rebound.example.com\r\n";
            assert_eq!(get(admin, path, elsewhere).await.0, 403, "{role} {path}");
        }
        // The names that it has change on every listener of every role.
        let named =
            format!("[server]\nadmin_listen = '127.0.0.1:{admin}'\nallowed_hosts = ['new.example.com']");
        for (text, status) in [(&named, 200), (&text, 403)] {
            std::fs::write(config.path(), text).unwrap();
            service.hang_up();
            for (port, path) in [(service.port(), "/livez"), (admin, "/metrics")] {
                wait_until("it is reloaded", PATIENCE, async || {
                    get(port, path, "Host: new.example.com\r\n").await.0 == status
                })
                .await;
            }
        }
        for path in ["/livez", "/readyz"] {
            assert_eq!(get(service.port(), path, "").await.0, 200, "{role} {path}");
            assert_eq!(get(admin, path, "").await.0, 200, "{role} {path}");
        }
        let serves = role != "capture";
        assert_eq!(get(service.port(), "/v1/clients", "").await.0, 404, "{role}");
        assert_eq!(get(admin, "/v1/clients", "").await.0, if serves { 200 } else { 404 }, "{role}");
        assert_eq!(get(service.port(), "/v1/changes", "").await.0, if serves { 200 } else { 404 }, "{role}");
        assert_eq!(get(admin, "/v1/changes", "").await.0, 404, "{role}: clients are elsewhere");
        // But for what the page shows: 426 asks for a WebSocket.
        assert_eq!(get(admin, "/v1/stream", "").await.0, if serves { 426 } else { 404 }, "{role}");
    }
    assert!(service.stop().await.success(), "{}", service.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_this_machine_operators_need_a_token_of_theirs() {
    let databases = Databases::new("admin_far").await;
    let admin = free_port();
    let open = config_file(&format!("[server]\nadmin_listen = '0.0.0.0:{admin}'"));
    let run = databases.command(&["run", "--listen", "127.0.0.1:0", "--config", open.path()]);
    let (code, _, log) = waldelta(&run);
    assert!(code == Some(1) && log.contains("WD-LISTEN-UNPROTECTED"), "{log}");

    let far = format!("[server]\nadmin_listen = '0.0.0.0:{admin}'\n[auth]\nstatic_tokens = true");
    let config = config_file(&far);
    let make = |subject: &str, more: &[&str]| {
        let words = [&["token", "create", "--json", "--name", "n", "--subject", subject], more].concat();
        let made: Value = serde_json::from_str(&waldelta_ok(&databases.command(&words))).unwrap();
        format!("Authorization: Bearer {}\r\n", made["token"].as_str().unwrap())
    };
    let mut service = Service::start(databases.run(&config)).await;
    assert!(service.log().contains("WD-LISTEN-UNENCRYPTED"), "{}", service.log());
    let (operator, client) = (make("root", &["--admin"]), make("ada", &[]));
    for role in ["all", "capture"] {
        if role != "all" {
            assert!(service.stop().await.success(), "{}", service.log());
            service.start_again_with(databases.run(&config).args(["--role", role])).await;
        }
        wait_until("the token is known", PATIENCE, async || get(admin, "/metrics", &operator).await.0 == 200)
            .await;
        for path in OPERATORS {
            let (without, of_client) = if is_file(path) { (200, 200) } else { (401, 403) };
            assert_eq!(get(admin, path, "").await.0, without, "{role} {path}");
            assert_eq!(get(admin, path, &client).await.0, of_client, "{role} {path}");
            assert_eq!(get(admin, path, &operator).await.0, 200, "{role} {path}");
            assert_eq!(get(service.port(), path, &operator).await.0, 404, "{role} {path}");
        }
        for port in [admin, service.port()] {
            assert_eq!(get(port, "/livez", "").await, (200, "ok\n".to_owned()), "{role}");
            assert_eq!(get(port, "/readyz", "").await, (200, "ok\n".to_owned()), "{role}");
            assert_eq!(get(port, "/readyz?verbose", "").await.0, 401, "{role}");
        }
    }

    // Without an address of their own they are where the clients are, and behind the same lock.
    let config = config_file("[auth]\nstatic_tokens = true");
    for role in ["all", "capture"] {
        assert!(service.stop().await.success(), "{}", service.log());
        service.start_again_with(databases.run(&config).args(["--role", role])).await;
        for path in OPERATORS {
            let without = if is_file(path) { 200 } else { 401 };
            assert_eq!(get(service.port(), path, "").await.0, without, "{role} {path}");
            wait_until("the token is known", PATIENCE, async || {
                get(service.port(), path, &operator).await.0 == 200
            })
            .await;
        }
    }
}

/// Runs a command that asks the service.
async fn asking(words: Vec<String>) -> Output {
    tokio::task::spawn_blocking(move || Command::new(program()).args(words).output().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_verify_are_served_over_tls() {
    let databases = Databases::new("over_tls").await;
    let (certificate, key) = (config_file(tls::FIRST.certificate), config_file(tls::FIRST.key));
    let (missing, admin) = (config_file(tls::ELSEWHERE.key), free_port());
    let settings = |key: &ConfigFile| {
        let files = format!("certificate = '{}'\nkey = '{}'", certificate.path(), key.path());
        config_file(&format!("[server]\nadmin_listen = '127.0.0.1:{admin}'\n[server.tls]\n{files}"))
    };
    let (code, _, log) = waldelta(&databases.command(&[
        "run",
        "--listen",
        "127.0.0.1:0",
        "--config",
        settings(&missing).path(),
    ]));
    assert!(code == Some(1) && log.contains("WD-CERTIFICATE-INVALID"), "{log}");
    assert!(log.contains(missing.path()) && log.contains(certificate.path()), "{log}");

    let config = settings(&key);
    let mut service = Service::spawn(databases.run(&config));
    ready(admin).await;
    let url = format!("https://localhost:{}", service.port());
    let (trusted, stranger) = (tls::authority_file().display().to_string(), certificate.path().to_owned());
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();

    let answer = get_over_tls(service.port(), "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"), "{answer}");
    assert_eq!(get(service.port(), "/readyz", "").await.0, 400, "it is told that this is TLS");

    let tail = asking(words(&[
        "tail",
        "--url",
        &url,
        "--ca-file",
        &trusted,
        "--table",
        "public.t",
        "--limit",
        "1",
        "--json",
    ]));
    let changing = async {
        wait_until("somebody follows", PATIENCE, async || {
            let (_, status) = get(admin, "/v1/status", "").await;
            status.contains("\"state\":\"live\"")
        })
        .await;
        databases.source.exec("INSERT INTO t VALUES (42)").await;
    };
    let (tail, ()) = tokio::join!(tail, changing);
    let (shown, log) = (String::from_utf8_lossy(&tail.stdout), String::from_utf8_lossy(&tail.stderr));
    assert!(tail.status.success() && shown.contains(r#""data":{"id":42}"#), "{shown}{log}");

    // The status is at the other address, in plain HTTP; asked for here, it is not there, which is said over TLS.
    let status = |url: &str, ca: &str| asking(words(&["status", "--url", url, "--ca-file", ca]));
    let told = status(&url, &trusted).await;
    assert!(String::from_utf8_lossy(&told.stderr).contains("HTTP 404"), "{told:?}");
    assert!(status(&format!("http://127.0.0.1:{admin}"), &trusted).await.status.success());
    let refused = status(&url, &stranger).await;
    let log = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && log.contains("WD-SERVICE-UNREACHABLE"), "{log}");
    assert!(log.contains("certificate"), "{log}");
    assert!(service.stop().await.success(), "{}", service.log());
}

/// The whole answer.
async fn get_over_tls(port: u16, path: &str) -> String {
    let mut socket = tls::connect(port).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}
