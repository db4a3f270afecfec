//! Random work under random faults on the real program, with oracles that know what must be true. Everything that is random comes from
//! one seed, which is printed. docs/reliability.md says how to run it and what is checked.
//!
//! It makes its own databases and touches no others.
#![expect(clippy::unwrap_used, reason = "a panic is how a broken promise is reported: it ends the round")]

mod access;
mod bounds;
mod checkpoint;
mod chronicle;
mod clients;
mod clocks;
mod era;
mod faults;
mod fleet;
mod http;
mod record;
mod round;
mod sampler;
mod tables;
mod workload;
mod world;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use futures_util::FutureExt;

use crate::chronicle::{Chronicle, say};
use crate::record::Run;
use crate::round::{Played, Stage, play};

/// A round is at most this long: each has new databases, so that what has to be compared stays small.
const ROUND_LENGTH_MAX: Duration = Duration::from_secs(300);
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// Tortures waldelta: random work, random faults, and everything compared in between
#[derive(Debug, Parser)]
struct Options {
    /// What everything random comes from; a new one if absent
    #[arg(long)]
    seed: Option<u64>,
    /// About how long
    #[arg(long, default_value_t = 5.0, value_name = "N")]
    minutes: f64,
    /// Only kills, until there were so many, however long that takes
    #[arg(long, value_name = "N", conflicts_with = "minutes")]
    kills: Option<u64>,
    /// A page to which the result is added as a line
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run(options))
}

async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let seed = options.seed.unwrap_or_else(new_seed);
    let length =
        options.kills.map_or_else(|| format!("{} minutes", options.minutes), |n| format!("{n} kills"));
    say(&format!("seed {seed}, {length}, {}", waldelta_testkit::program().display()));
    let begun = Instant::now();
    let mut all = Played::default();
    let (mut minutes_left, mut number, mut failed) = (options.minutes, 0, false);
    let is_enough = |minutes_left: f64, kills: u64| {
        options.kills.map_or(minutes_left <= 0.0, |kills_wanted| kills >= kills_wanted)
    };
    while !is_enough(minutes_left, all.kills) && !failed {
        let round = Round {
            seed: seed.wrapping_add(number),
            length: match options.kills {
                Some(_) => ROUND_LENGTH_MAX,
                None => Duration::from_secs_f64(minutes_left * 60.0).min(ROUND_LENGTH_MAX),
            },
            kills_max: options.kills.map(|kills_wanted| kills_wanted - all.kills),
        };
        // What is left is played as a whole round or not at all.
        minutes_left -= round.length.as_secs_f64() / 60.0;
        say(&format!(
            "round {number}: seed {}, at most {:.1} minutes",
            round.seed,
            round.length.as_secs_f64() / 60.0
        ));
        let (played, is_right) = play_round(&round).await;
        all.kills += played.kills;
        all.transactions += played.transactions;
        all.checkpoints += played.checkpoints;
        failed = !is_right;
        number += 1;
    }
    let result = if failed { "FAILED" } else { "all as it must be" };
    let Played { kills, transactions, checkpoints } = all;
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    say(&format!(
        "seed {seed}: {result}; {minutes:.1} minutes, {kills} kills, {transactions} transactions, {checkpoints} checkpoints"
    ));
    if let Some(page) = options.record {
        let run = Run {
            seed,
            kills_only: options.kills.is_some(),
            minutes,
            kills,
            transactions,
            checkpoints,
            result,
        };
        record::append(&page, &run)?;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What a round is to be.
struct Round {
    seed: u64,
    length: Duration,
    /// Nothing but kills, and at most about so many.
    kills_max: Option<u64>,
}

/// One round: what it was, and whether all was as it must be. A failure is reported here.
async fn play_round(round: &Round) -> (Played, bool) {
    let Round { seed, length, kills_max } = *round;
    let chronicle = Arc::new(Chronicle::begin());
    let stage = match alone(Stage::new(seed, kills_max.is_some(), chronicle.clone())).await {
        Ok(stage) => Arc::new(stage),
        Err(error) => {
            say(&format!("FAILED, seed {seed}: nothing could begin: {error}"));
            return (Played::default(), false);
        }
    };
    let ended = alone(play(stage.clone(), length, kills_max.unwrap_or(u64::MAX))).await;
    if let Err(error) = &ended {
        report(&stage, &chronicle, error).await;
    }
    (stage.played(), ended.is_ok())
}

/// What panics here ends here, with what it said.
async fn alone<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let ended = AssertUnwindSafe(work).catch_unwind().await;
    ended.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}

/// The seed, what was found, what was done last, and what the processes say.
async fn report(stage: &Stage, chronicle: &Chronicle, found: &str) {
    let seed = stage.seed;
    let folder = stage.folder();
    let summary =
        format!("FAILED, seed {seed}\n{found}\n\nWhat was done last:\n{}", chronicle.recent().join("\n"));
    say(&format!("\n{summary}"));
    let _ = std::fs::write(folder.join("failure.txt"), summary);
    let token = stage.tokens.of(access::Who::Everything);
    for number in 0..stage.fleet.len() {
        let status = http::get_as(token, stage.fleet.address(number), "/v1/status", STATUS_TIMEOUT).await;
        let status = status.map_or_else(|| "no answer".to_owned(), |(code, body)| format!("{code} {body}"));
        let _ = std::fs::write(folder.join(format!("status-{number}.json")), status);
    }
    for (name, end) in stage.fleet.report(&folder).await {
        say(&format!("\nEnd of the log of {name}:\n{end}"));
    }
    for (name, cluster) in
        [("source", &stage.world.source_cluster), ("history", &stage.world.history_cluster)]
    {
        let _ = std::fs::write(folder.join(format!("{name}.log")), cluster.log());
    }
    say(&format!("\nAll logs are in {}.", folder.display()));
}

#[expect(clippy::disallowed_methods, reason = "a new seed has to come from somewhere")]
fn new_seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.as_millis().try_into().unwrap_or(1)
}
