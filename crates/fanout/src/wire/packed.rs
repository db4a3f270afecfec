//! Frames in a smaller form, for clients that ask for it: compressed with zstd (RFC 8878) and with a dictionary of the words that
//! frames are made of, which clients fetch once.
//!
//! It says which frames are worth it. Nothing is packed for one client alone: who shares a frame, and how long it is kept, is the
//! scope's part.

use std::cell::RefCell;
use std::io;

use bytes::Bytes;
use zstd::bulk::Compressor;

/// The dictionary's number: another dictionary gets another one, because clients keep this for good.
pub(crate) const DICTIONARY_ID: u32 = 1;
/// Where clients fetch it.
pub(crate) const DICTIONARY_PATH: &str = "/v1/dictionaries/1";
/// What it holds: text that stands before every frame, as it were (a raw content dictionary, RFC 8878, section 5). The most common
/// comes last, because what is near is said in fewer bits.
pub(crate) const DICTIONARY: &[u8] = include_bytes!("dictionary-1.txt");

/// The fastest of zstd's usual levels. Level 3 takes half as long again for long frames, and makes none of them much smaller: see
/// the test that compares them.
const LEVEL: i32 = 1;
/// Shorter frames stay text: most of them is said in one packet either way.
const PLAIN_BYTES_MIN: usize = 512;
/// Longer ones stay text: to pack them would hold up others for more than a few milliseconds.
const PLAIN_BYTES_MAX: usize = 1024 * 1024;

thread_local! {
    /// One for each thread that packs, and none for a session: it is far larger than that.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// The packed form of a frame, where it is worth it: smaller than the frame.
pub(crate) fn pack(frame: &str) -> Option<Bytes> {
    if !(PLAIN_BYTES_MIN..=PLAIN_BYTES_MAX).contains(&frame.len()) {
        return None;
    }
    match COMPRESSOR.with_borrow_mut(|compressor| compress(compressor, frame.as_bytes())) {
        Ok(packed) => Some(packed).filter(|packed| packed.len() < frame.len()),
        Err(error) => {
            // As text it is as good.
            tracing::warn!(%error, "pack a frame");
            None
        }
    }
}

fn compress(compressor: &mut Option<Compressor<'static>>, plain: &[u8]) -> io::Result<Bytes> {
    let compressor = match compressor {
        Some(compressor) => compressor,
        none => none.insert(with_dictionary(LEVEL)?),
    };
    // A copy: what is kept is no larger than it looks.
    compressor.compress(plain).map(|packed| Bytes::copy_from_slice(&packed))
}

fn with_dictionary(level: i32) -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::with_dictionary(level, DICTIONARY)?;
    // Text before the frame has no number that the frame could name. So the frame says what has to come out: with another
    // dictionary it is not unpacked at all, instead of into something else.
    compressor.include_checksum(true)?;
    Ok(compressor)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;
    use sha2::{Digest, Sha256};
    use zstd::bulk::Decompressor;

    use super::*;
    use crate::wire::oversize::Hex;

    fn unpack(packed: &[u8]) -> io::Result<String> {
        let plain = Decompressor::with_dictionary(DICTIONARY)?.decompress(packed, PLAIN_BYTES_MAX)?;
        String::from_utf8(plain).map_err(io::Error::other)
    }

    fn frame(changes: usize) -> String {
        let change = |seq| {
            format!(
                r#"{{"seq":{seq},"op":"update","table":"public.pgbench_accounts","key":{{"aid":{aid}}},"data":{{"aid":{aid},"bid":1,"abalance":-{aid},"filler":""}},"sub":["s1"]}}"#,
                aid = seq * 7_919 % 100_003
            )
        };
        let changes: Vec<String> = (0..changes).map(change).collect();
        format!(
            r#"{{"type":"tx","cursor":"00000001-00000000016b3748-ffffffff","prev":"00000001-00000000016b3000-ffffffff","lsn":"0/16B3748","xid":731,"ts":"2026-11-03T12:00:00.123456Z","own":false,"last":true,"changes":[{}]}}"#,
            changes.join(",")
        )
    }

    /// What clients keep under this number for good. Whoever needs other words makes a dictionary with the next number.
    #[test]
    fn what_a_number_names_never_changes() {
        let digest = Hex(&Sha256::digest(DICTIONARY)).to_string();
        assert_eq!(
            (DICTIONARY_ID, &digest[..]),
            (1, "5726c7408f2f53e08a21969f94372ab92c48ad70bc4190c94ef114443fb6fb54")
        );
        assert_eq!(DICTIONARY_PATH, format!("/v1/dictionaries/{DICTIONARY_ID}"));
        assert!(zstd::zstd_safe::get_dict_id_from_dict(DICTIONARY).is_none(), "it is text, and no more");
    }

    #[test]
    fn small_frames_and_very_large_ones_stay_text() {
        let of = |bytes: usize| "x".repeat(bytes);
        assert!(pack(&of(PLAIN_BYTES_MIN - 1)).is_none() && pack(&of(PLAIN_BYTES_MAX + 1)).is_none());
        for bytes in [PLAIN_BYTES_MIN, PLAIN_BYTES_MAX] {
            let packed = pack(&of(bytes)).unwrap();
            assert!(packed.len() < bytes / 8 && unpack(&packed).unwrap() == of(bytes), "{bytes}");
        }
    }

    #[test]
    fn with_another_dictionary_or_none_nothing_comes_out() {
        let frame = frame(4);
        let packed = pack(&frame).unwrap();
        assert_eq!(unpack(&packed).unwrap(), frame);
        let other: Vec<u8> = DICTIONARY.iter().rev().copied().collect();
        for dictionary in [&other[..], &[]] {
            let unpacked = Decompressor::with_dictionary(dictionary).unwrap().decompress(&packed, 1 << 20);
            assert!(unpacked.is_err(), "{unpacked:?}");
        }
        // Frames without it are unpacked by the same client.
        assert_eq!(unpack(&zstd::bulk::compress(frame.as_bytes(), 1).unwrap()).unwrap(), frame);
    }

    #[test]
    fn the_dictionary_is_what_makes_small_frames_smaller() {
        let frame = frame(3);
        let without = zstd::bulk::compress(frame.as_bytes(), LEVEL).unwrap().len();
        let with = pack(&frame).unwrap().len();
        assert!(with * 3 < frame.len() && with < without, "{with}, {without} without, of {}", frame.len());
    }

    /// Prints what the levels cost and give, for who would choose another.
    #[test]
    fn levels_compared() {
        for changes in [4, 100, 7_000] {
            let frame = frame(changes);
            for level in [1, 3] {
                let mut compressor = with_dictionary(level).unwrap();
                compressor.compress(frame.as_bytes()).unwrap();
                let began = Instant::now();
                let packed = compressor.compress(frame.as_bytes()).unwrap();
                println!("level {level}: {} of {} bytes in {:?}", packed.len(), frame.len(), began.elapsed());
                assert!(packed.len() < frame.len() / 2);
            }
        }
    }

    proptest! {
        #[test]
        fn what_comes_out_went_in(text in "\\PC{400,2000}", times in 1usize..4) {
            let frame = text.repeat(times);
            match pack(&frame) {
                Some(packed) => {
                    prop_assert!(packed.len() < frame.len());
                    prop_assert_eq!(unpack(&packed).unwrap(), frame);
                }
                None => prop_assert!(times == 1 || frame.len() < PLAIN_BYTES_MIN),
            }
        }
    }
}
