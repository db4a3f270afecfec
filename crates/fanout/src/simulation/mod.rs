//! The client side under a simulated network and clock: short runs, each told by its seed alone but for whom tokio's watch wakes first in the same moment.
//!
//! Real are the router, registry, scopes, sessions and their sockets' code, pages, snapshots, what is kept of clients, and letting go.
//! Not real are the bytes' way to clients, the time, and the two databases, which are lists: see [`crate::databases`] for what
//! they have in common. HTTP, tokens, rules, resets and epochs are no part of it.
//!
//! `WALDELTA_SIM_SEED` replays one run, `WALDELTA_SIM_RUNS` says how many there are. Why it is made like this is said in
//! docs/decisions/0008-simulated-fanout.md.

mod ahead;
mod answers;
mod client;
mod copy;
mod model;
mod network;
mod world;

use std::hash::{BuildHasher, RandomState};

use self::world::{Outcome, simulate};

/// Runs of a test, where nobody says how many.
const RUNS: u64 = 1_000;

#[expect(
    clippy::disallowed_methods,
    reason = "which seed to replay, and how many runs, is for whoever calls the test"
)]
fn said(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Everything that these runs came to.
fn simulate_all(seeds: impl Iterator<Item = u64>, is_told: bool) -> Outcome {
    let mut all = Outcome::default();
    for seed in seeds {
        let outcome =
            simulate(seed, None, is_told).unwrap_or_else(|wrong| panic!("WALDELTA_SIM_SEED={seed}: {wrong}"));
        all.report.add(outcome.report);
        all.commits += outcome.commits;
        all.restarts += outcome.restarts;
        all.ahead_of_snapshots += outcome.ahead_of_snapshots;
    }
    all
}

/// A session that wrote to a slow client held the page of history that others waited for.
const FOUND: [u64; 1] = [142_955_487_473_832];

#[test]
fn what_was_found_once_stays_right() {
    simulate_all(FOUND.into_iter(), false);
}

#[test]
fn whatever_the_network_does_every_client_gets_what_it_follows_once_and_in_order() {
    if let Some(seed) = said("WALDELTA_SIM_SEED") {
        println!("{:?}", simulate_all(std::iter::once(seed), true));
        return;
    }
    let first = RandomState::new().hash_one(()) >> 16;
    let runs = said("WALDELTA_SIM_RUNS").unwrap_or(RUNS);
    println!("seeds {first} to {}", first + runs - 1);
    let began = std::time::Instant::now();
    let Outcome { report, commits, restarts, ahead_of_snapshots } = simulate_all(first..first + runs, false);
    println!(
        "{:?}: {commits} commits, {restarts} restarts, {ahead_of_snapshots} ahead, {report:?}",
        began.elapsed()
    );
    let seen = report.seen;
    // What cannot go wrong is not tried.
    for (count, what) in [
        (seen.told_live, "told while live"),
        (seen.parts, "parts"),
        (seen.snapshots, "snapshots"),
        (seen.resets, "resets"),
        (seen.left_out, "own changes left out"),
        (seen.own_told, "own changes told"),
        (seen.shown, "transactions that a snapshot shows"),
        (report.let_go, "clients that do not read"),
        (report.older_copies, "older copies"),
        (restarts, "restarts"),
        (ahead_of_snapshots, "transactions ahead of a snapshot"),
    ] {
        assert!(count > 0 || runs < RUNS, "nothing of it in any run: {what}");
    }
}

/// With one client alone: of several that wait for the same, tokio's watch wakes first whom it will, in the same moment, and which
/// of them reads a page for both changes when each has it.
#[test]
fn a_seed_tells_all_of_a_run() {
    for seed in 0..30 {
        let traces = [(); 2]
            .map(|()| simulate(seed, Some(1), false).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}")));
        assert_eq!(traces[0].report.hash, traces[1].report.hash, "seed {seed}");
    }
}
