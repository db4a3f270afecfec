//! Whatever commits, however it comes and wherever the process dies: history has each transaction once and whole, in order,
//! and the slot is never told of one that history has not.
//!
//! The intake is the real one, with its assembler, batch and progress. The model beside it is a list of what committed, a
//! list of what is stored, and a slot that forgets all it may.

mod source;

use std::time::{Duration, Instant};

use proptest::prelude::*;
use waldelta_wal::{Epoch, Skip, ValuePolicy};

use self::source::{Deed, KEEPALIVE_MAX, Source};
use super::*;

#[derive(Clone, Debug)]
enum Act {
    /// Something is written to the WAL so many bytes after what was written last.
    Write {
        gap: u64,
        deed: Deed,
    },
    /// The walsender sends so many messages, with a keepalive behind them that says little or as much as it can.
    Send {
        messages: usize,
        keepalive: Option<u64>,
        asks: bool,
    },
    Decode,
    /// What waits is given to history, or the durable end is; a moment later, or long after.
    Begin {
        rested: bool,
    },
    /// History has stored it.
    Finish,
    /// The slot is told.
    Report,
    /// The process dies. Of what was being stored, so many transactions are; the walsender begins anew, this far back.
    Crash {
        stored: usize,
        back: usize,
    },
    /// The source fails inside the transaction that it is sending.
    Fail,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => (prop::collection::vec(0usize..2, 0..5), 1u64..5, prop::bool::weighted(0.2))
            .prop_map(|(rows, bytes, left_out)| Deed::Transaction { rows, bytes, left_out }),
        1 => (1u64..5, any::<bool>()).prop_map(|(bytes, canary)| Deed::Sign { bytes, canary }),
        1 => Just(Deed::Message),
        1 => Just(Deed::Fence),
        // Another database's.
        1 => (0u64..3_000_000).prop_map(|bytes| Deed::Foreign { bytes }),
    ]
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let gap = || prop_oneof![2 => Just(0), 1 => 1u64..4];
    let act = prop_oneof![
        6 => (gap(), deed()).prop_map(|(gap, deed)| Act::Write { gap, deed }),
        8 => (1usize..12, prop::option::of(0..=KEEPALIVE_MAX), any::<bool>())
            .prop_map(|(messages, keepalive, asks)| Act::Send { messages, keepalive, asks }),
        10 => Just(Act::Decode),
        6 => any::<bool>().prop_map(|rested| Act::Begin { rested }),
        6 => Just(Act::Finish),
        3 => Just(Act::Report),
        1 => (0usize..4, 0usize..6).prop_map(|(stored, back)| Act::Crash { stored, back }),
        1 => Just(Act::Fail),
    ];
    prop::collection::vec(act, 1..150)
}

/// What history has: transactions, each with what its changes say.
#[derive(Default)]
struct Stored {
    durable: u64,
    transactions: Vec<(u64, Vec<String>)>,
    open: Option<(u64, Vec<String>)>,
}

impl Stored {
    /// Stores pieces as history does: what is whole becomes durable, of the rest it is known that it has begun.
    fn take(&mut self, piece: &Piece) {
        let commit = piece.head.commit_lsn.0;
        let (of, mut changes) = match piece.first {
            true => {
                assert!(self.open.is_none(), "{commit} begins inside another");
                assert!(commit >= self.durable, "{commit} is there already, or was passed over");
                (commit, Vec::new())
            }
            false => self.open.take().expect("the rest of a transaction that never began"),
        };
        assert_eq!(of, commit, "two transactions are mixed");
        for change in &piece.changes {
            assert_eq!(change.seq as usize, changes.len(), "counted from 0 without a gap");
            let data = change.data.as_ref().unwrap();
            changes.push(format!("{} {}", change.operation.as_str(), String::from_utf8_lossy(data)));
        }
        match piece.end {
            None => self.open = Some((commit, changes)),
            Some(end) => {
                assert!(end.0.0 > commit);
                self.durable = end.0.0;
                if !changes.is_empty() {
                    self.transactions.push((commit, changes));
                }
            }
        }
    }
}

/// What is being stored.
enum Job {
    Append(Vec<Piece>),
    Advance(EndLsn),
}

struct World {
    source: Source,
    stored: Stored,
    /// What the slot was told.
    reported: u64,
    piece_bytes_max: usize,
    now: Instant,
    // The process.
    intake: Intake,
    job: Option<Job>,
}

fn intake(source: &Source, durable: u64, piece_bytes_max: usize, now: Instant) -> Intake {
    let durable = EndLsn(Lsn(durable));
    let order = |lsn| Skip { lsn: Lsn(lsn), seq: None, by: "me".into(), why: "test".into() };
    let skips = source.left_out().map(order).collect();
    let assembler = Assembler::new(Epoch(1), durable, 1 << 32, piece_bytes_max, ValuePolicy::default());
    Intake::new(assembler.skipping(skips), Limits { rows_max: 4, bytes_max: 200 }, durable, now)
}

impl World {
    fn new(piece_bytes_max: usize) -> Self {
        let (source, now) = (Source::new(), Instant::now());
        let durable = source.begins_at();
        World {
            intake: intake(&source, durable, piece_bytes_max, now),
            stored: Stored { durable, ..Stored::default() },
            reported: durable,
            source,
            piece_bytes_max,
            now,
            job: None,
        }
    }

    fn perform(&mut self, act: &Act) {
        match act {
            Act::Write { gap, deed } => self.source.write(*gap, deed),
            Act::Send { messages, keepalive, asks } => {
                if self.intake.wants_block() {
                    let block = self.source.send(*messages, keepalive.map(|share| (share, *asks)));
                    self.intake.give_block(block.into());
                }
            }
            Act::Decode => self.decode(),
            Act::Begin { rested } => self.begin(*rested),
            Act::Finish => self.finish(),
            Act::Report => self.report(),
            Act::Crash { stored, back } => self.crash(*stored, *back),
            Act::Fail => self.fail(),
        }
        self.check();
    }

    fn decode(&mut self) {
        if !self.intake.can_decode() {
            return;
        }
        if let Some(wants) = self.intake.decode_slice().unwrap() {
            let Wants::Shape(Wanted { relation, .. }) = wants else { panic!("no line was written") };
            let mut table = relation.to_table(None, |_| None);
            table.version = 1;
            self.intake.define(Arc::new(table), false, false).unwrap();
        }
    }

    /// As the loop does: what waits is appended, and the end is moved where nothing does.
    fn begin(&mut self, rested: bool) {
        if self.job.is_some() {
            return;
        }
        self.now += Duration::from_millis(if rested { 3_000 } else { 1 });
        if self.intake.has_batch() {
            self.job = Some(Job::Append(self.intake.take_batch()));
        } else if let Some(end) = self.intake.progress().advance_due(self.now) {
            self.intake.progress().advancing();
            self.job = Some(Job::Advance(end));
        }
    }

    fn finish(&mut self) {
        let Some(job) = self.job.take() else { return };
        let before = self.stored.durable;
        self.store(&job, usize::MAX);
        if self.stored.durable != before {
            self.intake.progress().stored(EndLsn(Lsn(self.stored.durable)), self.now);
        }
    }

    /// History takes the first of what it is given, up to so many whole transactions.
    fn store(&mut self, job: &Job, transactions_max: usize) {
        match job {
            Job::Append(pieces) => {
                let mut whole = 0;
                for piece in pieces {
                    if whole == transactions_max {
                        return;
                    }
                    self.stored.take(piece);
                    whole += usize::from(piece.end.is_some());
                }
            }
            Job::Advance(end) => {
                assert!(self.stored.open.is_none(), "the end is moved inside a transaction");
                if transactions_max > 0 && end.0.0 > self.stored.durable {
                    self.stored.durable = end.0.0;
                }
            }
        }
    }

    fn report(&mut self) {
        let durable = self.intake.progress().durable().0.0;
        assert!(durable >= self.reported, "never back");
        self.reported = durable;
    }

    fn crash(&mut self, stored: usize, back: usize) {
        if let Some(job) = self.job.take() {
            self.store(&job, stored);
        }
        // What was not whole is rolled back.
        self.stored.open = None;
        self.connect(back);
    }

    /// The walsender may begin further back than it has to.
    fn connect(&mut self, back: usize) {
        let durable = self.stored.durable;
        self.source.begin(self.reported, durable, back);
        self.intake = intake(&self.source, durable, self.piece_bytes_max, self.now);
    }

    /// All before is stored, and the transaction too if it was to be left out; then comes another connection.
    fn fail(&mut self) {
        self.drain();
        if self.intake.leave_out().is_some() {
            self.drain();
        }
        self.stored.open = None;
        self.connect(0);
    }

    fn drain(&mut self) {
        for _ in 0..10_000 {
            if self.intake.is_drained() && self.job.is_none() {
                return;
            }
            self.decode();
            self.begin(false);
            self.finish();
        }
        panic!("what arrived is never stored");
    }

    fn check(&mut self) {
        let durable = self.stored.durable;
        let progress = self.intake.progress();
        assert!(progress.durable().0.0 <= durable, "more is said to be stored than is");
        assert!(self.reported <= durable && progress.durable() <= progress.received());
        let (until, has) = (progress.stored_until().0, &self.stored.transactions);
        let expected: Vec<_> =
            self.source.captured().filter(|(commit, _)| *commit < durable.max(until)).collect();
        assert_eq!(*has, expected, "stored until {durable}, or {until}");
    }

    /// The source does no more, and everything arrives.
    fn settle(&mut self) {
        self.crash(usize::MAX, 0);
        for _ in 0..1_000 {
            let all_sent = self.source.is_sent();
            self.perform(&Act::Send {
                messages: 3,
                keepalive: all_sent.then_some(KEEPALIVE_MAX),
                asks: true,
            });
            self.drain();
            self.report();
            self.check();
            if all_sent && self.reported == self.source.end() {
                return;
            }
        }
        panic!("{} of {}", self.reported, self.source.end());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 2))]

    #[test]
    fn each_transaction_is_stored_once_and_nothing_is_reported_before(
        acts in acts(),
        piece_bytes_max in prop_oneof![Just(0usize), Just(300), Just(usize::MAX)],
    ) {
        let mut world = World::new(piece_bytes_max);
        for act in &acts {
            world.perform(act);
        }
        world.settle();
        prop_assert_eq!(world.stored.transactions, world.source.captured().collect::<Vec<_>>());
    }
}

/// What the property is about does happen in it.
#[test]
fn crashes_in_the_middle_of_large_transactions_are_among_what_is_tried() {
    let rows = |left_out| Deed::Transaction { rows: vec![0, 1, 0, 0], bytes: 2, left_out };
    let mut world = World::new(0);
    world.perform(&Act::Write { gap: 0, deed: rows(false) });
    world.perform(&Act::Write { gap: 0, deed: rows(true) });
    // Begin, shape, row, shape, row: the first pieces are stored, and the process dies.
    world.perform(&Act::Send { messages: 5, keepalive: None, asks: false });
    for _ in 0..10 {
        world.decode();
    }
    assert!(world.intake.progress().is_undurable());
    world.begin(false);
    world.finish();
    assert!(world.stored.open.is_some() && world.stored.transactions.is_empty());
    world.perform(&Act::Crash { stored: 0, back: 1 });
    world.perform(&Act::Send { messages: 9, keepalive: None, asks: false });
    world.perform(&Act::Send { messages: 0, keepalive: None, asks: false });
    world.drain();
    assert_eq!(world.stored.transactions.len(), 1, "whole, and once");
    // The second one does not come to its end, and is left out.
    world.perform(&Act::Send { messages: 3, keepalive: None, asks: false });
    world.perform(&Act::Fail);
    assert_eq!(world.stored.transactions[1].1.len(), 1);
    world.settle();
    assert_eq!(world.stored.transactions.len(), 2);
}
