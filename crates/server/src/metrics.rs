//! All that this process measures: installed, explained, and, where it does not tell by itself, asked.
//!
//! Each part has its own metrics. What each means is said where it is made; which labels it has stands in that text in backticks, from
//! which the reference page and what is checked of a running service are made.

#[cfg(test)]
mod alerts;
#[cfg(test)]
mod dashboard;
pub(crate) mod logged;
#[cfg(test)]
mod registry;

use anyhow::Context;
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;

use crate::role::Role;
use crate::{listener, service, status};

const BUILD: &str = "waldelta_build_info";
const WORKERS: &str = "waldelta_runtime_workers";
const TASKS: &str = "waldelta_runtime_tasks";
const QUEUE: &str = "waldelta_runtime_queue_depth";
const BUSY: &str = "waldelta_runtime_busy_seconds_total";

/// Upper bounds of what is counted of times, in seconds: from a tenth of what a commit costs to what nobody waits for.
const SECONDS: [f64; 18] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 300.0,
];
/// And of numbers of changes.
const CHANGES: [f64; 10] = [0.0, 1.0, 2.0, 5.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0, 1_000_000.0];

/// Begins to measure. Histograms are buckets, so that those of several processes can be added up.
pub(crate) fn install() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_changes".to_owned()), &CHANGES))
        .and_then(PrometheusBuilder::install_recorder)
        .context("install the metrics recorder")?;
    describe();
    gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

/// Tells the recorder what everything means that any role measures.
fn describe() {
    describe_gauge!(BUILD, "1, with the `version` of this process");
    describe_gauge!(WORKERS, Unit::Count, "Threads that the tasks of this process run on");
    describe_gauge!(TASKS, Unit::Count, "Tasks that have not ended: a session is one");
    describe_gauge!(
        QUEUE,
        Unit::Count,
        "Tasks that could run and wait for a thread, but for those that a thread has set aside for itself"
    );
    describe_counter!(BUSY, Unit::Seconds, "Time in which those threads had something to do, together");
    Collector::default().describe();
    Role::describe_metrics();
    logged::describe_metrics();
    listener::describe_metrics();
    service::describe_metrics();
    status::describe_metrics();
    waldelta_capture::describe_metrics();
    waldelta_history::describe_metrics();
    waldelta_access::describe_metrics();
    waldelta_fanout::describe_metrics();
}

/// Asks what does not tell by itself; within the runtime.
pub(crate) fn record() {
    Collector::default().collect();
    let runtime = tokio::runtime::Handle::current().metrics();
    let workers = runtime.num_workers();
    gauge!(WORKERS).set(workers as f64);
    gauge!(TASKS).set(runtime.num_alive_tasks() as f64);
    gauge!(QUEUE).set(runtime.global_queue_depth() as f64);
    let busy = (0..workers).map(|worker| runtime.worker_total_busy_duration(worker));
    // Whole seconds: a counter counts nothing smaller.
    counter!(BUSY).absolute(busy.sum::<std::time::Duration>().as_secs());
}
