//! What grows with a size: every size measured in turn, as a curve, and as a contest of each size against the one before.

use std::time::Instant;

use crate::curve::Curve;
use crate::machine;
use crate::report::{Contest, Goal, Sample, Spread};

/// Measurements of one value.
pub(crate) struct Growth {
    id: String,
    /// What is measured, such as `cost of a change`, and its unit.
    what: String,
    unit: String,
    /// What grows, such as `tables`.
    grows: String,
    /// With the samples of each, of the same rounds.
    sizes: Vec<(u64, Vec<Sample>)>,
    was_quiet: bool,
}

impl Growth {
    pub(crate) fn new(id: &str, what: &str, unit: &str, grows: &str, sizes: &[u64]) -> Self {
        Growth {
            id: id.to_owned(),
            what: what.to_owned(),
            unit: unit.to_owned(),
            grows: grows.to_owned(),
            sizes: sizes.iter().map(|size| (*size, Vec::new())).collect(),
            was_quiet: true,
        }
    }

    /// All of it as a curve of medians.
    pub(crate) fn curve(&self) -> Curve {
        let title = format!("{} by {}", self.what, self.grows);
        let mut curve = Curve::new(&self.id, title, &self.grows, &self.unit);
        curve.points = self.sizes.iter().map(|(size, samples)| (*size as f64, median(samples))).collect();
        curve
    }

    /// Each size against the one before, round by round.
    pub(crate) fn steps(&self, most: f64) -> impl Iterator<Item = Contest> {
        self.sizes.windows(2).map(move |pair| {
            let [(before, reference), (size, ours)] = pair else { unreachable!("windows of two") };
            let of = format!("{}, {size} {}", self.what, self.grows);
            let against = format!("itself, {before} {}", self.grows);
            let mut contest = Contest::new(&self.id, of, &self.unit, against, Some(Goal::AtMost(most)));
            contest.reference.clone_from(reference);
            contest.ours.clone_from(ours);
            contest.was_quiet = self.was_quiet;
            contest
        })
    }

    /// The largest size against a value that is allowed.
    pub(crate) fn within(&self, allowed: f64) -> Option<Contest> {
        let (size, ours) = self.sizes.last()?;
        let of = format!("{}, {size} {}", self.what, self.grows);
        let mut contest = Contest::new(&self.id, of, &self.unit, "what is allowed", Some(Goal::AtMost(1.0)));
        contest.reference =
            ours.iter().map(|_| Sample { value: allowed, cpu_seconds: 0.0, wall_seconds: 0.0 }).collect();
        contest.ours.clone_from(ours);
        contest.was_quiet = self.was_quiet;
        Some(contest)
    }
}

/// Measures every size so many times, smallest first; one turn gives the values of several.
pub(crate) async fn measure<const N: usize>(
    rounds: u32,
    mut growths: [&mut Growth; N],
    mut measured: impl AsyncFnMut(u64) -> anyhow::Result<[f64; N]>,
) -> anyhow::Result<()> {
    let sizes: Vec<u64> = growths[0].sizes.iter().map(|(size, _)| *size).collect();
    for _ in 0..rounds {
        let is_quiet = machine::quiet().await?;
        for (at, size) in sizes.iter().enumerate() {
            let (busy, began) = (machine::busy_seconds()?, Instant::now());
            let values = measured(*size).await?;
            let (cpu_seconds, wall_seconds) =
                (machine::busy_seconds()? - busy, began.elapsed().as_secs_f64());
            for (growth, value) in growths.iter_mut().zip(values) {
                growth.was_quiet &= is_quiet;
                growth.sizes[at].1.push(Sample { value, cpu_seconds, wall_seconds });
            }
        }
    }
    Ok(())
}

fn median(samples: &[Sample]) -> f64 {
    Spread::of(samples.iter().map(|sample| sample.value).collect()).median
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_size_is_compared_with_the_one_before() {
        let mut growth = Growth::new("B15", "cost of a change", "µs", "tables", &[1, 10, 100]);
        for (size, samples) in &mut growth.sizes {
            let sample = Sample { value: *size as f64 + 1.0, cpu_seconds: 0.0, wall_seconds: 0.0 };
            samples.extend([sample, sample]);
        }
        assert_eq!(growth.curve().points, [(1.0, 2.0), (10.0, 11.0), (100.0, 101.0)]);
        let steps: Vec<Contest> = growth.steps(1.15).collect();
        assert_eq!((steps.len(), &*steps[1].of), (2, "cost of a change, 100 tables"));
        assert_eq!((steps[1].reference[1].value, steps[1].ours[1].value), (11.0, 101.0));
        assert_eq!(growth.within(64.0).unwrap().reference[0].value, 64.0);
    }
}
