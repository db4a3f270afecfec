//! Where the time of B3 goes: from COMMIT to the client, stage by stage, as the service's own trace tells it.
//!
//! Each event costs a line in a file, some microseconds, which are part of what is measured.

use std::ffi::OsStr;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;

use crate::Bench;
use crate::follower::Follower;
use crate::marks::{self, Arrival, Load};
use crate::report::{Table, percentile};
use crate::service::Service;

const DATABASE: &str = "stages";
/// Commits a second, and commits of one turn.
const RATES: [(u32, u32); 4] = [(10, 50), (100, 400), (1_000, 3_000), (5_000, 10_000)];
/// What the service tells, in the order in which a transaction comes by.
const TOLD: [&str; 5] = ["received", "appending", "durable", "routing", "writing"];
/// From the acknowledgement to the first of these, from each to the next, and from the last to the client.
const STAGES: [&str; TOLD.len() + 1] = [
    "acknowledged to read from the walsender",
    "handed over and decoded",
    "append, durable at its end",
    "to the router",
    "routed, framed, to its session",
    "written, and received by the client",
];
const DAY_US: u64 = 24 * 60 * 60 * 1_000_000;

/// Measures and prints.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let clusters = &bench.clusters;
    clusters.create_source(DATABASE).await?;
    clusters.source(DATABASE).await?.batch_execute(marks::CREATE_TABLE).await?;
    clusters.initialise(&bench.binary, DATABASE, "stages_slot").await?;
    clusters.create_history(DATABASE).await?;
    let mut rows: Vec<(String, Vec<f64>)> =
        STAGES.iter().chain(&["in all"]).map(|stage| ((*stage).to_owned(), Vec::new())).collect();
    let mut columns = Vec::new();
    for (rate, commits) in RATES {
        let medians = staged(bench, &Load { clusters, database: DATABASE, rate, commits }).await?;
        rows.iter_mut().zip(medians).for_each(|((_, values), median)| values.push(median));
        columns.push(format!("{rate} a second"));
    }
    bench.tell(Table { title: "B3 by stage: medians, in milliseconds".to_owned(), columns, rows });
    Ok(())
}

/// Medians in milliseconds: of each stage, and of all together.
async fn staged(bench: &Bench, load: &Load<'_>) -> anyhow::Result<[f64; STAGES.len() + 1]> {
    let clusters = &bench.clusters;
    let (source, history) = (clusters.source_url(DATABASE), clusters.history_url(DATABASE));
    let traced = ["--log", "warn,waldelta::stage=trace", "--log-format", "json"].map(OsStr::new);
    let service = Service::start_with(&bench.binary, &source, &history, "stages_slot", &traced).await?;
    service.ready().await?;
    let mut follower = Follower::of(&service, marks::TABLE).await?;
    let (instant, began_us) = (Instant::now(), now_us()?);
    let arrivals = marks::arrivals(load, "ours", marks::followed(&mut follower, load.commits)).await?;
    let log = std::fs::read_to_string(&service.log).context("read what it told")?;
    service.stop().await?;
    let events: Vec<(u64, usize)> = log.lines().filter_map(event).collect();
    let day_us = |at: Instant| (began_us + micros(at.saturating_duration_since(instant))) % DAY_US;
    let mut took: [Vec<f64>; STAGES.len() + 1] = std::array::from_fn(|_| Vec::new());
    for Arrival { acknowledged, received } in arrivals {
        let Some(times) = way(&events, day_us(acknowledged), day_us(received)) else { continue };
        for (stage, took) in took.iter_mut().take(STAGES.len()).enumerate() {
            took.push(ms(times[stage], times[stage + 1]));
        }
        took[STAGES.len()].push(ms(times[0], times[STAGES.len()]));
    }
    anyhow::ensure!(took.iter().all(|took| !took.is_empty()), "the log tells of no stages");
    Ok(took.map(|mut took| {
        took.sort_by(f64::total_cmp);
        percentile(&took, 50.0)
    }))
}

/// When a mark was acknowledged, came by each place, and was received: of each kind of event the last one before what followed it.
fn way(events: &[(u64, usize)], acknowledged: u64, received: u64) -> Option<[u64; STAGES.len() + 1]> {
    let mut times = [acknowledged; STAGES.len() + 1];
    times[STAGES.len()] = received;
    let mut before = events.partition_point(|(at, _)| *at <= received);
    for place in (0..TOLD.len()).rev() {
        before = events[..before].iter().rposition(|(_, told)| *told == place)?;
        times[place + 1] = events[before].0;
    }
    Some(times)
}

/// Microseconds of the day, and which of [`TOLD`].
fn event(line: &str) -> Option<(u64, usize)> {
    let told: serde_json::Value = serde_json::from_str(line).ok()?;
    let stage = told.get("stage")?.as_str()?;
    let place = TOLD.iter().position(|name| *name == stage)?;
    // 2026-01-02T03:04:05.678901Z
    let time = told.get("timestamp")?.as_str()?.split_once('T')?.1.strip_suffix('Z')?;
    let (whole, fraction) = time.split_once('.')?;
    let seconds = whole.split(':').try_fold(0, |sum, part| Some(sum * 60 + part.parse::<u64>().ok()?))?;
    Some((seconds * 1_000_000 + fraction.parse::<u64>().ok()?, place))
}

/// Microseconds of the day, as the log has it.
fn now_us() -> anyhow::Result<u64> {
    #[expect(clippy::disallowed_methods, reason = "times of two processes are compared")]
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(micros(since_1970) % DAY_US)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Below zero where the walsender was read before the COMMIT was acknowledged.
fn ms(from: u64, to: u64) -> f64 {
    (to as f64 - from as f64) / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_found_backwards_from_the_client() {
        let line = |at: &str, stage: &str| {
            format!(
                r#"{{"timestamp":"2026-01-02T{at}Z","level":"TRACE","stage":"{stage}","target":"waldelta::stage"}}"#
            )
        };
        let told = [
            line("00:00:01.000000", "received"),
            line("00:00:01.000010", "appending"),
            line("00:00:01.000015", "received"),
            line("00:00:01.000020", "durable"),
            line("00:00:01.000030", "routing"),
            line("00:00:01.000040", "writing"),
            line("00:00:01.000041", "appending"),
            "no event".to_owned(),
        ];
        let events: Vec<_> = told.iter().filter_map(|line| event(line)).collect();
        assert_eq!(events.len(), 7);
        let at = |us: u64| 1_000_000 + us;
        let way = way(&events, 999_000, at(50)).unwrap();
        assert_eq!(way, [999_000, at(0), at(10), at(20), at(30), at(40), at(50)]);
        assert_eq!(ms(at(0), 999_000), -1.0);
    }
}
