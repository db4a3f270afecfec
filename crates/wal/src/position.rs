//! Positions in the history of a source, and their text form, the cursor.

use std::fmt;
use std::str::FromStr;

use crate::lsn::{EndLsn, Lsn};

/// One uninterrupted incarnation of the source. LSNs of different epochs are not comparable; positions are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u32);

/// A place in history: epoch, commit LSN of the transaction, index of the change in it.
///
/// Its text form is the cursor, `<epoch, 8 hex>-<commit lsn, 16 hex>-<index, 8 hex>` in lower case: of fixed width, so
/// that text order is position order. As a cursor it means "everything up to and including this".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Incarnation of the source that the LSN belongs to.
    pub epoch: Epoch,
    /// Commit LSN of the transaction.
    pub commit_lsn: Lsn,
    /// Index of a change in the transaction, or [`Position::WHOLE`].
    pub index: u32,
}

impl Position {
    /// The index that stands for a whole transaction.
    pub const WHOLE: u32 = u32::MAX;
    /// Length of the text form in bytes.
    pub const TEXT_LEN: usize = 34;

    /// The position that has the whole transaction committed at `commit_lsn`.
    pub fn whole(epoch: Epoch, commit_lsn: Lsn) -> Self {
        Position { epoch, commit_lsn, index: Self::WHOLE }
    }

    /// The last position before `end`: it has every transaction whose commit LSN lies strictly below.
    ///
    /// A cursor made from an end LSN, a keepalive or any WAL position must be this one, because a commit record can
    /// begin exactly at `end`.
    pub fn before(epoch: Epoch, end: EndLsn) -> Self {
        match end.0.0.checked_sub(1) {
            Some(last) => Self::whole(epoch, Lsn(last)),
            None => Position { epoch, commit_lsn: Lsn(0), index: 0 },
        }
    }

    /// Whether this position ends a transaction, so that a client may store it.
    pub fn is_whole(self) -> bool {
        self.index == Self::WHOLE
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:016x}-{:08x}", self.epoch.0, self.commit_lsn.0, self.index)
    }
}

/// The text is not a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: expected 8, 16 and 8 lower-case hexadecimal digits joined by hyphens")]
pub struct ParseCursorError;

impl FromStr for Position {
    type Err = ParseCursorError;

    fn from_str(text: &str) -> Result<Self, ParseCursorError> {
        let bytes = text.as_bytes();
        let well_formed = bytes.len() == Self::TEXT_LEN
            && bytes.iter().enumerate().all(|(at, b)| match at {
                8 | 25 => *b == b'-',
                _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
            });
        if !well_formed {
            return Err(ParseCursorError);
        }
        let word =
            |from: usize, to: usize| u64::from_str_radix(&text[from..to], 16).map_err(|_| ParseCursorError);
        Ok(Position {
            epoch: Epoch(u32::try_from(word(0, 8)?).map_err(|_| ParseCursorError)?),
            commit_lsn: Lsn(word(9, 25)?),
            index: u32::try_from(word(26, 34)?).map_err(|_| ParseCursorError)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cursor_has_the_documented_form() {
        let position = Position::whole(Epoch(1), "0/16B3748".parse().unwrap());
        assert_eq!(position.to_string(), "00000001-00000000016b3748-ffffffff");
    }

    #[test]
    fn refuses_what_is_not_a_cursor() {
        for text in [
            "",
            "0/16B3748",
            "00000001-00000000016B3748-ffffffff",
            "00000001-00000000016b3748-fffffff",
            "00000001_00000000016b3748-ffffffff",
            "+0000001-00000000016b3748-ffffffff",
            "00000001-00000000016b3748-fffffff\u{e9}",
        ] {
            assert_eq!(text.parse::<Position>(), Err(ParseCursorError), "{text:?}");
        }
    }

    #[test]
    fn the_position_before_an_end_has_not_the_commit_that_begins_there() {
        let end = EndLsn(Lsn(0x100));
        let cursor = Position::before(Epoch(1), end);
        assert!(Position { epoch: Epoch(1), commit_lsn: Lsn(0xff), index: 7 } < cursor);
        assert!(cursor < Position { epoch: Epoch(1), commit_lsn: Lsn(0x100), index: 0 });
    }

    proptest! {
        #[test]
        fn text_order_is_position_order(a: (u32, u64, u32), b: (u32, u64, u32)) {
            let make = |(epoch, lsn, index)| Position { epoch: Epoch(epoch), commit_lsn: Lsn(lsn), index };
            let (a, b) = (make(a), make(b));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
            prop_assert_eq!(a.to_string().parse::<Position>(), Ok(a));
        }
    }
}
