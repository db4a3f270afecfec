//! History is kept as long as is said: old partitions go, whoever would resume from there begins anew and says why, and everybody
//! else goes on.

use std::os::unix::process::ExitStatusExt;

use waldelta_testkit::{Service, WsClient, wait_until};

use crate::setting::{
    ConfigFile, PATIENCE, Setting, all_tables, config_file, of_type, record, waldelta, waldelta_ok,
    with_databases,
};

const SCHEMA: &str = "CREATE TABLE a (id int PRIMARY KEY, v text)";
const TABLES: [&str; 1] = ["public.a"];
const PARTITIONS: &str =
    "SELECT count(*) FROM pg_inherits WHERE inhparent = 'waldelta.change_history'::regclass";
/// Whether what is said to be gone is gone, and nothing else: nothing is left of before the floor, all is there from it on.
const AGREES: &str = "SELECT coalesce((pruned_epoch, pruned_lsn) = (floor_epoch, floor_lsn)
        AND (SELECT min(lsn) FROM waldelta.change_history) >= pruned_lsn, pruned_lsn IS NULL)
    FROM waldelta.captures";
const SIGABRT: i32 = 6;

/// About half a megabyte of history, and of WAL, each.
async fn write(setting: &Setting, transactions: std::ops::Range<u32>) {
    for number in transactions {
        let rows = format!(
            "INSERT INTO a SELECT {number} * 1000 + i, repeat(md5(i::text), 12) FROM generate_series(1, 800) i"
        );
        setting.source.exec(&rows).await;
    }
    setting.settled().await;
}

async fn count(setting: &Setting) -> u64 {
    setting.history.query_text(PARTITIONS).await.parse().unwrap()
}

/// A setting that keeps a megabyte, from its first change on.
async fn keeping_little(hint: &str) -> (Setting, ConfigFile) {
    let mut setting = Setting::new(hint, SCHEMA).await;
    setting.service.stop().await;
    let config = config_file("[history]\nretain = \"1MB\"\n");
    setting.service.start_again_with(config.add_to(setting.run_options())).await;
    (setting, config)
}

#[tokio::test]
async fn who_is_below_the_floor_begins_anew_and_who_is_above_goes_on() {
    let (mut setting, config) = keeping_little("retention").await;
    let (socket, mut below) = setting.client("below").await;
    socket.close().await;
    write(&setting, 0..16).await;
    let (mut socket, mut above) = setting.client("above").await;
    setting.equal(&mut socket, &mut above, &TABLES).await;
    socket.close().await;
    write(&setting, 16..17).await;
    let before = count(&setting).await;
    assert!(before >= 5, "{before} partitions");

    // Shown first; then the service that runs is given the order.
    let prune = |more: &[&str]| {
        let mut args = with_databases(&["prune"], &setting.source, &setting.history);
        args.extend(["--config", config.path()].iter().chain(more).map(|word| (*word).to_owned()));
        args
    };
    let shown = waldelta_ok(&prune(&[]));
    assert!(shown.contains("to keep 1MB") && shown.contains("nothing was removed"), "{shown}");
    assert_eq!(count(&setting).await, before);
    let nonsense = waldelta(&with_databases(&["prune", "--yes"], &setting.source, &setting.history));
    assert_eq!(nonsense.0, Some(1), "nothing says how much to keep: {nonsense:?}");
    let done = waldelta_ok(&prune(&["--keep", "5MB", "--yes"]));
    assert!(done.contains("to keep 5MB") && !done.contains(" 0 partitions were dropped"), "{done}");
    let between = count(&setting).await;
    assert!(between < before, "{between} of {before}");

    // And by itself: a service that starts sweeps.
    setting.service.stop().await;
    setting.service.start_again().await;
    wait_until("it is swept", PATIENCE, async || count(&setting).await < between).await;
    assert_eq!(setting.history.query_text(AGREES).await, "t");
    let status = async || -> serde_json::Value {
        serde_json::from_str(&setting.service.get("/v1/status").await.1).unwrap()
    };
    let is_told = async || status().await["history"]["retained"]["retain"] == "1MB";
    wait_until("the sweep is over", PATIENCE, is_told).await;
    let status = status().await;

    // Over HTTP it is told, with the floor.
    let cursor = below.position().unwrap();
    let (code, problem) = setting.service.get(&format!("/v1/changes?after={cursor}")).await;
    let problem: serde_json::Value = serde_json::from_str(&problem).unwrap();
    assert_eq!((code, problem["code"].as_str()), (410, Some("WD-HISTORY-PRUNED")), "{problem}");
    let floor = status["history"]["retained"]["floor"].as_str().unwrap();
    assert!(problem["detail"].as_str().unwrap().contains(floor), "{problem} {floor}");

    below.disconnected();
    let mut socket = WsClient::connect(&setting.service.stream()).await;
    socket.send(&below.hello("below", &[all_tables()])).await;
    let frames = record(&mut socket, &mut below, "live", |frame| frame["type"] == "live").await;
    assert_eq!(of_type(&frames, "reset")[0]["reason"], "history_pruned");
    assert!(!of_type(&frames, "snapshot_begin").is_empty());
    setting.equal(&mut socket, &mut below, &TABLES).await;

    above.disconnected();
    let mut socket = WsClient::connect(&setting.service.stream()).await;
    socket.send(&above.hello("above", &[all_tables()])).await;
    let frames = record(&mut socket, &mut above, "live", |frame| frame["type"] == "live").await;
    assert!(of_type(&frames, "reset").is_empty() && of_type(&frames, "snapshot_begin").is_empty());
    write(&setting, 17..18).await;
    setting.equal(&mut socket, &mut above, &TABLES).await;

    // Where no service runs, the command does it itself.
    setting.service.stop().await;
    let alone = count(&setting).await;
    let done = waldelta_ok(&with_databases(
        &["prune", "--keep", "1MB", "--force", "--yes", "--json"],
        &setting.source,
        &setting.history,
    ));
    let done: serde_json::Value = serde_json::from_str(&done).unwrap();
    let dropped = done["done"]["partitions"].as_u64().unwrap();
    assert_eq!(count(&setting).await, alone - dropped, "{done}");
}

#[tokio::test]
async fn killed_in_the_middle_of_pruning_it_is_done_or_not_at_all() {
    let (mut setting, config) = keeping_little("retention_kill").await;
    let (socket, mut replica) = setting.client("c").await;
    socket.close().await;
    for (number, step) in
        ["history::before_prune_guard", "history::before_prune_commit", "history::after_prune_commit"]
            .into_iter()
            .enumerate()
    {
        let from = u32::try_from(number).unwrap() * 12;
        write(&setting, from..from + 12).await;
        setting.service.stop().await;
        let before = count(&setting).await;
        let options = config.add_to(setting.run_options()).failpoints(&format!("{step}=panic"));
        setting.service = Service::spawn(options);
        let status = setting.service.wait_exit(PATIENCE).await;
        assert_eq!(status.signal(), Some(SIGABRT), "{step}: {status}\n{}", setting.service.log());
        // The server may take a moment to see that the service is gone.
        let gone = "SELECT count(*) = 0 FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'waldelta-history-writer'";
        wait_until("the backends are gone", PATIENCE, async || setting.history.query_text(gone).await == "t")
            .await;
        assert_eq!(setting.history.query_text(AGREES).await, "t", "{step}");
        let is_done = step == "history::after_prune_commit";
        assert_eq!(count(&setting).await < before, is_done, "{step}");
        setting.service = Service::start(config.add_to(setting.run_options())).await;
        wait_until("it is swept", PATIENCE, async || count(&setting).await < before).await;
        assert_eq!(setting.history.query_text(AGREES).await, "t", "{step}");
    }
    replica.disconnected();
    let mut socket = WsClient::connect(&setting.service.stream()).await;
    socket.send(&replica.hello("c", &[all_tables()])).await;
    record(&mut socket, &mut replica, "live", |frame| frame["type"] == "live").await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
}

/// Whoever says so while the service runs need not start it again.
#[tokio::test]
async fn how_much_is_kept_is_taken_while_it_runs() {
    let (setting, config) = keeping_little("retention_reload").await;
    let retained = async || {
        let (_, status) = setting.service.get("/v1/status").await;
        serde_json::from_str::<serde_json::Value>(&status).unwrap()["history"]["retained"].take()
    };
    let is_kept = async |kept: &str| {
        wait_until("it is swept", PATIENCE, async || retained().await["retain"] == kept).await;
    };
    std::fs::write(config.path(), "[history]\nretain = \"30d\"\n").unwrap();
    setting.service.hang_up();
    is_kept("30d").await;
    std::fs::write(config.path(), "[history]\nretain = \"1MB\"\n").unwrap();
    setting.service.hang_up();
    is_kept("1MB").await;
    write(&setting, 0..12).await;
    // Partitions are narrow from here on, and what is too much goes at once.
    std::fs::write(config.path(), "[history]\nretain = \"2MB\"\n").unwrap();
    setting.service.hang_up();
    is_kept("2MB").await;
    let pruned = "SELECT pruned_lsn IS NOT NULL FROM waldelta.captures";
    wait_until("it is pruned", PATIENCE, async || setting.history.query_text(pruned).await == "t").await;
    assert_eq!(setting.history.query_text(AGREES).await, "t");
}
