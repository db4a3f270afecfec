//! Marks: rows that say which commit they are of, committed at a steady rate, and found again where they arrive.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::clusters::Clusters;
use crate::follower::Follower;

/// The table of the marks.
pub(crate) const TABLE: &str = "public.beats";
pub(crate) const CREATE_TABLE: &str = "CREATE TABLE beats (id int PRIMARY KEY, mark text NOT NULL)";
/// Whoever reads the WAL may have a commit before its own client is told; what is less than this says only which of two tasks ran first.
const LATENCY_MS_MIN: f64 = 0.05;
/// Commits that are not measured, first.
const WARM_UP: i32 = 10;
const WARM_UP_PAUSE: Duration = Duration::from_millis(50);
/// Connections that commit in turn.
const WRITERS: usize = 8;

/// How often what is committed.
pub(crate) struct Load<'a> {
    pub clusters: &'a Clusters,
    pub database: &'a str,
    /// Commits a second.
    pub rate: u32,
    pub commits: u32,
}

/// A mark that was committed, and came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// When its COMMIT was acknowledged.
    pub acknowledged: Instant,
    pub received: Instant,
}

/// Commits at the asked rate while `receiver` collects when each mark arrived; latencies in milliseconds, sorted.
pub(crate) async fn commit_and_match(
    load: &Load<'_>,
    prefix: &str,
    receiver: impl Future<Output = anyhow::Result<HashMap<u32, Instant>>>,
) -> anyhow::Result<Vec<f64>> {
    let took = |Arrival { acknowledged, received }: Arrival| {
        let took = received.saturating_duration_since(acknowledged).as_secs_f64() * 1e3;
        took.max(LATENCY_MS_MIN)
    };
    let mut latencies: Vec<f64> = arrivals(load, prefix, receiver).await?.into_iter().map(took).collect();
    latencies.sort_by(f64::total_cmp);
    Ok(latencies)
}

/// The same, with the times of each.
pub(crate) async fn arrivals(
    load: &Load<'_>,
    prefix: &str,
    receiver: impl Future<Output = anyhow::Result<HashMap<u32, Instant>>>,
) -> anyhow::Result<Vec<Arrival>> {
    load.clusters.source(load.database).await?.batch_execute("TRUNCATE beats").await?;
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        let writer = load.clusters.source(load.database).await?;
        let statement = writer.prepare("INSERT INTO beats VALUES ($1, $2)").await?;
        writers.push((writer, statement));
    }
    // What is done once for a table is not what a commit takes.
    for number in 1..=WARM_UP {
        let mark = "before all others".to_owned();
        writers[0].0.execute(&writers[0].1, &[&-number, &mark]).await?;
        tokio::time::sleep(WARM_UP_PAUSE).await;
    }
    let begins = Instant::now();
    let committing = writers.iter().enumerate().map(|(first, (writer, statement))| async move {
        let mut committed = Vec::new();
        for number in (first as u32..load.commits).step_by(WRITERS) {
            tokio::time::sleep_until((begins + Duration::from_secs(1) * number / load.rate).into()).await;
            let mark = format!("{prefix}{number:08};");
            writer.execute(statement, &[&number.cast_signed(), &mark]).await?;
            committed.push((number, Instant::now()));
        }
        anyhow::Ok(committed)
    });
    let committing = futures_util::future::try_join_all(committing);
    let (committed, received) = tokio::try_join!(committing, receiver)?;
    let committed: Vec<(u32, Instant)> = committed.into_iter().flatten().collect();
    let arrived =
        |(number, at): &(u32, Instant)| Some(Arrival { acknowledged: *at, received: *received.get(number)? });
    let arrivals: Vec<Arrival> = committed.iter().filter_map(arrived).collect();
    anyhow::ensure!(arrivals.len() == committed.len(), "{} of {} arrived", arrivals.len(), committed.len());
    Ok(arrivals)
}

/// When a client has each of so many marks.
pub(crate) async fn followed(follower: &mut Follower, commits: u32) -> anyhow::Result<HashMap<u32, Instant>> {
    let mut received = HashMap::new();
    while received.len() < commits as usize {
        let frame = follower.frame().await?;
        let now = Instant::now();
        take_marks(&mut frame.as_bytes().to_vec(), b"ours", now, &mut received);
    }
    Ok(received)
}

/// Notes each mark `<prefix><8 digits>;` in the text as received now, and forgets the text up to the last of them.
pub(crate) fn take_marks(
    text: &mut Vec<u8>,
    prefix: &[u8],
    now: Instant,
    received: &mut HashMap<u32, Instant>,
) {
    let length = prefix.len() + 9;
    let mut from = 0;
    let mut done = 0;
    while from + length <= text.len() {
        let digits = &text[from + prefix.len()..from + length - 1];
        if text[from..].starts_with(prefix) && digits.iter().all(u8::is_ascii_digit) {
            let number = digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
            received.entry(number).or_insert(now);
            from += length;
            done = from;
        } else {
            from += 1;
        }
    }
    text.drain(..done);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_across_chunks() {
        let mut received = HashMap::new();
        let mut text = b"xxours00000001;yyours0000".to_vec();
        take_marks(&mut text, b"ours", Instant::now(), &mut received);
        text.extend_from_slice(b"0002;");
        take_marks(&mut text, b"ours", Instant::now(), &mut received);
        assert_eq!(received.len(), 2);
        assert!(received.contains_key(&2));
    }
}
