//! What a look at the seals has found, for people and as JSON.

use serde::Serialize;
use waldelta_wal::{Epoch, Position};

use super::seal::{Place, Seal};

/// Findings that are told at most; more are counted.
pub(super) const FINDINGS_MAX: usize = 20;

/// What came of comparing history with its seals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Nothing at or before this position is in history any more.
    pub pruned: Option<String>,
    /// Epochs of which there are seals, oldest first.
    pub epochs: Vec<EpochSeals>,
    /// What no seal covers yet.
    pub unsealed: Unsealed,
    /// The newest seal: its name stands for everything that was sealed before.
    pub newest: Option<String>,
    /// When it was made, in microseconds since 1970, by the clock of history's database.
    pub newest_at_us: Option<i64>,
    /// What became of the seal that was noted elsewhere; `None`: none was given.
    pub noted: Option<Noted>,
    /// What differs, in the order in which it was found.
    pub findings: Vec<Finding>,
    /// More of them that are not told.
    pub findings_left_out: u64,
}

/// The seals of one epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EpochSeals {
    /// Its number.
    pub epoch: u32,
    /// Seals that were read.
    pub seals: u64,
    /// Of them, those whose stretch is as it was sealed.
    pub good_seals: u64,
    /// Changes in those.
    pub good_changes: u64,
    /// Seals of which something or everything was pruned since: nothing is left to be compared.
    pub pruned_seals: u64,
    /// Seals of stretches before the place from which was to be compared.
    pub seals_before: u64,
    /// The last position that is sealed.
    pub sealed_until: String,
    /// Whether it has ended, and is sealed to its end.
    pub has_ended: bool,
}

/// What no seal covers yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unsealed {
    /// Changes.
    pub changes: u64,
    /// There are more than that.
    pub is_more: bool,
}

/// What became of a seal that was noted elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Noted {
    /// It is there, as it was noted.
    Same,
    /// What it covers was pruned since, and it with that.
    Pruned,
    /// There is another in its place, or none.
    Gone,
}

/// Something that is not as it was sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The epoch.
    pub epoch: u32,
    /// Number of the seal at which it was found.
    pub seal: u64,
    /// The first position of its stretch.
    pub from: String,
    /// The last.
    pub upto: String,
    /// What is wrong.
    #[serde(flatten)]
    pub problem: Problem,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "problem", rename_all = "snake_case")]
pub enum Problem {
    /// The changes of the stretch are others than were sealed, or as many with other contents.
    ChangesDiffer {
        /// How many were sealed.
        sealed: u64,
        /// How many there are.
        found: u64,
    },
    /// The shapes of tables are.
    ShapesDiffer {
        /// How many were sealed.
        sealed: u64,
        /// How many there are.
        found: u64,
    },
    /// The database cannot read the stretch: damaged storage, mostly.
    Unreadable {
        /// What it says.
        sqlstate: String,
    },
    /// What the seal says is not what was sealed under its digest.
    SealAltered,
    /// Seals before this one are missing.
    SealsMissing {
        /// How many.
        missing: u64,
    },
    /// It is not chained to the seal before it.
    NotChained,
    /// It covers what another covers, or is of an epoch that there is not.
    Misplaced,
    /// No seal covers this, though later ones are there and it was not pruned. The seal is the next one, or the last of an epoch.
    NotCovered,
    /// The seal that was noted elsewhere is not there: what is there was sealed anew, or the newest seals were removed.
    NotAsNoted,
}

impl Verification {
    pub(super) fn add(&mut self, finding: Finding) {
        match self.findings.len() < FINDINGS_MAX {
            true => self.findings.push(finding),
            false => self.findings_left_out += 1,
        }
    }

    /// The epoch of a seal that comes next, or now.
    pub(super) fn epoch(&mut self, epoch: Epoch) -> Option<&mut EpochSeals> {
        if self.epochs.last().is_none_or(|last| last.epoch != epoch.0) {
            self.epochs.push(EpochSeals { epoch: epoch.0, ..EpochSeals::default() });
        }
        self.epochs.last_mut()
    }
}

impl Finding {
    pub(super) fn at(seal: &Seal, problem: Problem) -> Self {
        let Seal { epoch, number, from, to, .. } = *seal;
        Finding::of(epoch, number, from, to, problem)
    }

    pub(super) fn of(epoch: Epoch, seal: u64, from: Place, to: Place, problem: Problem) -> Self {
        let first = Position { epoch, commit_lsn: from.lsn, index: from.seq };
        let (from, upto) = (first.to_string(), to.upto(epoch).to_string());
        Finding { epoch: epoch.0, seal, from, upto, problem }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Finding { epoch, seal, from, upto, problem } = self;
        let differ =
            |f: &mut std::fmt::Formatter<'_>, what: &str, sealed: u64, found: u64| match sealed == found {
                true => write!(f, "as many {what} as were sealed, {sealed}, but not the same"),
                false if found < sealed => write!(f, "{} of {sealed} {what} are missing", sealed - found),
                false => write!(f, "{found} {what}, where {sealed} were sealed"),
            };
        write!(f, "epoch {epoch}, seal {seal}, from {from} to {upto}: ")?;
        match problem {
            Problem::ChangesDiffer { sealed, found } => differ(f, "changes", *sealed, *found),
            Problem::ShapesDiffer { sealed, found } => differ(f, "shapes of tables", *sealed, *found),
            Problem::Unreadable { sqlstate } => {
                write!(f, "the database cannot read it (SQLSTATE {sqlstate})")
            }
            Problem::SealAltered => write!(f, "the seal itself was altered"),
            Problem::SealsMissing { missing } => write!(f, "{missing} seals before it are missing"),
            Problem::NotChained => write!(f, "it does not follow the seal before it"),
            Problem::Misplaced => write!(f, "there cannot be a seal of this"),
            Problem::NotCovered => write!(f, "no seal covers this any more"),
            Problem::NotAsNoted => {
                write!(f, "it is not there as it was noted: the chain was made anew, or cut off")
            }
        }
    }
}
