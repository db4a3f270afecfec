//! The process as whoever starts it sees it: systemd, a container's health check, a package's shell completions and manual.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use waldelta_testkit::{Service, ServiceOptions, TestDatabase};

use crate::setting::{PATIENCE, Setting, config_file, waldelta, waldelta_ok};

/// What systemd would be: a socket that is told how a process is.
struct Systemd {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Systemd {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("waldelta-systemd-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Systemd { socket, path }
    }

    fn watches(&self, options: ServiceOptions) -> ServiceOptions {
        options.env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", "500000")
    }

    /// Everything it is told up to this, within the patience of a test.
    fn until(&self, wanted: &str) -> Vec<String> {
        let (mut told, mut bytes, deadline) = (Vec::new(), [0; 4096], Instant::now() + PATIENCE);
        while !told.iter().any(|line: &String| line.starts_with(wanted)) {
            assert!(Instant::now() < deadline, "{wanted}: {told:?}");
            if let Ok(length) = self.socket.recv(&mut bytes) {
                let lines = std::str::from_utf8(&bytes[..length]).unwrap().lines();
                told.extend(
                    lines.filter(|line| line.starts_with(wanted) || *line != "WATCHDOG=1").map(str::to_owned),
                );
            }
        }
        told
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systemd_is_told_how_the_process_is_from_its_start_to_its_stop() {
    let mut setting = Setting::new("systemd", "CREATE TABLE t (id int PRIMARY KEY)").await;
    setting.service.stop().await;
    let systemd = Systemd::new();
    let config = config_file("");
    let mut service = Service::start(config.add_to(systemd.watches(setting.run_options()))).await;
    let told = systemd.until("STATUS=all is well");
    let place = |wanted: &str| told.iter().position(|line| line == wanted);
    assert!(place("READY=1").is_some() && place("STOPPING=1").is_none(), "{told:?}");
    systemd.until("WATCHDOG=1");
    systemd.until("WATCHDOG=1");
    service.hang_up();
    let told = systemd.until("RELOADING=1");
    assert!(told.iter().any(|line| line.starts_with("RELOADING")), "{told:?}");
    systemd.until("READY=1");
    // What is wrong is what the unit says.
    setting.history.exec("ALTER TABLE waldelta.change_history RENAME TO elsewhere").await;
    setting.source.exec("INSERT INTO t VALUES (1)").await;
    systemd.until("STATUS=critical");
    // One that stands still is not said to live.
    service.freeze();
    while systemd.socket.recv(&mut [0; 4096]).is_ok() {}
    let frozen = Instant::now();
    while frozen.elapsed() < Duration::from_secs(1) {
        assert!(systemd.socket.recv(&mut [0; 4096]).is_err(), "it stands still");
    }
    service.thaw();
    systemd.until("WATCHDOG=1");
    let asked = async { tokio::task::block_in_place(|| systemd.until("STOPPING=1")) };
    tokio::join!(service.stop(), asked);
    drop(setting.service);
}

/// A history that is out of reach is waited for: the process is there all the while, and says what it waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systemd_is_told_of_a_process_that_waits_for_its_history() {
    let systemd = Systemd::new();
    let nowhere = "postgresql://nobody@127.0.0.1:1/nothing";
    let args = ["run", "--database-url", nowhere];
    let service = Service::spawn(systemd.watches(ServiceOptions::new(args)));
    let told = systemd.until("STATUS=starting: waiting until the history database answers");
    assert!(told.contains(&"READY=1".to_owned()), "{told:?}");
    systemd.until("WATCHDOG=1");
    systemd.until("WATCHDOG=1");
    drop(service);
}

#[tokio::test]
async fn a_health_check_needs_nothing_but_the_program() {
    let mut setting = Setting::new("health", "CREATE TABLE t (id int PRIMARY KEY)").await;
    let url = setting.service.http("");
    let ask = |more: &[&str]| {
        let args = [&["healthcheck", "--url", &url], more].concat();
        args.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let (ready, live) = (ask(&[]), ask(&["--live"]));
    assert_eq!(waldelta_ok(&ready), "ok\n");
    assert_eq!(waldelta_ok(&live), "ok\n");
    setting.history.exec("ALTER TABLE waldelta.change_history RENAME TO elsewhere").await;
    setting.source.exec("INSERT INTO t VALUES (1)").await;
    let deadline = Instant::now() + PATIENCE;
    let said = loop {
        match waldelta(&ready) {
            (Some(1), said, _) => break said,
            (code, said, log) => assert!(code == Some(0) && Instant::now() < deadline, "{said} {log}"),
        }
    };
    assert!(said.starts_with("capture is "), "{said}");
    assert_eq!(waldelta_ok(&live), "ok\n", "it lives");
    setting.service.stop().await;
    let (code, _, log) = waldelta(&ready);
    assert!(code == Some(1) && log.contains("WD-SERVICE-UNREACHABLE"), "{log}");
}

#[test]
fn a_configuration_is_shown_with_where_each_setting_comes_from() {
    let file = config_file(
        "[source]\nurl = 'postgresql://me:hush@db.example.com/app'\n[server]\nsessions_max = 7\n[notify]\nwebhook_url = 'https://a.example/hush'",
    );
    let output = std::process::Command::new(waldelta_testkit::program())
        .args(["config", "show", "--config", file.path(), "--slot", "mine"])
        .env("WALDELTA_PUBLICATION", "theirs")
        .env("PGPASSWORD", "hush")
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    let line = |wanted: &str| {
        let line = shown
            .lines()
            .find(|line| line.starts_with(wanted))
            .unwrap_or_else(|| panic!("{wanted}: {shown}"));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("slot"), "slot = \"mine\" # --slot");
    assert_eq!(line("publication"), "publication = \"theirs\" # WALDELTA_PUBLICATION");
    assert_eq!(line("sessions_max"), format!("sessions_max = 7 # {}", file.path()));
    assert_eq!(line("drain_ms"), "drain_ms = 5000 # default");
    assert_eq!(
        line("url = \"postgres"),
        format!("url = \"postgresql://db.example.com/…\" # {}", file.path())
    );
    assert!(shown.contains("PGPASSWORD") && !shown.contains("hush"), "{shown}");
    let args = ["config", "show", "--json", "--config", file.path()].map(str::to_owned);
    let json: Vec<Value> = serde_json::from_str(&waldelta_ok(&args)).unwrap();
    let sessions = json.iter().find(|one| one["name"] == "server.sessions_max").unwrap();
    assert_eq!((&sessions["value"], &sessions["origin"]), (&7.into(), &"file".into()));

    // What it prints as an example is a configuration, and fits the schema that it prints.
    let example = waldelta_ok(&["config", "example"].map(str::to_owned));
    let example = config_file(&example);
    let check = ["config", "check", "--offline", "--config", example.path()].map(str::to_owned);
    assert!(waldelta_ok(&check).contains("can be used"));
    let schema: Value = serde_json::from_str(&waldelta_ok(&["config", "schema"].map(str::to_owned))).unwrap();
    assert_eq!(schema["properties"]["server"]["properties"]["sessions_max"]["default"], 10_000);
}

#[test]
fn completions_are_for_the_shells_and_the_manual_for_man() {
    for (shell, has) in
        [("bash", "complete -F"), ("zsh", "#compdef waldelta"), ("fish", "complete -c waldelta")]
    {
        let script = waldelta_ok(&["completions", shell].map(str::to_owned));
        assert!(script.contains(has) && script.contains("healthcheck"), "{shell}");
    }
    let bash = "source /dev/stdin; COMP_WORDS=(waldelta tai); COMP_CWORD=1; _waldelta waldelta tai waldelta; echo ${COMPREPLY[*]}";
    let script = waldelta_ok(&["completions", "bash"].map(str::to_owned));
    let path = std::env::temp_dir().join(format!("waldelta-completions-{}", std::process::id()));
    std::fs::write(&path, script).unwrap();
    let completed = std::process::Command::new("bash")
        .args(["-c", bash])
        .stdin(std::fs::File::open(&path).unwrap())
        .output()
        .unwrap();
    std::fs::remove_file(path).unwrap();
    assert_eq!(String::from_utf8_lossy(&completed.stdout).trim(), "tail", "{completed:?}");

    let folder = std::env::temp_dir().join(format!("waldelta-man-{}", std::process::id()));
    waldelta_ok(&["man".to_owned(), "--out".to_owned(), folder.display().to_string()]);
    let page = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    assert!(page("waldelta.1").contains("waldelta\\-tail(1)"));
    assert!(page("waldelta-tail.1").contains("\\-\\-where"));
    assert!(page("waldelta-config-check.1").contains("\\-\\-offline"));
    std::fs::remove_dir_all(folder).unwrap();
}

/// An older program beside a newer one's history would write what that does not expect.
#[tokio::test]
async fn a_history_of_a_newer_version_is_refused_by_name_and_one_of_the_version_before_is_read() {
    let mut setting = Setting::new("versions", "CREATE TABLE t (id int PRIMARY KEY)").await;
    setting.source.exec("INSERT INTO t VALUES (1)").await;
    setting.settled().await;
    setting.service.stop().await;
    // The last step added comments alone: without its mark the schema is that of the version before.
    let last = "(SELECT max(version) FROM waldelta._sqlx_migrations)";
    let undo = format!(
        "DELETE FROM waldelta._sqlx_migrations WHERE version = {last} AND description = 'comments';
         COMMENT ON TABLE waldelta.leases IS NULL"
    );
    setting.history.exec(&undo).await;
    assert_eq!(setting.history.query_text(&format!("SELECT {last}")).await, "11");
    setting.service.start_again().await;
    setting.source.exec("INSERT INTO t VALUES (2)").await;
    setting.settled().await;
    setting.history_equals_source(&["public.t"]).await;
    let described = "SELECT obj_description('waldelta.leases'::regclass) IS NOT NULL";
    assert_eq!(setting.history.query_text(described).await, "t", "it was brought up to date");
    setting.service.stop().await;

    let newer = "INSERT INTO waldelta._sqlx_migrations VALUES (99, 'time travel', now(), true, '', 0)";
    setting.history.exec(newer).await;
    let run =
        setting.run_options().args.into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>();
    for command in [&run[..], &crate::setting::with_databases(&["verify"], &setting.source, &setting.history)]
    {
        let (code, _, log) = waldelta(command);
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("WD-HISTORY-SCHEMA-NEWER") && log.contains("99 (time travel)"), "{log}");
    }
}

/// Who only looks makes nothing.
#[tokio::test]
async fn commands_that_read_leave_a_database_as_it_is() {
    let database = TestDatabase::create("reads").await;
    let slot = database.slot("s");
    let of = |words: &[&str]| {
        let more = ["--database-url", database.url(), "--slot", &slot];
        [words, &more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    for words in [&["token", "list"][..], &["verify"], &["prune", "--keep", "30d"], &["tail", "--direct"]] {
        let (code, _, log) = waldelta(&of(words));
        assert!(code == Some(1) && log.contains("WD-HISTORY-NOT-BEGUN"), "{words:?} {log}");
    }
    let made = "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('waldelta')";
    assert_eq!(database.query_text(made).await, "0");

    database.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
    waldelta_ok(&of(&["init", "--apply"]));
    database.exec("DELETE FROM waldelta._sqlx_migrations WHERE version > 10").await;
    let (code, _, log) = waldelta(&of(&["verify"]));
    assert!(code == Some(1) && log.contains("WD-HISTORY-SCHEMA-OLDER"), "{log}");
    let applied = "SELECT max(version) FROM waldelta._sqlx_migrations";
    assert_eq!(database.query_text(applied).await, "10", "nothing was brought up to date");
    database.exec(&format!("SELECT pg_drop_replication_slot('{slot}')")).await;
}
