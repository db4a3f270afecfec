//! What a chain of seals must look like. Purely: seals come in one after the other, what was pruned is said at the end.
//!
//! Seals are removed with what was pruned, and what was pruned unsealed is sealed by none, so a chain may begin late and have holes: as
//! far as was pruned, and nowhere else. Only when all seals have been read it is asked up to where that is: it moves before they go.

use waldelta_wal::{Epoch, Lsn};

use super::report::{Finding, Noted, Problem};
use super::seal::{Digest, NONE, Place, Seal, SealName};

/// Holes that are remembered at most, the newest: each takes a prune that sealing did not keep up with.
const HOLES_MAX: usize = 1_000;

/// A walk along the chain.
pub(super) struct Chain {
    noted: Option<SealName>,
    first: Option<Seal>,
    before: Option<Link>,
    /// Up to where the epoch of the last seal is sealed: what existed before it, and what was changed in it.
    before_until: Place,
    since_until: Place,
    /// What is not sealed, and is right only where it was pruned.
    holes: Vec<(Place, Finding)>,
    is_noted_there: bool,
}

/// What the next seal has to be chained to.
struct Link {
    epoch: Epoch,
    start: Lsn,
    number: u64,
    /// As stored, and as computed: of a seal that was altered one of them is what it was.
    digests: [Digest; 2],
}

impl Chain {
    pub(super) fn new(noted: Option<SealName>) -> Self {
        Chain {
            noted,
            first: None,
            before: None,
            before_until: Place::BEGIN,
            since_until: Place::BEGIN,
            holes: Vec::new(),
            is_noted_there: false,
        }
    }

    /// The next seal, of an epoch that begins there; what is wrong with it.
    pub(super) fn take(&mut self, seal: &Seal, start: Lsn) -> Vec<Problem> {
        let mut problems = Vec::new();
        let computed = seal.computed();
        if computed != seal.digest {
            problems.push(Problem::SealAltered);
        }
        problems.extend(self.link(seal));
        if self.before.as_ref().is_none_or(|before| before.epoch != seal.epoch) {
            self.end_epoch();
            (self.before_until, self.since_until) = (Place::BEGIN, Place::at(start));
        }
        let until = match seal.is_of_before(start) {
            true => &mut self.before_until,
            false => &mut self.since_until,
        };
        let (expected, is_behind) = (*until, seal.from > *until);
        let is_misplaced = seal.from < expected || seal.to <= seal.from;
        *until = seal.to.max(expected);
        if is_misplaced {
            problems.push(Problem::Misplaced);
        }
        if is_behind {
            let finding = Finding::of(seal.epoch, seal.number, expected, seal.from, Problem::NotCovered);
            self.hole(seal.from, finding);
        }
        if let Some(noted) =
            self.noted.filter(|noted| (noted.epoch, noted.number) == (seal.epoch, seal.number))
        {
            self.is_noted_there = noted.digest == seal.digest && noted.digest == computed;
        }
        self.first.get_or_insert_with(|| seal.clone());
        let digests = [seal.digest, computed];
        self.before = Some(Link { epoch: seal.epoch, start, number: seal.number, digests });
        problems
    }

    /// Whether a seal is the next one.
    fn link(&self, seal: &Seal) -> Option<Problem> {
        let number = match &self.before {
            Some(before) if before.epoch == seal.epoch => before.number.saturating_add(1),
            Some(_) => 1,
            // Whether those before it may be missing is asked at the end.
            None if seal.number > 1 => return None,
            None => 1,
        };
        let is_chained = match &self.before {
            Some(before) => before.digests.contains(&seal.previous),
            None => seal.previous == NONE,
        };
        match seal.number.checked_sub(number) {
            None => Some(Problem::Misplaced),
            Some(0) => (!is_chained).then_some(Problem::NotChained),
            Some(missing) => Some(Problem::SealsMissing { missing }),
        }
    }

    /// What is left of an epoch after which another is sealed.
    fn end_epoch(&mut self) {
        let Some(Link { epoch, start, number, .. }) = self.before else { return };
        for (until, end) in [(self.before_until, Place::at(start)), (self.since_until, Place::END)] {
            if until < end {
                self.hole(end, Finding::of(epoch, number, until, end, Problem::NotCovered));
            }
        }
    }

    fn hole(&mut self, end: Place, finding: Finding) {
        if self.holes.len() == HOLES_MAX {
            self.holes.remove(0);
        }
        self.holes.push((end, finding));
    }

    /// Up to where the epoch of the last seal is sealed, and which one that is.
    pub(super) fn until(&self) -> Option<(Epoch, Place, Place)> {
        self.before.as_ref().map(|last| (last.epoch, self.before_until, self.since_until))
    }

    /// What is wrong with the whole, and what became of the seal that was noted, now that is known up to where each epoch was pruned.
    pub(super) fn end(self, pruned_in: impl Fn(Epoch) -> Place) -> (Vec<Finding>, Option<Noted>) {
        let holes = self.holes.into_iter();
        let holes = holes.filter(|(end, finding)| *end > pruned_in(Epoch(finding.epoch)));
        let mut findings: Vec<Finding> = holes.map(|(_, finding)| finding).collect();
        // Of an epoch of which nothing was pruned, nor all before it began, no seal is removed.
        let begins_late = self.first.as_ref().filter(|first| first.number > 1);
        if let Some(first) = begins_late.filter(|first| pruned_in(first.epoch) == Place::BEGIN) {
            findings.insert(0, Finding::at(first, Problem::SealsMissing { missing: first.number - 1 }));
        }
        let noted = self.noted.map(|noted| match &self.first {
            _ if self.is_noted_there => Noted::Same,
            Some(first) if first.number > 1 && (noted.epoch, noted.number) < (first.epoch, first.number) => {
                let is_before = noted.epoch == first.epoch && noted.number + 1 == first.number;
                match is_before {
                    true if first.previous == noted.digest => Noted::Same,
                    true => Noted::Gone,
                    false => Noted::Pruned,
                }
            }
            _ => Noted::Gone,
        });
        if noted == Some(Noted::Gone)
            && let Some(SealName { epoch, number, .. }) = self.noted
        {
            findings.push(Finding::of(epoch, number, Place::BEGIN, Place::BEGIN, Problem::NotAsNoted));
        }
        (findings, noted)
    }
}
