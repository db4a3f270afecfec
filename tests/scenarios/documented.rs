//! The commands in the documentation, run page by page as a reader runs them: in one shell, from the top to the bottom, on a machine of its own
//! (a network and processes of its own), where nothing else is called `waldelta`. What cannot be run here is listed in
//! docs/reference/commands-not-run.md, and nowhere else.

mod page;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use waldelta_testkit::{TestCluster, program};

use self::page::{Block, Page, fits};

/// A page takes no longer than this.
const PATIENCE: Duration = Duration::from_secs(200);
const NOT_RUN: &str = "docs/reference/commands-not-run.md";
const TABLES: &str = include_str!("documented/tables.sql");
const PRELUDE: &str = include_str!("documented/prelude.sh");

/// What there is when a page begins.
enum Begins {
    /// A PostgreSQL that psql reaches.
    Empty,
    /// A database with tables; commands that go on for ever are given a moment.
    Reader,
    /// The same, captured by a service that runs with this configuration.
    Service(&'static str),
}

macro_rules! pages {
    ($($name:ident: $path:literal, $begins:expr;)*) => {
        const PAGES: &[&str] = &[$($path),*];
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            runs($path, $begins).await;
        })*
    };
}

pages! {
    readme: "README.md", Begins::Reader;
    tutorial: "docs/tutorial.md", Begins::Empty;
    troubleshooting: "docs/troubleshooting.md", Begins::Service("");
    snapshots_and_streams: "docs/explanation/snapshots-and-streams.md", Begins::Service("");
    what_is_promised: "docs/explanation/what-is-promised.md", Begins::Service("");
    why_lsn_is_not_a_key: "docs/explanation/why-lsn-is-not-a-key.md", Begins::Service("");
    auth: "docs/how-to/auth.md", Begins::Service("");
    audit: "docs/how-to/audit.md", Begins::Service("");
    clients: "docs/how-to/clients.md", Begins::Service("");
    configure: "docs/how-to/configure.md", Begins::Service("");
    console: "docs/how-to/console.md", Begins::Service("[console]\nlisten = '127.0.0.1:5439'");
    expose: "docs/how-to/expose.md", Begins::Service("");
    history_elsewhere: "docs/how-to/history-elsewhere.md", Begins::Service("");
    notify: "docs/how-to/notify.md", Begins::Service("");
    own_changes: "docs/how-to/own-changes.md", Begins::Service("");
    point_it_at: "docs/how-to/point-it-at.md", Begins::Service("");
    recover_a_lost_slot: "docs/how-to/recover-a-lost-slot.md", Begins::Service("");
    reload: "docs/how-to/reload.md", Begins::Service("");
    replication_role: "docs/how-to/replication-role.md", Begins::Service("");
    retention: "docs/how-to/retention.md", Begins::Service("");
    rules: "docs/how-to/rules.md", Begins::Service("");
    scale_out: "docs/how-to/scale-out.md", Begins::Service("");
    secure: "docs/how-to/secure.md", Begins::Service("");
    standby: "docs/reference/standby.md", Begins::Service("");
    upgrade: "docs/how-to/upgrade.md", Begins::Service("");
    verify: "docs/how-to/verify.md", Begins::Service("[history]\nseal = true");
    wal2json: "docs/reference/wal2json.md", Begins::Service("");
    watch: "docs/how-to/watch.md", Begins::Service("");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The README and all of docs.
fn all_pages() -> Vec<Page> {
    fn below(folder: &Path, pages: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => below(&path, pages),
                false if path.extension().is_some_and(|extension| extension == "md") => pages.push(path),
                false => {}
            }
        }
    }
    let mut paths = vec![root().join("README.md")];
    below(&root().join("docs"), &mut paths);
    let page = |path: PathBuf| {
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        Page::read(&name, &std::fs::read_to_string(&path).unwrap())
    };
    paths.into_iter().map(page).collect()
}

/// The page and the first line of each block that is not run.
fn not_run() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join(NOT_RUN)).unwrap();
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| [")?.split(" | ");
        let (page, _) = cells.next()?.split_once(']')?;
        Some((page.to_owned(), cells.next()?.trim().trim_matches('`').to_owned()))
    };
    text.lines().filter_map(row).collect()
}

fn is_listed(listed: &[(String, String)], page: &str, block: &Block) -> bool {
    listed.iter().any(|(named, line)| named == page && *line == block.command())
}

#[test]
fn every_command_is_run_or_stands_in_the_list_of_those_that_are_not() {
    let listed = not_run();
    let mut wrong = Vec::new();
    for page in all_pages() {
        for block in &page.blocks {
            let is_run = PAGES.contains(&&*page.name) && block.is_run();
            let place = format!("{}:{}: {}", page.name, block.line, block.command());
            match (block.has_commands(), is_run, is_listed(&listed, &page.name, block)) {
                (true, false, false) => wrong.push(format!("{place}\n  is neither run nor listed")),
                (false, false, true) => wrong.push(format!("{place}\n  is listed and is no command")),
                _ => {}
            }
        }
    }
    for (page, line) in &listed {
        let found = all_pages().into_iter().find(|found| found.name == *page);
        if !found.is_some_and(|found| found.blocks.iter().any(|block| block.command() == line)) {
            wrong.push(format!("{NOT_RUN} lists {page}: {line}\n  which is not there"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

async fn runs(name: &str, begins: Begins) {
    let page = Page::read(name, &std::fs::read_to_string(root().join(name)).unwrap());
    let (cluster, listed) = (TestCluster::own(&[("wal_level", "logical")]).await, not_run());
    let folder = std::env::temp_dir().join(format!("waldelta-documented-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let blocks: Vec<&Block> = page.blocks.iter().filter(|block| !is_listed(&listed, name, block)).collect();
    let mut script = format!("{PRELUDE}\n");
    match begins {
        Begins::Empty => {}
        Begins::Reader => script.push_str("with_tables\nas_a_reader\n"),
        Begins::Service(config) => script.push_str(&format!(
            "with_tables\ncat > waldelta.toml <<'WALDELTA_TOML'\n{config}\nWALDELTA_TOML\nwith_service\n"
        )),
    }
    blocks.iter().for_each(|block| script.push_str(&block.script()));
    script.push_str("nothing_is_left\n");
    std::fs::write(folder.join(".script"), script).unwrap();
    std::fs::write(folder.join(".tables.sql"), TABLES).unwrap();

    let mut sandbox = Command::new("unshare");
    sandbox.args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        sandbox.arg("--map-root-user");
    }
    sandbox
        .args(["bash", ".script"])
        .current_dir(&folder)
        .env_clear()
        .env("HOME", &folder)
        .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", program().parent().unwrap().display()))
        .env("PGHOST", cluster.socket_dir())
        .env("PGPORT", cluster.port().to_string())
        .env("PGUSER", "postgres")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, sandbox.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{name} takes longer than {PATIENCE:?}")).unwrap();
    let (said, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let service = std::fs::read_to_string(folder.join("service.log")).unwrap_or_default();
    let last = |all: &str| all.rsplit_once("::block ").map_or(all, |(_, last)| last).to_owned();
    assert!(
        output.status.success(),
        "{name}: {}, at line {}\n{}\nthe service: {service}",
        output.status,
        last(&said),
        last(&log)
    );
    for (block, wanted) in page.answers() {
        let Some(printed) = block.printed(&said) else { continue };
        assert!(
            fits(&wanted.text, printed),
            "{name}:{}: wanted\n{}\nprinted\n{printed}",
            wanted.line,
            wanted.text
        );
    }
    std::fs::remove_dir_all(folder).unwrap();
}
