//! A frame as it is kept: compressed, and counted as long as anybody has it.
//!
//! A chunk is one `rows` frame, so that who follows a snapshot holds one frame in full and no more. It knows nothing of what is
//! in the frame.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};

use crate::wire::Utf8Bytes;
use crate::wire::server;

/// The fastest of zstd's levels: the source waits for it. Rows come out at about a quarter of their size.
const LEVEL: i32 = 1;
/// Bytes that are compressed before others have their turn. A row may be much larger.
const PIECE_BYTES: usize = 256 * 1024;

/// Bytes that are held, together.
#[derive(Clone, Debug, Default)]
pub(super) struct Holdings(Arc<AtomicUsize>);

/// A share of them, given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    bytes: usize,
    holdings: Holdings,
}

impl Holdings {
    pub(super) fn take(&self, bytes: usize) -> Held {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Held { bytes, holdings: self.clone() }
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.holdings.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A compressed frame with the line break that ends it where frames are lines.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Each a zstd frame of its own, of [`PIECE_BYTES`] at most.
    pieces: Vec<Bytes>,
    plain_bytes: usize,
    /// The frame, as long as somebody has it open: those who follow at the same pace share it.
    open: Mutex<Weak<Utf8Bytes>>,
    held: Held,
}

impl Chunk {
    /// What is sent where a line is wanted that is compressed with zstd: frames may follow each other (RFC 8878, section 3.1).
    pub(crate) fn packed(&self) -> Bytes {
        match &self.pieces[..] {
            [one] => one.clone(),
            pieces => pieces.concat().into(),
        }
    }

    /// Bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        self.held.bytes
    }

    /// Bytes of the frame.
    pub(super) fn plain_bytes(&self) -> usize {
        self.plain_bytes
    }

    /// The frame.
    pub(crate) async fn open(&self) -> io::Result<Arc<Utf8Bytes>> {
        if let Some(frame) = self.shared().upgrade() {
            return Ok(frame);
        }
        let mut plain = Vec::new();
        for (index, piece) in self.pieces.iter().enumerate() {
            if index > 0 {
                tokio::task::yield_now().await;
            }
            let left = self.plain_bytes + 1 - plain.len();
            let unpacked = Decompressor::new()?.decompress(piece, left.min(PIECE_BYTES))?;
            match plain.is_empty() {
                true => plain = unpacked,
                false => plain.extend_from_slice(&unpacked),
            }
        }
        plain.pop();
        let frame =
            server::finish(plain).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let frame = Arc::new(frame);
        *self.shared() = Arc::downgrade(&frame);
        Ok(frame)
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Weak<Utf8Bytes>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes chunks, one after the other.
pub(super) struct Packer {
    compressor: Compressor<'static>,
    holdings: Holdings,
}

impl Packer {
    pub(super) fn new(holdings: Holdings) -> io::Result<Self> {
        Ok(Packer { compressor: Compressor::new(LEVEL)?, holdings })
    }

    /// The chunk of a frame, and the frame: whoever keeps that saves others from opening the chunk.
    pub(super) async fn pack(&mut self, frame: Utf8Bytes) -> io::Result<(Arc<Chunk>, Arc<Utf8Bytes>)> {
        let line = [frame.as_bytes(), b"\n"].concat();
        let mut pieces = Vec::with_capacity(line.len().div_ceil(PIECE_BYTES));
        for piece in line.chunks(PIECE_BYTES) {
            if !pieces.is_empty() {
                tokio::task::yield_now().await;
            }
            // The buffer it was made in is as large as the worst case: what is kept is counted by what it holds.
            pieces.push(Bytes::copy_from_slice(&self.compressor.compress(piece)?));
        }
        let plain_bytes = frame.len();
        let frame = Arc::new(frame);
        let bytes = size_of::<Chunk>() + pieces.iter().map(Bytes::len).sum::<usize>();
        let open = Mutex::new(Arc::downgrade(&frame));
        let chunk = Chunk { pieces, plain_bytes, open, held: self.holdings.take(bytes) };
        Ok((Arc::new(chunk), frame))
    }
}

/// A frame that is not kept, as a compressed line like those of chunks.
pub(crate) fn pack_line(frame: &str) -> io::Result<Bytes> {
    zstd::bulk::compress(&[frame.as_bytes(), b"\n"].concat(), LEVEL).map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    /// Opened after everybody has let go of the frame, if `again`.
    async fn round_trip(packer: &mut Packer, text: &str, again: bool) -> (Arc<Chunk>, String) {
        let (chunk, frame) = packer.pack(Utf8Bytes::from(text.to_owned())).await.unwrap();
        let kept = (!again).then_some(frame);
        let opened = chunk.open().await.unwrap();
        assert!(kept.is_none_or(|kept| Arc::ptr_eq(&kept, &opened)), "who has it shares it");
        (chunk, opened.to_string())
    }

    fn unpacked_line(chunk: &Chunk) -> String {
        String::from_utf8(zstd::stream::decode_all(&chunk.packed()[..]).unwrap()).unwrap()
    }

    proptest! {
        #[test]
        fn every_frame_comes_out_as_it_went_in(texts in prop::collection::vec("\\PC{0,200}", 1..5), again: bool) {
            let holdings = Holdings::default();
            let mut packer = Packer::new(holdings.clone()).unwrap();
            for text in &texts {
                let (chunk, opened) = round_trip(&mut packer, text, again).now_or_never().expect("one piece");
                prop_assert_eq!(&opened, text);
                prop_assert_eq!(unpacked_line(&chunk), format!("{text}\n"));
                prop_assert_eq!(holdings.bytes(), chunk.bytes());
            }
            prop_assert_eq!(holdings.bytes(), 0, "what is dropped is given back");
        }
    }

    #[tokio::test]
    async fn a_large_frame_is_cut_and_whole_again() {
        let mut packer = Packer::new(Holdings::default()).unwrap();
        for bytes in [PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES + 7] {
            let text: String = (0..bytes).map(|at| char::from(b'a' + (at * 7 % 26) as u8)).collect();
            let (chunk, opened) = round_trip(&mut packer, &text, true).await;
            assert!(opened == text && unpacked_line(&chunk) == text + "\n", "{bytes}");
            assert_eq!(chunk.pieces.len(), (bytes + 1).div_ceil(PIECE_BYTES));
            assert!(chunk.bytes() < bytes / 4 + size_of::<Chunk>(), "it is compressed");
        }
    }
}
