//! The source's clock is set back, and forward: commit times are kept as they come, and nothing goes by them.

use std::time::Duration;

use waldelta_history::{Entry, Retention, Writer};
use waldelta_testkit::TestDatabase;
use waldelta_wal::Position;

use crate::support::*;

const HOUR: Retention = Retention::Age(Duration::from_secs(3600));
const YEAR_US: i64 = 365 * 86_400 * 1_000_000;
/// Some time in 2026, and years before and after it; twice the same.
const TIMES_US: [i64; 6] = {
    let now_us = 1_790_000_000_000_000;
    [now_us, now_us - 30 * YEAR_US, now_us + 60 * YEAR_US, now_us - 1, now_us - 1, now_us - YEAR_US]
};

/// Each in a partition of its own.
fn place(number: u64) -> u64 {
    (number + 1) * PARTITION_BYTES
}

#[tokio::test]
async fn what_is_stored_is_in_the_order_of_places_and_as_old_as_it_is_stored() {
    let database = TestDatabase::create("history_clock").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    let start = Position::before(EPOCH, end(START));
    let mut fed = Vec::new();
    for (number, time_us) in (0..).zip(TIMES_US) {
        let mut piece = transaction(place(number), vec![insert(&orders, 0, number)]);
        piece.head.committed_at_us = time_us;
        writer.append(vec![piece]).await.unwrap();
        fed.extend(history.feed().after(whole(place(number) - 1), 1 << 20).unwrap());
    }
    let page = read_all(&history, start).await;
    let read: Vec<_> =
        page.parts.iter().map(|part| (part.head.commit_lsn.0, part.head.committed_at_us)).collect();
    let expected: Vec<_> = (0..).zip(TIMES_US).map(|(number, time_us)| (place(number), time_us)).collect();
    assert_eq!(read, expected);
    let fed: Vec<_> = fed
        .iter()
        .map(|entry| match entry {
            Entry::Whole(transaction) => (transaction.head.commit_lsn.0, transaction.head.committed_at_us),
            Entry::Large(_) => panic!("{entry:?}"),
        })
        .collect();
    assert_eq!(fed, expected);

    // Nothing is older or younger because of such a time.
    let sweep = async |writer: &Writer, minutes: u64| {
        writer.sweeper(all_shown()).sweep(HOUR, true, Duration::from_secs(60 * minutes)).await.unwrap()
    };
    sweep(&writer, 2).await;
    let last = place(9);
    writer.append(vec![transaction(last, vec![insert(&orders, 0, 9)])]).await.unwrap();
    let early = sweep(&writer, 55).await;
    assert_eq!((early.partitions, early.rows), (0, 0));
    let late = sweep(&writer, 80).await;
    assert!(late.partitions + late.rows > 0, "{late:?}");
    let left = read_all(&history, history.floor().await.unwrap()).await;
    let left: Vec<_> = left.parts.iter().map(|part| part.head.commit_lsn.0).collect();
    assert_eq!(left, [last]);
}
