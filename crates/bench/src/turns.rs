//! Two contenders in turn: each pair on a machine as quiet as it gets, so that what disturbs one disturbs the other too.

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
    for pair in 0..pairs {
        contest.was_quiet &= machine::quiet().await?;
        let sample = timed(&mut reference, pair).await?;
        contest.reference.push(sample);
        let sample = timed(&mut ours, pair).await?;
        contest.ours.push(sample);
    }
    Ok(())
}

/// What it gives, and what the machine worked meanwhile.
async fn timed(
    contender: &mut impl AsyncFnMut(u32) -> anyhow::Result<f64>,
    pair: u32,
) -> anyhow::Result<Sample> {
    let (busy, began) = (machine::busy_seconds()?, Instant::now());
    let value = contender(pair).await?;
    Ok(Sample {
        value,
        cpu_seconds: machine::busy_seconds()? - busy,
        wall_seconds: began.elapsed().as_secs_f64(),
    })
}
