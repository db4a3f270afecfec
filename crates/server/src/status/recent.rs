//! What a few numbers were over the last hour, so that whoever looks sees from where things have come. Kept in memory, of a fixed size.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Status;

/// How often a sample is taken.
pub(crate) const STEP: Duration = Duration::from_secs(5);
/// An hour of them.
const SAMPLES_MAX: usize = 720;
/// The histogram from which the latency of deliveries comes.
const BUCKETS: &str = "waldelta_fanout_commit_to_socket_seconds_bucket{le=\"";

/// The numbers of one moment.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Sample {
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// As in the status; null where this process does not capture, and while nothing is known.
    pub lag_seconds: Option<f64>,
    /// From the commit to the socket: what 99 of a hundred writes since the sample before stayed below; null where there were none.
    pub delivery_p99_seconds: Option<f64>,
    /// WAL that the slot keeps.
    pub retained_bytes: Option<u64>,
    /// WAL at which it can be lost; null: no limit.
    pub limit_bytes: Option<u64>,
    /// Changes stored since the start.
    pub changes: Option<u64>,
    /// Clients that are connected to this process.
    pub sessions: u64,
}

/// The samples of the last hour, oldest first.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct RecentReading {
    /// Between two samples.
    pub step_seconds: u64,
    pub samples: Vec<Sample>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Recent(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    samples: VecDeque<Sample>,
    /// How many deliveries there had been, by the upper bounds of their times.
    delivered: Vec<(f64, u64)>,
}

impl Recent {
    /// Takes a sample; `metrics` as they are scraped.
    pub(crate) fn note(&self, status: &Status, sessions: u64, metrics: &str, at_us: i64) {
        let delivered = buckets(metrics);
        let mut kept = self.lock();
        let capture = status.capture.as_ref();
        let slot = status.slot.as_ref();
        let sample = Sample {
            at_ms: at_us / 1_000,
            lag_seconds: capture.and_then(|capture| capture.lag_seconds),
            delivery_p99_seconds: quantile(0.99, &delivered, &kept.delivered),
            retained_bytes: slot.map(|slot| slot.retained_bytes),
            limit_bytes: slot.and_then(|slot| Some(slot.safe_wal_bytes?.saturating_add(slot.retained_bytes))),
            changes: capture.map(|capture| capture.changes),
            sessions,
        };
        kept.delivered = delivered;
        if kept.samples.len() == SAMPLES_MAX {
            kept.samples.pop_front();
        }
        kept.samples.push_back(sample);
    }

    pub(crate) fn read(&self) -> RecentReading {
        RecentReading { step_seconds: STEP.as_secs(), samples: self.lock().samples.iter().cloned().collect() }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // A sample more or less is the worst.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Upper bounds with how many lie at or below them.
fn buckets(metrics: &str) -> Vec<(f64, u64)> {
    let lines = metrics.lines().filter_map(|line| line.strip_prefix(BUCKETS));
    let bucket = |line: &str| {
        let (bound, count) = line.split_once("\"} ")?;
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
        Some((bound, count.parse().ok()?))
    };
    lines.filter_map(bucket).collect()
}

/// The value that this part of what has come since `before` stays below, taking what is in a bucket for evenly spread. Of what is beyond
/// the last bound, that bound.
#[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
fn quantile(part: f64, now: &[(f64, u64)], before: &[(f64, u64)]) -> Option<f64> {
    let before = |at: usize| before.get(at).map_or(0, |(_, count)| *count);
    let since: Vec<(f64, u64)> = now
        .iter()
        .enumerate()
        .map(|(at, (bound, count))| (*bound, count.saturating_sub(before(at))))
        .collect();
    let (_, all) = *since.last()?;
    if all == 0 {
        return None;
    }
    let wanted = part * all as f64;
    let (mut lower, mut below) = (0.0, 0);
    for (bound, count) in since {
        if count as f64 >= wanted {
            let within = (wanted - below as f64) / (count - below) as f64;
            return Some(if bound.is_finite() { lower + (bound - lower) * within } else { lower });
        }
        (lower, below) = (bound, count);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::status;

    fn scraped(counts: [u64; 4]) -> String {
        let bounds = ["0.001", "0.01", "0.1", "+Inf"];
        let lines = bounds.iter().zip(counts).map(|(bound, count)| format!("{BUCKETS}{bound}\"}} {count}\n"));
        format!("# HELP x y\n{}waldelta_fanout_frames_total 7\n", lines.collect::<String>())
    }

    #[test]
    fn a_sample_has_what_was_delivered_since_the_one_before() {
        let (recent, status) = (Recent::default(), status("streaming", "streaming"));
        for (counts, at_us) in [
            ([0; 4], 1_000),
            ([50, 100, 100, 100], 2_000),
            ([50, 100, 100, 100], 3_000),
            ([50, 100, 101, 110], 4_000),
        ] {
            recent.note(&status, 3, &scraped(counts), at_us);
        }
        let RecentReading { step_seconds, samples } = recent.read();
        let p99: Vec<Option<f64>> = samples.iter().map(|sample| sample.delivery_p99_seconds).collect();
        assert_eq!(p99[0], None);
        assert!(p99[1].is_some_and(|p99| (0.0098..0.01).contains(&p99)), "{p99:?}");
        assert_eq!(&p99[2..], [None, Some(0.1)], "nothing came; more than the last bound");
        let last = &samples[3];
        assert_eq!((step_seconds, last.at_ms, last.lag_seconds, last.sessions), (5, 4, Some(0.5), 3));
        assert_eq!((last.retained_bytes, last.limit_bytes, last.changes), (Some(7), Some(16), Some(2)));
    }

    #[test]
    fn there_are_never_more_than_those_of_an_hour() {
        let (recent, status) = (Recent::default(), status("streaming", "streaming"));
        (0..2_000).for_each(|at| recent.note(&status, 0, "", at * 1_000));
        let samples = recent.read().samples;
        assert_eq!((samples.len(), samples[0].at_ms), (SAMPLES_MAX, 1_280));
    }
}
