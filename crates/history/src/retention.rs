//! How much of history is kept: for ever, for a time, or up to a size.
//!
//! What has to go because of that is not decided here, see `sweep`.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use crate::partition::Width;
use crate::sweep::{LastTimes, Retained};
use crate::{History, lock};

/// A new partition gets at least this much of the WAL, where history is kept for a time.
pub(crate) const PARTITION_BYTES_MIN: u64 = 16 << 20;
/// The same where it is kept up to a size.
const SIZE_PARTITION_BYTES_MIN: u64 = 1 << 20;
/// What a new partition gets where nobody knows yet how much WAL there is in a while.
const PARTITION_BYTES_UNKNOWN: u64 = 256 << 20;
/// A partition is this part of what is kept, about.
pub(crate) const PARTS: u32 = 20;

/// WAL bytes that a new partition gets where so many bytes are kept.
pub(crate) fn size_partition_bytes(kept: u64) -> u64 {
    (kept / u64::from(PARTS)).max(SIZE_PARTITION_BYTES_MIN)
}

/// How much is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// Everything.
    #[default]
    Off,
    /// What was stored within this time.
    Age(Duration),
    /// So many bytes, with indexes: the newest.
    Size(u64),
}

/// A text that says nothing of how much is kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` does not say how much history is kept: \"off\", a time of at least a minute such as \"30d\", \"12h\" or \"90m\", or a \
     size such as \"200GB\", \"500MB\" or \"2TB\""
)]
pub struct BadRetention {
    text: String,
}

impl FromStr for Retention {
    type Err = BadRetention;

    fn from_str(text: &str) -> Result<Self, BadRetention> {
        if text == "off" {
            return Ok(Retention::Off);
        }
        let bad = || BadRetention { text: text.chars().take(100).collect() };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().ok().filter(|number| *number > 0).ok_or_else(bad)?;
        let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs).map(Retention::Age);
        let bytes = |shift: u32| number.checked_mul(1 << shift).map(Retention::Size);
        let kept = match unit {
            "m" => seconds(60),
            "h" => seconds(60 * 60),
            "d" => seconds(24 * 60 * 60),
            "B" => bytes(0),
            "MB" => bytes(20),
            "GB" => bytes(30),
            "TB" => bytes(40),
            _ => None,
        };
        // What is beyond this is for ever, and would not be a time of the database's.
        let is_too_much = |kept: &Retention| {
            matches!(kept, Retention::Age(age) if age.as_secs() > 100 * 366 * 24 * 60 * 60)
                || matches!(kept, Retention::Size(bytes) if *bytes > 1 << 60)
        };
        kept.filter(|kept| !is_too_much(kept)).ok_or_else(bad)
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let largest = |number: u64, units: &[(u64, &'static str)]| {
            let fits = units.iter().rev().find(|(each, _)| number.is_multiple_of(*each));
            fits.map_or((number, ""), |(each, unit)| (number / each, *unit))
        };
        let (number, unit) = match self {
            Retention::Off => return f.write_str("off"),
            Retention::Age(age) => {
                largest(age.as_secs(), &[(1, "s"), (60, "m"), (60 * 60, "h"), (24 * 60 * 60, "d")])
            }
            Retention::Size(bytes) => {
                largest(*bytes, &[(1, "B"), (1 << 20, "MB"), (1 << 30, "GB"), (1 << 40, "TB")])
            }
        };
        write!(f, "{number}{unit}")
    }
}

/// What is to be kept, and what there is.
pub(crate) struct Retaining {
    policy: watch::Sender<Retention>,
    /// WAL bytes that a new partition gets.
    width: Arc<Width>,
    last_times: Mutex<LastTimes>,
    /// As of the last sweep of this process.
    retained: Mutex<Option<Retained>>,
}

impl Default for Retaining {
    fn default() -> Self {
        Retaining {
            policy: watch::Sender::new(Retention::Off),
            width: Arc::default(),
            last_times: Mutex::default(),
            retained: Mutex::default(),
        }
    }
}

impl History {
    /// How much is kept from now on, if this process writes history: it takes effect with the next sweep.
    pub fn retain(&self, retention: Retention) {
        let bytes = match retention {
            Retention::Off => u64::MAX,
            Retention::Age(_) => PARTITION_BYTES_UNKNOWN,
            Retention::Size(bytes) => size_partition_bytes(bytes),
        };
        let is_new = self.inner.retaining.policy.send_if_modified(|policy| {
            let is_new = *policy != retention;
            *policy = retention;
            is_new
        });
        if is_new {
            self.set_partition_bytes(bytes);
        }
    }

    /// How much is kept.
    pub fn retention(&self) -> Retention {
        *self.inner.retaining.policy.borrow()
    }

    /// What there is, as the last sweep of this process has found and left it; `None` before the first.
    pub fn retained(&self) -> Option<Retained> {
        lock(&self.inner.retaining.retained).clone()
    }

    pub(crate) fn watch_retention(&self) -> watch::Receiver<Retention> {
        self.inner.retaining.policy.subscribe()
    }

    pub(crate) fn partition_width(&self) -> Arc<Width> {
        self.inner.retaining.width.clone()
    }

    /// Until this is called again, new partitions get wider and wider: a few of them hold whatever comes. Not where history is kept up to
    /// a size, further than to a quarter of that: the one that is written is never dropped.
    pub(crate) fn set_partition_bytes(&self, bytes: u64) {
        let most = match self.retention() {
            Retention::Size(kept) => kept / 4,
            Retention::Off | Retention::Age(_) => u64::MAX,
        };
        self.inner.retaining.width.set(bytes, most);
    }

    pub(crate) fn last_times(&self) -> LastTimes {
        lock(&self.inner.retaining.last_times).clone()
    }

    pub(crate) fn set_last_times(&self, times: LastTimes) {
        *lock(&self.inner.retaining.last_times) = times;
    }

    pub(crate) fn set_retained(&self, retained: Retained) {
        *lock(&self.inner.retaining.retained) = Some(retained);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_off_a_time_or_a_size() {
        let hours = |hours: u64| Retention::Age(Duration::from_secs(hours * 3600));
        for (text, kept) in [
            ("off", Retention::Off),
            ("30d", hours(720)),
            ("12h", hours(12)),
            ("90m", Retention::Age(Duration::from_secs(5400))),
            ("200GB", Retention::Size(200 << 30)),
            ("1MB", Retention::Size(1 << 20)),
            ("1B", Retention::Size(1)),
            ("2TB", Retention::Size(2 << 40)),
        ] {
            assert_eq!(text.parse(), Ok(kept), "{text}");
            assert_eq!(kept.to_string(), text);
        }
        for text in [
            "",
            "on",
            "0d",
            "0GB",
            "30",
            "d",
            "-1d",
            "30 d",
            "1.5h",
            "30s",
            "30D",
            "200gb",
            "200G",
            "18446744073709551615d",
            "99999999999GB",
            "90000d",
        ] {
            assert!(text.parse::<Retention>().is_err(), "{text}");
        }
    }
}
