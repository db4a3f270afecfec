//! Cuts what the socket gives into whole protocol messages. Pure: it neither reads a socket nor looks into a message.
//!
//! Whole messages leave as one reference-counted block per read, so that a read costs one allocation whatever the
//! number of messages in it.

use bytes::Bytes;

/// Tag and length: what each message begins with.
const HEADER_BYTES: usize = 5;
/// No message of PostgreSQL is longer than its largest allocation (1 GiB) and what is put around it.
pub(crate) const FRAME_BYTES_MAX: usize = (1 << 30) + 1024;

/// The bytes cannot be protocol messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of type 0x{tag:02x} claims a length of {length} bytes")]
pub struct FrameError {
    tag: u8,
    length: u32,
}

/// One whole message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// Its type.
    pub(crate) tag: u8,
    /// What follows the length.
    pub(crate) body: &'a [u8],
}

/// Collects bytes from the socket until messages are whole.
pub(crate) struct FrameBuffer {
    /// Always initialised to its full length; `filled` of it is real.
    bytes: Vec<u8>,
    filled: usize,
    /// Up to here the messages are whole.
    whole: usize,
    size: usize,
}

impl FrameBuffer {
    /// A buffer that offers `size` bytes to a read, and grows beyond that only while one message is longer.
    pub(crate) fn new(size: usize) -> Self {
        let size = size.max(HEADER_BYTES);
        FrameBuffer { bytes: vec![0; size], filled: 0, whole: 0, size }
    }

    /// Where the next read goes; never empty.
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        if self.filled == self.bytes.len() {
            // By doubling, never to the length that the sender claims: memory follows bytes that have arrived.
            self.bytes.resize(self.bytes.len() * 2, 0);
        }
        &mut self.bytes[self.filled..]
    }

    /// Takes note of `count` bytes read into [`Self::spare`].
    pub(crate) fn note_read(&mut self, count: usize) -> Result<(), FrameError> {
        self.filled += count;
        assert!(self.filled <= self.bytes.len(), "more bytes read than there was room for");
        while let Some(length) = frame_length(&self.bytes[self.whole..self.filled])? {
            if length > self.filled - self.whole {
                break;
            }
            self.whole += length;
        }
        Ok(())
    }

    /// The messages that are whole by now; `None` when none is.
    pub(crate) fn take_whole(&mut self) -> Option<Bytes> {
        if self.whole == 0 {
            return None;
        }
        let taken = Bytes::copy_from_slice(&self.bytes[..self.whole]);
        self.bytes.copy_within(self.whole..self.filled, 0);
        self.filled -= self.whole;
        self.whole = 0;
        if self.bytes.len() > self.size && self.filled <= self.size {
            self.bytes.truncate(self.size);
            self.bytes.shrink_to_fit();
        }
        Some(taken)
    }
}

/// Whole messages, one after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frames {
    bytes: Bytes,
    at: usize,
    /// Where the message taken last begins.
    last: usize,
}

impl Frames {
    /// Over a block that [`FrameBuffer::take_whole`] gave.
    pub(crate) fn new(bytes: Bytes) -> Self {
        Frames { bytes, at: 0, last: 0 }
    }

    /// The next message.
    pub(crate) fn next_frame(&mut self) -> Option<Frame<'_>> {
        let left = &self.bytes[self.at..];
        let length = frame_length(left).ok().flatten().filter(|length| *length <= left.len())?;
        self.last = self.at;
        self.at += length;
        Some(Frame { tag: left[0], body: &left[HEADER_BYTES..length] })
    }

    /// Gives the message taken last back, to be taken again.
    pub(crate) fn give_back(&mut self) {
        self.at = self.last;
    }

    /// Where the next message begins.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Whether all messages were taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The messages not taken yet.
    pub(crate) fn into_rest(self) -> Bytes {
        self.bytes.slice(self.at..)
    }
}

/// Length of the message that begins here, header included, if that much of it is there to know.
fn frame_length(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some((&[tag, a, b, c, d], _)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    // The length counts itself but not the tag.
    let length = u32::from_be_bytes([a, b, c, d]);
    match usize::try_from(length) {
        Ok(counted) if (4..=FRAME_BYTES_MAX).contains(&counted) => Ok(Some(counted + 1)),
        _ => Err(FrameError { tag, length }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn drain(buffer: &mut FrameBuffer, into: &mut Vec<(u8, Vec<u8>)>) {
        if let Some(bytes) = buffer.take_whole() {
            let mut frames = Frames::new(bytes);
            while let Some(frame) = frames.next_frame() {
                into.push((frame.tag, frame.body.to_vec()));
            }
            assert!(frames.is_empty(), "only whole messages leave");
        }
    }

    #[test]
    fn refuses_lengths_that_no_message_has() {
        for length in [0u32, 3, 0x4000_0401, u32::MAX] {
            let mut buffer = FrameBuffer::new(16);
            let mut bytes = vec![b'd'];
            bytes.extend(length.to_be_bytes());
            buffer.spare()[..5].copy_from_slice(&bytes);
            assert_eq!(buffer.note_read(5), Err(FrameError { tag: b'd', length }));
        }
    }

    #[test]
    fn a_claimed_length_reserves_nothing() {
        let mut buffer = FrameBuffer::new(16);
        let mut bytes = vec![b'd'];
        bytes.extend(0x3fff_ffffu32.to_be_bytes());
        buffer.spare()[..5].copy_from_slice(&bytes);
        buffer.note_read(5).unwrap();
        assert_eq!(buffer.take_whole(), None);
        assert!(buffer.spare().len() < 64);
    }

    #[test]
    fn room_for_a_long_message_is_given_back() {
        let long = frame(b'd', &[7; 1000]);
        let mut buffer = FrameBuffer::new(16);
        let mut at = 0;
        while at < long.len() {
            let spare = buffer.spare();
            let count = spare.len().min(long.len() - at);
            spare[..count].copy_from_slice(&long[at..at + count]);
            buffer.note_read(count).unwrap();
            at += count;
        }
        assert_eq!(buffer.take_whole().as_deref(), Some(&long[..]));
        assert_eq!(buffer.spare().len(), 16);
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_messages(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..20),
            cuts in proptest::collection::vec(1usize..50, 1..200),
        ) {
            let wanted: Vec<(u8, Vec<u8>)> = bodies.into_iter().map(|body| (b'd', body)).collect();
            let wire: Vec<u8> = wanted.iter().flat_map(|(tag, body)| frame(*tag, body)).collect();
            let mut buffer = FrameBuffer::new(32);
            let mut found = Vec::new();
            let mut left = &wire[..];
            for cut in cuts.iter().cycle() {
                if left.is_empty() {
                    break;
                }
                let spare = buffer.spare();
                let count = (*cut).min(spare.len()).min(left.len());
                spare[..count].copy_from_slice(&left[..count]);
                left = &left[count..];
                buffer.note_read(count).unwrap();
                if cut % 3 == 0 {
                    drain(&mut buffer, &mut found);
                }
            }
            drain(&mut buffer, &mut found);
            prop_assert_eq!(found, wanted);
        }
    }
}
