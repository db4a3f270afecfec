//! Contenders in turn: each pair on a machine as quiet as it gets, so that what disturbs one disturbs the other too.

use std::time::Instant;

use crate::machine;
use crate::report::{Contest, Sample};

/// Measures both so many times, A B A B.
pub(crate) async fn take(
    pairs: u32,
    contest: &mut Contest,
    mut reference: impl AsyncFnMut(u32) -> anyhow::Result<f64>,
    mut ours: impl AsyncFnMut(u32) -> anyhow::Result<f64>,
) -> anyhow::Result<()> {
    take_all(
        pairs,
        [contest],
        async |pair| Ok([reference(pair).await?]),
        async |pair| Ok([ours(pair).await?]),
    )
    .await
}

/// The same where one turn gives the values of several contests.
pub(crate) async fn take_all<const N: usize>(
    pairs: u32,
    mut contests: [&mut Contest; N],
    mut reference: impl AsyncFnMut(u32) -> anyhow::Result<[f64; N]>,
    mut ours: impl AsyncFnMut(u32) -> anyhow::Result<[f64; N]>,
) -> anyhow::Result<()> {
    for pair in 0..pairs {
        let is_quiet = machine::quiet().await?;
        let theirs = timed(async || reference(pair).await).await?;
        let ours = timed(async || ours(pair).await).await?;
        for ((contest, theirs), ours) in contests.iter_mut().zip(theirs).zip(ours) {
            contest.was_quiet &= is_quiet;
            contest.reference.push(theirs);
            contest.ours.push(ours);
        }
    }
    Ok(())
}

/// What it gives, and what the machine worked meanwhile.
async fn timed<const N: usize>(
    contender: impl AsyncFnOnce() -> anyhow::Result<[f64; N]>,
) -> anyhow::Result<[Sample; N]> {
    let (busy, began) = (machine::busy_seconds()?, Instant::now());
    let values = contender().await?;
    let (cpu_seconds, wall_seconds) = (machine::busy_seconds()? - busy, began.elapsed().as_secs_f64());
    Ok(values.map(|value| Sample { value, cpu_seconds, wall_seconds }))
}
