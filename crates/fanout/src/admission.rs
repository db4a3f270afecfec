//! What history has, as it is told to sessions and requests that begin: asked once for all who ask meanwhile, and not at all
//! where memory knows.
//!
//! Two rules make that right. A cursor can be one that another process has told: what it is compared with must not be older than
//! the moment at which it was named. And a cursor from which on the feed holds everything up to the head can be resumed,
//! whatever history says.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::Counter;
use waldelta_history::{Feed, Lineage};
use waldelta_wal::{EndLsn, Epoch, Position};

use crate::clock;
use crate::databases::Log;
use crate::error::Error;
use crate::question::Question;
use crate::start::Extent;

/// An oldest cursor is told for this long without asking for it again. It only rises, and clients are told it for
/// information: what they resume from is in memory, or asked for. Where it has risen since, and memory no longer has what they
/// are behind with, reading finds that it was pruned, and they begin anew.
const FLOOR_KEPT: Duration = Duration::from_secs(60);

/// Where what history has is asked.
pub(crate) struct Admission {
    log: Arc<dyn Log>,
    feed: Arc<Feed>,
    reach: Question<Result<Reach, Arc<Error>>>,
    known: Mutex<Option<Known>>,
    lineage: Question<Result<Arc<Lineage>, Arc<Error>>>,
    known_lineage: Mutex<Option<Arc<Lineage>>>,
    asked: Counter,
}

/// From where to where history goes.
#[derive(Clone, Copy, Debug)]
struct Reach {
    floor: Position,
    head: Position,
}

#[derive(Clone, Copy)]
struct Known {
    reach: Reach,
    at: Instant,
}

impl Admission {
    /// `asked` counts how often the database is asked.
    pub(crate) fn new(log: Arc<dyn Log>, feed: Arc<Feed>, asked: Counter) -> Self {
        Admission {
            log,
            feed,
            reach: Question::new(),
            known: Mutex::new(None),
            lineage: Question::new(),
            known_lineage: Mutex::new(None),
            asked,
        }
    }

    /// What can be resumed now by a client with this cursor. The head is read from the database: the feed of this process may
    /// lag behind what a client was told by another one.
    pub(crate) async fn extent(&self, cursor: Option<Position>) -> Result<Extent, Error> {
        let Reach { floor, head } = self.reach.ask(self.look()).await.map_err(Error::Shared)?;
        let head = head.max(self.feed.head().cursor());
        let lineage = match cursor {
            Some(cursor) if cursor.epoch != head.epoch => Lineage::clone(&*self.lineage(head.epoch).await?),
            _ => Lineage::default(),
        };
        Ok(Extent { floor, head, lineage })
    }

    /// The same for a session, whose first cursor is compared with nothing else: what memory knows is enough.
    pub(crate) async fn extent_of_session(&self, cursor: Option<Position>) -> Result<Extent, Error> {
        match self.remembered(cursor) {
            Some(extent) => Ok(extent),
            None => self.extent(cursor).await,
        }
    }

    /// How epochs follow each other, the epoch `current` among them. Those before it change no more.
    pub(crate) async fn lineage(&self, current: Epoch) -> Result<Arc<Lineage>, Error> {
        let known = self.known_lineage.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let has_it =
            |lineage: &Arc<Lineage>| lineage.epochs().last().is_some_and(|last| last.epoch == current);
        if let Some(lineage) = known.filter(has_it) {
            return Ok(lineage);
        }
        let look = async {
            self.asked.increment(1);
            self.log.lineage().await.map(Arc::new).map_err(|error| Arc::new(Error::from(error)))
        };
        let lineage = self.lineage.ask(look).await.map_err(Error::Shared)?;
        *self.known_lineage.lock().unwrap_or_else(PoisonError::into_inner) = Some(lineage.clone());
        Ok(lineage)
    }

    async fn look(&self) -> Result<Reach, Arc<Error>> {
        self.asked.increment(1);
        let at = clock::now();
        let reach = async {
            let (_, head) = self.log.captured().await?.ok_or(Error::NothingCaptured)?;
            Ok::<_, Error>(Reach { floor: self.log.floor().await?, head: head.cursor() })
        };
        let reach = reach.await.map_err(Arc::new)?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(Known { reach, at });
        Ok(reach)
    }

    /// What is said without asking: to a client without a cursor, and to one from whose cursor on the feed has everything.
    fn remembered(&self, cursor: Option<Position>) -> Option<Extent> {
        let known = (*self.known.lock().unwrap_or_else(PoisonError::into_inner))
            .filter(|known| clock::now().saturating_duration_since(known.at) < FLOOR_KEPT)?;
        let head = self.feed.head().cursor();
        if known.reach.head.epoch != head.epoch {
            return None;
        }
        if let Some(cursor) = cursor {
            let from = match cursor.is_whole() {
                true => cursor,
                false => Position::before(cursor.epoch, EndLsn(cursor.commit_lsn)),
            };
            let in_memory = cursor.epoch == head.epoch && cursor <= head && from >= known.reach.floor;
            if !in_memory || self.feed.after(from, 0).is_err() {
                return None;
            }
        }
        let head = head.max(known.reach.head);
        Some(Extent { floor: known.reach.floor, head, lineage: Lineage::default() })
    }
}
