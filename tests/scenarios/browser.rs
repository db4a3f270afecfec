//! The example in `examples/browser` in a real browser: its rows are the source's, it goes on from its cursor after a reload,
//! a crash and a restart of the service, and begins anew only where it is told to.

mod chromium;

use serde_json::{Value, json};
use tokio::time::Instant;
use waldelta_testkit::{Frame, Service};

use crate::console::free_port;
use crate::setting::{ConfigFile, PATIENCE, Setting, config_file, waldelta_ok, with_databases};
pub use chromium::Page;

const SCHEMA: &str = include_str!("../../sql/source/demo.sql");
const ROWS_SHOWN: &str = "JSON.stringify([...document.querySelectorAll('#rows tr')].map(
    (row) => [...row.cells].slice(0, 3).map((cell) => cell.textContent)))";
const ROWS: &str = "SELECT coalesce(json_agg(json_build_array(id::text, title, done::text) ORDER BY id), '[]') FROM demo_todos";

/// The text of an element of the page.
async fn text(page: &mut Page, id: &str) -> String {
    let shown = page.evaluate(&format!("document.getElementById('{id}')?.textContent")).await;
    shown.as_str().unwrap_or_default().to_owned()
}

/// Waits until the page is live and shows the rows that the source has, in the columns that it has.
async fn shows_the_source(page: &mut Page, setting: &Setting, what: &str) {
    let wanted: Value = serde_json::from_str(&setting.source.query_text(ROWS).await).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let shown = page.evaluate(ROWS_SHOWN).await;
        let shown: Value = serde_json::from_str(shown.as_str().unwrap_or("null")).unwrap();
        let state = text(page, "state").await;
        if shown == wanted && state == "live" {
            return;
        }
        let log = text(page, "began").await;
        assert!(Instant::now() < deadline, "{what}: {state}, {log}\nshown  {shown}\nwanted {wanted}");
    }
}

async fn state_is(page: &mut Page, wanted: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let state = text(page, "state").await;
        if state.starts_with(wanted) {
            return;
        }
        assert!(Instant::now() < deadline, "{state}, and not {wanted}");
    }
}

#[tokio::test]
async fn the_example_follows_the_source_and_goes_on_where_it_was() {
    let mut setting = Setting::new("browser", SCHEMA).await;
    let url = setting.service.http("/example/");
    let mut page = Page::open("follows").await;
    page.go_to(&url).await;
    shows_the_source(&mut page, &setting, "the snapshot").await;
    assert_eq!(text(&mut page, "began").await, "began with a snapshot");

    setting
        .source
        .exec(
            "UPDATE demo_todos SET done = true WHERE id = 2; INSERT INTO demo_todos (title) VALUES ('<b>new</b>');
             UPDATE demo_todos SET id = 9007199254740993 WHERE id = 3; DELETE FROM demo_todos WHERE id = 1",
        )
        .await;
    shows_the_source(&mut page, &setting, "changes").await;

    // Away, and back: the rows are there before the service has said anything, and what was missed comes after the cursor.
    page.go_to("about:blank").await;
    setting
        .source
        .exec("INSERT INTO demo_todos (title) VALUES ('missed'); DELETE FROM demo_todos WHERE id = 2")
        .await;
    page.go_to(&url).await;
    shows_the_source(&mut page, &setting, "after a reload").await;
    assert_eq!(text(&mut page, "began").await, "went on from its cursor");

    // The page stays; the service dies, and is there again.
    page.evaluate("globalThis.stayed = true").await;
    setting.service.kill9().await;
    state_is(&mut page, "reconnecting").await;
    setting.source.exec("UPDATE demo_todos SET done = NOT done").await;
    setting.service.start_again().await;
    shows_the_source(&mut page, &setting, "after kill -9").await;
    setting.service.stop().await;
    state_is(&mut page, "reconnecting").await;
    setting
        .source
        .exec("INSERT INTO demo_todos (title) SELECT 'row ' || i FROM generate_series(1, 50) i")
        .await;
    setting.service.start_again().await;
    shows_the_source(&mut page, &setting, "after a stop").await;
    assert_eq!(text(&mut page, "began").await, "went on from its cursor");
    assert_eq!(page.evaluate("globalThis.stayed").await, true);
}

/// From now on the page stores so many times more, and then breaks off, as if it had been closed in between.
async fn cut_after(page: &mut Page, times: u32) {
    let cut = "(() => {
        const transaction = IDBDatabase.prototype.transaction;
        let left = LEFT;
        IDBDatabase.prototype.transaction = function (...asked) {
            if (asked[1] === 'readwrite' && left-- <= 0) throw new Error('cut off');
            return transaction.apply(this, asked);
        };
        return left;
    })()";
    assert_eq!(page.evaluate(&cut.replace("LEFT", &times.to_string())).await, times);
}

#[tokio::test]
async fn the_example_has_rows_and_cursor_together_wherever_it_is_cut_off() {
    let setting = Setting::new("browser_cut", SCHEMA).await;
    let mut page = Page::open("cut").await;
    page.go_to(&setting.service.http("/example/")).await;
    shows_the_source(&mut page, &setting, "the snapshot").await;
    for times in 0..6 {
        cut_after(&mut page, times).await;
        for step in 0..8 {
            let sql = format!(
                "INSERT INTO demo_todos (title) VALUES ('{times} {step}'); UPDATE demo_todos SET done = NOT done WHERE id % 3 = 0"
            );
            setting.source.exec(&sql).await;
        }
        state_is(&mut page, "stopped: Error: cut off").await;
        page.reload().await;
        shows_the_source(&mut page, &setting, &format!("cut off after {times}")).await;
        assert_eq!(text(&mut page, "began").await, "went on from its cursor");
    }
}

#[tokio::test]
async fn the_example_takes_new_shapes_and_resets() {
    let setting = Setting::new("browser_reset", SCHEMA).await;
    let mut page = Page::open("reset").await;
    page.go_to(&setting.service.http("/example/")).await;
    shows_the_source(&mut page, &setting, "the snapshot").await;
    setting
        .source
        .exec(
            "ALTER TABLE demo_todos ADD COLUMN note text; ALTER TABLE demo_todos RENAME COLUMN changed TO at;
             UPDATE demo_todos SET note = 'x' WHERE id = 1",
        )
        .await;
    let columns = "[...document.querySelectorAll('#columns th')].map((cell) => cell.textContent).join()";
    let deadline = Instant::now() + PATIENCE;
    while page.evaluate(columns).await != "id,title,done,at,note" {
        assert!(Instant::now() < deadline, "{}", page.evaluate(columns).await);
    }
    shows_the_source(&mut page, &setting, "another shape").await;
    let kept = "[...document.querySelectorAll('#rows tr')].every((row) => row.cells[3].textContent !== '')";
    assert_eq!(page.evaluate(kept).await, true, "values of a column that was renamed stay");

    // Rows change in a way that no change tells; an operator has them read afresh.
    setting.source.exec("ALTER TABLE demo_todos ALTER COLUMN title TYPE varchar USING 'it: ' || title").await;
    setting.source.exec("UPDATE demo_todos SET done = true WHERE id = 2").await;
    setting.settled().await;
    waldelta_ok(&with_databases(&["recover", "--yes"], &setting.source, &setting.history));
    shows_the_source(&mut page, &setting, "a reset").await;
    page.reload().await;
    shows_the_source(&mut page, &setting, "after a reload").await;
    assert_eq!(text(&mut page, "began").await, "went on from its cursor");
    setting.source.exec("TRUNCATE demo_todos").await;
    shows_the_source(&mut page, &setting, "a truncate").await;
}

/// A service that wants tokens, with one of a client, one of another who sees less, and one of an operator.
struct Guarded {
    setting: Setting,
    tokens: [String; 3],
    _config: ConfigFile,
}

async fn guarded(hint: &str, more: &str) -> Guarded {
    let mut setting = Setting::new(hint, SCHEMA).await;
    let config = config_file(&format!(
        "{more}[auth]\nstatic_tokens = true\n\
         [[rules]]\ntable = \"*\"\nclaims = {{ role = [\"all\"] }}\n\
         [[rules]]\ntable = \"public.demo_todos\"\nwhere = \"id = 2\"\n",
    ));
    setting.service.stop().await;
    setting.service = Service::start(config.add_to(setting.run_options())).await;
    let tokens =
        [&["--claim", "role=\"all\""][..], &[], &["--claim", "role=\"all\"", "--admin"]].map(|more| {
            let create = [&["token", "create", "--name", "n", "--subject", "ada"], more].concat();
            let shown = waldelta_ok(&with_databases(&create, &setting.source, &setting.history));
            shown.lines().next().unwrap().to_owned()
        });
    Guarded { setting, tokens, _config: config }
}

/// Enters a token as somebody would.
async fn enter(page: &mut Page, token: &str) {
    let typed = json!(token);
    let submit = format!(
        "(() => {{ document.getElementById('token').value = {typed};
                   document.querySelector('#entry button').click(); return true; }})()"
    );
    assert_eq!(page.evaluate(&submit).await, true);
}

/// Waits until it asks for a token with these words.
async fn asks_for_a_token(page: &mut Page, words: &str) {
    let deadline = Instant::now() + PATIENCE;
    let hidden = "document.getElementById('entry')?.hidden";
    while page.evaluate(hidden).await != false || !text(page, "why").await.contains(words) {
        assert!(Instant::now() < deadline, "{} {}", text(page, "state").await, text(page, "why").await);
    }
}

/// Where the page could have left it: its address, storages and cookies, and what of it is shown.
async fn keeps_no(page: &mut Page, token: &str) {
    let kept = "JSON.stringify([location.href, {...localStorage}, {...sessionStorage}, document.cookie, history.length,
        document.documentElement.outerHTML, document.getElementById('token').value])";
    let kept = page.evaluate(kept).await;
    let secret = token.split_once('.').unwrap().1;
    assert!(kept.as_str().is_some_and(|kept| !kept.contains(secret)), "{kept}");
}

#[tokio::test]
async fn with_authentication_the_example_asks_for_a_token() {
    let Guarded { setting, tokens, _config } = guarded("browser_token", "").await;
    let [all, some, _] = &tokens;
    let mut page = Page::open("token").await;
    let url = setting.service.http("/example/");
    page.go_to(&url).await;
    asks_for_a_token(&mut page, "wants a token").await;
    enter(&mut page, "wd_nonsense").await;
    asks_for_a_token(&mut page, "does not take this token: WD-TOKEN-INVALID").await;
    assert_eq!(page.evaluate(ROWS_SHOWN).await, "[]");
    // The token is the service's, whatever follows what is typed.
    enter(&mut page, &format!(" {all} ")).await;
    shows_the_source(&mut page, &setting, "with a token").await;
    keeps_no(&mut page, all).await;
    setting.source.exec("UPDATE demo_todos SET done = NOT done").await;
    shows_the_source(&mut page, &setting, "changes").await;

    // Loaded again it asks again, and shows what it had; somebody who may see less gets a copy of that.
    page.reload().await;
    asks_for_a_token(&mut page, "wants a token").await;
    enter(&mut page, all).await;
    shows_the_source(&mut page, &setting, "after a reload").await;
    assert_eq!(text(&mut page, "began").await, "went on from its cursor");
    page.reload().await;
    asks_for_a_token(&mut page, "wants a token").await;
    enter(&mut page, some).await;
    let ids =
        "JSON.stringify([...document.querySelectorAll('#rows tr')].map((row) => row.cells[0].textContent))";
    let deadline = Instant::now() + PATIENCE;
    while page.evaluate(ids).await != r#"["2"]"# || text(&mut page, "state").await != "live" {
        assert!(Instant::now() < deadline, "{}", page.evaluate(ids).await);
    }
    // A link leads no token elsewhere: where the service is another one it is not asked for.
    let elsewhere = setting.service.stream().replace("127.0.0.1", "localhost").replace("/v1/stream", "");
    page.go_to(&format!("{url}?service={elsewhere}")).await;
    state_is(&mut page, "stopped: 4401").await;
    assert_eq!(page.evaluate("document.getElementById('entry').hidden").await, true);
}

/// Waits until an element of the page has these words.
async fn shows(page: &mut Page, id: &str, wanted: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !text(page, id).await.contains(wanted) {
        assert!(Instant::now() < deadline, "{wanted}: {}", text(page, id).await);
    }
}

/// Waits until an expression is true on the page.
async fn holds(page: &mut Page, expression: &str) {
    let deadline = Instant::now() + PATIENCE;
    while page.evaluate(expression).await != true {
        assert!(Instant::now() < deadline, "{expression}");
    }
}

/// With `WALDELTA_SCREENSHOTS` naming a folder, what the page shows is kept there to be looked at.
async fn picture(page: &mut Page, name: &str) {
    if let Some(folder) = pictures() {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), page.screenshot().await).unwrap();
    }
}

/// The same of what was printed on a terminal.
pub async fn picture_of(printed: &str, name: &str) {
    if pictures().is_some() {
        let mut page = Page::open(name).await;
        page.go_to("about:blank").await;
        let shown = format!(
            "(() => {{ const it = document.createElement('pre'); it.textContent = {}; document.body.append(it); return true; }})()",
            json!(printed)
        );
        holds(&mut page, &shown).await;
        picture(&mut page, name).await;
    }
}

fn pictures() -> Option<std::path::PathBuf> {
    std::env::var_os("WALDELTA_SCREENSHOTS").map(Into::into)
}

#[tokio::test]
async fn the_page_of_the_service_shows_it_at_work_and_lets_a_session_go() {
    let mut setting = Setting::new("page", SCHEMA).await;
    let mut page = Page::open("page").await;
    page.go_to(&setting.service.http("/")).await;
    shows(&mut page, "severity", "all is well").await;
    shows(&mut page, "state", "live").await;
    holds(&mut page, "document.querySelectorAll('.uplot canvas').length === 2").await;

    // Changes as they come, each with what it has changed, and what they add up to.
    let (mut socket, mut replica) = setting.client("web-7").await;
    setting.source.exec("ALTER TABLE demo_todos REPLICA IDENTITY FULL").await;
    setting
        .source
        .exec("INSERT INTO demo_todos (title) SELECT 'row ' || i FROM generate_series(1, 30) i")
        .await;
    setting.source.exec("UPDATE demo_todos SET title = '<b>after</b>' WHERE id = 1").await;
    setting.source.exec("DELETE FROM demo_todos WHERE id = 2").await;
    shows(&mut page, "changes", "<b>after</b>").await;
    let diff = "(() => { const line = [...document.querySelectorAll('#changes div')].find((line) => line.textContent.startsWith('update'));
        return [line.querySelectorAll('del').length, line.querySelector('ins').textContent].join(); })()";
    assert_eq!(page.evaluate(diff).await, "1,<b>after</b>", "the title, and nothing else");
    shows(&mut page, "tables", "public.demo_todos32").await;
    shows(&mut page, "pipeline", "reported").await;
    shows(&mut page, "checks", "streaming").await;
    let type_into = |id: &str, words: &str| {
        format!(
            "(() => {{ const it = document.getElementById('{id}'); it.value = '{words}'; it.oninput(); return true; }})()"
        )
    };
    page.evaluate(&type_into("change-search", "ROW 17")).await;
    holds(&mut page, "document.querySelectorAll('#changes div').length === 1").await;
    page.evaluate(&type_into("change-search", "")).await;
    picture(&mut page, "page.png").await;

    // It is one of those that are connected: another one is found, and let go.
    shows(&mut page, "session-count", "2").await;
    page.evaluate(&type_into("session-search", "web-")).await;
    shows(&mut page, "session-count", "1 of 2").await;
    page.evaluate("document.querySelector('#sessions td button').click()").await;
    while let Frame::Text(text) = socket.next_frame(PATIENCE).await {
        replica.apply(&text).unwrap();
    }
    page.evaluate(&type_into("session-search", "")).await;
    shows(&mut page, "session-count", "1").await;
    let mut socket = setting.resume("web-7", &mut replica).await;
    setting.equal(&mut socket, &mut replica, &["public.demo_todos"]).await;

    // On a telephone nothing is wider than it.
    for (width, dark, name) in
        [(360, false, "page-narrow.png"), (360, true, "page-narrow-dark.png"), (1280, true, "page-dark.png")]
    {
        page.resize(width, 900, dark).await;
        holds(&mut page, "document.querySelectorAll('.uplot canvas').length === 2").await;
        holds(&mut page, &format!("document.documentElement.scrollWidth <= {width}")).await;
        picture(&mut page, name).await;
    }

    // What is wrong comes first, with what mends it.
    setting.service.stop().await;
    shows(&mut page, "finding", "does not answer").await;
    let slot = setting.source.slot("slot");
    setting.source.exec(&format!("SELECT pg_drop_replication_slot('{slot}')")).await;
    setting.service.spawn_again_with(setting.run_options());
    shows(&mut page, "finding", "WD-SLOT-MISSING").await;
    shows(&mut page, "fix", "waldelta recover").await;
    holds(&mut page, "document.title.startsWith('critical')").await;
    picture(&mut page, "page-critical.png").await;
}

#[tokio::test]
async fn with_authentication_the_page_of_the_service_asks_for_a_token() {
    let Guarded { setting, tokens, _config } = guarded("page_token", "").await;
    let [all, _, operator] = &tokens;
    let mut page = Page::open("page_token").await;
    page.go_to(&setting.service.http("/")).await;
    asks_for_a_token(&mut page, "wants a token").await;
    enter(&mut page, "wd_nonsense").await;
    asks_for_a_token(&mut page, "does not take this token: WD-TOKEN-INVALID").await;
    enter(&mut page, all).await;
    shows(&mut page, "state", "live").await;
    shows(&mut page, "lag", "operators").await;
    setting.source.exec("UPDATE demo_todos SET done = NOT done WHERE id = 1").await;
    shows(&mut page, "changes", "public.demo_todos").await;
    keeps_no(&mut page, all).await;
    page.reload().await;
    asks_for_a_token(&mut page, "wants a token").await;
    enter(&mut page, operator).await;
    shows(&mut page, "state", "live").await;
    shows(&mut page, "lag", "capture streaming").await;
    shows(&mut page, "sessions", "live").await;
    keeps_no(&mut page, operator).await;
}

/// On a listener that only operators of this machine reach, the state is theirs to see; changes are a client's.
#[tokio::test]
async fn on_the_operators_listener_changes_alone_want_a_token() {
    let admin = free_port();
    let server = format!("[server]\nadmin_listen = '127.0.0.1:{admin}'\n");
    let Guarded { setting, tokens, _config } = guarded("page_admin", &server).await;
    let mut page = Page::open("admin").await;
    page.go_to(&format!("http://127.0.0.1:{admin}/")).await;
    asks_for_a_token(&mut page, "Changes are for who has a token").await;
    shows(&mut page, "severity", "all is well").await;
    shows(&mut page, "state", "waiting for a token").await;
    enter(&mut page, "wd_nonsense").await;
    asks_for_a_token(&mut page, "does not take this token: WD-TOKEN-INVALID").await;
    enter(&mut page, &tokens[1]).await;
    shows(&mut page, "state", "live").await;
    setting.source.exec("UPDATE demo_todos SET title = 'changed ' || id").await;
    shows(&mut page, "changes", "changed 2").await;
    assert!(!text(&mut page, "changes").await.contains("changed 1"), "its rule shows it one row");
    setting.source.exec("DELETE FROM demo_todos WHERE id = 2").await;
    shows(&mut page, "session-count", "1").await;
    picture(&mut page, "admin.png").await;
}
