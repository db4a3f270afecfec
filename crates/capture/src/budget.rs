//! How long the slot can wait: the WAL that it retains at the source, what may still be written before it is lost, and when
//! that will be at the rate of the last minute. Looked at whatever state capture is in, on a connection of its own.
//!
//! It warns, and does nothing: what becomes of a slot that is lost is decided at the next start.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use tokio_postgres::Client;
use waldelta_source::Source;
use waldelta_source::catalog::{self, Slot};
use waldelta_wal::{Code, Lsn};

use crate::status::Status;
use crate::trend::{Sample, Trend, Window};
use crate::{Config, Error};

/// How often the slot is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A look because capture's state has changed comes no sooner than this after the one before.
const LOOK_SPACING: Duration = Duration::from_millis(250);
/// A look may take this long, a new connection included.
const LOOK_TIME_MAX: Duration = Duration::from_secs(10);
/// Less than this until the slot is lost is worth a warning.
const WARNING_SECONDS: u64 = 3600;
/// Less than this leaves time for nothing but raising the limit.
const CRITICAL_SECONDS: u64 = 600;

/// What is left of the source's room for the slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Name of the slot.
    pub slot: String,
    /// Whether a walsender uses it.
    pub active: bool,
    /// `wal_status`: reserved, extended, unreserved, lost.
    pub wal_status: Option<String>,
    /// WAL that the slot retains.
    pub retained_bytes: u64,
    /// WAL that may still be written before it can be lost; `None`: no limit (`max_slot_wal_keep_size`).
    pub safe_bytes: Option<u64>,
    /// WAL that the source writes, in bytes per second over the last minute; `None` until there are two looks.
    pub wal_bytes_per_second: Option<u64>,
    /// Seconds until it can be lost, if nobody reads it; `None` without a limit, and while nothing is written.
    pub seconds_until_lost: Option<u64>,
    /// What is to be made of it.
    pub verdict: Verdict,
    /// Why it can never be used again, in the server's word.
    pub invalidation: Option<String>,
}

/// What is to be made of a budget, the better first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// There is room.
    Ok,
    /// It retains more than `max_wal_size`, or has less than an hour left.
    Warning,
    /// Beyond its limit, so that the next checkpoint may end it; or less than ten minutes left. The time counts only while the
    /// slot falls behind: that of one which keeps up never comes.
    Critical,
    /// WAL that it needs is gone.
    Lost,
}

impl Verdict {
    /// All of them, the better first.
    pub const ALL: [Verdict; 4] = [Verdict::Ok, Verdict::Warning, Verdict::Critical, Verdict::Lost];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Critical => "critical",
            Verdict::Lost => "lost",
        }
    }
}

impl Budget {
    fn new(name: &str, slot: &Slot, trend: Trend) -> Self {
        let wal_bytes_per_second = trend.wal_bytes_per_second;
        let mut budget = Budget {
            slot: name.to_owned(),
            active: slot.active_pid.is_some(),
            wal_status: slot.wal_status.clone(),
            retained_bytes: unsigned(slot.retained_bytes),
            safe_bytes: slot.safe_wal_bytes.map(unsigned),
            wal_bytes_per_second,
            seconds_until_lost: None,
            verdict: Verdict::Ok,
            invalidation: slot.loss().map(str::to_owned),
        };
        let rate = wal_bytes_per_second.filter(|rate| *rate > 0);
        budget.seconds_until_lost = budget.safe_bytes.zip(rate).map(|(safe, rate)| safe / rate);
        budget.verdict = budget.judged(trend.falls_behind);
        budget
    }

    fn judged(&self, falls_behind: bool) -> Verdict {
        if self.invalidation.is_some() {
            return Verdict::Lost;
        }
        let by_time = match self.seconds_until_lost.filter(|_| falls_behind) {
            Some(seconds) if seconds < CRITICAL_SECONDS => Verdict::Critical,
            Some(seconds) if seconds < WARNING_SECONDS => Verdict::Warning,
            _ => Verdict::Ok,
        };
        let by_status = match self.wal_status.as_deref() {
            Some("unreserved") => Verdict::Critical,
            Some("extended") => Verdict::Warning,
            _ => Verdict::Ok,
        };
        by_time.max(by_status)
    }

    /// What mends it, as SQL or a command; `None` where there is room.
    pub fn fix(&self) -> Option<String> {
        let raised = |bytes: u64| {
            let megabytes = bytes.div_ceil(1 << 20).max(1024);
            format!("ALTER SYSTEM SET max_slot_wal_keep_size = '{megabytes}MB'; SELECT pg_reload_conf();")
        };
        match (self.verdict, self.safe_bytes) {
            (Verdict::Ok, _) => None,
            (Verdict::Lost, _) => Some("waldelta recover".to_owned()),
            // Twice the room that there is.
            (_, Some(safe)) => Some(raised(self.retained_bytes.saturating_add(safe).saturating_mul(2))),
            (_, None) => Some(format!(
                "see why capture is behind (waldelta status); to bound what it may cost the source: {}",
                raised(self.retained_bytes.saturating_mul(4))
            )),
        }
    }

    /// Tells the log what has become of it.
    fn tell(&self, before: Verdict) {
        let Budget { slot, retained_bytes, safe_bytes, seconds_until_lost, .. } = self;
        match self.verdict {
            Verdict::Ok => tracing::info!(slot, retained_bytes, "there is room for the slot's WAL again"),
            Verdict::Lost => tracing::error!(
                code = Code::SlotLost.as_str(),
                slot,
                reason = self.invalidation,
                fix = self.fix(),
                "the slot is lost: WAL that it needs is gone"
            ),
            verdict => tracing::warn!(
                code = Code::SlotRetention.as_str(),
                slot,
                verdict = verdict.as_str(),
                before = before.as_str(),
                wal_status = self.wal_status,
                retained_bytes,
                safe_bytes,
                seconds_until_lost,
                fix = self.fix(),
                "the slot retains much WAL at the source"
            ),
        }
    }
}

/// The server tells a room below nothing where the slot is beyond its limit.
fn unsigned(bytes: i64) -> u64 {
    u64::try_from(bytes).unwrap_or(0)
}

/// Looks at the slot for as long as it is polled, and tells `status` and the log.
pub(crate) async fn watch(config: &Config, status: &Status) -> Infallible {
    let mut client = None;
    let mut window = Window::default();
    let mut told = Verdict::Ok;
    let mut states = status.states();
    loop {
        let looked = tokio::time::timeout(LOOK_TIME_MAX, look(&mut client, &config.source)).await;
        let budget = match looked {
            Ok(Ok((slot, wal_end))) => {
                status.looked(wal_end, slot.as_ref().and_then(|slot| slot.confirmed));
                slot.map(|slot| {
                    let retained_bytes = unsigned(slot.retained_bytes);
                    let sample = Sample { at: Instant::now(), wal_end, retained_bytes };
                    let trend = window.note(sample, slot.active_pid.is_some());
                    Budget::new(&config.source.slot, &slot, trend)
                })
            }
            Ok(Err(error)) => {
                tracing::debug!(error = error.chain(), "look at the slot");
                client = None;
                None
            }
            Err(_) => {
                client = None;
                None
            }
        };
        // A source that does not answer is told elsewhere, and a slot that is not there is a state of capture.
        if let Some(budget) = &budget {
            let before = std::mem::replace(&mut told, budget.verdict);
            if budget.verdict > before || (budget.verdict == Verdict::Ok && before != Verdict::Ok) {
                budget.tell(before);
            }
        }
        status.set_budget(budget);
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            // The sender is in `status`.
            _ = states.changed() => tokio::time::sleep(LOOK_SPACING).await,
        }
        states.mark_unchanged();
    }
}

async fn look(kept: &mut Option<Client>, source: &Source) -> Result<(Option<Slot>, Lsn), Error> {
    let client = match kept.take() {
        Some(client) => client,
        None => source.connect().await?,
    };
    let client = kept.insert(client);
    let slot = catalog::slot(client, &source.slot).await?;
    Ok((slot, catalog::identity(client).await?.wal_end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    fn slot(wal_status: &str, retained_bytes: u64, safe_bytes: Option<u64>) -> Slot {
        Slot {
            plugin: "pgoutput".to_owned(),
            database: "d".to_owned(),
            active_pid: None,
            confirmed: None,
            restart: Some(Lsn(1)),
            wal_status: Some(wal_status.to_owned()),
            safe_wal_bytes: safe_bytes.map(u64::cast_signed),
            retained_bytes: retained_bytes.cast_signed(),
            two_phase: false,
            invalidation_reason: None,
            conflicting: None,
            failover: None,
            synced: None,
            inactive_seconds: None,
        }
    }

    fn falling(rate: u64) -> Trend {
        Trend { wal_bytes_per_second: Some(rate), falls_behind: true }
    }

    fn judged(slot: &Slot, trend: Trend) -> (Verdict, Option<u64>) {
        let budget = Budget::new("s", slot, trend);
        (budget.verdict, budget.seconds_until_lost)
    }

    #[test]
    fn the_verdict_is_the_worse_of_status_and_time() {
        let roomy = slot("reserved", MB, Some(100 * MB));
        assert_eq!(judged(&roomy, Trend::default()), (Verdict::Ok, None), "no rate yet");
        assert_eq!(judged(&roomy, falling(0)), (Verdict::Ok, None), "nothing is written");
        assert_eq!(judged(&roomy, falling(MB)), (Verdict::Critical, Some(100)));
        assert_eq!(judged(&roomy, falling(MB / 10)), (Verdict::Warning, Some(1_000)));
        assert_eq!(judged(&roomy, falling(MB / 100)).0, Verdict::Ok);
        let keeps_up = Trend { falls_behind: false, ..falling(MB) };
        assert_eq!(judged(&roomy, keeps_up), (Verdict::Ok, Some(100)), "the time never comes");
        assert_eq!(judged(&slot("extended", MB, None), falling(MB)), (Verdict::Warning, None), "no limit");
        assert_eq!(judged(&slot("extended", MB, Some(9_000 * MB)), falling(1)).0, Verdict::Warning);
        assert_eq!(judged(&slot("unreserved", MB, Some(0)), falling(0)), (Verdict::Critical, None));
        assert_eq!(judged(&slot("unreserved", MB, Some(0)), keeps_up), (Verdict::Critical, Some(0)));
        assert_eq!(judged(&slot("lost", 0, None), falling(MB)).0, Verdict::Lost);
    }

    #[test]
    fn beyond_its_limit_the_server_tells_a_negative_room() {
        let over = Slot { safe_wal_bytes: Some(-5), ..slot("unreserved", 9, None) };
        assert_eq!(Budget::new("s", &over, falling(7)).safe_bytes, Some(0));
    }

    #[test]
    fn what_mends_it_gives_twice_the_room() {
        let budget = |slot: &Slot, rate| Budget::new("s", slot, falling(rate));
        assert_eq!(budget(&slot("reserved", MB, Some(MB)), 0).fix(), None);
        let fix = budget(&slot("unreserved", 3_000 * MB, Some(1)), 1).fix().unwrap();
        assert!(fix.contains("max_slot_wal_keep_size = '6001MB'") && fix.contains("pg_reload_conf"), "{fix}");
        assert_eq!(budget(&slot("lost", 0, None), 0).fix().unwrap(), "waldelta recover");
        assert!(budget(&slot("extended", MB, None), 0).fix().unwrap().contains("'1024MB'"));
    }
}
