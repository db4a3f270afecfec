//! Frames that wait to be written to a socket: their headers beside them, their bytes shared with whoever else gets them. What
//! was encoded once is never copied, and nothing of it stays with the connection. Pure: it neither writes nor waits.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

/// The first byte of a frame that is a whole text or binary message, and of a ping.
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const PING: u8 = 0x89;
/// Lengths up to this stand in the second byte; it says instead how many bytes the length has.
const SHORT_MAX: usize = 125;
const IN_TWO_BYTES: u8 = 126;
const IN_EIGHT_BYTES: u8 = 127;

/// One frame. A server's are not masked.
struct Frame {
    header: [u8; 10],
    header_len: u8,
    payload: Bytes,
}

impl Frame {
    fn new(kind: u8, payload: Bytes) -> Self {
        let mut header = [0; 10];
        header[0] = kind;
        let length = payload.len();
        let header_len = match u16::try_from(length) {
            Ok(short) if length <= SHORT_MAX => {
                header[1] = short.to_be_bytes()[1];
                2
            }
            Ok(medium) => {
                header[1] = IN_TWO_BYTES;
                header[2..4].copy_from_slice(&medium.to_be_bytes());
                4
            }
            Err(_) => {
                header[1] = IN_EIGHT_BYTES;
                header[2..].copy_from_slice(&(length as u64).to_be_bytes());
                10
            }
        };
        Frame { header, header_len, payload }
    }

    fn header(&self) -> &[u8] {
        &self.header[..usize::from(self.header_len)]
    }

    fn len(&self) -> usize {
        self.header().len() + self.payload.len()
    }
}

/// What is left to be written, in order.
#[derive(Default)]
pub(super) struct Unsent {
    frames: VecDeque<Frame>,
    /// Bytes of the first frame that are written already.
    written: usize,
}

impl Unsent {
    /// A text message.
    pub(super) fn push_text(&mut self, text: Bytes) {
        self.frames.push_back(Frame::new(TEXT, text));
    }

    /// A binary message.
    pub(super) fn push_binary(&mut self, bytes: Bytes) {
        self.frames.push_back(Frame::new(BINARY, bytes));
    }

    pub(super) fn push_ping(&mut self) {
        self.frames.push_back(Frame::new(PING, Bytes::new()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether it is a frame or two.
    pub(super) fn are_few(&self) -> bool {
        self.frames.len() <= 2
    }

    /// Forgets the frames that are not begun.
    pub(super) fn retract(&mut self) {
        self.frames.truncate(usize::from(self.written > 0));
    }

    /// Fills `slices` with what comes next; says how many it filled.
    pub(super) fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut skipped = self.written;
        let pieces = self.frames.iter().flat_map(|frame| [frame.header(), &frame.payload[..]]);
        let left = pieces.filter_map(|piece| {
            let from = skipped.min(piece.len());
            skipped -= from;
            Some(&piece[from..]).filter(|piece| !piece.is_empty())
        });
        let mut filled = 0;
        for (slice, piece) in slices.iter_mut().zip(left) {
            *slice = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    /// Forgets this many bytes, which are written.
    pub(super) fn advance(&mut self, count: usize) {
        self.written += count;
        while let Some(first) = self.frames.front()
            && self.written >= first.len()
        {
            self.written -= first.len();
            self.frames.pop_front();
        }
        if self.frames.is_empty() {
            // Who has got a burst once does not keep the room for it.
            self.frames = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocket, WebSocketConfig};

    use super::*;

    /// What a client reads out of these bytes.
    fn messages(bytes: Vec<u8>, count: usize) -> Vec<Message> {
        let config = WebSocketConfig::default().max_frame_size(None).max_message_size(None);
        let mut client = WebSocket::from_raw_socket(Cursor::new(bytes), Role::Client, Some(config));
        (0..count).map(|_| client.read().unwrap()).collect()
    }

    /// Writes all of it, so many slices and so many bytes at a time.
    fn write_all(unsent: &mut Unsent, mut sizes: impl Iterator<Item = (usize, usize)>) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !unsent.is_empty() {
            let (slices_max, bytes_max) = sizes.next().unwrap();
            let mut slices = vec![IoSlice::new(&[]); slices_max];
            let filled = unsent.fill(&mut slices);
            assert!(filled > 0);
            let begun = bytes.len();
            for slice in &slices[..filled] {
                let room = bytes_max - (bytes.len() - begun);
                bytes.extend_from_slice(&slice[..slice.len().min(room)]);
            }
            let count = bytes.len() - begun;
            unsent.advance(count);
        }
        bytes
    }

    #[test]
    fn what_is_begun_is_written_to_its_end_and_nothing_else() {
        let begun_with = |written: usize| {
            let mut unsent = Unsent::default();
            for text in ["first", "second", "third"] {
                unsent.push_text(text.as_bytes().into());
            }
            unsent.advance(written);
            unsent.retract();
            unsent.push_text(b"last"[..].into());
            write_all(&mut unsent, std::iter::repeat((4, usize::MAX)))
        };
        assert_eq!(messages(begun_with(0), 1), [Message::text("last")]);
        let rest = begun_with(2 + "first".len() + 1);
        let bytes: Vec<u8> = [TEXT].into_iter().chain(rest).collect();
        assert_eq!(messages(bytes, 2), [Message::text("second"), Message::text("last")]);
    }

    #[test]
    fn lengths_are_told_in_each_of_the_three_ways() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
            let mut unsent = Unsent::default();
            let text = "x".repeat(length);
            unsent.push_text(text.clone().into());
            let bytes = write_all(&mut unsent, std::iter::repeat((4, usize::MAX)));
            assert_eq!(messages(bytes, 1), [Message::text(text.clone())]);
            unsent.push_binary(text.clone().into());
            let bytes = write_all(&mut unsent, std::iter::repeat((4, usize::MAX)));
            assert_eq!(messages(bytes, 1), [Message::binary(text)]);
        }
    }

    proptest! {
        #[test]
        fn however_it_is_written_the_client_reads_the_messages(
            texts in prop::collection::vec(prop::option::of("[a-z]{0,300}"), 1..20),
            sizes in prop::collection::vec((1usize..8, 1usize..400), 1..50),
        ) {
            let mut unsent = Unsent::default();
            for text in &texts {
                match text {
                    Some(text) => unsent.push_text(text.clone().into()),
                    None => unsent.push_ping(),
                }
            }
            let bytes = write_all(&mut unsent, sizes.into_iter().cycle());
            let expected: Vec<Message> = texts.into_iter().map(|text| match text {
                Some(text) => Message::text(text),
                None => Message::Ping(Bytes::new()),
            }).collect();
            prop_assert_eq!(messages(bytes, expected.len()), expected);
        }
    }
}
