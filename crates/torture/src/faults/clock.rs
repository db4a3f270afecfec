//! Wall clocks that jump, by minutes or hours and both ways, of one process or of all: nothing that must be right looks at them.

use super::Hand;

const HOUR_S: u64 = 3600;

/// Sets clocks until the end, by when all of them are right again.
pub(super) async fn run(mut hand: Hand) {
    let stage = hand.stage.clone();
    let clocks = stage.fleet.clocks();
    if clocks.is_empty() {
        hand.note("no clock jumps: libfaketime is not installed");
        // It ends when it is told to, as all hands do.
        _ = hand.end.wait_for(|end| *end).await;
        return;
    }
    while hand.pause(2000, 12_000).await {
        let by_s = match hand.dice.roll(4) {
            0 => 0,
            1 => hand.dice.between(1, 10 * 60),
            _ => hand.dice.between(10 * 60, 12 * HOUR_S),
        };
        let by_s = i64::try_from(by_s).unwrap() * if hand.dice.once_in(2) { -1 } else { 1 };
        if hand.dice.once_in(3) {
            hand.note(format!("all clocks are off by {by_s} s"));
            clocks.iter().for_each(|clock| clock.put_off(by_s));
        } else {
            let number = hand.dice.index(clocks.len());
            hand.note(format!("clock {number} is off by {by_s} s"));
            clocks[number].put_off(by_s);
        }
    }
    clocks.iter().for_each(|clock| clock.put_off(0));
}
