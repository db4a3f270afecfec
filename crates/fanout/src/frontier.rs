//! Asks the source which transaction id comes next, once for all clients that connect meanwhile.
//!
//! A transaction with an id below it began before the client connected, so the client may have lost what it knew of it
//! even when it is the author; such changes are delivered to it, marked as its own. Durable history cannot tell this: it
//! may lag behind what the client committed before it crashed.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use waldelta_source::Error;
use waldelta_wal::chain_text;

use crate::databases::{Counting, Origin};

/// A source that does not answer for this long is asked again over another connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed question.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Pause after an answer: whoever connects meanwhile shares the next one.
const GATHER_DELAY: Duration = Duration::from_millis(5);

/// Questions and answers.
pub(crate) struct Frontier {
    /// Number of the newest question.
    asked: watch::Sender<u64>,
    /// The newest question that is answered, and the next transaction id at some moment after it was asked.
    answered: watch::Sender<(u64, u64)>,
}

impl Frontier {
    pub(crate) fn new() -> Self {
        Frontier { asked: watch::Sender::new(0), answered: watch::Sender::new((0, 0)) }
    }

    /// The next transaction id, learnt after this call began. Waits as long as the source is out of reach.
    pub(crate) async fn ask(&self) -> u64 {
        let mut answers = self.answered.subscribe();
        let mut mine = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            mine = *asked;
        });
        match answers.wait_for(|(question, _)| *question >= mine).await {
            Ok(answer) => answer.1,
            // The sender is part of `self`.
            Err(_) => u64::MAX,
        }
    }

    /// Answers questions over one connection that is kept, until `stop` is cancelled.
    pub(crate) async fn run(&self, origin: &dyn Origin, stop: &CancellationToken) {
        stop.run_until_cancelled(async {
            let mut asked = self.asked.subscribe();
            let mut connection = None;
            loop {
                let open = |question: &u64| *question > self.answered.borrow().0;
                let Ok(question) = asked.wait_for(open).await.map(|question| *question) else { return };
                match tokio::time::timeout(ANSWER_TIMEOUT, next_xid(origin, &mut connection)).await {
                    Ok(Ok(xid)) => {
                        self.answered.send_replace((question, xid));
                        tokio::time::sleep(GATHER_DELAY).await;
                        continue;
                    }
                    Ok(Err(error)) => {
                        tracing::debug!(
                            error = chain_text(&error),
                            "ask the source for its next transaction id"
                        );
                    }
                    Err(_elapsed) => tracing::debug!("the source does not tell its next transaction id"),
                }
                connection = None;
                tokio::time::sleep(RETRY_DELAY).await;
            }
        })
        .await;
    }
}

async fn next_xid(origin: &dyn Origin, connection: &mut Option<Box<dyn Counting>>) -> Result<u64, Error> {
    let counting = match connection {
        Some(counting) => counting,
        None => connection.insert(origin.counting().await?),
    };
    match counting.next_xid().await {
        // It does not know which ids are taken by now: nobody's own changes are left out.
        Err(Error::Standby) => Ok(u64::MAX),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_to_an_older_question_does_not_count() {
        let frontier = Frontier::new();
        frontier.asked.send_modify(|asked| *asked = 4);
        let answer = async {
            let mut asked = frontier.asked.subscribe();
            asked.wait_for(|question| *question == 5).await.unwrap();
            frontier.answered.send_replace((4, 100));
            tokio::task::yield_now().await;
            frontier.answered.send_replace((5, 200));
        };
        assert_eq!(tokio::join!(frontier.ask(), answer).0, 200);
    }
}
