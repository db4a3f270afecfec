//! A checked reader over bytes from the wire. Every error says what was being read; nothing here can panic.

/// Bytes from the walsender that do not have the form the protocol gives them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The message ends inside a field.
    #[error("{what}: {needed} bytes expected, {left} left")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Bytes that the field takes.
        needed: usize,
        /// Bytes that there are.
        left: usize,
    },
    /// A text field has no terminating zero byte.
    #[error("{what}: no terminating zero byte")]
    Unterminated {
        /// What was being read.
        what: &'static str,
    },
    /// A name is not UTF-8, although `client_encoding` is UTF8.
    #[error("{what}: not UTF-8")]
    NotUtf8 {
        /// What was being read.
        what: &'static str,
    },
    /// A count or length is below zero.
    #[error("{what}: {value} is negative")]
    Negative {
        /// What was being read.
        what: &'static str,
        /// The number found.
        value: i64,
    },
    /// A byte that tells one form from another is none of those known.
    #[error("{what}: unknown byte 0x{byte:02x}")]
    Unknown {
        /// What was being read.
        what: &'static str,
        /// The byte found.
        byte: u8,
    },
    /// The message goes on after its last field.
    #[error("{what}: {left} bytes too many")]
    Trailing {
        /// The message that was read.
        what: &'static str,
        /// Bytes after its end.
        left: usize,
    },
    /// A column arrived in binary form, which is only sent to those who ask for it.
    #[error("tuple column: binary form, although the option \"binary\" was not asked for")]
    BinaryColumn,
}

/// What is left to read of a message.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { left: bytes }
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.left
    }

    pub(crate) fn bytes(&mut self, what: &'static str, count: usize) -> Result<&'a [u8], ReadError> {
        match self.left.split_at_checked(count) {
            Some((taken, left)) => {
                self.left = left;
                Ok(taken)
            }
            None => Err(ReadError::Truncated { what, needed: count, left: self.left.len() }),
        }
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ReadError> {
        match self.left.split_first_chunk::<N>() {
            Some((taken, left)) => {
                self.left = left;
                Ok(*taken)
            }
            None => Err(ReadError::Truncated { what, needed: N, left: self.left.len() }),
        }
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, ReadError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, ReadError> {
        self.array(what).map(u32::from_be_bytes)
    }

    pub(crate) fn i32(&mut self, what: &'static str) -> Result<i32, ReadError> {
        self.array(what).map(i32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, ReadError> {
        self.array(what).map(u64::from_be_bytes)
    }

    pub(crate) fn i64(&mut self, what: &'static str) -> Result<i64, ReadError> {
        self.array(what).map(i64::from_be_bytes)
    }

    /// A number of columns: 16 bits, never negative.
    pub(crate) fn count16(&mut self, what: &'static str) -> Result<u16, ReadError> {
        let value = i16::from_be_bytes(self.array(what)?);
        u16::try_from(value).map_err(|_| ReadError::Negative { what, value: value.into() })
    }

    /// A length or number of things: 32 bits, never negative.
    pub(crate) fn count32(&mut self, what: &'static str) -> Result<usize, ReadError> {
        let value = self.i32(what)?;
        usize::try_from(value).map_err(|_| ReadError::Negative { what, value: value.into() })
    }

    /// Bytes up to a zero byte, which is taken too.
    pub(crate) fn terminated(&mut self, what: &'static str) -> Result<&'a [u8], ReadError> {
        let end = memchr::memchr(0, self.left).ok_or(ReadError::Unterminated { what })?;
        let text = self.bytes(what, end)?;
        self.u8(what)?;
        Ok(text)
    }

    /// UTF-8 text up to a zero byte, which is taken too.
    pub(crate) fn text(&mut self, what: &'static str) -> Result<&'a str, ReadError> {
        std::str::from_utf8(self.terminated(what)?).map_err(|_| ReadError::NotUtf8 { what })
    }

    /// Ends the reading of `what`: nothing may be left.
    pub(crate) fn finish(self, what: &'static str) -> Result<(), ReadError> {
        match self.left.len() {
            0 => Ok(()),
            left => Err(ReadError::Trailing { what, left }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_was_being_read() {
        let mut reader = Reader::new(&[0, 0, 1]);
        assert_eq!(
            reader.u32("begin: xid").unwrap_err().to_string(),
            "begin: xid: 4 bytes expected, 3 left",
            "a field that does not fit takes nothing"
        );
        assert_eq!(reader.bytes("rest", 3), Ok(&[0, 0, 1][..]));
        assert_eq!(reader.terminated("name"), Err(ReadError::Unterminated { what: "name" }));
    }

    #[test]
    fn negative_counts_and_trailing_bytes_are_errors() {
        assert_eq!(
            Reader::new(&[0xff, 0xff]).count16("columns"),
            Err(ReadError::Negative { what: "columns", value: -1 })
        );
        assert_eq!(
            Reader::new(&[0x80, 0, 0, 0]).count32("length"),
            Err(ReadError::Negative { what: "length", value: i64::from(i32::MIN) })
        );
        assert_eq!(Reader::new(&[7]).finish("commit"), Err(ReadError::Trailing { what: "commit", left: 1 }));
    }
}
