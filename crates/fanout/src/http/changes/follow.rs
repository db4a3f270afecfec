//! Reading the stream for one client of HTTP that follows it: a position, and the frames that lie after it.
//!
//! It holds nothing back: what was read is given at once, and nothing is read before the caller comes for it. So a client that
//! does not read costs what was given last.

use std::sync::Arc;

use waldelta_wal::Position;

use super::request::Request;
use super::undeliverable;
use crate::http::problem::Problem;
use crate::inner::Inner;
use crate::session::delivery::{Delivery, Recipient};
use crate::session::private::{self, Slice};
use crate::shapes::Shapes;
use crate::start::Reset;
use crate::wire::Utf8Bytes;
use crate::wire::server;

/// A reader of the stream.
pub(super) struct Follower {
    inner: Arc<Inner>,
    request: Request,
    /// Everything up to here was given or looked through.
    at: Position,
    /// The last cursor that was told.
    told: Position,
    /// Where history ended at least when the client came.
    known_head: Position,
    delivery: Delivery,
}

/// A frame for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub frame: Utf8Bytes,
    /// Whoever has this frame, and all before it, goes on after this position.
    pub cursor: Option<Position>,
}

/// What a read gave.
pub(super) enum Read {
    /// Frames, perhaps none: there may be more at once.
    Some(Vec<Told>),
    /// Everything that this process knows to be durable was given.
    Exhausted,
    /// The client has to begin anew.
    Lost(Reset),
}

impl Follower {
    pub(super) fn new(inner: Arc<Inner>, request: Request, after: Position, known_head: Position) -> Self {
        let mut delivery = Delivery::default();
        if !after.is_whole() {
            // The client has a part of this transaction, and waits for its end.
            delivery.goes_on();
        }
        Follower { inner, request, at: after, told: after, known_head, delivery }
    }

    /// Everything up to here was given.
    pub(super) fn position(&self) -> Position {
        self.at
    }

    /// Whether the client has everything that was durable when it came. Where another instance writes history, this process may
    /// learn of that later than the client did.
    pub(super) fn has_caught_up(&self) -> bool {
        self.at >= self.known_head
    }

    /// Reads on for a bounded while.
    pub(super) async fn read(&mut self) -> Result<Read, Problem> {
        let read = private::read(&self.inner, self.at, self.request.selection.grant()).await;
        let read = read.map_err(|error| Problem::unavailable(&error))?;
        if let Some((reason, _)) = read.lost_because() {
            return Ok(Read::Lost(reason));
        }
        let mut told = Vec::new();
        for slice in &read.slices {
            self.tell(slice, &read.shapes, &mut told)?;
        }
        self.at = read.through;
        match read.exhausted && told.is_empty() {
            true => Ok(Read::Exhausted),
            false => Ok(Read::Some(told)),
        }
    }

    /// A table begins anew: told before the transaction, as what it has of the table plays no role then.
    fn tell(&mut self, slice: &Slice, shapes: &Shapes, told: &mut Vec<Told>) -> Result<(), Problem> {
        let selection = &self.request.selection;
        let resets = slice.changes.iter().filter_map(|change| shapes.reset_by(selection, change));
        let resets: Vec<_> = resets.collect();
        let begins = told.len();
        for reason in [Reset::Gap, Reset::PermissionChanged] {
            let tables = resets.iter().filter(|(why, _)| *why == reason).map(|(_, table)| table);
            if tables.clone().next().is_some() {
                let frame = server::reset_of(reason, tables);
                told.push(Told { frame, cursor: None });
            }
        }
        let to = Recipient { client_id: &self.request.client_id, gets_own: true, selection, prev: self.told };
        let frames = self.delivery.frames(to, &slice.head, &slice.changes, slice.last);
        for frame in frames.map_err(undeliverable)?.frames {
            let cursor = cursor_of_tx(&frame);
            self.told = cursor.unwrap_or(self.told);
            told.push(Told { frame, cursor });
        }
        // Nothing but a shape or a reset: whoever has it need not be told again.
        if slice.last
            && let Some(last) = told[begins..].last_mut()
        {
            last.cursor = Some(slice.head.position());
        }
        Ok(())
    }
}

/// The cursor of a `tx` frame: every one that is written here begins with it.
fn cursor_of_tx(frame: &str) -> Option<Position> {
    let rest = frame.strip_prefix("{\"type\":\"tx\",\"cursor\":\"")?;
    rest.get(..Position::TEXT_LEN)?.parse().ok()
}

/// The type of a frame: every one that is written here begins with it.
pub(super) fn kind_of(frame: &str) -> &str {
    let rest = frame.strip_prefix("{\"type\":\"").unwrap_or_default();
    rest.split('"').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{head, position};
    use crate::wire::transaction::{Envelope, TxAuthor, encode};

    #[test]
    fn a_frame_tells_its_type_and_a_transaction_its_cursor() {
        let head = head(7, 1);
        let envelope = Envelope {
            head: &head,
            cursor: Position { index: 3, ..position(7) },
            prev: position(1),
            own: false,
            author: TxAuthor::Nobody,
            origin: None,
            part: None,
            last: true,
        };
        let tx = encode(&envelope, std::iter::empty()).unwrap();
        assert_eq!((kind_of(&tx), cursor_of_tx(&tx)), ("tx", Some(envelope.cursor)));
        let live = server::live(position(7));
        assert_eq!((kind_of(&live), cursor_of_tx(&live)), ("live", None));
    }
}
