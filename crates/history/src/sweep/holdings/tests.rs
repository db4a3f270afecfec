//! What clocks that were set say of how old history is.

use super::*;

fn mark(lsn: u64, at_us: i64) -> Mark {
    Mark { place: Place { epoch: Epoch(1), lsn: Lsn(lsn) }, at_us }
}

#[test]
fn times_rise_with_places_and_none_is_later_than_now() {
    let early = vec![mark(10, 50), mark(20, 9_999), mark(30, 60)];
    let marks = in_order(early.clone(), vec![mark(40, 300), mark(50, 200)], mark(60, 5_000), 1_000);
    let expected = [(10, 50), (20, 300), (30, 300), (40, 300), (50, 300), (60, 1_000)];
    assert_eq!(marks, expected.map(|(lsn, at_us)| mark(lsn, at_us)));
    // Nothing was noted yet.
    let marks = in_order(early, vec![], mark(60, 900), 1_000);
    assert_eq!(marks, [(10, 50), (20, 1_000), (30, 1_000), (60, 1_000)].map(|(lsn, us)| mark(lsn, us)));
    // The head was noted.
    assert_eq!(in_order(vec![], vec![mark(60, 700)], mark(60, 900), 1_000), [mark(60, 700)]);
}

#[test]
fn what_no_mark_tells_of_is_asked_for_as_far_as_it_matters() {
    let part = |low: u64| Partition { epoch: Epoch(1), low: Lsn(low), high: Lsn(low + 100) };
    let parts = [(part(0), 1), (part(100), 1), (part(200), 1)];
    let place = |lsn| Place { epoch: Epoch(1), lsn: Lsn(lsn) };
    assert_eq!(unmarked(&parts, place(99)), []);
    let two = unmarked(&parts, place(250));
    assert_eq!(two, [part(0), part(100)]);
    assert_eq!(asked(&two, Retention::Age(Duration::from_secs(60))), two);
    for other in [Retention::Off, Retention::Size(1)] {
        assert_eq!((asked(&two, other), asked(&[], other)), (&two[..1], &[][..]));
    }
}
