//! How sessions end: the one place where reasons become WebSocket close codes.

use std::time::Duration;

use waldelta_wal::Code;

use crate::spread;

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// The client closed, or its connection broke.
    Gone,
    /// The service stops.
    Stopping,
    /// A newer session of the same client has come.
    Replaced,
    /// No hello in time.
    HelloMissing,
    /// It sends what cannot be accepted.
    Refused(Code),
    /// A table that it may not have, or that is not there; or a client id that is not its own.
    NotAllowed(Code),
    /// No token, or one that is not accepted, or not any more.
    Unauthorized(Code),
    /// A frame that is too large.
    FrameTooLarge,
    /// It offered only subprotocols that are not spoken.
    SubprotocolUnknown,
    /// Too many sessions, or too many frames.
    TooMany(Code),
    /// The cursor cannot be resumed and no snapshot is wanted.
    NotResumable,
    /// It does not read.
    TooSlow,
    /// A database is out of reach for now.
    TryLater(Code),
    /// A defect here.
    Internal,
}

impl Closing {
    /// Somebody is not let in.
    pub(crate) fn of_refusal(refusal: waldelta_access::Refusal) -> Self {
        match refusal.is_retryable() {
            true => Closing::TryLater(refusal.code()),
            false => Closing::Unauthorized(refusal.code()),
        }
    }

    /// The WebSocket close code; `None` when there is nobody to tell.
    pub(crate) fn close_code(self) -> Option<u16> {
        Some(match self {
            Closing::Gone => return None,
            Closing::Stopping => 1012,
            Closing::TryLater(_) => 1013,
            Closing::Refused(_) => 4400,
            Closing::Unauthorized(_) => 4401,
            Closing::NotAllowed(_) => 4403,
            Closing::SubprotocolUnknown => 4406,
            Closing::HelloMissing => 4408,
            Closing::Replaced => 4409,
            Closing::NotResumable => 4410,
            Closing::FrameTooLarge => 4413,
            Closing::TooSlow => 4418,
            Closing::TooMany(_) => 4429,
            Closing::Internal => 4500,
        })
    }

    /// The stable code in the close reason.
    pub(crate) fn code(self) -> Option<Code> {
        Some(match self {
            Closing::Gone => return None,
            Closing::Stopping => Code::Stopping,
            Closing::Replaced => Code::ClientReplaced,
            Closing::HelloMissing => Code::HelloMissing,
            Closing::Refused(code)
            | Closing::NotAllowed(code)
            | Closing::Unauthorized(code)
            | Closing::TooMany(code)
            | Closing::TryLater(code) => code,
            Closing::FrameTooLarge => Code::FrameTooLarge,
            Closing::SubprotocolUnknown => Code::SubprotocolUnknown,
            Closing::NotResumable => Code::CursorNotResumable,
            Closing::TooSlow => Code::ClientTooSlow,
            Closing::Internal => Code::Internal,
        })
    }

    /// Whether coming back helps without a change of the client.
    pub(crate) fn may_return(self) -> bool {
        match self {
            Closing::Stopping
            | Closing::HelloMissing
            | Closing::TooMany(_)
            | Closing::TooSlow
            | Closing::TryLater(_)
            | Closing::Internal => true,
            Closing::Gone
            | Closing::Replaced
            | Closing::Refused(_)
            | Closing::NotAllowed(_)
            | Closing::Unauthorized(_)
            | Closing::FrameTooLarge
            | Closing::SubprotocolUnknown
            | Closing::NotResumable => false,
        }
    }

    /// The close reason: short JSON, below the 123 bytes that a close frame has room for.
    pub(crate) fn reason(self, retry_ms: u64) -> String {
        match self.code() {
            Some(code) if self.may_return() => {
                format!("{{\"code\":\"{}\",\"retry_ms\":{retry_ms}}}", code.as_str())
            }
            Some(code) => format!("{{\"code\":\"{}\"}}", code.as_str()),
            None => String::new(),
        }
    }
}

/// When a client should come back: spread by the number of its session, over a time that grows with how many `sessions` there
/// are, so that those who are let go together do not come back together.
pub(crate) fn retry_ms(session: u64, sessions: usize) -> u64 {
    const AT_LEAST_MS: u64 = 250;
    /// How many are to come back in a second.
    const RETURNS_PER_SECOND: u64 = 500;
    const SPREAD_MS: std::ops::RangeInclusive<u64> = 1_000..=60_000;
    let spread_ms = (sessions as u64).saturating_mul(1_000) / RETURNS_PER_SECOND;
    let spread = Duration::from_millis(spread_ms.clamp(*SPREAD_MS.start(), *SPREAD_MS.end()));
    AT_LEAST_MS + u64::try_from(spread::part(session, spread).as_millis()).unwrap_or(*SPREAD_MS.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_fits_a_close_frame() {
        for code in Code::ALL {
            let reason = Closing::TryLater(*code).reason(u64::MAX);
            assert!(reason.len() <= 123, "{reason}");
            assert!(serde_json::from_str::<serde_json::Value>(&reason).is_ok());
        }
    }

    #[test]
    fn retries_are_spread() {
        for (sessions, over_ms) in [(1, 1_000), (1_000, 2_000), (10_000, 20_000), (1_000_000, 60_000)] {
            let mut all: Vec<u64> = (0..1_000).map(|session| retry_ms(session, sessions)).collect();
            assert!(all.iter().all(|ms| (250..250 + over_ms).contains(ms)));
            all.sort_unstable();
            let widest = all.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
            assert!(widest < over_ms / 20, "no large hole and so no heap: {widest} ms of {over_ms}");
        }
    }
}
