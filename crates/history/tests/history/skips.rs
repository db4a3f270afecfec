//! Orders to leave something out: they wait until their place is reached.

use waldelta_history::{Error, History, NewEpoch};
use waldelta_testkit::TestDatabase;
use waldelta_wal::{Change, Code, Lsn, Operation, Skip};

use crate::support::*;

fn skip(lsn: u64, seq: Option<u32>, why: &str) -> Skip {
    Skip { lsn: Lsn(lsn), seq, by: "o'brien".into(), why: why.into() }
}

#[tokio::test]
async fn orders_wait_for_their_place_and_are_gone_behind_it() {
    let database = TestDatabase::create("history_skips").await;
    let (history, mut writer) = written(&database).await;
    writer.advance(end(START + 10)).await.unwrap();
    let [passed, whole, later, change] = [
        skip(START + 9, None, "too late"),
        skip(START + 10, None, "all of it"),
        skip(START + 20, None, "x"),
        skip(START + 10, Some(3), "ünread\"able"),
    ];
    let refused = history.order_skip(&passed).await.unwrap_err();
    assert!(
        matches!(refused, Error::SkipPassed { lsn, durable_end } if lsn == passed.lsn && durable_end == end(START + 10)),
        "{refused:?}"
    );
    assert_eq!((refused.code(), refused.is_retryable()), (Code::SkipPassed, false));
    assert_eq!(history.skips().await.unwrap(), []);
    for order in [&later, &change, &whole] {
        history.order_skip(order).await.unwrap();
    }
    // Seen by whoever writes, wherever it was ordered.
    let other = History::open(&config(&database)).await.unwrap();
    assert_eq!(other.skips().await.unwrap(), [whole.clone(), change.clone(), later.clone()]);
    // The same again is the same order, said anew.
    let anew = Skip { by: "me".into(), why: "still".into(), ..change.clone() };
    history.order_skip(&anew).await.unwrap();
    assert_eq!(history.skips().await.unwrap(), [whole.clone(), anew, later.clone()]);

    assert!(!history.forget_skip(change.lsn, Some(4)).await.unwrap());
    assert!(history.forget_skip(change.lsn, Some(3)).await.unwrap());
    assert!(!history.forget_skip(change.lsn, Some(3)).await.unwrap());
    assert_eq!(history.skips().await.unwrap(), [whole.clone(), later.clone()]);

    // What was left out is told in its place, and its order waits no more.
    let told = Change {
        operation: Operation::Skip,
        table: None,
        row_key: None,
        data: Some(whole.to_json().into()),
        ..insert(&writer.number(table(1, "orders")).table, 0, 1)
    };
    writer.append(vec![transaction(START + 10, vec![told])]).await.unwrap();
    assert_eq!(history.skips().await.unwrap(), [later]);
    assert!(!history.forget_skip(whole.lsn, None).await.unwrap(), "it was carried out");
    let page = read_all(&history, crate::support::whole(START)).await;
    let told = &page.parts[0].changes[0];
    assert_eq!((told.operation, &told.table), (Operation::Skip, &None));
    let told: serde_json::Value = serde_json::from_slice(told.data.as_ref().unwrap()).unwrap();
    assert_eq!((&told["by"], &told["seq"]), (&"o'brien".into(), &serde_json::Value::Null));
}

#[tokio::test]
async fn an_order_is_one_of_its_epoch() {
    let database = TestDatabase::create("history_skips_epoch").await;
    let (history, writer) = written(&database).await;
    history.order_skip(&skip(START + 10, None, "x")).await.unwrap();
    let new = NewEpoch {
        captured: captured(),
        start: end(START + 5),
        fork: None,
        reason: "test".into(),
        continues: false,
        fingerprints: Vec::new(),
    };
    writer.begin_epoch(new).await.unwrap();
    assert_eq!(history.skips().await.unwrap(), []);
    assert!(!history.forget_skip(Lsn(START + 10), None).await.unwrap());
    history.order_skip(&skip(START + 10, None, "y")).await.unwrap();
    assert_eq!(history.skips().await.unwrap(), [skip(START + 10, None, "y")]);
}

#[tokio::test]
async fn what_cannot_be_an_order_is_refused() {
    let database = TestDatabase::create("history_skips_refused").await;
    let history = History::open(&config(&database)).await.unwrap();
    assert!(matches!(history.order_skip(&skip(START, None, "x")).await, Err(Error::NotBegun)));
    assert_eq!(history.skips().await.unwrap(), []);
    assert!(!history.forget_skip(Lsn(START), None).await.unwrap());
    history.begin(&captured(), end(START), "test").await.unwrap();
    for nonsense in [skip(START, Some(1 << 31), "x"), skip(START, None, &"x".repeat(10_001))] {
        let refused = history.order_skip(&nonsense).await;
        assert!(matches!(refused, Err(Error::Unusable { .. })), "{refused:?}");
    }
    history.order_skip(&skip(START, Some((1 << 31) - 1), "")).await.unwrap();
    assert_eq!(history.skips().await.unwrap().len(), 1);
}
