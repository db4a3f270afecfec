//! A process that follows what another one writes, and cannot: its clients get nothing new, so it is not ready.
//!
//! A failure that passes in a moment is none: following tries again by itself. Of a process that writes, this says nothing.

use std::time::Duration;

use waldelta_capture::State;
use waldelta_history::{FollowFailure, History};

use super::Status;

/// What keeps a process in this state of capture, if it has any, from following, where that has lasted for longer than `max`.
pub(super) fn failure(history: &History, state: Option<&State>, max: Duration) -> Option<FollowFailure> {
    let follows = matches!(state, None | Some(State::Standby { .. }));
    history.follow_failure().filter(|failure| follows && failure.since.elapsed() > max)
}

/// Says so in place of what would be said of the instance that writes.
pub(super) fn tell(status: &mut Status, failure: &FollowFailure) {
    status.ready = false;
    let seconds = failure.since.elapsed().as_secs();
    let message = Some(format!("history could not be followed for {seconds} s: {}", failure.message));
    let code = Some(failure.code.as_str().to_owned());
    let fix = Some(failure.code.explanation().fix.to_owned());
    if let Some(capture) = &mut status.capture {
        (capture.code, capture.message, capture.fix) = (code, message, fix);
    } else if let Some(writer) = &mut status.writer {
        // That somebody writes is known from the same database and is no help.
        "unknown".clone_into(&mut writer.state);
        (writer.code, writer.message, writer.fix) = (code, message, fix);
    }
}
