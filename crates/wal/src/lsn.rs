//! Log sequence numbers: places in the source's WAL, as PostgreSQL prints them.
//!
//! Two meanings get two types, because mixing them up loses or doubles a transaction: an [`Lsn`] names a place (in
//! a [`Position`](crate::Position): a commit LSN), an [`EndLsn`] says up to where everything is done, and is what the
//! slot is told.

use std::fmt;
use std::str::FromStr;

/// A byte position in the WAL. Prints and parses as PostgreSQL's `pg_lsn`: `16/B374D848`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// The end of something in the WAL: the `end_lsn` of a commit, or the WAL end of a keepalive.
///
/// Everything that committed *strictly below* it is included. The next commit record may begin exactly at it, so a
/// transaction is a duplicate of what is durable if and only if its commit LSN is below the durable end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndLsn(pub Lsn);

impl EndLsn {
    /// Whether a transaction with this commit LSN lies before this end, so that it is already included.
    pub fn includes(self, commit_lsn: Lsn) -> bool {
        commit_lsn < self.0
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl fmt::Display for EndLsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is not an LSN: two hexadecimal numbers of at most eight digits with a slash between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an LSN: expected two hexadecimal numbers such as 16/B374D848")]
pub struct ParseLsnError;

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, ParseLsnError> {
        let (high, low) = text.split_once('/').ok_or(ParseLsnError)?;
        Ok(Lsn(hex_word(high)? << 32 | hex_word(low)?))
    }
}

fn hex_word(digits: &str) -> Result<u64, ParseLsnError> {
    let well_formed = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if !well_formed {
        return Err(ParseLsnError);
    }
    u64::from_str_radix(digits, 16).map_err(|_| ParseLsnError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses_like_postgres() {
        for text in
            ["0/0", "0/16B3748", "16/B374D848", "7FFFFFFF/FFFFFFFF", "80000000/0", "FFFFFFFF/FFFFFFFF"]
        {
            assert_eq!(text.parse::<Lsn>().unwrap().to_string(), text);
        }
        assert!(
            "A/1".parse::<Lsn>().unwrap() < "10/0".parse::<Lsn>().unwrap(),
            "order is of numbers, not of text"
        );
    }

    #[test]
    fn refuses_what_is_not_an_lsn() {
        for text in ["", "/", "0", "0/", "/0", "0/g", "0/+1", "0/123456789", "0/0/0", " 0/0"] {
            assert_eq!(text.parse::<Lsn>(), Err(ParseLsnError), "{text:?}");
        }
    }

    #[test]
    fn a_commit_that_begins_at_the_end_is_not_included() {
        let end = EndLsn(Lsn(100));
        assert!(end.includes(Lsn(99)));
        assert!(!end.includes(Lsn(100)));
    }
}
