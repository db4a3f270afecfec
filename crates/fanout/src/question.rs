//! One answer for all who ask the same meanwhile.
//!
//! Thousands of clients that come back in one second ask the same of the database. An answer counts for those who asked
//! before it was looked for: it is never older than the question.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// A question that many ask.
pub(crate) struct Question<T> {
    asked: AtomicU64,
    /// The last answer, and the number of the last who asked before it was looked for.
    answered: Mutex<Option<(u64, T)>>,
}

impl<T: Clone> Question<T> {
    pub(crate) fn new() -> Self {
        Question { asked: AtomicU64::new(0), answered: Mutex::new(None) }
    }

    /// An answer that was looked for after this call began: by `look`, or by another who asked. Whoever looks may give up:
    /// then the next one does.
    pub(crate) async fn ask(&self, look: impl Future<Output = T>) -> T {
        let mine = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        // All but the one who looks wait here.
        let mut answered = self.answered.lock().await;
        if let Some((last, answer)) = &*answered
            && *last >= mine
        {
            return answer.clone();
        }
        let last = self.asked.load(Ordering::SeqCst);
        let answer = look.await;
        *answered = Some((last, answer.clone()));
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::FutureExt;
    use futures_util::future::{join, join_all};
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn all_who_ask_meanwhile_share_the_next_answer() {
        let (question, looks, go) = (Question::new(), Cell::new(0), Notify::new());
        let ask = || {
            question.ask(async {
                looks.set(looks.get() + 1);
                let mine = looks.get();
                go.notified().await;
                mine
            })
        };
        let others = async {
            // The first looks by now: its answer may be older than these questions.
            assert_eq!(looks.get(), 1);
            let answers = join(join_all((0..1_000).map(|_| ask())), async {
                go.notify_one();
                go.notify_one();
                while looks.get() < 2 {
                    tokio::task::yield_now().await;
                }
                go.notify_one();
            });
            answers.await.0
        };
        let (first, others) = join(ask(), others).await;
        assert_eq!(first, 1);
        assert!(others.iter().all(|answer| *answer == 2), "one look for a thousand");
        assert_eq!(looks.get(), 2);
    }

    #[tokio::test]
    async fn who_gives_up_leaves_it_to_the_next() {
        let question = Question::new();
        {
            let mut first = Box::pin(question.ask(std::future::pending::<u32>()));
            assert_eq!((&mut first).now_or_never(), None);
            let mut second = Box::pin(question.ask(async { 2 }));
            assert_eq!((&mut second).now_or_never(), None, "the first looks");
            drop(first);
            assert_eq!(second.await, 2);
        }
        assert_eq!(question.ask(async { 3 }).await, 3);
    }
}
