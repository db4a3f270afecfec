//! Numbers for people and for programs: medians and spread, as lines, as JSON, and as rows of a table.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::curve::Curve;

/// Prints a line of the report.
#[expect(clippy::print_stdout, reason = "the report is what this program is for")]
pub(crate) fn line(text: &str) {
    println!("{text}");
}

/// Median, lowest and highest of some measurements.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    /// The middle one.
    pub median: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

impl Spread {
    /// Of at least one measurement.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Spread { median: percentile(&values, 50.0), low: values[0], high: values[values.len() - 1] }
    }
}

/// The value below which this many percent of the sorted values lie.
pub(crate) fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let rank = (percent / 100.0 * (sorted.len() - 1) as f64).round() as usize;
    sorted[rank]
}

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// In the unit of the contest.
    pub value: f64,
    /// What all processors worked meanwhile, PostgreSQL's share included.
    pub cpu_seconds: f64,
    /// How long it took with what is around it.
    pub wall_seconds: f64,
}

/// What a ratio is to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    fn is_met(self, ratio: f64) -> bool {
        match self {
            Goal::AtLeast(least) => ratio >= least,
            Goal::AtMost(most) => ratio <= most,
        }
    }

    fn text(self) -> String {
        match self {
            Goal::AtLeast(least) => format!("≥ {least}"),
            Goal::AtMost(most) => format!("≤ {most}"),
        }
    }
}

/// Waldelta and a reference, measured in turn.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Contest {
    /// Such as B1.
    pub id: String,
    /// The workload.
    pub of: String,
    pub unit: String,
    /// What the reference is.
    pub against: String,
    /// What the ratio of ours to the reference is to be; `None`: it is only shown.
    pub goal: Option<Goal>,
    pub reference: Vec<Sample>,
    pub ours: Vec<Sample>,
    /// Whether the machine had little else to do before each pair.
    pub was_quiet: bool,
}

impl Contest {
    pub(crate) fn new(
        id: &str,
        of: impl Into<String>,
        unit: &str,
        against: impl Into<String>,
        goal: Option<Goal>,
    ) -> Self {
        Contest {
            id: id.to_owned(),
            of: of.into(),
            unit: unit.to_owned(),
            against: against.into(),
            goal,
            reference: Vec::new(),
            ours: Vec::new(),
            was_quiet: true,
        }
    }

    /// Ours to the reference, pair by pair.
    fn ratio(&self) -> Spread {
        Spread::of(
            self.ours.iter().zip(&self.reference).map(|(ours, theirs)| ours.value / theirs.value).collect(),
        )
    }

    /// Prints it.
    pub(crate) fn show(&self) {
        let spread = |samples: &[Sample]| Spread::of(samples.iter().map(|sample| sample.value).collect());
        let cpu = |samples: &[Sample]| Spread::of(samples.iter().map(|sample| sample.cpu_seconds).collect());
        line(&format!("\n{} {} ({})", self.id, self.of, self.unit));
        for (name, samples) in [(&*self.against, &self.reference), ("waldelta", &self.ours)] {
            let Spread { median, low, high } = spread(samples);
            line(&format!(
                "  {name:<44} {:>10}  ({} to {}), {:.1} CPU s",
                number(median),
                number(low),
                number(high),
                cpu(samples).median
            ));
        }
        line(&format!("  {:<44} {}", "ratio", self.verdict()));
    }

    fn verdict(&self) -> String {
        let Spread { median, low, high } = self.ratio();
        let mut text = format!("{median:.2} ({low:.2} to {high:.2})");
        if let Some(goal) = self.goal {
            let met = if goal.is_met(median) { "met" } else { "not met" };
            let _ = write!(text, ", goal {}: {met}", goal.text());
        }
        if !self.was_quiet {
            text.push_str(", on a busy machine");
        }
        text
    }

    /// As a row of a table: what, the reference, ours, the ratio with its spread, and the goal.
    fn row(&self) -> String {
        let median = |samples: &[Sample]| {
            number(Spread::of(samples.iter().map(|sample| sample.value).collect()).median)
        };
        format!(
            "| {} | {} | {} | {} {} | {} | {} |",
            self.id,
            self.of,
            self.against,
            median(&self.reference),
            self.unit,
            median(&self.ours),
            self.verdict()
        )
    }
}

/// Large ones without a fraction, small ones with three digits of it.
pub(crate) fn number(value: f64) -> String {
    match value {
        value if value >= 1000.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.3}"),
    }
}

/// What has neither a reference nor a size to grow with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Table {
    pub title: String,
    pub columns: Vec<String>,
    /// What each row is of, and its values.
    pub rows: Vec<(String, Vec<f64>)>,
}

impl Table {
    /// Prints it.
    pub(crate) fn show(&self) {
        line(&format!("\n{}", self.title));
        let cells = |texts: Vec<String>| texts.iter().map(|text| format!("{text:>12}")).collect::<String>();
        line(&format!("  {:<44} {}", "", cells(self.columns.clone())));
        for (of, values) in &self.rows {
            line(&format!("  {of:<44} {}", cells(values.iter().copied().map(number).collect())));
        }
    }

    fn page(&self) -> String {
        let mut page = format!(
            "\n{}\n\n| | {} |\n|---{}|\n",
            self.title,
            self.columns.join(" | "),
            "|---".repeat(self.columns.len())
        );
        for (of, values) in &self.rows {
            let values: Vec<String> = values.iter().copied().map(number).collect();
            let _ = writeln!(page, "| {of} | {} |", values.join(" | "));
        }
        page
    }
}

/// A run as others read it, and as a later one goes on with it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub commit: String,
    /// Of PostgreSQL.
    pub version: String,
    pub processors: usize,
    /// Measures that are through.
    pub measured: Vec<String>,
    pub contests: Vec<Contest>,
    pub curves: Vec<Curve>,
    pub tables: Vec<Table>,
}

impl Run {
    /// One that was written before.
    pub(crate) fn read(from: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(from).with_context(|| format!("read {}", from.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no run of this bench", from.display()))
    }

    /// Writes it as JSON.
    pub(crate) fn write(&self, to: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(to, text).with_context(|| format!("write {}", to.display()))
    }

    /// Appends it to a page as a table.
    pub(crate) fn append(&self, date: &str, to: &Path) -> anyhow::Result<()> {
        let mut page = std::fs::read_to_string(to).with_context(|| format!("read {}", to.display()))?;
        let _ = write!(
            page,
            "\n### {date}, {}, PostgreSQL {}, {} processors\n\n\
             | | of | reference | it has | Waldelta | ratio, lowest and highest, goal |\n|---|---|---|---|---|---|\n",
            self.commit, self.version, self.processors
        );
        self.contests.iter().for_each(|contest| {
            let _ = writeln!(page, "{}", contest.row());
        });
        self.tables.iter().for_each(|table| page.push_str(&table.page()));
        let pictures = to.with_file_name("pictures");
        for curve in &self.curves {
            std::fs::create_dir_all(&pictures).context("make a folder of pictures")?;
            let file = curve.file_name();
            std::fs::write(pictures.join(&file), curve.svg()).context("write a picture")?;
            let _ = writeln!(page, "\n![{}](pictures/{file})", curve.title);
        }
        std::fs::write(to, page).with_context(|| format!("write {}", to.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Spread { median: 2.0, low: 1.0, high: 3.0 });
        assert_eq!(percentile(&[1.0, 2.0, 3.0, 4.0, 5.0], 99.0), 5.0);
    }

    #[test]
    fn a_verdict_says_whether_the_goal_is_met_by_the_pairs() {
        let sample = |value| Sample { value, cpu_seconds: 1.0, wall_seconds: 1.0 };
        let mut contest = Contest::new("B1", "bulk", "changes/s", "another", Some(Goal::AtLeast(1.4)));
        contest.reference = vec![sample(100.0), sample(200.0), sample(100.0)];
        contest.ours = vec![sample(150.0), sample(280.0), sample(200.0)];
        assert_eq!(contest.verdict(), "1.50 (1.40 to 2.00), goal ≥ 1.4: met");
        contest.goal = Some(Goal::AtMost(1.2));
        contest.was_quiet = false;
        assert_eq!(contest.verdict(), "1.50 (1.40 to 2.00), goal ≤ 1.2: not met, on a busy machine");
        assert_eq!(
            contest.row(),
            "| B1 | bulk | another | 100.0 changes/s | 200.0 | 1.50 (1.40 to 2.00), goal ≤ 1.2: not met, on a busy machine |"
        );
    }
}
