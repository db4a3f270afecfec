//! Faults of the two databases and of the ways to them: servers that crash, are restarted or stand still, backends that are ended,
//! connections that are cut, and ones through which nothing comes any more.

use waldelta_testkit::{Shutdown, TestCluster};

use super::Hand;
use super::disks::ask;

/// The two servers, by the numbers that routes have for them.
pub(super) const NAMES: [&str; 2] = ["source", "history"];
const WALSENDERS: &str =
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'walsender'";
const OURS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND application_name LIKE 'waldelta%'";

/// Breaks until the end.
pub(super) async fn run(mut hand: Hand) {
    while hand.pause(500, 7000).await {
        let to = hand.dice.index(2);
        match hand.dice.roll(14) {
            0 => crash(&mut hand, to, Shutdown::Immediate).await,
            1 => crash(&mut hand, to, Shutdown::Kill).await,
            2 => restart(&mut hand, to, Shutdown::Fast).await,
            3 => restart(&mut hand, to, Shutdown::Smart).await,
            4 | 5 => freeze(&mut hand, to).await,
            6 | 7 => terminate(&mut hand, to).await,
            8 | 9 => cut(&mut hand, to).await,
            10 => close(&mut hand, to).await,
            _ => hold(&mut hand, to).await,
        }
    }
}

fn cluster(hand: &Hand, to: usize) -> TestCluster {
    let world = &hand.stage.world;
    if to == 0 { world.source_cluster.clone() } else { world.history_cluster.clone() }
}

pub(super) async fn crash(hand: &mut Hand, to: usize, how: Shutdown) {
    restart(hand, to, how).await;
    hand.stage.fleet.count_kill();
}

/// In an orderly way or not.
async fn restart(hand: &mut Hand, to: usize, how: Shutdown) {
    let stage = hand.stage.clone();
    let (cluster, _held) = stage.world.server(to).await;
    hand.note(format!("{} goes down ({how:?})", NAMES[to]));
    cluster.down(how).await;
    if hand.dice.once_in(2) {
        hand.pause(100, 6000).await;
    }
    cluster.up().await;
    hand.note(format!("{} is up", NAMES[to]));
}

async fn freeze(hand: &mut Hand, to: usize) {
    let stage = hand.stage.clone();
    let (cluster, _held) = stage.world.server(to).await;
    hand.note(format!("{} stands still", NAMES[to]));
    cluster.freeze().await;
    hand.pause(200, 8000).await;
    cluster.thaw().await;
    hand.note(format!("{} goes on", NAMES[to]));
}

/// What an administrator does: the walsender, or everything of ours.
async fn terminate(hand: &mut Hand, to: usize) {
    let stage = hand.stage.clone();
    let (cluster, _held) = stage.world.server(to).await;
    let (sql, what) = match to {
        0 => (WALSENDERS, "walsenders"),
        _ => (OURS, "our connections to history"),
    };
    hand.note(format!("terminate {what}"));
    let answer = ask(&cluster, sql).await;
    assert!(answer.is_some(), "{sql}: no answer:\n{}", cluster.log());
}

/// The processes whose way is concerned: one, or all.
fn concerned(hand: &mut Hand) -> Vec<usize> {
    let all = hand.stage.fleet.len();
    if hand.dice.once_in(3) {
        return (0..all).collect();
    }
    vec![hand.dice.index(all)]
}

fn port(hand: &Hand, to: usize) -> u16 {
    cluster(hand, to).port()
}

async fn cut(hand: &mut Hand, to: usize) {
    let (port, times) = (port(hand, to), hand.dice.between(1, 3));
    let concerned = concerned(hand);
    for _ in 0..times {
        hand.note(format!("cut {concerned:?} from {}", NAMES[to]));
        concerned.iter().for_each(|number| hand.stage.fleet.route(*number, to).turn_to(port));
        hand.pause(0, 400).await;
    }
}

/// The way is closed for a while.
async fn close(hand: &mut Hand, to: usize) {
    let (port, concerned) = (port(hand, to), concerned(hand));
    hand.note(format!("close the way of {concerned:?} to {}", NAMES[to]));
    concerned.iter().for_each(|number| hand.stage.fleet.route(*number, to).close());
    hand.pause(500, 8000).await;
    hand.note(format!("open the way of {concerned:?} to {}", NAMES[to]));
    concerned.iter().for_each(|number| hand.stage.fleet.route(*number, to).turn_to(port));
}

/// Nothing comes through for a while, then everything.
async fn hold(hand: &mut Hand, to: usize) {
    // Sometimes for longer than another waits before it takes over.
    let high_ms = if hand.dice.once_in(4) { 20_000 } else { 6000 };
    let concerned = concerned(hand);
    hand.note(format!("hold what goes between {concerned:?} and {}", NAMES[to]));
    concerned.iter().for_each(|number| hand.stage.fleet.route(*number, to).hold());
    hand.pause(200, high_ms).await;
    hand.note(format!("release what goes between {concerned:?} and {}", NAMES[to]));
    concerned.iter().for_each(|number| hand.stage.fleet.route(*number, to).release());
}
