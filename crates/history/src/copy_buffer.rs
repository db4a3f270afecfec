//! What a COPY is about to send, in messages of bounded size.
//!
//! Images of many megabytes are not copied: the buffer holds the very bytes that the change has.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Bytes of one CopyData message at most. The server takes none of 1 GiB or more, the connection copies each before it
/// is sent, and progress is told per message.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// From this length on bytes are shared.
const SHARED_FROM_BYTES: usize = 64 * 1024;

/// Bytes in order, some of them shared with changes.
pub(crate) struct CopyBuffer {
    /// What is finished, in front of the tail.
    ready: VecDeque<Bytes>,
    ready_bytes: usize,
    tail: BytesMut,
}

impl CopyBuffer {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        CopyBuffer { ready: VecDeque::new(), ready_bytes: 0, tail: BytesMut::with_capacity(bytes) }
    }

    /// Where small things are written.
    pub(crate) fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Appends bytes that somebody else has too.
    pub(crate) fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_FROM_BYTES {
            self.tail.extend_from_slice(bytes);
            return;
        }
        self.finish_tail();
        self.ready_bytes += bytes.len();
        self.ready.push_back(bytes.clone());
    }

    pub(crate) fn len(&self) -> usize {
        self.ready_bytes + self.tail.len()
    }

    /// Takes the next message out; `None` when the buffer is empty.
    pub(crate) fn take_message(&mut self) -> Option<Bytes> {
        if self.ready.is_empty() {
            self.finish_tail();
        }
        let first = self.ready.front_mut()?;
        let message = first.split_to(first.len().min(MESSAGE_BYTES_MAX));
        if first.is_empty() {
            self.ready.pop_front();
        }
        self.ready_bytes -= message.len();
        Some(message)
    }

    fn finish_tail(&mut self) {
        if !self.tail.is_empty() {
            self.ready_bytes += self.tail.len();
            self.ready.push_back(self.tail.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_went_in_comes_out_in_messages_of_bounded_size(
            parts in proptest::collection::vec((any::<bool>(), 0usize..3 * MESSAGE_BYTES_MAX), 0..6),
        ) {
            let mut buffer = CopyBuffer::with_capacity(16);
            let mut expected = Vec::new();
            for (index, (shared, length)) in parts.into_iter().enumerate() {
                let bytes = format!("part {index} ").into_bytes().repeat(length / 7);
                expected.extend_from_slice(&bytes);
                match shared {
                    true => buffer.put_shared(&Bytes::from(bytes)),
                    false => buffer.tail().extend_from_slice(&bytes),
                }
                prop_assert_eq!(buffer.len(), expected.len());
            }
            let mut out = Vec::new();
            while let Some(message) = buffer.take_message() {
                prop_assert!((1..=MESSAGE_BYTES_MAX).contains(&message.len()));
                out.extend_from_slice(&message);
            }
            prop_assert_eq!(buffer.len(), 0);
            prop_assert!(out == expected);
        }
    }

    #[test]
    fn large_images_are_not_copied() {
        let image = Bytes::from(vec![7; SHARED_FROM_BYTES]);
        let mut buffer = CopyBuffer::with_capacity(16);
        buffer.tail().extend_from_slice(b"before");
        buffer.put_shared(&image);
        assert_eq!(buffer.take_message().unwrap(), "before");
        assert_eq!(buffer.take_message().unwrap().as_ptr(), image.as_ptr());
        assert_eq!(buffer.take_message(), None);
    }
}
