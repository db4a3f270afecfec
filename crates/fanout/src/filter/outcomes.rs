//! What a condition can come to where not all that it asks about is known: any of true, false and null.
//!
//! SQL's logic has three values, and not to know is none of them: `x AND y` with null for x and y not known is null or false,
//! so it fails for sure, while `NOT (x AND y)` is null or true.

use super::Verdict;

/// A set of true, false and null; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcomes(u8);

impl Outcomes {
    pub(super) const TRUE: Self = Outcomes(1);
    pub(super) const FALSE: Self = Outcomes(2);
    pub(super) const NULL: Self = Outcomes(4);
    /// Of a value that is there, and not known.
    pub(super) const NOT_NULL: Self = Outcomes(1 | 2);
    pub(super) const ANY: Self = Outcomes(1 | 2 | 4);

    pub(super) fn of(holds: bool) -> Self {
        if holds { Self::TRUE } else { Self::FALSE }
    }

    pub(super) fn not(self) -> Self {
        Outcomes((self.0 & 4) | ((self.0 & 1) << 1) | ((self.0 & 2) >> 1))
    }

    /// All that can come of it where the two are independent.
    pub(super) fn and(self, other: Self) -> Self {
        let is_true = (self.0 & other.0) & Self::TRUE.0;
        let is_false = (self.0 | other.0) & Self::FALSE.0;
        let null_is_in =
            |one: Self, other: Self| one.has(Self::NULL) && (other.has(Self::NULL) || other.has(Self::TRUE));
        let is_null = if null_is_in(self, other) || null_is_in(other, self) { Self::NULL.0 } else { 0 };
        Outcomes(is_true | is_false | is_null)
    }

    pub(super) fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }

    /// Null fails, as behind WHERE.
    pub(super) fn verdict(self) -> Verdict {
        match self {
            Self::TRUE => Verdict::Passes,
            outcomes if outcomes.has(Self::TRUE) => Verdict::Unknown,
            _ => Verdict::Fails,
        }
    }

    fn has(self, one: Self) -> bool {
        self.0 & one.0 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: [Outcomes; 3] = [Outcomes::TRUE, Outcomes::FALSE, Outcomes::NULL];

    fn sql_and(a: Outcomes, b: Outcomes) -> Outcomes {
        match (a, b) {
            (Outcomes::FALSE, _) | (_, Outcomes::FALSE) => Outcomes::FALSE,
            (Outcomes::TRUE, Outcomes::TRUE) => Outcomes::TRUE,
            _ => Outcomes::NULL,
        }
    }

    fn sql_or(a: Outcomes, b: Outcomes) -> Outcomes {
        match (a, b) {
            (Outcomes::TRUE, _) | (_, Outcomes::TRUE) => Outcomes::TRUE,
            (Outcomes::FALSE, Outcomes::FALSE) => Outcomes::FALSE,
            _ => Outcomes::NULL,
        }
    }

    /// All that comes of any outcome of one with any of the other.
    fn each(a: Outcomes, b: Outcomes, join: fn(Outcomes, Outcomes) -> Outcomes) -> Outcomes {
        let mut all = 0;
        for a in ONE.into_iter().filter(|one| a.has(*one)) {
            for b in ONE.into_iter().filter(|one| b.has(*one)) {
                all |= join(a, b).0;
            }
        }
        Outcomes(all)
    }

    #[test]
    fn sets_of_outcomes_join_as_their_members_do() {
        for a in (1..8).map(Outcomes) {
            for b in (1..8).map(Outcomes) {
                assert_eq!(a.and(b), each(a, b, sql_and), "{a:?} AND {b:?}");
                assert_eq!(a.or(b), each(a, b, sql_or), "{a:?} OR {b:?}");
            }
            assert_eq!(a.not().not(), a);
        }
        assert_eq!(Outcomes::TRUE.not(), Outcomes::FALSE);
        assert_eq!(Outcomes::NULL.not(), Outcomes::NULL);
    }

    #[test]
    fn null_fails_and_what_can_be_true_is_not_known() {
        assert_eq!(Outcomes::NULL.and(Outcomes::ANY).verdict(), Verdict::Fails);
        assert_eq!(Outcomes::NULL.and(Outcomes::ANY).not().verdict(), Verdict::Unknown);
        assert_eq!(Outcomes::TRUE.or(Outcomes::ANY).verdict(), Verdict::Passes);
        assert_eq!(Outcomes::FALSE.or(Outcomes::ANY).verdict(), Verdict::Unknown);
    }
}
