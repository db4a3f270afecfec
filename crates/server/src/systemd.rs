//! Telling systemd how the process is, where it asks for that (`Type=notify`, sd_notify(3)); elsewhere nothing of this does anything.
//!
//! Ready means that the listeners are served: history may still be waited for, which `/readyz` tells and the status line of the unit. A
//! unit that waits for a database would be ended again and again.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

/// What it is at is looked at this often.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The listeners are served.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is read again; [`ready`] says when that is over.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// It was asked to stop.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells what the process is at (for `systemctl status`), and that it lives (`WatchdogSec=`): each time `line` has answered, which asks all parts.
pub(crate) async fn run(
    line: impl Fn() -> String + Send + 'static,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let watchdog = sd_notify::watchdog_enabled();
    // Half of what it waits for, as sd_watchdog_enabled(3) has it.
    let every = watchdog.map_or(LINE_EVERY, |patience| LINE_EVERY.min(patience / 2));
    let mut timer = tokio::time::interval(every);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = String::new();
    while stop.run_until_cancelled(timer.tick()).await.is_some() {
        let line = line();
        if watchdog.is_some() {
            tell(&[NotifyState::Watchdog]);
        }
        if line != told {
            tell(&[NotifyState::Status(&line)]);
            told = line;
        }
    }
    Ok(())
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "tell systemd");
    }
}
