//! Whoever looks sees the same: the status, the metrics, the console, the terminal and the page say one number of one thing, and the same
//! of what is wrong.

use serde_json::Value;
use tokio::time::Instant;
use waldelta_testkit::{Service, wait_until};

use crate::browser::Page;
use crate::console::{free_port, psql};
use crate::setting::{PATIENCE, Setting, config_file, waldelta_ok};
use crate::stops::stopped;

const SCHEMA: &str = "CREATE TABLE item (id int PRIMARY KEY, value text)";

/// The views of one service.
struct Views {
    setting: Setting,
    console: u16,
    page: Page,
}

impl Views {
    async fn status(&self) -> Value {
        serde_json::from_str(&self.setting.service.get("/v1/status").await.1).unwrap()
    }

    async fn metric(&self, series: &str) -> String {
        let text = self.setting.service.get("/metrics").await.1;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{series} ")));
        line.unwrap_or_else(|| panic!("{series} in {text}")).to_owned()
    }

    fn psql(&self, sql: &str) -> String {
        psql(self.console, "somebody", "", "prefer", sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    fn top(&self) -> String {
        waldelta_ok(&["top", "--once", "--url", &self.setting.service.http("")].map(str::to_owned))
    }

    /// Waits until this part of the page has these words.
    async fn page_shows(&mut self, id: &str, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        let text = format!("document.getElementById('{id}')?.textContent ?? ''");
        loop {
            let shown = self.page.evaluate(&text).await;
            if shown.as_str().is_some_and(|shown| shown.contains(words)) {
                return;
            }
            assert!(Instant::now() < deadline, "{id}: {words}: {shown}");
        }
    }
}

#[tokio::test]
async fn all_of_them_say_the_same() {
    let mut setting = Setting::new("views", SCHEMA).await;
    let console = free_port();
    let config = config_file(&format!("[console]\nlisten = '127.0.0.1:{console}'\n"));
    setting.service.stop().await;
    setting.service = Service::start(config.add_to(setting.run_options())).await;
    let (mut socket, mut replica) = setting.client("web-7").await;
    for _ in 0..3 {
        setting
            .source
            .exec(
                "INSERT INTO item SELECT (SELECT count(*) FROM item) + i, 'x' FROM generate_series(1, 11) i",
            )
            .await;
    }
    setting.equal(&mut socket, &mut replica, &["public.item"]).await;
    let mut page = Page::open("views").await;
    page.go_to(&setting.service.http("/")).await;
    let mut views = Views { setting, console, page };
    views.page_shows("state", "live").await;

    let status = views.status().await;
    let (changes, sessions) =
        (status["capture"]["changes"].to_string(), status["sessions"].as_array().unwrap().len().to_string());
    assert_eq!((changes.as_str(), sessions.as_str()), ("33", "2"), "the page is one of them");
    assert_eq!(views.metric("waldelta_capture_changes_total").await, changes);
    assert_eq!(views.metric("waldelta_capture_table_changes_total{table=\"public.item\"}").await, changes);
    assert_eq!(views.metric("waldelta_fanout_sessions{state=\"live\"}").await, sessions);
    assert_eq!(views.psql("SELECT changes FROM state"), changes);
    assert_eq!(views.psql("SELECT changes FROM tables WHERE name = 'public.item'"), changes);
    assert_eq!(views.psql("SELECT count(*) FROM clients"), sessions);
    let shown = views.top();
    assert!(
        shown.contains(&format!("{changes} changes"))
            && shown.contains(&format!("{sessions} of {sessions} sessions")),
        "{shown}"
    );
    views.page_shows("tables", &format!("public.item{changes}")).await;
    views.page_shows("served", &format!("{sessions} sessions")).await;
    for shown in [views.top(), views.psql("SELECT 'all is well' FROM state WHERE ready")] {
        assert!(shown.contains("all is well"), "{shown}");
    }
    views.page_shows("severity", "all is well").await;

    // And of what is wrong.
    views.setting.service.stop().await;
    let slot = views.setting.source.slot("slot");
    views.setting.source.exec(&format!("SELECT pg_drop_replication_slot('{slot}')")).await;
    views.setting.service.spawn_again_with(config.add_to(views.setting.run_options()));
    wait_until("the service listens", PATIENCE, async || views.setting.service.is_listening().await).await;
    stopped(&views.setting, "slot_missing", "WD-SLOT-MISSING").await;
    let worst = views.status().await["checks"][0].clone();
    assert_eq!((&worst["of"], &worst["severity"]), (&"capture".into(), &"critical".into()), "{worst}");
    let (code, message) = (worst["code"].as_str().unwrap(), worst["message"].as_str().unwrap());
    assert_eq!(views.psql("SELECT code, message FROM checks LIMIT 1"), format!("{code}|{message}"));
    assert_eq!(views.psql("SELECT name FROM state"), "slot_missing");
    assert_eq!(views.metric("waldelta_capture_named_state{name=\"slot_missing\"}").await, "1");
    assert!(views.top().contains(code), "{}", views.top());
    views.page_shows("finding", code).await;
    views.page_shows("finding", message).await;

    // To pause what has stopped ends nothing, and mends nothing.
    views.psql("PAUSE");
    wait_until("it is paused", PATIENCE, async || views.psql("SELECT name FROM state") == "paused").await;
    views.psql("RESUME");
    stopped(&views.setting, "slot_missing", "WD-SLOT-MISSING").await;
}
