//! Tables that are reset: a snapshot of them alone, before the transaction that says so is told.

use std::sync::Arc;

use waldelta_history::Transaction;
use waldelta_wal::{Change, Operation};

use super::*;
use crate::testing::{change, head, reset_change};

/// A read of transactions, each of these changes.
pub(super) fn read_of(after: u64, transactions: &[(u64, Vec<Change>)], through: u64) -> Event {
    let slice = |(lsn, changes): &(u64, Vec<Change>)| {
        let transaction = Arc::new(Transaction { head: head(*lsn, *lsn), changes: changes.clone() });
        Slice { head: transaction.head, changes: Changes::whole(transaction), last: true }
    };
    let slices = transactions.iter().map(slice).collect();
    Event::Private(Ok(PrivateRead { slices, ..read(after, &[], through, false) }))
}

fn row(seq: u32, name: &str) -> Change {
    change(seq, Operation::Insert, &Arc::new(table(name)), 7)
}

pub(super) fn behind(it: &mut Scenario) {
    it.apply(Event::Tail { items: Err(Behind), routed: position(900) });
    it.session.reading();
}

/// The end of a snapshot of these tables.
fn ended_of(names: &[&str], from: u64, until: u64) -> Event {
    let Step::Ended { consistent_at, tables, overlap } = ended(from, until) else { unreachable!() };
    let selection = crate::testing::everything(vec![subscription("s1", "*")]);
    let part = Part::Only(names.iter().map(|name| name.parse().unwrap()).collect());
    let overlap = Overlap { tables: Tables { selection, part }, ..overlap };
    Event::Hydration(Step::Ended { consistent_at, tables, overlap })
}

#[test]
fn a_table_is_read_afresh_before_the_transaction_that_resets_it() {
    let mut it = Scenario::live();
    behind(&mut it);
    let reset = (160, vec![row(0, "t"), reset_change(1, "t")]);
    let read = || read_of(100, &[(150, vec![row(0, "t")]), reset.clone()], 160);
    assert_eq!(it.apply(read()), ["schema", "tx@150", "reset public.t", "hydrate t of 160"]);
    assert_eq!(it.session.want(), Want::Nothing);
    assert_eq!(it.session.cursor(), position(150), "who loses the connection now finds the reset again");
    let begun = Step::Begun { id: "1".into(), n: 0, cursor: position(170), tables: Vec::new() };
    assert_eq!(it.apply(Event::Hydration(begun)), ["snapshot_begin@150"]);
    assert_eq!(it.apply(ended_of(&["t"], 170, 190)), ["snapshot_end@150"]);
    it.session.reading();
    let again = read_of(150, &[reset, (165, vec![row(0, "t")]), (200, vec![row(0, "t")])], 200);
    assert_eq!(it.apply(again), ["tx@200"], "the snapshot has the others, and it is reset once");
}

#[test]
fn a_reset_in_the_shared_tail_is_read_privately() {
    let mut it = Scenario::live();
    let large = Item { content: Content::Large, ..item(110, 100) };
    assert!(it.tail(vec![large], 110).is_empty());
    it.session.reading();
    let read = read_of(100, &[(110, vec![reset_change(0, "t")])], 110);
    assert_eq!(it.apply(read), ["reset public.t", "hydrate t of 110"]);
}

#[test]
fn tables_that_are_not_followed_are_not_reset() {
    let mut it = Scenario::live();
    behind(&mut it);
    let read = read_of(100, &[(150, vec![reset_change(0, "u"), row(1, "t")])], 150);
    assert_eq!(it.apply(read), ["schema", "tx@150"]);
}

#[test]
fn what_is_reset_soon_after_comes_with_the_same_snapshot() {
    let mut it = Scenario::live();
    it.frame(ClientFrame::Subscribe(vec![subscription("s2", "*")]));
    it.apply(Event::Hydration(ended(100, 100)));
    it.session.reading();
    let both = [(150, vec![reset_change(0, "t"), reset_change(1, "t")]), (160, vec![reset_change(0, "u")])];
    let read = || read_of(100, &both, 170);
    assert_eq!(it.apply(read()), ["reset public.t,public.u", "hydrate t,u of 160"]);
    it.apply(ended_of(&["t", "u"], 170, 180));
    it.session.reading();
    assert_eq!(it.apply(read()), ["heartbeat@170"], "from where on the table added before is consistent");
    // Again, later: again.
    it.session.reading();
    let later = read_of(170, &[(200, vec![reset_change(0, "t")])], 200);
    assert_eq!(it.apply(later), ["reset public.t", "hydrate t of 200"]);
}

#[test]
fn a_snapshot_that_was_taken_later_needs_no_reset() {
    let mut it = Scenario::new();
    it.hello(true);
    it.apply(Event::FrontierKnown);
    it.begin(None);
    it.apply(Event::Hydration(ended(100, 130)));
    it.session.reading();
    // 120 is visible in it although it lies behind its position; 125 is not.
    let shown = read_of(100, &[(120, vec![reset_change(0, "t")])], 120);
    assert!(it.apply(shown).is_empty());
    it.session.reading();
    let not_shown = read_of(120, &[(125, vec![reset_change(0, "t")])], 125);
    assert_eq!(it.apply(not_shown), ["reset public.t", "hydrate t of 125"]);
}

#[test]
fn a_table_that_the_snapshot_left_out_is_reset_once_and_comes_with_the_next_reset() {
    let mut it = Scenario::live();
    behind(&mut it);
    it.apply(read_of(100, &[(150, vec![reset_change(0, "t")])], 150));
    let Event::Hydration(Step::Ended { consistent_at, tables, overlap }) = ended_of(&["t"], 170, 180) else {
        unreachable!()
    };
    let overlap = Overlap { without: vec![table("t").name], shows: Arc::new(|_| true), ..overlap };
    it.apply(Event::Hydration(Step::Ended { consistent_at, tables, overlap }));
    it.session.reading();
    assert!(it.apply(read_of(100, &[(150, vec![reset_change(0, "t")])], 150)).is_empty());
    it.session.reading();
    let later = read_of(150, &[(175, vec![reset_change(0, "t")])], 175);
    assert_eq!(it.apply(later), ["reset public.t", "hydrate t of 175"], "whatever the snapshot shows");
}

#[test]
fn a_transaction_of_which_parts_were_told_comes_again_from_its_beginning() {
    let mut it = Scenario::live();
    behind(&mut it);
    let transaction = Arc::new(Transaction {
        head: head(150, 150),
        changes: vec![row(0, "t"), row(1, "t"), reset_change(2, "t"), row(3, "t")],
    });
    let slice = |from, to, last| Slice {
        head: transaction.head,
        changes: Changes::Shared(transaction.clone(), from..to),
        last,
    };
    let inside = Position { index: 1, ..position(150) };
    let first =
        PrivateRead { slices: vec![slice(0, 2, false)], through: inside, ..read(100, &[], 100, false) };
    assert_eq!(it.apply(Event::Private(Ok(first))), ["schema", "tx@150"]);
    it.session.reading();
    let rest = PrivateRead { after: inside, slices: vec![slice(2, 4, true)], ..read(100, &[], 150, false) };
    assert_eq!(it.apply(Event::Private(Ok(rest))), ["reset public.t", "hydrate t of 150"]);
    it.apply(ended_of(&["t"], 140, 190));
    assert_eq!(it.session.want(), Want::Private(position(100)));
    it.session.reading();
    // As if it were not in the snapshot: then it is told whole, and the reset counts.
    let whole = PrivateRead { slices: vec![slice(0, 4, true)], ..read(100, &[], 150, false) };
    assert_eq!(it.apply(Event::Private(Ok(whole))), ["reset public.t", "hydrate t of 150"]);
    it.apply(ended_of(&["t"], 150, 190));
    it.session.reading();
    let whole = PrivateRead { slices: vec![slice(0, 4, true)], ..read(100, &[], 150, false) };
    assert!(it.apply(Event::Private(Ok(whole))).is_empty());
    assert_eq!(it.session.cursor(), position(150));
}

#[test]
fn who_wants_no_snapshot_is_let_go_before_the_reset() {
    let mut it = Scenario::live();
    it.session.snapshot_welcome = false;
    behind(&mut it);
    let read = read_of(100, &[(150, vec![reset_change(0, "u")]), (160, vec![reset_change(0, "t")])], 160);
    assert_eq!(it.apply(read), ["error WD-CURSOR-NOT-RESUMABLE", "close 4410"]);
}

#[test]
fn subscriptions_change_after_the_snapshot_that_runs() {
    let mut it = Scenario::live();
    behind(&mut it);
    it.apply(read_of(100, &[(150, vec![reset_change(0, "t")])], 150));
    assert!(it.frame(ClientFrame::Subscribe(vec![subscription("s2", "u")])).is_empty());
    assert!(it.frame(ClientFrame::Unsubscribe(vec!["s1".into()])).is_empty());
    assert_eq!(it.apply(ended_of(&["t"], 150, 150)), ["snapshot_end@100", "attach 2", "hydrate late"]);
    // The table added is of a later snapshot than its reset.
    assert_eq!(it.apply(Event::Hydration(ended(100, 100))), ["snapshot_end@100", "attach 1"]);
}

#[test]
fn a_snapshot_of_reset_tables_that_fails_ends_the_session_where_it_was() {
    let mut it = Scenario::live();
    behind(&mut it);
    it.apply(read_of(100, &[(150, vec![reset_change(0, "t")])], 150));
    let failure = Failure::ForNow { code: Code::SourceStandby, message: "x".into() };
    let failed = it.apply(Event::Hydration(Step::Failed(failure)));
    assert_eq!(failed, ["error WD-SOURCE-STANDBY", "close 1013"]);
    assert_eq!(it.session.cursor(), position(100));
}
