//! One seal: what it says, what its digest is made of, and its name. Purely.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use tokio_postgres::Row;
use tokio_postgres::types::PgLsn;
use waldelta_wal::{EndLsn, Epoch, Lsn, Position};

/// A SHA-256.
pub(crate) type Digest = [u8; 32];

/// What the first seal of all is chained to.
pub(crate) const NONE: Digest = [0; 32];

/// So that no other use of SHA-256 over the same bytes gives a seal, and another form of seals would have another.
const DOMAIN: &[u8] = b"waldelta seal 1";
/// From 1970 to 2000, where PostgreSQL's times begin, in microseconds.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// A place in an epoch: everything before it lies strictly below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) lsn: Lsn,
    pub(crate) seq: u32,
}

impl Place {
    pub(crate) const BEGIN: Place = Place { lsn: Lsn(0), seq: 0 };
    /// Behind everything that an epoch can have: no commit record begins at the last byte.
    pub(crate) const END: Place = Place { lsn: Lsn(u64::MAX), seq: 0 };

    /// Where the transactions begin that committed at an LSN or after it.
    pub(crate) fn at(lsn: Lsn) -> Self {
        Place { lsn, seq: 0 }
    }

    /// Right behind the change that stands here.
    pub(crate) fn next(self) -> Self {
        match i32::try_from(self.seq.saturating_add(1)) {
            Ok(seq) => Place { seq: seq.cast_unsigned(), ..self },
            Err(_) => Place::at(Lsn(self.lsn.0.saturating_add(1))),
        }
    }

    /// The last position before it.
    pub(crate) fn upto(self, epoch: Epoch) -> Position {
        match self.seq.checked_sub(1) {
            Some(index) => Position { epoch, commit_lsn: self.lsn, index },
            None => Position::before(epoch, EndLsn(self.lsn)),
        }
    }

    /// As parameters.
    pub(crate) fn columns(self) -> (PgLsn, i32) {
        (PgLsn::from(self.lsn.0), self.seq.cast_signed())
    }

    /// Of two columns.
    pub(crate) fn read(row: &Row, at: usize) -> Result<Self, tokio_postgres::Error> {
        let lsn: PgLsn = row.try_get(at)?;
        Ok(Place { lsn: Lsn(lsn.into()), seq: row.try_get::<_, i32>(at + 1)?.cast_unsigned() })
    }
}

/// So many rows, and what their digests add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) rows: u64,
    pub(crate) digest: Digest,
}

/// What stands in one row of `seals`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    pub(crate) epoch: Epoch,
    /// From 1.
    pub(crate) number: u64,
    pub(crate) from: Place,
    pub(crate) to: Place,
    pub(crate) changes: Sum,
    pub(crate) shapes: Sum,
    pub(crate) previous: Digest,
    pub(crate) digest: Digest,
    pub(crate) sealed_at_us: i64,
}

impl Seal {
    /// With its digest.
    pub(crate) fn closed(self) -> Self {
        Seal { digest: self.computed(), ..self }
    }

    /// What its digest has to be.
    pub(crate) fn computed(&self) -> Digest {
        let mut digest = Sha256::new();
        digest.update(DOMAIN);
        digest.update(self.previous);
        digest.update(self.epoch.0.to_be_bytes());
        digest.update(self.number.to_be_bytes());
        for place in [self.from, self.to] {
            digest.update(place.lsn.0.to_be_bytes());
            digest.update(place.seq.to_be_bytes());
        }
        for sum in [self.changes, self.shapes] {
            digest.update(sum.rows.to_be_bytes());
            digest.update(sum.digest);
        }
        digest.update(self.sealed_at_us.to_be_bytes());
        digest.finalize().into()
    }

    pub(crate) fn name(&self) -> SealName {
        SealName { epoch: self.epoch, number: self.number, digest: self.digest }
    }

    /// The last position in it.
    pub(crate) fn upto(&self) -> Position {
        self.to.upto(self.epoch)
    }

    /// Whether it says what existed before its epoch began, which is written whenever somebody wants it.
    pub(crate) fn is_of_before(&self, start: Lsn) -> bool {
        self.from < Place::at(start)
    }

    /// As `read_seals.sql` gives it. What was altered to something that no seal has is still read, and found.
    pub(crate) fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let digest = |at| row.try_get(at).map(|bytes: &[u8]| Digest::try_from(bytes).unwrap_or(NONE));
        let count = |at| row.try_get::<_, i64>(at).map(i64::cast_unsigned);
        let at_us = <[u8; 8]>::try_from(row.try_get::<_, &[u8]>(12)?).map_or(0, i64::from_be_bytes);
        Ok(Seal {
            epoch: Epoch(row.try_get::<_, i32>(0)?.cast_unsigned()),
            number: count(1)?,
            from: Place::read(row, 2)?,
            to: Place::read(row, 4)?,
            changes: Sum { rows: count(6)?, digest: digest(7)? },
            shapes: Sum { rows: count(8)?, digest: digest(9)? },
            previous: digest(10)?,
            digest: digest(11)?,
            sealed_at_us: at_us.wrapping_add(POSTGRES_EPOCH_US),
        })
    }
}

/// A seal's name, to be noted where those who may write history may not write: epoch, number and digest. It stands for
/// everything that was sealed up to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealName {
    pub(crate) epoch: Epoch,
    pub(crate) number: u64,
    pub(crate) digest: Digest,
}

impl fmt::Display for SealName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.", self.epoch.0, self.number)?;
        self.digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The text is not the name of a seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a seal: expected epoch, number and 64 hexadecimal digits joined by dots, as `waldelta verify` prints it"
)]
pub struct ParseSealError;

impl FromStr for SealName {
    type Err = ParseSealError;

    fn from_str(text: &str) -> Result<Self, ParseSealError> {
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().ok_or(ParseSealError);
        let epoch = part()?.parse().map_err(|_| ParseSealError)?;
        let number = part()?.parse().map_err(|_| ParseSealError)?;
        let hex = part()?;
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ParseSealError);
        }
        let mut digest = NONE;
        for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&hex[at..at + 2], 16).map_err(|_| ParseSealError)?;
        }
        Ok(SealName { epoch: Epoch(epoch), number, digest })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn seal() -> Seal {
        let sum = |rows, byte| Sum { rows, digest: [byte; 32] };
        Seal {
            epoch: Epoch(1),
            number: 2,
            from: Place { lsn: Lsn(0x10), seq: 3 },
            to: Place { lsn: Lsn(0x20), seq: 0 },
            changes: sum(4, 5),
            shapes: sum(6, 7),
            previous: [8; 32],
            digest: NONE,
            sealed_at_us: 9,
        }
        .closed()
    }

    /// Seals that are stored must be the same after every change of the program.
    #[test]
    fn the_digest_of_a_seal_stays_what_it_is() {
        let name = seal().name().to_string();
        assert_eq!(name, "1.2.427fb79a690244297a383f3c93f87cd01229af38cf9cba83a13c355f1ee37f63");
        assert_eq!(name.parse(), Ok(seal().name()));
    }

    #[test]
    fn everything_that_a_seal_says_is_in_its_digest() {
        let whole = seal();
        let sum = |sum: Sum| [Sum { rows: sum.rows + 1, ..sum }, Sum { digest: [0xff; 32], ..sum }];
        let place = |place: Place| [Place { seq: place.seq + 1, ..place }, Place::at(Lsn(place.lsn.0 + 1))];
        let mut others = vec![
            Seal { epoch: Epoch(2), ..seal() },
            Seal { number: 3, ..seal() },
            Seal { previous: NONE, ..seal() },
            Seal { sealed_at_us: 10, ..seal() },
            // A boundary that is shifted between two fields is another seal too.
            Seal { from: seal().to, to: seal().from, ..seal() },
            Seal { changes: seal().shapes, shapes: seal().changes, ..seal() },
        ];
        others.extend(sum(whole.changes).map(|changes| Seal { changes, ..seal() }));
        others.extend(sum(whole.shapes).map(|shapes| Seal { shapes, ..seal() }));
        others.extend(place(whole.from).map(|from| Seal { from, ..seal() }));
        others.extend(place(whole.to).map(|to| Seal { to, ..seal() }));
        for other in others {
            assert_ne!(other.computed(), whole.digest, "{other:?}");
        }
        assert_eq!(whole.computed(), whole.digest);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let hex = "0".repeat(64);
        for text in [
            "",
            "1",
            "1.2",
            "1.2.",
            &format!("1.{hex}"),
            &format!("x.1.{hex}"),
            &format!("1.2.{hex}0"),
            &format!("1.2.é{}", &hex[2..]),
        ] {
            assert_eq!(text.parse::<SealName>(), Err(ParseSealError), "{text}");
        }
        assert!(format!("1.2.{}", hex.replace('0', "A")).parse::<SealName>().is_ok());
    }

    #[test]
    fn places_follow_one_another() {
        let last = Place { lsn: Lsn(5), seq: i32::MAX.cast_unsigned() };
        assert_eq!(last.next(), Place::at(Lsn(6)));
        assert_eq!(Place::at(Lsn(5)).next(), Place { lsn: Lsn(5), seq: 1 });
        assert_eq!(Place::at(Lsn(5)).upto(Epoch(1)), Position::whole(Epoch(1), Lsn(4)));
        assert_eq!(Place { lsn: Lsn(5), seq: 2 }.upto(Epoch(1)).index, 1);
        assert!(last < Place::END && last < last.next());
    }
}
