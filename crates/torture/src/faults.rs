//! What goes wrong: hands that break things independently of each other, each one thing at a time and each for a bounded time.

mod clock;
mod databases;
mod disks;
mod foreign;
mod kills;
mod processes;
mod replication;
mod settings;

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use waldelta_testkit::Dice;

pub(crate) use self::disks::NEXT_SEGMENT;
use crate::round::{Stage, fail};

/// Breaks things until it is told to end, by when everything is whole again.
pub(crate) struct Faults {
    hands: JoinSet<()>,
    end: watch::Sender<bool>,
}

impl Faults {
    /// Begins.
    pub(crate) fn begin(stage: &Arc<Stage>, part: u64) -> Self {
        let end = watch::Sender::new(false);
        let mut hands = JoinSet::new();
        let hand = |name: &str| Hand {
            stage: stage.clone(),
            dice: Dice::of(stage.seed, &format!("{name} of part {part}")),
            end: end.subscribe(),
        };
        if stage.kills_only {
            hands.spawn(kills::run(hand("kills")));
            return Faults { hands, end };
        }
        hands.spawn(processes::run(hand("processes")));
        hands.spawn(databases::run(hand("databases")));
        hands.spawn(replication::run(hand("replication")));
        hands.spawn(clock::run(hand("clock")));
        hands.spawn(disks::run(hand("disks")));
        hands.spawn(settings::run(hand("settings")));
        Faults { hands, end }
    }

    /// Waits for ever, unless a hand fails.
    pub(crate) async fn failed(&mut self) {
        if let Some(ended) = self.hands.join_next().await {
            fail(ended)
        }
    }

    /// Ends what is broken now, and breaks nothing more.
    pub(crate) async fn end(mut self) {
        self.end.send_replace(true);
        while let Some(ended) = self.hands.join_next().await {
            ended.unwrap_or_else(|error| fail(Err(error)));
        }
    }
}

/// What breaks things of one sort.
struct Hand {
    stage: Arc<Stage>,
    dice: Dice,
    end: watch::Receiver<bool>,
}

impl Hand {
    /// Waits between these two, less if it is to end. Whether it may go on.
    async fn pause(&mut self, low_ms: u64, high_ms: u64) -> bool {
        let until = Instant::now() + self.dice.ms(low_ms, high_ms);
        let left = until.saturating_duration_since(Instant::now());
        let ended = timeout(left, self.end.wait_for(|end| *end)).await;
        ended.is_err()
    }

    fn note(&self, what: impl std::fmt::Display) {
        self.stage.chronicle.note(what);
    }
}
