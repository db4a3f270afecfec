//! The console, asked by programs that people have: psql and psycopg. What it shows is what the status says; what it does is done.

use std::process::Command;

use serde_json::Value;
use waldelta_testkit::{Frame, Service, TestDatabase, tls, wait_until};

use crate::browser::picture_of;
use crate::setting::{ConfigFile, PATIENCE, Setting, config_file};

const SCHEMA: &str = "CREATE TABLE item (id int PRIMARY KEY, value text)";

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What psql prints, without its frame; or what it says is wrong.
pub fn psql(port: u16, user: &str, password: &str, sslmode: &str, sql: &str) -> Result<String, String> {
    let output = Command::new("psql")
        .args([
            "-X",
            "-A",
            "-t",
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-U",
            user,
            "-d",
            "waldelta",
            "-c",
            sql,
        ])
        .envs([("PGPASSWORD", password), ("PGSSLMODE", sslmode)])
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// A setting with a console on a port of its own.
struct Asked {
    setting: Setting,
    port: u16,
    _config: ConfigFile,
}

async fn asked(hint: &str, more: &str) -> Asked {
    let mut setting = Setting::new(hint, SCHEMA).await;
    let port = free_port();
    let config = config_file(&format!("[console]\nlisten = '127.0.0.1:{port}'\n{more}"));
    setting.service.stop().await;
    setting.service = Service::start(config.add_to(setting.run_options())).await;
    Asked { setting, port, _config: config }
}

impl Asked {
    fn psql(&self, user: &str, password: &str, sql: &str) -> Result<String, String> {
        psql(self.port, user, password, "prefer", sql)
    }

    fn ask(&self, sql: &str) -> String {
        self.psql("anybody", "", sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    async fn status(&self) -> Value {
        serde_json::from_str(&self.setting.service.get("/v1/status").await.1).unwrap()
    }
}

#[tokio::test]
async fn psql_sees_what_the_status_says_and_pauses_kills_and_reloads() {
    let asked = asked("console", "").await;
    let (mut socket, mut replica) = asked.setting.client("web-1").await;
    asked.setting.source.exec("INSERT INTO item SELECT i, 'x' FROM generate_series(1, 20) i").await;
    asked.setting.equal(&mut socket, &mut replica, &["public.item"]).await;

    let status = asked.status().await;
    let session = status["sessions"][0]["session"].as_str().unwrap();
    assert_eq!(
        asked.ask("SELECT session, client_id, state FROM clients WHERE client_id LIKE 'web-%'"),
        format!("{session}|web-1|live")
    );
    assert_eq!(asked.ask("SELECT ready, state, changes FROM state"), "t|streaming|20");
    assert_eq!(asked.ask("SELECT name, changes, state FROM tables"), "public.item|20|ok");
    assert_eq!(
        asked.ask("SELECT name, active FROM slots"),
        format!("{}|t", asked.setting.source.slot("slot"))
    );
    assert_eq!(asked.ask("SELECT value FROM stats WHERE metric = 'waldelta_capture_changes_total'"), "20");
    assert_eq!(asked.ask("SELECT count(*) FROM checks WHERE severity IN ('critical', 'warning')"), "0");
    assert_eq!(asked.ask("SELECT follows, sessions FROM scopes"), "*|1");
    assert_eq!(
        asked.ask("SELECT value, is_default FROM config WHERE name = 'capture.canary_interval_ms'"),
        "10000|t"
    );
    for all in [
        "HELP", "VERSION", "STATE", "SLOTS", "LAG", "TABLES", "CLIENTS", "SCOPES", "STATS", "CHECKS",
        "CONFIG", "MEM",
    ] {
        assert!(!asked.ask(&format!("SHOW {all}")).is_empty(), "{all}");
    }
    assert!(!asked.ask("SHOW CONFIG").contains("postgresql://postgres@"), "no user is shown");
    assert!(asked.ask("\\d").contains("public|clients|view|waldelta"));
    let wrong = asked.psql("anybody", "", "SELECT nothing FROM clients").unwrap_err();
    assert!(wrong.contains("column \"nothing\" does not exist") && wrong.contains("HINT"), "{wrong}");

    let shown = Command::new("psql")
        .args([
            "-X",
            "-e",
            "-h",
            "127.0.0.1",
            "-U",
            "anybody",
            "-d",
            "waldelta",
            "-p",
            &asked.port.to_string(),
        ])
        .args(
            ["STATE", "LAG", "SLOTS", "TABLES", "CLIENTS", "CHECKS"]
                .map(|all| format!("--command=SHOW {all}")),
        )
        .output()
        .unwrap();
    picture_of(&String::from_utf8(shown.stdout).unwrap(), "console.png").await;

    // Paused, nothing is lost, and clients are served.
    assert!(asked.ask("PAUSE").contains("paused"));
    wait_until("capture is paused", PATIENCE, async || asked.ask("SELECT state FROM state") == "paused")
        .await;
    asked.setting.source.exec("INSERT INTO item VALUES (100, 'while paused')").await;
    assert!(
        asked.ask("SELECT message, fix FROM checks WHERE severity = 'warning'").contains("anybody\"|RESUME")
    );
    assert!(
        asked.setting.service.get("/metrics").await.1.contains("waldelta_capture_state{state=\"paused\"} 1")
    );
    assert_eq!(asked.ask("SELECT changes FROM state"), "20");
    assert!(asked.ask("RESUME").contains("goes on"));
    asked.setting.equal(&mut socket, &mut replica, &["public.item"]).await;
    assert!(asked.psql("anybody", "", "RESUME").unwrap_err().contains("not paused"));

    assert!(asked.ask("RELOAD").contains("in force"));
    let reloads = "SELECT value FROM stats WHERE metric = 'waldelta_config_reloads_total' AND labels = 'result=applied'";
    assert_eq!(asked.ask(reloads), "1");

    let session = asked.ask("SELECT session FROM clients");
    assert!(asked.ask(&format!("KILL {session}")).contains("let go"));
    let mut said = String::new();
    loop {
        match socket.next_frame(PATIENCE).await {
            Frame::Text(text) => said = text,
            Frame::Closed { code, .. } => {
                assert_eq!(code, 1012, "it may come back: {said}");
                break;
            }
        }
    }
    let mut socket = asked.setting.resume("web-1", &mut replica).await;
    asked.setting.equal(&mut socket, &mut replica, &["public.item"]).await;
    assert!(asked.psql("anybody", "", "KILL 's-none'").unwrap_err().contains("no session"));
}

/// What PostgreSQL stores of a password.
async fn stored(password: &str) -> String {
    let database = TestDatabase::create("console_role").await;
    let role = database.slot("ops");
    let create =
        format!("SET password_encryption = 'scram-sha-256'; CREATE ROLE {role} PASSWORD '{password}'");
    database.exec(&create).await;
    let stored =
        database.query_text(&format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'")).await;
    database.exec(&format!("DROP ROLE {role}")).await;
    stored
}

#[tokio::test]
async fn beyond_this_machine_it_is_for_users_over_tls_alone() {
    let (mut setting, stored) = (Setting::new("console_tls", SCHEMA).await, stored("open sesame").await);
    let (certificate, key) = (config_file(tls::FIRST.certificate), config_file(tls::FIRST.key));
    let users = config_file(&format!("ops {stored} admin\n"));
    let (port, admin) = (free_port(), free_port());
    let settings = |console: &str, tls: &str| {
        let server = format!("[server]\nadmin_listen = '127.0.0.1:{admin}'\n{tls}");
        config_file(&format!("{server}[console]\nlisten = '0.0.0.0:{port}'\n{console}"))
    };
    let with_users = format!("users_file = '{}'\n", users.path());
    let with_tls = format!("[server.tls]\ncertificate = '{}'\nkey = '{}'\n", certificate.path(), key.path());
    setting.service.stop().await;
    for (console, tls) in [("", &*with_tls), (&*with_users, "")] {
        let config = settings(console, tls);
        let mut service = Service::spawn(config.add_to(setting.run_options()));
        assert!(!service.wait_exit(PATIENCE).await.success());
        assert!(service.log().contains("WD-LISTEN-UNPROTECTED"), "{}", service.log());
    }
    let config = settings(&with_users, &with_tls);
    let _service = Service::spawn(config.add_to(setting.run_options()));
    wait_until("the console answers over TLS", PATIENCE, async || {
        psql(port, "ops", "open sesame", "require", "SELECT current_user") == Ok("ops".to_owned())
    })
    .await;
    let plain = psql(port, "ops", "open sesame", "disable", "SELECT 1").unwrap_err();
    assert!(plain.contains("TLS alone"), "{plain}");
    assert!(psql(port, "ops", "wrong", "require", "SELECT 1").unwrap_err().contains("authentication failed"));
}

#[tokio::test]
async fn users_are_those_of_postgresql_and_who_may_only_look_does() {
    let stored = stored("open sesame").await;
    let users = config_file(&format!("# who\nops {stored} admin\n\"grafana\" \"{stored}\"\n"));
    let asked = asked("console_users", &format!("users_file = '{}'\n", users.path())).await;
    assert_eq!(asked.psql("ops", "open sesame", "SELECT current_user"), Ok("ops".to_owned()));
    assert_eq!(asked.psql("grafana", "open sesame", "SELECT ready FROM state"), Ok("t".to_owned()));
    assert!(asked.psql("grafana", "open sesame", "PAUSE").unwrap_err().contains("may only look"));
    assert!(asked.psql("grafana", "wrong", "SELECT 1").unwrap_err().contains("authentication failed"));
    assert!(asked.psql("nobody", "open sesame", "SELECT 1").is_err());
    assert!(asked.psql("ops", "open sesame", "PAUSE").unwrap().contains("paused"));

    let script = "import psycopg, sys
with psycopg.connect(host='127.0.0.1', port=int(sys.argv[1]), dbname='waldelta', user='grafana', password='open sesame') as c:
    for prepare in (False, True):
        row = c.execute('SELECT name, active, retained_bytes FROM slots WHERE name = %s AND retained_bytes >= %s', (sys.argv[2], 0), prepare=prepare).fetchone()
        assert row[0] == sys.argv[2] and isinstance(row[1], bool) and isinstance(row[2], int), row
    print(c.execute('SELECT count(*) FROM checks').fetchone()[0] > 0, c.execute('SELECT now()').fetchone()[0].tzinfo is not None)
";
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/psycopg");
    let output = Command::new("python3")
        .args(["-c", script, &asked.port.to_string(), &asked.setting.source.slot("slot")])
        .env("PYTHONPATH", folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_eq!(said, "True True", "{}", String::from_utf8_lossy(&output.stderr));

    std::fs::write(users.path(), format!("ops {stored} admin\nanna {stored}\n")).unwrap();
    assert!(asked.psql("ops", "open sesame", "RELOAD").unwrap().contains("in force"));
    assert_eq!(asked.psql("anna", "open sesame", "SELECT current_user"), Ok("anna".to_owned()));
    assert!(asked.psql("grafana", "open sesame", "SELECT 1").is_err());
    std::fs::write(users.path(), "ops\n").unwrap();
    let refused = asked.psql("ops", "open sesame", "RELOAD").unwrap_err();
    assert!(refused.contains("console.users_file: line 1"), "{refused}");
    assert_eq!(asked.psql("anna", "open sesame", "SELECT 1"), Ok("1".to_owned()));
}
