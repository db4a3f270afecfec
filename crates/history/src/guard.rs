//! What `make guard` counts of history: from pieces to the bytes that an append sends. It is in no release.

use waldelta_wal::Piece;

use crate::copy_buffer::CopyBuffer;
use crate::encode::{RowEncoder, TooLarge};
use crate::writer::CHUNK_BYTES;

/// Writes rows as appends do, to nowhere.
pub struct Encoder {
    rows: RowEncoder,
    buffer: CopyBuffer,
}

impl Encoder {
    /// For the changes of one source.
    pub fn new() -> Self {
        Encoder { rows: RowEncoder::new("7000", 5), buffer: CopyBuffer::with_capacity(2 * CHUNK_BYTES) }
    }

    /// The bytes of one append, counted; `None` where a value is larger than any that history takes.
    pub fn encode(&mut self, pieces: &[Piece]) -> Option<usize> {
        let mut sent = 0;
        self.rows.begin(&mut self.buffer);
        for piece in pieces {
            let xid = (piece.head.xid != 0).then_some(piece.head.xid);
            for change in &piece.changes {
                self.rows.row(&mut self.buffer, &piece.head, xid, change).map_err(|TooLarge| ()).ok()?;
                if self.buffer.len() >= CHUNK_BYTES {
                    sent += self.send();
                }
            }
        }
        self.rows.end(&mut self.buffer);
        Some(sent + self.send())
    }

    fn send(&mut self) -> usize {
        std::iter::from_fn(|| self.buffer.take_message()).map(|message| message.len()).sum()
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}
