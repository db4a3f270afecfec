//! Faults of the program's processes: killed, stopped, frozen, and ended at the steps around storing a transaction.

use std::sync::atomic::Ordering;

use super::Hand;

/// Steps at which a process can be ended, or kept waiting, and how often it comes by in a part.
const STEPS: [(&str, u64); 14] = [
    ("capture::before_append", 40),
    ("history::before_copy", 40),
    ("history::after_copy", 40),
    ("history::before_commit", 40),
    ("history::after_commit", 40),
    ("history::before_publish", 40),
    ("capture::after_append_before_feedback", 40),
    ("capture::after_feedback", 40),
    ("history::lease_revoked", 0),
    ("history::lease_taken", 1),
    ("history::before_partition", 0),
    ("history::after_partition", 0),
    ("fanout::before_snapshot", 4),
    ("fanout::inside_snapshot", 8),
];

/// Breaks until the end.
pub(super) async fn run(mut hand: Hand) {
    while hand.pause(500, 6000).await {
        let number = hand.dice.index(hand.stage.fleet.len());
        match hand.dice.roll(11) {
            0..=4 => kill(&mut hand, number).await,
            5 => stop(&mut hand, number).await,
            6 | 7 => freeze_until_another_takes_over(&mut hand).await,
            8 => kill_all(&mut hand).await,
            _ => freeze(&mut hand, number, 200, 4000).await,
        }
    }
}

pub(super) async fn kill(hand: &mut Hand, number: usize) {
    let stage = hand.stage.clone();
    let mut member = stage.fleet.member(number).await;
    hand.note(format!("kill {}", member.name));
    member.kill().await;
    stage.fleet.count_kill();
    if hand.dice.once_in(2) {
        hand.pause(100, 5000).await;
    }
    launch(hand, &mut member);
}

/// All at once, as when a machine goes.
pub(super) async fn kill_all(hand: &mut Hand) {
    let stage = hand.stage.clone();
    hand.note("kill all");
    for number in 0..stage.fleet.len() {
        stage.fleet.member(number).await.kill().await;
        stage.fleet.count_kill();
    }
    hand.pause(0, 3000).await;
    launch_all(hand).await;
}

/// Starts all of them again.
pub(super) async fn launch_all(hand: &mut Hand) {
    let stage = hand.stage.clone();
    for number in 0..stage.fleet.len() {
        let mut member = stage.fleet.member(number).await;
        // Another hand may have started it meanwhile.
        if member.is_down() {
            launch(hand, &mut member);
        }
    }
}

async fn stop(hand: &mut Hand, number: usize) {
    let stage = hand.stage.clone();
    let mut member = stage.fleet.member(number).await;
    hand.note(format!("stop {}", member.name));
    member.stop().await;
    launch(hand, &mut member);
}

async fn freeze(hand: &mut Hand, number: usize, low_ms: u64, high_ms: u64) {
    let stage = hand.stage.clone();
    let mut member = stage.fleet.member(number).await;
    hand.note(format!("freeze {}", member.name));
    member.freeze();
    hand.pause(low_ms, high_ms).await;
    if hand.dice.once_in(4) {
        hand.note(format!("kill {}, which is frozen", member.name));
        member.kill().await;
        stage.fleet.count_kill();
        launch(hand, &mut member);
    } else {
        hand.note(format!("thaw {}", member.name));
        member.thaw();
    }
}

/// One that may write history, for longer than it takes until another writes. Sometimes there are no rows meanwhile: what it has left to
/// store when it goes on is its durable end alone, and no row that is there already keeps it from that.
async fn freeze_until_another_takes_over(hand: &mut Hand) {
    let stage = hand.stage.clone();
    let number = *hand.dice.pick(stage.fleet.writers());
    let rests = hand.dice.once_in(2);
    hand.stage.rest.store(rests, Ordering::Relaxed);
    if rests {
        hand.note("the writers rest");
        hand.pause(300, 1000).await;
    }
    freeze(hand, number, 14_000, 22_000).await;
    if rests {
        hand.pause(500, 2000).await;
    }
    hand.stage.rest.store(false, Ordering::Relaxed);
}

/// Sometimes in a life that ends, or is held up, at one of the steps.
fn launch(hand: &mut Hand, member: &mut crate::fleet::Member) {
    let armed = hand.dice.once_in(2).then(|| {
        let (step, passes_max) = *hand.dice.pick(&STEPS);
        let passes = hand.dice.between(0, passes_max);
        match hand.dice.roll(4) {
            0 => format!("{step}={passes}*off->30*sleep({})", hand.dice.between(10, 200)),
            1 => format!("{step}={passes}*off->1*sleep({})->off", hand.dice.between(1000, 8000)),
            _ => format!("{step}={passes}*off->panic"),
        }
    });
    hand.note(format!("start {} {}", member.name, armed.as_deref().unwrap_or_default()));
    member.launch(armed);
}
