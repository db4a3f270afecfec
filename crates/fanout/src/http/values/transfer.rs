//! Values on their way to clients. Each is in memory until it is handed over, so there are few places.
//!
//! A client that does not read keeps its place only as long as nobody else wants it: web servers ask a body for more only
//! when the client has taken what came before, so a body cannot notice a silent client by itself.

use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::lock::lock;

/// Values in memory at the same time at most.
const PLACES: usize = 4;
/// Bytes that are handed over at once.
const PIECE_BYTES: usize = 64 * 1024;
/// How long a request waits for a place.
const PLACE_TIMEOUT: Duration = Duration::from_secs(10);
/// Whoever waits looks this often whether a place is held by a client that does not read.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The places.
pub(crate) struct Places {
    free: Arc<Semaphore>,
    /// As many as there are places, beside those that have ended since the last one began.
    under_way: Mutex<Vec<Weak<Slot>>>,
    /// A client that takes nothing for this long loses its place to one that waits.
    stall_timeout: Duration,
    place_timeout: Duration,
}

/// A place, held from before the value is read.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

/// `None` when the place was taken away.
type Slot = Mutex<Option<UnderWay>>;

struct UnderWay {
    rest: Bytes,
    moved_at: Instant,
    _place: Place,
}

/// A body that hands a value over.
pub(crate) struct Transfer(Arc<Slot>);

/// The client did not read, and another one wanted its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client does not read")]
pub(crate) struct GivenUp;

impl Places {
    pub(crate) fn new(stall_timeout: Duration) -> Self {
        Places {
            free: Arc::new(Semaphore::new(PLACES)),
            under_way: Mutex::default(),
            stall_timeout,
            place_timeout: PLACE_TIMEOUT,
        }
    }

    /// Waits for a place; `None` when there is none for too long.
    pub(crate) async fn take(&self) -> Option<Place> {
        let wait = async {
            loop {
                match tokio::time::timeout(LOOK_INTERVAL, self.free.clone().acquire_owned()).await {
                    // Nobody closes the semaphore.
                    Ok(permit) => return permit.ok().map(|_permit| Place { _permit }),
                    Err(_elapsed) => self.give_up_stalled(Instant::now()),
                }
            }
        };
        tokio::time::timeout(self.place_timeout, wait).await.ok().flatten()
    }

    /// Begins to hand a value over.
    pub(crate) fn begin(&self, place: Place, value: Bytes) -> Transfer {
        let value = UnderWay { rest: value, moved_at: Instant::now(), _place: place };
        let slot = Arc::new(Mutex::new(Some(value)));
        let mut under_way = lock(&self.under_way);
        under_way.retain(|slot| slot.strong_count() > 0);
        under_way.push(Arc::downgrade(&slot));
        Transfer(slot)
    }

    fn give_up_stalled(&self, now: Instant) {
        for slot in lock(&self.under_way).iter().filter_map(Weak::upgrade) {
            let mut slot = lock(&slot);
            if slot.as_ref().is_some_and(|value| now.duration_since(value.moved_at) >= self.stall_timeout) {
                *slot = None;
            }
        }
    }
}

impl Stream for Transfer {
    type Item = Result<Bytes, GivenUp>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut slot = lock(&self.0);
        let Some(value) = slot.as_mut() else { return Poll::Ready(Some(Err(GivenUp))) };
        if value.rest.is_empty() {
            return Poll::Ready(None);
        }
        value.moved_at = Instant::now();
        let piece = value.rest.split_to(PIECE_BYTES.min(value.rest.len()));
        Poll::Ready(Some(Ok(piece)))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_value_comes_in_pieces_and_its_place_is_free_again() {
        let places = Places::new(Duration::from_secs(30));
        let value = Bytes::from(vec![7; 3 * PIECE_BYTES + 1]);
        let transfer = places.begin(places.take().await.unwrap(), value.clone());
        let pieces: Vec<Bytes> = transfer.map(|piece| piece.unwrap()).collect().await;
        assert_eq!((pieces.len(), pieces.concat()), (4, value.to_vec()));
        assert_eq!(places.free.available_permits(), PLACES);
    }

    #[tokio::test]
    async fn who_does_not_read_loses_its_place_to_one_that_waits() {
        let places =
            |stall_timeout| Places { place_timeout: 2 * LOOK_INTERVAL, ..Places::new(stall_timeout) };
        let (patient, strict) = (places(Duration::from_secs(3_600)), places(Duration::ZERO));
        for (places, found) in [(&patient, false), (&strict, true)] {
            let mut all = Vec::new();
            for _ in 0..PLACES {
                all.push(places.begin(places.take().await.unwrap(), Bytes::from_static(b"1")));
            }
            assert_eq!(places.take().await.is_some(), found);
            let piece = all[0].next().await.unwrap();
            assert_eq!(piece.is_err(), found);
        }
    }
}
