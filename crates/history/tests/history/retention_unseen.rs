//! What the source does not show yet is not removed: whoever takes a snapshot there has to learn from history that it is missing.

use std::sync::Arc;
use std::time::Duration;

use waldelta_history::{History, NewEpoch, Retention, Shown, Sweep, Writer};
use waldelta_testkit::TestDatabase;

use crate::support::*;

/// Everything but what is written.
const NOTHING: Retention = Retention::Size(1);
const HOUR: Retention = Retention::Age(Duration::from_secs(3600));

async fn sweep(writer: &Writer, shown: Arc<dyn Shown>, retention: Retention, minutes: u64) -> Sweep {
    let ahead = Duration::from_secs(minutes * 60);
    writer.sweeper(shown).sweep(retention, true, ahead).await.unwrap()
}

/// A transaction in each of so many partitions; its id is its place.
async fn partitions(history: &History, writer: &mut Writer, numbers: std::ops::RangeInclusive<u64>) {
    let orders = writer.number(table(1, "orders")).table;
    let epoch = writer.epoch();
    let one = |n: u64| transaction(n * PARTITION_BYTES, vec![insert(&orders, 0, n)]);
    writer.append(numbers.map(|n| in_epoch(epoch, one(n))).collect()).await.unwrap();
    assert_eq!(history.feed().head().epoch, epoch);
}

#[tokio::test]
async fn what_the_source_does_not_show_yet_stays() {
    let database = TestDatabase::create("retention_unseen").await;
    let (history, mut writer) = written(&database).await;
    partitions(&history, &mut writer, 1..=5).await;

    let away = sweep(&writer, shown(None), NOTHING, 0).await;
    assert_eq!((away.partitions, away.is_unseen), (0, true), "nobody knows what is shown");
    assert!(history.retained().unwrap().is_unseen);

    // The second transaction, 0x20000, is in progress there: all after it is shown. What is before it goes.
    let some = sweep(&writer, shown(Some("131072:999999999:131072")), NOTHING, 0).await;
    assert_eq!((some.partitions, some.is_unseen), (1, true));
    assert_eq!(some.floor, whole(2 * PARTITION_BYTES - 1).to_string());
    // Or the snapshot ends before it.
    let none = sweep(&writer, shown(Some("131072:131072:")), NOTHING, 0).await;
    assert_eq!((none.partitions, none.is_unseen), (0, true));
    let unseen = history.xids_unseen_by(&"131072:131072:".parse().unwrap(), whole(3 * PARTITION_BYTES)).await;
    assert_eq!(unseen.unwrap().len(), 2, "a snapshot learns what it has to wait for");

    // One that is in progress and has no change here is in nobody's way.
    let all = sweep(&writer, shown(Some("131071:999999999:131071,131073")), NOTHING, 0).await;
    assert_eq!((all.partitions, all.is_unseen), (3, false));
    assert!(!history.retained().unwrap().is_unseen);
}

#[tokio::test]
async fn rows_of_it_stay_too() {
    let database = TestDatabase::create("retention_unseen_rows").await;
    let wide = waldelta_history::Config { partition_bytes: 16 << 30, ..config(&database) };
    let history = History::open(&wide).await.unwrap();
    history.begin(&captured(), end(START), "test").await.unwrap();
    let mut writer = history.writer("test").await.unwrap();
    partitions(&history, &mut writer, 1..=3).await;
    sweep(&writer, all_shown(), HOUR, 0).await;
    partitions(&history, &mut writer, 4..=4).await;
    let held = sweep(&writer, shown(Some("131072:999999999:131072")), HOUR, 68).await;
    assert_eq!((held.rows, held.is_unseen), (0, true));
    assert_eq!(history.pruned().await.unwrap(), None, "the place does not move before it either");
    let gone = sweep(&writer, all_shown(), HOUR, 68).await;
    assert_eq!((gone.rows, gone.is_unseen), (3, false));
}

/// Its transaction ids may be of another numbering.
#[tokio::test]
async fn an_epoch_that_has_ended_is_not_asked_about() {
    let database = TestDatabase::create("retention_unseen_epoch").await;
    let (history, mut writer) = written(&database).await;
    partitions(&history, &mut writer, 1..=2).await;
    let start = writer.head().durable_end;
    let new = NewEpoch {
        captured: captured(),
        start,
        fork: Some(start.0),
        reason: "promoted".into(),
        continues: true,
        fingerprints: Vec::new(),
    };
    writer.begin_epoch(new).await.unwrap();
    let mut writer = history.writer("next").await.unwrap();
    partitions(&history, &mut writer, 3..=5).await;
    let swept = sweep(&writer, shown(Some("1:1:")), NOTHING, 0).await;
    assert_eq!((swept.partitions, swept.is_unseen), (2, true));
}
