//! What is seen from a terminal: a running service with `waldelta top`, what somebody looks for with `waldelta tail`, how far something
//! is that takes long, in colours or as JSON.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;
use waldelta_testkit::{TestDatabase, program, wait_until};

use crate::browser::picture_of;
use crate::setting::{PATIENCE, Setting, waldelta_ok, with_databases};

const SCHEMA: &str = "CREATE TABLE item (id int PRIMARY KEY, title text, note text);
                      ALTER TABLE item REPLICA IDENTITY FULL; CREATE TABLE other (id int PRIMARY KEY)";

#[tokio::test]
async fn top_shows_tables_and_sessions_once_where_nobody_looks() {
    let setting = Setting::new("top", SCHEMA).await;
    let (mut socket, mut replica) = setting.client("web-7").await;
    setting.source.exec("INSERT INTO item SELECT i, 'x', 'y' FROM generate_series(1, 12) i").await;
    setting.equal(&mut socket, &mut replica, &["public.item"]).await;
    let shown = waldelta_ok(&["top", "--once", "--url", &setting.service.http("")].map(str::to_owned));
    for part in
        ["all is well", "capture streaming", "slot ", "public.item", "12", "web-7", "live", "1 of 1 sessions"]
    {
        assert!(shown.contains(part), "{part}:\n{shown}");
    }
    assert!(!shown.contains('\u{1b}'), "no escapes in a pipe: {shown}");
    picture_of(&shown, "top.png").await;
}

#[tokio::test]
async fn tail_shows_rows_that_fit_and_what_has_changed_in_them() {
    let setting = Setting::new("tail_where", SCHEMA).await;
    setting.source.exec("INSERT INTO item VALUES (1, 'a', 'n'), (7, 'b', 'n')").await;
    setting.settled().await;
    let url = setting.service.http("");
    let mut tail = Command::new(program())
        .args(["tail", "public.item", "--where", "id > 5", "--diff", "--limit", "1", "--url", &url])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("it follows", PATIENCE, async || {
        setting.service.get("/v1/status").await.1.contains("\"state\":\"live\"")
    })
    .await;
    setting.source.exec("INSERT INTO other VALUES (1)").await;
    setting.source.exec("UPDATE item SET title = 'not this one' WHERE id = 1").await;
    setting.source.exec("UPDATE item SET title = 'c' WHERE id = 7").await;
    wait_until("it has seen one", PATIENCE, async || tail.try_wait().unwrap().is_some()).await;
    let shown = String::from_utf8(tail.wait_with_output().unwrap().stdout).unwrap();
    assert!(shown.ends_with("  update public.item {\"id\":7} title: \"b\" -> \"c\"\n"), "{shown}");
    assert!(!shown.contains("not this one") && !shown.contains("other"), "{shown}");
}

/// What it prints on a terminal, which `script` makes.
fn on_a_terminal(args: &[String], variables: &[(&str, &str)]) -> String {
    let quoted = |arg: &String| format!("'{arg}'");
    let line = format!("{} {}", program().display(), args.iter().map(quoted).collect::<Vec<_>>().join(" "));
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").stdin(Stdio::null());
    // What a build machine or a developer has set says something of colours as well.
    for theirs in ["CI", "CLICOLOR", "CLICOLOR_FORCE", "COLORTERM", "NO_COLOR"] {
        command.env_remove(theirs);
    }
    for (name, value) in variables {
        command.env(name, value);
    }
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

/// What the page says that such a role needs.
fn documented_grants() -> &'static str {
    let page = include_str!("../../docs/how-to/watch.md");
    let begun = page.split_once("```sql\n").unwrap().1;
    begun.split_once("```").unwrap().0
}

/// Nobody but a role that may only read: nothing is written, and the slot belongs to nobody.
#[tokio::test]
async fn tail_reads_history_itself_where_no_service_runs() {
    let mut setting = Setting::new("tail_direct", SCHEMA).await;
    let before = setting.source.query_text("SELECT pg_current_wal_insert_lsn()").await;
    setting.source.exec("INSERT INTO item VALUES (1, 'a', 'n'), (7, 'b', 'n')").await;
    setting.settled().await;
    setting.service.stop().await;
    let role = format!("looks_{}", setting.history.name());
    setting
        .history
        .exec(&format!("CREATE ROLE {role} LOGIN; {}", documented_grants().replace("auditor", &role)))
        .await;
    let theirs = setting.history.url().replace("//postgres@", &format!("//{role}@"));
    let tail = |more: &[&str]| {
        let mut args = with_databases(&["tail", "--direct"], &setting.source, &setting.history);
        args.iter_mut().filter(|arg| **arg == setting.history.url()).for_each(|arg| arg.clone_from(&theirs));
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        args
    };
    let shown = waldelta_ok(&tail(&["item", "--where", "id > 5", "--since", &before, "--limit", "1"]));
    let inserted = r#"insert public.item {"id":7,"title":"b","note":"n"}"#;
    assert!(shown.contains(inserted) && !shown.contains("\"id\":1,"), "{shown}");
    assert_eq!(setting.history.query_text("SELECT count(*) FROM waldelta.clients").await, "0");
    let taken = "SELECT count(*) FROM pg_replication_slots WHERE active AND database = current_database()";
    assert_eq!(setting.source.query_text(taken).await, "0");

    // It follows as well, whoever captures.
    let mut follows = Command::new(program())
        .args(tail(&["--json", "--snapshot", "--limit", "1"]))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follows.stdout.take().unwrap()).lines();
    let mut frames = Vec::new();
    let mut until = |kind: &str| {
        for line in lines.by_ref() {
            let frame: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let is_it = frame["type"] == kind;
            frames.push(frame);
            if is_it {
                return frames.clone();
            }
        }
        panic!("it ended before {kind}: {frames:?}");
    };
    let begun = until("live");
    let rows =
        begun.iter().filter(|frame| frame["type"] == "rows").flat_map(|frame| frame["rows"].as_array());
    assert_eq!(rows.map(Vec::len).sum::<usize>(), 2, "{begun:?}");
    let service = waldelta_testkit::Service::start(setting.run_options()).await;
    setting.source.exec("INSERT INTO item VALUES (8, 'c', 'n')").await;
    let last = until("tx").pop().unwrap();
    assert_eq!(last["changes"][0]["key"]["id"], 8, "{last}");
    follows.wait().unwrap();
    drop(service);
    setting.history.exec(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn the_rows_that_exist_already_are_counted_while_they_are_written() {
    let source = TestDatabase::create("bars").await;
    let history = TestDatabase::create("bars_h").await;
    source.exec(SCHEMA).await;
    source.exec("INSERT INTO item SELECT i, 'x', 'y' FROM generate_series(1, 20000) i; ANALYZE item").await;
    let args = with_databases(&["init", "--baseline"], &source, &history);
    let shown = on_a_terminal(&args, &[]);
    assert!(shown.contains("public.item (1 of 2 tables) ["), "{shown}");
    assert!(shown.contains("of about 20,000 rows"), "{shown}");
    assert!(shown.contains("ready: waldelta run"), "{shown}");
    assert!(!waldelta_ok(&args).contains("of about"), "again, and in a pipe");
}

#[tokio::test]
async fn colours_are_for_terminals_whose_user_wants_them() {
    let setting = Setting::new("colours", SCHEMA).await;
    let status = ["status", "--url", &setting.service.http("")].map(str::to_owned);
    assert!(on_a_terminal(&status, &[]).contains("\u{1b}[32mready\u{1b}[0m"));
    for variables in [[("NO_COLOR", "1")], [("TERM", "dumb")]] {
        assert!(!on_a_terminal(&status, &variables).contains('\u{1b}'), "{variables:?}");
    }
    assert!(!waldelta_ok(&status).contains('\u{1b}'), "in a pipe");
}

#[tokio::test]
async fn whatever_is_said_is_said_as_json_too() {
    let source = TestDatabase::create("json").await;
    let history = TestDatabase::create("json_h").await;
    source.exec(SCHEMA).await;
    let said = |args: &[&str]| -> Value {
        let mut args = with_databases(args, &source, &history);
        args.push("--json".to_owned());
        serde_json::from_str(&waldelta_ok(&args)).unwrap()
    };
    let planned = said(&["init", "--table", "public.item"]);
    assert_eq!((&planned["applied"], &planned["durable_lsn"]), (&false.into(), &Value::Null));
    let done = said(&["init", "--table", "public.item", "--apply"]);
    assert_eq!((&done["applied"], &done["begun_before"]), (&true.into(), &false.into()));
    assert!(done["steps"].as_array().unwrap().iter().any(|step| {
        step["sql"].as_str().unwrap().contains("CREATE PUBLICATION") && step["why"].is_string()
    }));
    let added = said(&["table", "add", "--table", "public.other"]);
    assert_eq!((added["steps"].as_array().unwrap().len(), &added["applied"]), (1, &false.into()));
    assert_eq!(said(&["table", "add", "--table", "public.other", "--apply"])["applied"], true);
    let ordered = said(&["skip", "--lsn", "FFFF/0", "--why", "a test"]);
    assert_eq!((&ordered["lsn"], &ordered["why"]), (&"FFFF/0".into(), &"a test".into()));
    let made = said(&["token", "create", "--name", "t", "--subject", "s"]);
    let id = made["id"].as_str().unwrap();
    assert_eq!(said(&["token", "revoke", id])["revoked"], true);
    let shown = said(&["remove", "--history"]);
    assert_eq!((&shown["history"], &shown["removed"]), (&true.into(), &false.into()));
    assert_eq!(said(&["remove", "--history", "--yes"])["removed"], true);

    let setting = Setting::new("json_top", SCHEMA).await;
    let url = setting.service.http("");
    let top = ["top", "--once", "--json", "--url", &url].map(str::to_owned);
    let top: Value = serde_json::from_str(&waldelta_ok(&top)).unwrap();
    assert!(top["status"]["ready"] == true && top["recent"].is_object(), "{top}");
}
