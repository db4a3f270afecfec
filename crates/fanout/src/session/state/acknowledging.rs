//! Acknowledgements: of what was sent only, and one recording at a time.

use super::*;

/// One recording at a time; of the acknowledgements that come meanwhile the newest counts.
#[derive(Default)]
pub(super) struct Acks {
    recording: bool,
    next: Option<Position>,
    pub(super) recorded: Option<Position>,
}

impl Session {
    pub(super) fn acknowledge(&mut self, after: After, out: &mut Vec<Action>) {
        let cursor = match after {
            After::Cursor(cursor) => cursor,
            After::Lsn(lsn) => Position::before(self.cursor.epoch, EndLsn(lsn)),
        };
        // One of an older epoch was sent before the stream went over the seam.
        let was_sent = cursor.is_whole() && cursor <= self.cursor;
        if !was_sent {
            let message = "the acknowledged cursor was never sent as one to store";
            out.push(Action::Send(server::error(Code::CursorInvalid, message, None, false)));
        } else if self.acks.recording {
            self.acks.next = Some(cursor);
        } else {
            self.acks.recording = true;
            out.push(Action::Record(cursor));
        }
    }

    pub(super) fn recorded(&mut self, recorded: Result<Position, Code>, out: &mut Vec<Action>) {
        match recorded {
            Ok(cursor) => {
                self.acks.recorded = Some(cursor);
                out.push(Action::Send(server::acked(cursor)));
            }
            Err(code) => {
                let message = "the acknowledgement could not be recorded; send it again later";
                out.push(Action::Send(server::error(code, message, None, false)));
            }
        }
        match self.acks.next.take() {
            Some(next) => out.push(Action::Record(next)),
            None => self.acks.recording = false,
        }
    }
}
