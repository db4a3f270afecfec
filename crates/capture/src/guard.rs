//! What `make guard` counts of capture: from what a socket gave to the pieces of an append. It is in no release.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use waldelta_wal::{Assembler, EndLsn, Epoch, Piece, Table, ValuePolicy};

use crate::Error;
use crate::batch::Limits;
use crate::intake::{Intake, Wants};

/// As the service has them by default.
const LIMITS: Limits = Limits { rows_max: 10_000, bytes_max: 8 << 20 };
const PIECE_BYTES_MAX: usize = 1 << 20;

/// What one connection takes in, the plugin being pgoutput.
pub struct Decoder {
    intake: Intake,
}

impl Decoder {
    /// With nothing stored yet.
    pub fn new() -> Self {
        let policy = ValuePolicy::default();
        let assembler = Assembler::new(Epoch(1), EndLsn::default(), 1 << 32, PIECE_BYTES_MAX, policy);
        Decoder { intake: Intake::new(assembler, LIMITS, EndLsn::default(), Instant::now()) }
    }

    /// The pieces of a block of whole messages, as appends get them. Each table's key is its column `id`.
    ///
    /// # Errors
    /// When it cannot be understood.
    pub fn decode(&mut self, block: Bytes) -> Result<Vec<Piece>, Error> {
        let mut pieces = Vec::new();
        self.intake.give_block(block);
        while !self.intake.wants_block() {
            match self.intake.decode_slice()? {
                Some(Wants::Shape(wanted)) => {
                    let table = wanted.relation.to_table(Some(&["id".to_owned()]), |_| None);
                    self.intake.define(Arc::new(Table { version: 1, ..table }), false, false)?;
                }
                Some(Wants::Outline(..)) | None => {}
            }
            if !self.intake.can_decode() {
                pieces.append(&mut self.intake.take_batch());
            }
        }
        pieces.append(&mut self.intake.take_batch());
        Ok(pieces)
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}
