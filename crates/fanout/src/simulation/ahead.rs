//! Pages that are read before they are asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::Counter;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::answers::Answers;
use super::model::Model;
use crate::lock::lock;
use crate::pages::Pages;

/// More than any read of these takes.
const LONG: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn the_page_behind_one_that_was_asked_for_is_there_and_none_behind_that() {
    let model = Arc::new(Model::new(3));
    for _ in 0..400 {
        model.happen(1);
    }
    let (floor, head) = {
        let mut state = lock(&model.state);
        state.stored = state.commits.len();
        (state.floor, state.commits.last().unwrap().position())
    };
    let (read, shared) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let reads = Arc::new(Semaphore::new(1));
    let counters = [&read, &shared].map(|count| Counter::from_arc(count.clone()));
    let [counts_read, counts_shared] = counters;
    let pages = Pages::new(1 << 20, reads.clone(), counts_read, counts_shared);
    let log = Answers(model);
    let count = || (read.load(Ordering::Relaxed), shared.load(Ordering::Relaxed));
    let stop = CancellationToken::new();

    let first = pages.read(&log, floor, head).await.unwrap();
    assert!(first.through < head, "all of it is one page");
    assert_eq!(count(), (1, 0));
    let _ = tokio::time::timeout(LONG, pages.read_ahead(&log, &stop)).await;
    assert_eq!(count(), (2, 0), "one more, and it does not run away by itself");
    let second = pages.read(&log, first.through, head).await.unwrap();
    assert_eq!(count(), (2, 1), "it was there");

    // Who reads for a client comes first.
    let permit = reads.acquire().await.unwrap();
    let _ = tokio::time::timeout(LONG, pages.read_ahead(&log, &stop)).await;
    assert_eq!(count(), (2, 1));
    drop(permit);
    pages.read(&log, second.through, head).await.unwrap();
    assert_eq!(count(), (3, 1));
}
