//! The service is killed at each step around storing a transaction, and at any time, and started again: history has
//! every transaction once, whole, together with the durable end; a client that resumes has the source's rows.

use std::os::unix::process::ExitStatusExt;

use waldelta_testkit::{Dice, Service, wait_until};

use crate::load::{Load, SCHEMA, TABLES};
use crate::oracle::Oracle;
use crate::setting::{PATIENCE, Setting};

/// The steps, in the order of a transaction's way.
const STEPS: [&str; 8] = [
    "capture::before_append",
    "history::before_copy",
    "history::after_copy",
    "history::before_commit",
    "history::after_commit",
    "history::before_publish",
    "capture::after_append_before_feedback",
    "capture::after_feedback",
];
const SIGABRT: i32 = 6;
const RANDOM_KILLS: u32 = 10;

#[tokio::test]
async fn at_each_step_around_the_append() {
    let mut setting = Setting::new("kill_step", SCHEMA).await;
    let oracle = Oracle::begin(&setting.source, &setting.history).await;
    let (_socket, mut replica) = setting.client("away").await;
    let load = Load::start(setting.source.url(), 4, 1);
    load.more(50).await;
    setting.service.kill9().await;
    for step in STEPS {
        // The first time that it comes there, and later, when the connection has carried something already.
        for passes in [0, 4] {
            let action = if passes == 0 { "panic".to_owned() } else { format!("{passes}*off->panic") };
            let options = setting.run_options().failpoints(&format!("{step}={action}"));
            // In the program under test a panic at a fault point ends the process then and there.
            setting.service = Service::spawn(options);
            let status = setting.service.wait_exit(PATIENCE).await;
            assert_eq!(
                status.signal(),
                Some(SIGABRT),
                "{step} after {passes}: {status}\n{}",
                setting.service.log()
            );
            oracle.check(&format!("killed at {step} after {passes}")).await;
        }
    }
    setting.service = Service::start(setting.run_options()).await;
    load.more(50).await;
    load.stop().await;
    let mut socket = setting.resume("away", &mut replica).await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    setting.history_equals_source(&TABLES).await;
    oracle.check_all().await;
}

#[tokio::test]
async fn at_any_time() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut dice = Dice::of(seed, "kills");
    let mut setting = Setting::new("kill_any", SCHEMA).await;
    let oracle = Oracle::begin(&setting.source, &setting.history).await;
    let (mut socket, mut replica) = setting.client("away").await;
    let load = Load::start(setting.source.url(), 4, seed);
    for kill in 0..RANDOM_KILLS {
        // Some die while they start, some while they catch up, some while a client is at it.
        load.more(1 + dice.roll(60)).await;
        if dice.roll(3) == 0 {
            setting.service.wait_ready().await;
            socket = setting.resume("away", &mut replica).await;
            let goal = replica.transactions() + dice.roll(40);
            socket
                .follow(&mut replica, "it has some more", PATIENCE, |replica| replica.transactions() >= goal)
                .await;
        }
        setting.service.kill9().await;
        oracle.check(&format!("kill {kill} of seed {seed}")).await;
        setting.service = Service::spawn(setting.run_options());
    }
    setting.service.wait_ready().await;
    load.more(50).await;
    load.stop().await;
    drop(socket);
    let mut socket = setting.resume("away", &mut replica).await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    assert_eq!(replica.resets(), [""; 0], "it could resume every time");
    setting.history_equals_source(&TABLES).await;
    oracle.check_all().await;
}

/// A lock on the row with the durable end keeps the last statement of an append waiting, with the rows sent already. The
/// server finds out that the service is gone only afterwards, and may then do what it was told to: all or nothing.
#[tokio::test]
async fn between_the_rows_and_the_durable_end() {
    let mut setting = Setting::new("kill_between", SCHEMA).await;
    let oracle = Oracle::begin(&setting.source, &setting.history).await;
    let load = Load::start(setting.source.url(), 4, 1);
    for _ in 0..3 {
        load.more(30).await;
        let holder = setting.history.client().await;
        holder.batch_execute("BEGIN; SELECT FROM waldelta.captures FOR UPDATE").await.unwrap();
        let writers = |and: &str| {
            format!(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                 AND application_name = 'waldelta-history-writer' {and}"
            )
        };
        let waits = writers("AND wait_event_type = 'Lock'");
        wait_until("the append waits", PATIENCE, async || setting.history.query_text(&waits).await == "1")
            .await;
        setting.service.kill9().await;
        oracle.check("killed in the middle").await;
        holder.batch_execute("COMMIT").await.unwrap();
        let left = writers("");
        wait_until("the append has ended", PATIENCE, async || setting.history.query_text(&left).await == "0")
            .await;
        oracle.check("after the middle").await;
        setting.service = Service::start(setting.run_options()).await;
    }
    load.stop().await;
    setting.history_equals_source(&TABLES).await;
    oracle.check_all().await;
}
