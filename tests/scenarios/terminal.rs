//! A running service seen from a terminal: `waldelta top`, and `waldelta tail` of what somebody looks for.

use std::process::{Command, Stdio};

use waldelta_testkit::{program, wait_until};

use crate::setting::{PATIENCE, Setting, waldelta_ok};

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
