//! Letting everybody go: not in one instant, or all would come back in one.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::spread;

/// What a session is worth of the time in which all are let go: fewer sessions take less of it.
const TIME_EACH: Duration = Duration::from_millis(10);

/// The end of all sessions, each at a time of its own.
pub(crate) struct Leaving {
    begun: CancellationToken,
    plan: OnceLock<Plan>,
}

struct Plan {
    from: Instant,
    over: Duration,
    sessions: usize,
}

impl Leaving {
    /// `begun` is cancelled when it begins: who is nobody's session ends at once.
    pub(crate) fn new(begun: CancellationToken) -> Self {
        Leaving { begun, plan: OnceLock::new() }
    }

    /// Begins: each of so many sessions is to go within `drain`.
    pub(crate) fn begin(&self, sessions: usize, drain: Duration) {
        let each = TIME_EACH.saturating_mul(u32::try_from(sessions).unwrap_or(u32::MAX));
        let _ = self.plan.set(Plan { from: Instant::now(), over: drain.min(each), sessions });
        self.begun.cancel();
    }

    /// Resolves when it is this session's turn.
    pub(crate) async fn turn_of(&self, session: u64) {
        self.begun.cancelled().await;
        if let Some(plan) = self.plan.get() {
            tokio::time::sleep_until(plan.turn_of(session)).await;
        }
    }

    /// How many there were when it began; 0 before.
    pub(crate) fn sessions(&self) -> usize {
        self.plan.get().map_or(0, |plan| plan.sessions)
    }
}

impl Plan {
    fn turn_of(&self, session: u64) -> Instant {
        self.from + spread::part(session, self.over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(sessions: u64, drain: Duration) -> Vec<Duration> {
        let leaving = Leaving::new(CancellationToken::new());
        leaving.begin(usize::try_from(sessions).unwrap(), drain);
        let plan = leaving.plan.get().unwrap();
        let mut turns: Vec<_> = (1..=sessions).map(|session| plan.turn_of(session) - plan.from).collect();
        turns.sort_unstable();
        turns
    }

    #[test]
    fn sessions_are_let_go_one_after_the_other() {
        let drain = Duration::from_secs(5);
        let many = turns(10_000, drain);
        assert!(*many.last().unwrap() < drain);
        let busiest = many.windows(500).map(|run| run[499] - run[0]).min().unwrap();
        assert!(busiest > drain / 40, "a twentieth of them within {busiest:?}");
        let few = turns(3, drain);
        assert!(*few.last().unwrap() <= 3 * TIME_EACH, "few do not wait for nobody: {few:?}");
    }

    #[tokio::test]
    async fn nobody_goes_before_it_begins() {
        use futures_util::FutureExt;
        let leaving = Leaving::new(CancellationToken::new());
        assert_eq!(leaving.turn_of(1).now_or_never(), None);
        leaving.begin(1, Duration::ZERO);
        leaving.turn_of(1).await;
        assert_eq!(leaving.sessions(), 1);
    }
}
