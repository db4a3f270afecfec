//! The right to read history for one answer. What takes many reads lets others read in between, and not much of that is done
//! beside each other.
//!
//! An answer for one who may not see all rows goes on over whatever they do not see: one that stopped after so much of it would
//! tell that it is there. So its length is bounded by the history of the row alone, and what it takes of the service is bounded
//! here. It also ends when whoever asks has gone.

use axum::http::StatusCode;
use tokio::sync::SemaphorePermit;
use waldelta_wal::Code;

use crate::http::asker::Asker;
use crate::http::problem::Problem;
use crate::http::term::{self, Term};
use crate::inner::Inner;

/// An answer that takes more reads than this is a long one.
const READS_OF_SHORT_ONES: usize = 16;

/// The right to read; given back when it is dropped.
pub(super) struct Turn<'a> {
    inner: &'a Inner,
    term: Term,
    reads: usize,
    to_read: Option<SemaphorePermit<'a>>,
    /// Of long answers.
    to_go_on: Option<SemaphorePermit<'a>>,
}

impl<'a> Turn<'a> {
    /// Waits for its turn.
    pub(super) async fn wait(inner: &'a Inner, asker: &Asker) -> Self {
        let term = Term::of(inner, asker);
        let to_read = inner.reads.acquire().await.ok();
        Turn { inner, term, reads: 0, to_read, to_go_on: None }
    }

    /// Before each of many reads: lets others read first.
    ///
    /// # Errors
    /// Where the answer is no longer to be given.
    pub(super) async fn again(&mut self) -> Result<(), Problem> {
        self.reads += 1;
        if self.reads == 1 {
            return Ok(());
        }
        if let Some(code) = self.term.over() {
            return Err(term::problem(code));
        }
        if self.inner.closing.is_cancelled() {
            let detail = "the service is stopping";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, Code::Stopping, detail));
        }
        self.to_read = None;
        if self.reads > READS_OF_SHORT_ONES && self.to_go_on.is_none() {
            self.to_go_on = self.inner.long_answers.acquire().await.ok();
        }
        self.to_read = self.inner.reads.acquire().await.ok();
        Ok(())
    }
}
