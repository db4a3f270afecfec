//! What travels in the CopyData messages of a replication connection, both ways (PostgreSQL documentation, "Streaming
//! Replication Protocol"). What lies inside the WAL data is the business of [`pgoutput`](crate::pgoutput).

use crate::lsn::{EndLsn, Lsn};
use crate::reader::{ReadError, Reader};

/// Microseconds from the Unix epoch to 2000-01-01 UTC, which the replication protocol counts from.
const PROTOCOL_EPOCH_US: i64 = 946_684_800_000_000;

/// Microseconds since 1970-01-01 UTC from the protocol's, which count from 2000-01-01 UTC. Informational, so a nonsense
/// value saturates.
pub(crate) fn unix_us(protocol_us: i64) -> i64 {
    protocol_us.saturating_add(PROTOCOL_EPOCH_US)
}

/// One CopyData payload from the walsender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope<'a> {
    /// `w`: one message of the output plugin.
    XLogData {
        /// Where in the WAL the data begins. Zero for some messages: never use it as a key.
        start: Lsn,
        /// The walsender's WAL end when it sent this.
        end: Lsn,
        /// When it was sent, by the source's clock, in microseconds since 1970-01-01 UTC.
        sent_at_us: i64,
        /// The message.
        data: &'a [u8],
    },
    /// `k`: nothing new up to here.
    Keepalive {
        /// Everything that commits strictly below has been sent.
        end: EndLsn,
        /// When it was sent, by the source's clock, in microseconds since 1970-01-01 UTC.
        sent_at_us: i64,
        /// Whether the walsender wants a status update at once, lest it give up on us.
        reply_requested: bool,
    },
}

impl<'a> Envelope<'a> {
    /// Reads one CopyData payload.
    ///
    /// # Errors
    /// When the bytes have not the documented form.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ReadError> {
        let mut reader = Reader::new(bytes);
        match reader.u8("replication message")? {
            b'w' => Ok(Envelope::XLogData {
                start: Lsn(reader.u64("WAL data: start")?),
                end: Lsn(reader.u64("WAL data: end")?),
                sent_at_us: unix_us(reader.i64("WAL data: time")?),
                data: reader.rest(),
            }),
            b'k' => {
                let end = EndLsn(Lsn(reader.u64("keepalive: end")?));
                let sent_at_us = unix_us(reader.i64("keepalive: time")?);
                let reply_requested = match reader.u8("keepalive: reply requested")? {
                    0 => false,
                    1 => true,
                    byte => return Err(ReadError::Unknown { what: "keepalive: reply requested", byte }),
                };
                reader.finish("keepalive")?;
                Ok(Envelope::Keepalive { end, sent_at_us, reply_requested })
            }
            byte => Err(ReadError::Unknown { what: "replication message", byte }),
        }
    }
}

/// Standby status update (`r`): what we have, told to the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusUpdate {
    /// Received up to here.
    pub written: EndLsn,
    /// Durable up to here: what the slot may forget.
    pub flushed: EndLsn,
    /// Applied up to here.
    pub applied: EndLsn,
    /// Our time, in microseconds since 1970-01-01 UTC.
    pub at_us: i64,
    /// Whether the walsender shall answer with a keepalive at once.
    pub reply_requested: bool,
}

impl StatusUpdate {
    /// Length of the encoded update in bytes.
    pub const LEN: usize = 34;

    /// The CopyData payload.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0] = b'r';
        bytes[1..9].copy_from_slice(&self.written.0.0.to_be_bytes());
        bytes[9..17].copy_from_slice(&self.flushed.0.0.to_be_bytes());
        bytes[17..25].copy_from_slice(&self.applied.0.0.to_be_bytes());
        bytes[25..33].copy_from_slice(&self.at_us.saturating_sub(PROTOCOL_EPOCH_US).to_be_bytes());
        bytes[33] = u8::from(self.reply_requested);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_wal_data() {
        let mut bytes = vec![b'w'];
        bytes.extend(0x16_B374_D848u64.to_be_bytes());
        bytes.extend(0x16_B374_D900u64.to_be_bytes());
        bytes.extend(1_000_000i64.to_be_bytes());
        bytes.extend(b"Bxyz");
        assert_eq!(
            Envelope::parse(&bytes),
            Ok(Envelope::XLogData {
                start: "16/B374D848".parse().unwrap(),
                end: "16/B374D900".parse().unwrap(),
                sent_at_us: 946_684_801_000_000,
                data: b"Bxyz",
            })
        );
    }

    #[test]
    fn reads_a_keepalive_and_nothing_after_it() {
        let mut bytes = vec![b'k'];
        bytes.extend(7u64.to_be_bytes());
        bytes.extend((-946_684_800_000_000i64).to_be_bytes());
        bytes.push(1);
        let expected = Envelope::Keepalive { end: EndLsn(Lsn(7)), sent_at_us: 0, reply_requested: true };
        assert_eq!(Envelope::parse(&bytes), Ok(expected));
        bytes.push(0);
        assert_eq!(Envelope::parse(&bytes), Err(ReadError::Trailing { what: "keepalive", left: 1 }));
    }

    #[test]
    fn a_status_update_has_the_documented_layout() {
        let update = StatusUpdate {
            written: EndLsn(Lsn(3)),
            flushed: EndLsn(Lsn(2)),
            applied: EndLsn(Lsn(1)),
            at_us: 946_684_800_000_005,
            reply_requested: true,
        };
        let mut expected = vec![b'r'];
        for word in [3u64, 2, 1, 5] {
            expected.extend(word.to_be_bytes());
        }
        expected.push(1);
        assert_eq!(update.encode().to_vec(), expected);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = Envelope::parse(&bytes);
        }
    }
}
