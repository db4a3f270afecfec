//! New epochs: a session goes over the seam, or begins anew.

use super::*;
use crate::testing::position_in;

/// A read that leads over the seam, from epoch 1 into epoch 2.
fn seam(after: u64, through: u64) -> Event {
    let read = read(after, &[], after, false);
    Event::Private(Ok(PrivateRead { through: position_in(2, through), ..read }))
}

#[test]
fn a_live_session_goes_over_the_seam() {
    let mut it = Scenario::live();
    let items = it.apply(Event::Tail { items: Err(Behind), routed: position_in(2, 99) });
    assert!(items.is_empty(), "{items:?}");
    assert_eq!(it.session.want(), Want::Private(position(100)));
    it.session.reading();
    assert!(it.apply(seam(100, 99)).is_empty(), "without a word");
    assert_eq!(it.session.cursor(), position_in(2, 99));
    it.session.reading();
    let rest =
        PrivateRead { after: position_in(2, 99), through: position_in(2, 120), ..read(0, &[], 0, true) };
    let mut actions = Vec::new();
    it.session.apply(Event::Private(Ok(rest)), it.now, &mut actions);
    let [Action::Send(live)] = &actions[..] else { panic!("{actions:?}") };
    let live: Value = serde_json::from_str(live).unwrap();
    assert_eq!((&live["type"], &live["cursor"]), (&"live".into(), &position_in(2, 120).to_string().into()));
    // What it was sent before the seam may still be acknowledged.
    assert_eq!(it.frame(ClientFrame::Ack(After::Cursor(position(100)))), ["record@100"]);
}

#[test]
fn the_router_is_not_believed_about_another_epoch() {
    let mut it = Scenario::live();
    assert!(it.tail(Vec::new(), 100).is_empty());
    it.apply(Event::Woken);
    it.apply(Event::Tail { items: Ok(Vec::new()), routed: position_in(2, 300) });
    assert_eq!((it.session.state(), it.session.cursor()), ("catching_up", position(100)));
    let mut it = Scenario::live();
    let newer = Item { position: position_in(2, 110), ..item(110, 100) };
    assert!(it.tail(vec![newer], 110).is_empty());
    assert_eq!(it.session.want(), Want::Private(position(100)));
}

#[test]
fn what_did_not_survive_and_what_lies_before_a_gap_begins_anew() {
    for (snapshot, expected) in
        [(true, &["reset", "hydrate all"][..]), (false, &["error WD-CURSOR-NOT-RESUMABLE", "close 4410"])]
    {
        let mut it = Scenario::live();
        it.session.snapshot_welcome = snapshot;
        it.apply(Event::Tail { items: Err(Behind), routed: position_in(2, 99) });
        it.session.reading();
        let lost = PrivateRead { lost: true, ..read(100, &[], 100, false) };
        assert_eq!(it.apply(Event::Private(Ok(lost))), expected);
    }
}

/// The snapshot is not from before the floor, from where nothing could be read on.
#[test]
fn what_was_pruned_while_it_was_read_begins_anew_at_the_floor() {
    let fallen_behind = || {
        let mut it = Scenario::live();
        it.apply(Event::Tail { items: Err(Behind), routed: position(200) });
        it.session.reading();
        (it, Event::Private(Ok(PrivateRead { lost: true, ..read(100, &[], 150, false) })))
    };
    let (mut it, pruned) = fallen_behind();
    let mut actions = Vec::new();
    it.session.apply(pruned, it.now, &mut actions);
    let [Action::Send(reset), Action::Hydrate(order)] = &actions[..] else { panic!("{actions:?}") };
    assert!(reset.contains("\"history_pruned\""), "{reset}");
    assert_eq!(order.at_least, position(150));
    let (mut it, pruned) = fallen_behind();
    it.session.snapshot_welcome = false;
    assert_eq!(it.apply(pruned), ["error WD-CURSOR-NOT-RESUMABLE", "close 4410"]);
}

/// A snapshot that was taken before the seam may show transactions that did not survive; nobody knows which.
#[test]
fn the_overlap_of_a_snapshot_does_not_last_over_a_seam() {
    let hydrated = |until: Position| {
        let mut it = Scenario::new();
        it.hello(true);
        it.apply(Event::FrontierKnown);
        it.begin(None);
        let Step::Ended { tables, overlap, .. } = ended(100, 130) else { unreachable!() };
        let overlap = Overlap { until, ..overlap };
        it.apply(Event::Hydration(Step::Ended { consistent_at: until, tables, overlap }));
        it
    };
    let mut it = hydrated(position(130));
    it.session.reading();
    assert_eq!(it.apply(seam(100, 120)), ["reset", "hydrate all"]);
    // One that was taken behind the seam, for a stream that is still before it.
    let mut it = hydrated(position_in(2, 130));
    it.session.reading();
    assert!(it.apply(seam(100, 120)).is_empty());
    assert_eq!(it.session.cursor(), position_in(2, 120));
}
