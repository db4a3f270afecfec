//! Looks at what is behind it only after that has called: to ask a dozen sources that have nothing to say each time the stream has
//! something costs more than the stream.
//!
//! What is asked behind it must go on calling after a future that waited for it was dropped, as whatever has a `poll_…` of its own
//! does, or be kept.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Open at first.
pub(super) struct Gate {
    bell: Arc<Bell>,
    waker: Waker,
}

struct Bell {
    rings: AtomicBool,
    owner: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rings.store(true, Ordering::Release);
        self.owner.wake();
    }
}

impl Gate {
    pub(super) fn new() -> Self {
        let bell = Arc::new(Bell { rings: AtomicBool::new(true), owner: AtomicWaker::new() });
        Gate { waker: bell.clone().into(), bell }
    }

    /// It is looked at in any case the next time: what is behind it is other than it was.
    pub(super) fn open(&self) {
        self.bell.rings.store(true, Ordering::Release);
    }

    /// What comes from behind it.
    pub(super) async fn pass<F: Future>(&mut self, behind: F) -> F::Output {
        let mut behind = pin!(behind);
        poll_fn(|context| {
            // Before the bell: what rings from here on wakes this task.
            self.bell.owner.register(context.waker());
            if !self.bell.rings.swap(false, Ordering::AcqRel) {
                return Poll::Pending;
            }
            let polled = behind.as_mut().poll(&mut Context::from_waker(&self.waker));
            if polled.is_ready() {
                // There may be more.
                self.open();
            }
            polled
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::FutureExt;
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn it_is_looked_at_when_something_has_called_and_not_before() {
        let (sender, mut receiver) = mpsc::channel(4);
        let (mut gate, looks) = (Gate::new(), Cell::new(0));
        let look = async |gate: &mut Gate, receiver: &mut mpsc::Receiver<u8>| {
            let behind = poll_fn(|context| {
                looks.set(looks.get() + 1);
                receiver.poll_recv(context)
            });
            gate.pass(behind).now_or_never().flatten()
        };
        for _ in 0..3 {
            assert_eq!(look(&mut gate, &mut receiver).await, None);
        }
        assert_eq!(looks.get(), 1, "it has not called since the first look, whose future is gone");
        sender.try_send(7).unwrap();
        sender.try_send(8).unwrap();
        assert_eq!(look(&mut gate, &mut receiver).await, Some(7));
        assert_eq!(look(&mut gate, &mut receiver).await, Some(8), "there was more than it has called for");
        assert_eq!(look(&mut gate, &mut receiver).await, None);
        gate.open();
        let before = looks.get();
        assert_eq!(look(&mut gate, &mut receiver).await, None);
        assert_eq!(looks.get(), before + 1);

        let send = async {
            tokio::task::yield_now().await;
            sender.send(9).await
        };
        let (got, sent) = tokio::join!(gate.pass(receiver.recv()), send);
        assert_eq!((got, sent), (Some(9), Ok(())), "who waits is woken");
    }
}
