//! Whatever pieces come, whole or damaged and in however many appends: they are taken if and only if they are transactions in
//! order, and cut where they have to be and nowhere else.

use std::sync::Arc;

use proptest::prelude::*;

use super::tests::{BYTES, piece};
use super::*;

const START: u64 = 50;

/// A transaction so many bytes behind the one before, of so many bytes and these numbers of changes in its pieces.
type Made = (u64, u64, Vec<u32>);

/// What is wrong with the pieces.
#[derive(Clone, Debug)]
enum Damage {
    Lost,
    Twice,
    Swapped,
    Later(u32),
    Nearer(u64),
    NeverEnds,
    EndsEarly,
    OfAnotherEpoch,
    BeginsAnew,
}

fn transactions() -> impl Strategy<Value = Vec<Made>> {
    let gap = prop_oneof![4 => Just(0u64), 2 => 1u64..5, 1 => 50u64..250];
    let one = (gap, 1u64..5, prop::collection::vec(0u32..3, 1..4));
    prop::collection::vec(one, 0..8)
}

fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, Damage)>> {
    let damage = prop_oneof![
        Just(Damage::Lost),
        Just(Damage::Twice),
        Just(Damage::Swapped),
        (1u32..3).prop_map(Damage::Later),
        (1u64..9).prop_map(Damage::Nearer),
        Just(Damage::NeverEnds),
        Just(Damage::EndsEarly),
        Just(Damage::OfAnotherEpoch),
        Just(Damage::BeginsAnew),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), damage), 0..3)
}

fn made(transactions: &[Made]) -> Vec<Piece> {
    let (mut at, mut pieces) = (START, Vec::new());
    for (gap, bytes, counts) in transactions {
        let (commit, end) = (at + gap, at + gap + bytes);
        let mut seq = 0;
        for (index, count) in counts.iter().enumerate() {
            let is_last = index + 1 == counts.len();
            let made = piece(commit, seq..seq + count, is_last.then_some(end));
            pieces.push(Piece { first: index == 0, ..made });
            seq += count;
        }
        at = end;
    }
    pieces
}

fn damaged(mut pieces: Vec<Piece>, damage: &[(prop::sample::Index, Damage)]) -> Vec<Piece> {
    for (at, damage) in damage {
        if pieces.is_empty() {
            break;
        }
        let at = at.index(pieces.len());
        let piece = &mut pieces[at];
        match damage {
            Damage::Lost => _ = pieces.remove(at),
            Damage::Twice => pieces.insert(at, pieces[at].clone()),
            Damage::Swapped => pieces.swap(at, 0),
            Damage::Later(by) => piece.changes.iter_mut().for_each(|change| change.seq += by),
            Damage::Nearer(by) => piece.head.commit_lsn.0 -= by,
            Damage::NeverEnds => piece.end = None,
            Damage::EndsEarly => piece.end = Some(EndLsn(piece.head.commit_lsn)),
            Damage::OfAnotherEpoch => piece.head.epoch = Epoch(2),
            Damage::BeginsAnew => piece.first = !piece.first,
        }
    }
    pieces
}

/// Where the last whole transaction ends, if these are transactions in order, the last of them perhaps without its end.
fn ends(pieces: &[Piece]) -> Option<u64> {
    let mut durable = START;
    let mut rest = pieces;
    while let [first, ..] = rest {
        let following = rest[1..].iter().position(|piece| piece.first).map_or(rest.len(), |next| next + 1);
        let (transaction, others) = rest.split_at(following);
        rest = others;
        let seqs = transaction.iter().flat_map(|piece| &piece.changes).map(|change| change.seq);
        let is_one = first.first
            && first.head.epoch == Epoch(1)
            && first.head.commit_lsn.0 >= durable
            && transaction.iter().all(|piece| piece.head == first.head)
            && seqs.enumerate().all(|(index, seq)| index == seq as usize)
            && transaction[..following - 1].iter().all(|piece| piece.end.is_none());
        let end = transaction[following - 1].end.map(|end| end.0.0);
        match end {
            _ if !is_one => return None,
            Some(end) if end <= first.head.commit_lsn.0 => return None,
            Some(end) => durable = end,
            None if others.is_empty() => {}
            None => return None,
        }
    }
    Some(durable)
}

/// In as many appends as there are cuts, and one.
fn appends<'p>(pieces: &'p [Piece], cuts: &[prop::sample::Index]) -> Vec<&'p [Piece]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(pieces.len() + 1)).collect();
    cuts.extend([0, pieces.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &pieces[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn transactions_in_order_are_taken_and_nothing_else(
        transactions in transactions(),
        damage in damage(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let pieces = damaged(made(&transactions), &damage);
        let mut sequence = Ok(Sequence::new(Epoch(1), EndLsn(Lsn(START))));
        for pieces in appends(&pieces, &cuts) {
            sequence = sequence.and_then(|sequence: Sequence| sequence.after(pieces));
        }
        prop_assert_eq!(sequence.as_ref().ok().map(|sequence| sequence.end.0.0), ends(&pieces));
        if let Ok(sequence) = sequence {
            prop_assert_eq!(sequence.is_open(), pieces.last().is_some_and(|last| last.end.is_none()));
        }
    }

    #[test]
    fn cuts_are_made_where_they_have_to_be_and_nowhere_else(
        transactions in transactions(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let pieces = made(&transactions);
        let mut partitions = Partitions::new(Epoch(1), BYTES, Arc::default(), []);
        for append in appends(&pieces, &cuts) {
            let runs = cut_into_runs(append.to_vec(), &mut partitions);
            prop_assert!(runs.iter().flat_map(|run| &run.pieces).eq(append), "all of them, in order");
            for (at, run) in runs.iter().enumerate() {
                let last = run.pieces.last().unwrap();
                // What a COPY takes goes into one partition.
                for piece in run.pieces.iter().filter(|piece| !piece.changes.is_empty()) {
                    prop_assert_eq!(run.partition, Some(partitions.of(piece.head.commit_lsn)));
                }
                // What is not whole keeps nothing waiting that is.
                if last.end.is_none() {
                    prop_assert_eq!(at + 1, runs.len());
                    let others = run.pieces.iter().filter(|piece| piece.head != last.head);
                    prop_assert_eq!(others.count(), 0);
                }
                let Some(next) = runs.get(at + 1) else { continue };
                let is_elsewhere = run.partition.is_some() && next.partition.is_some() && run.partition != next.partition;
                prop_assert!(is_elsewhere || next.end().is_none(), "a COMMIT more than there need be");
            }
        }
    }
}
