//! How far a reader can go on from where it is: up to a place in its epoch, over the seam into the next one, or not at all.
//!
//! Nothing here compares places in the WAL of two epochs: what survived a seam, and where reading goes on behind it, is what
//! history says.

use waldelta_history::{Error, History, Lineage};
use waldelta_wal::Position;

/// What can be read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stretch {
    /// Everything up to here, in the epoch of the reader.
    Upto(Position),
    /// Its epoch has been read to the end: reading goes on after this position, and nothing lies between.
    Seam(Position),
    /// What it has did not survive, or something is missing on the way: it begins anew.
    Lost,
}

impl Stretch {
    /// What lies before a reader at `at`, with the head as it is known here.
    pub(crate) async fn after(at: Position, head: Position, history: &History) -> Result<Self, Error> {
        // The head of this process may be behind the one that the reader was told: then there is nothing to read.
        if at.epoch >= head.epoch {
            return Ok(Stretch::Upto(head));
        }
        Ok(Self::in_older_epoch(at, &history.lineage().await?))
    }

    /// The same for a reader whose epoch is not the current one.
    pub(crate) fn in_older_epoch(at: Position, lineage: &Lineage) -> Self {
        let (end, seam) = (lineage.last_position(at.epoch), lineage.seam(at.epoch));
        match (end, seam) {
            (Some(end), Some(seam)) if lineage.can_continue(at) => match at < end {
                true => Stretch::Upto(end),
                false => Stretch::Seam(seam),
            },
            _ => Stretch::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{lineage, position_in};

    #[test]
    fn an_epoch_is_read_to_its_end_and_then_the_next() {
        // Epoch 2 goes on at 150; between 2 and 4 there is a gap.
        let continued = lineage(&[(1, 100, None), (2, 150, Some(true))]);
        let broken = lineage(&[(1, 100, None), (2, 150, Some(true)), (4, 300, Some(false))]);
        let at = |epoch, lsn| position_in(epoch, lsn);
        for (from, stretch) in [
            (at(1, 120), Stretch::Upto(at(1, 149))),
            (at(1, 149), Stretch::Seam(at(2, 149))),
            // It has what did not survive.
            (at(1, 150), Stretch::Lost),
            (at(7, 120), Stretch::Lost),
        ] {
            assert_eq!(Stretch::in_older_epoch(from, &continued), stretch, "{from}");
            assert_eq!(Stretch::in_older_epoch(from, &broken), Stretch::Lost, "{from}");
        }
        let inside = Position { index: 3, ..at(1, 149) };
        assert_eq!(Stretch::in_older_epoch(inside, &continued), Stretch::Upto(at(1, 149)), "the rest of it");
    }
}
