//! What goes and what stays: by time, by size, and because somebody has yet to read it.

use super::*;

const MINUTE: i64 = 60_000_000;
const HOUR: Retention = Retention::Age(Duration::from_secs(3600));

fn place(epoch: u32, lsn: u64) -> Place {
    Place { epoch: Epoch(epoch), lsn: Lsn(lsn) }
}

fn part(epoch: u32, low: u64, high: u64) -> Partition {
    Partition { epoch: Epoch(epoch), low: Lsn(low), high: Lsn(high) }
}

/// Ten bytes of WAL a minute, marked each minute; partitions of 100, of 1 MB each.
fn steady(minutes: u64) -> Holdings {
    let mark = |n: u64| Mark { place: place(1, n * 10), at_us: n as i64 * MINUTE };
    Holdings {
        now_us: minutes as i64 * MINUTE,
        head: place(1, minutes * 10),
        pruned: None,
        partitions: (0..=minutes / 10).map(|n| (part(1, n * 100, n * 100 + 100), 1 << 20)).collect(),
        marks: (1..=minutes).map(mark).collect(),
        oldest_ack: None,
    }
}

fn dropped(plan: &Plan) -> Vec<u64> {
    plan.drops.iter().map(|(part, _)| part.low.0).collect()
}

#[test]
fn whole_partitions_go_when_all_in_them_is_old_enough() {
    let plan = |minutes| Plan::new(HOUR, false, &steady(minutes));
    assert_eq!(dropped(&plan(69)), [0; 0], "its newest is 59 minutes old");
    assert_eq!(dropped(&plan(70)), [0]);
    assert_eq!(dropped(&plan(95)), [0, 100, 200]);
    assert_eq!(plan(500).thins.map(|(_, upto)| upto), None);
    assert_eq!(Plan::new(Retention::Off, true, &steady(500)), Plan::default());
}

/// What was fast became slow: one partition reaches from what is old to what is new.
#[test]
fn a_partition_that_does_not_fill_is_thinned_when_it_is_overdue() {
    let slow = |minutes| Holdings { partitions: vec![(part(1, 0, 1 << 40), 1 << 20)], ..steady(minutes) };
    let plan = |minutes| Plan::new(HOUR, false, &slow(minutes));
    assert_eq!(plan(68), Plan::default(), "it is only a little too old");
    assert_eq!(plan(69).thins, Some((part(1, 0, 1 << 40), place(1, 90))));
    assert!(plan(69).drops.is_empty());
    // What was removed is not removed again, and more only when that is overdue.
    let thinned = |minutes| Holdings { pruned: Some(place(1, 90)), ..slow(minutes) };
    for minutes in [69, 70, 77] {
        assert_eq!(Plan::new(HOUR, false, &thinned(minutes)), Plan::default(), "{minutes}");
    }
    assert_eq!(Plan::new(HOUR, false, &thinned(78)).thins, Some((part(1, 0, 1 << 40), place(1, 180))));
}

#[test]
fn the_oldest_partitions_go_until_the_rest_fits() {
    let plan = |bytes| Plan::new(Retention::Size(bytes), false, &steady(95));
    assert_eq!(dropped(&plan(10 << 20)), [0; 0]);
    assert_eq!(dropped(&plan((10 << 20) - 1)), [0]);
    assert_eq!(dropped(&plan(7 << 20)), [0, 100, 200]);
    assert_eq!(
        dropped(&plan(1)),
        [0, 100, 200, 300, 400, 500, 600, 700, 800],
        "the one that is written stays"
    );
    // What is older than the epoch that is written is whole.
    let mut ended = steady(95);
    (ended.head, ended.partitions) = (place(2, 5), vec![(part(1, 900, 1000), 10), (part(2, 0, 100), 10)]);
    assert_eq!(dropped(&Plan::new(Retention::Size(1), false, &ended)), [900]);
}

#[test]
fn what_a_client_has_yet_to_read_stays_but_not_for_ever() {
    let plan = |minutes, ack, force| {
        let ack = Some(Position::whole(Epoch(1), Lsn(ack)));
        Plan::new(HOUR, force, &Holdings { oldest_ack: ack, ..steady(minutes) })
    };
    for (minutes, ack, force, drops, is_held) in [
        (95, 299, false, vec![0, 100, 200], false),
        (95, 298, false, vec![0, 100], true),
        (95, 5, false, vec![], true),
        (95, 5, true, vec![0, 100, 200], false),
        // Twice the time has passed for the first two.
        (141, 5, false, vec![0, 100], true),
    ] {
        let plan = plan(minutes, ack, force);
        assert_eq!((dropped(&plan), plan.is_held), (drops, is_held), "{minutes} {ack} {force}");
    }
    // Inside of a transaction: that is read again from its beginning.
    let inside = Some(Position { epoch: Epoch(1), commit_lsn: Lsn(100), index: 3 });
    let plan = Plan::new(HOUR, false, &Holdings { oldest_ack: inside, ..steady(95) });
    assert_eq!(dropped(&plan), [0]);
    // Rows that a client needs are not thinned either.
    let ack = Some(Position::whole(Epoch(1), Lsn(39)));
    let slow = Holdings { partitions: vec![(part(1, 0, 1 << 40), 1)], oldest_ack: ack, ..steady(95) };
    assert_eq!(Plan::new(HOUR, false, &slow).thins.map(|(_, upto)| upto), Some(place(1, 40)));
    let size = Holdings { oldest_ack: ack, ..steady(95) };
    assert_eq!(dropped(&Plan::new(Retention::Size(4 << 20), false, &size)), [0, 100], "twice the size");
}

#[test]
fn a_new_partition_spans_a_part_of_the_time() {
    let minutes_of = |bytes_a_minute: u64, retention| {
        let mark = |n: u64| Mark { place: place(1, n * bytes_a_minute), at_us: n as i64 * MINUTE };
        let marks: Vec<_> = (0..=30).map(mark).collect();
        let head = place(1, 30 * bytes_a_minute);
        Holdings { now_us: 30 * MINUTE, head, marks, ..steady(1) }.partition_bytes(retention)
    };
    assert_eq!(minutes_of(1 << 30, HOUR), Some(3 << 30), "a twentieth of an hour");
    assert_eq!(minutes_of(10, HOUR), Some(16 << 20));
    assert_eq!(minutes_of(10, Retention::Off), Some(u64::MAX));
    assert_eq!(minutes_of(10, Retention::Size(200 << 30)), Some(10 << 30));
    let unknown = Holdings { marks: vec![Mark { place: place(1, 5), at_us: MINUTE }], ..steady(1) };
    assert_eq!(unknown.partition_bytes(HOUR), None);
}
