//! Real bytes of a walsender that were damaged on the way, or made so by somebody: an answer that means what they say or an error,
//! never a panic, and no more memory than the bytes are worth. What has to hold of each is in `targets`.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;
use waldelta_wal::{Epoch, Lsn, Position, TableName};

use crate::targets;
use crate::walsender::{messages, recorded_by};

/// What is put in place of a piece: texts that mean something, and numbers at their bounds.
const PIECES: [&[u8]; 22] = [
    b"\0",
    b"\0\0\0\0",
    b"\xff\xff",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"[[[[[[[[[[[[[[[[",
    b"}",
    b"null",
    b"-1",
    b"1e999999999",
    b"4294967296",
    b"99999999999999999999999999",
    b"NaN",
];

/// One thing that happens on the way. Places are found when it is known what there is.
#[derive(Clone, Debug)]
enum Damage {
    Byte {
        message: Index,
        at: Index,
        byte: u8,
    },
    Cut {
        message: Index,
        at: Index,
    },
    Put {
        message: Index,
        at: Index,
        over: usize,
        piece: usize,
    },
    /// The end of one message behind the beginning of another.
    Splice {
        message: Index,
        at: Index,
        other: Index,
        from: Index,
    },
    Lost {
        message: Index,
    },
    Again {
        message: Index,
        before: Index,
    },
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<Index>;
    prop_oneof![
        (index(), index(), any::<u8>()).prop_map(|(message, at, byte)| Damage::Byte { message, at, byte }),
        (index(), index()).prop_map(|(message, at)| Damage::Cut { message, at }),
        (index(), index(), 0..8usize, 0..PIECES.len()).prop_map(|(message, at, over, piece)| Damage::Put {
            message,
            at,
            over,
            piece
        }),
        (index(), index(), index(), index()).prop_map(|(message, at, other, from)| Damage::Splice {
            message,
            at,
            other,
            from
        }),
        index().prop_map(|message| Damage::Lost { message }),
        (index(), index()).prop_map(|(message, before)| Damage::Again { message, before }),
    ]
}

impl Damage {
    /// There is always a message left.
    fn befalls(&self, messages: &mut Vec<Vec<u8>>) {
        let count = messages.len();
        let place = |at: &Index, message: &[u8]| at.index(message.len() + 1);
        match self {
            Damage::Byte { message, at, byte } => {
                let message = &mut messages[message.index(count)];
                if let Some(length @ 1..) = Some(message.len()) {
                    message[at.index(length)] = *byte;
                }
            }
            Damage::Cut { message, at } => {
                let message = &mut messages[message.index(count)];
                message.truncate(place(at, message));
            }
            Damage::Put { message, at, over, piece } => {
                let message = &mut messages[message.index(count)];
                let begin = place(at, message);
                let end = (begin + over).min(message.len());
                message.splice(begin..end, PIECES[*piece].iter().copied());
            }
            Damage::Splice { message, at, other, from } => {
                let other = &messages[other.index(count)];
                let tail = other[place(from, other)..].to_vec();
                let message = &mut messages[message.index(count)];
                message.truncate(place(at, message));
                message.extend(tail);
            }
            Damage::Lost { message } if count > 1 => drop(messages.remove(message.index(count))),
            Damage::Lost { .. } => {}
            Damage::Again { message, before } => {
                let message = messages[message.index(count)].clone();
                messages.insert(before.index(count), message);
            }
        }
    }
}

/// What pgoutput sent, and what wal2json said, of two workloads.
static STREAM: LazyLock<Vec<Vec<u8>>> = LazyLock::new(messages);
static LINES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    include_str!("../../fixtures/wal2json/lines.txt").lines().map(|line| line.as_bytes().to_vec()).collect()
});
/// What servers of each version sent for a small workload.
static BY_VERSION: LazyLock<Vec<Vec<Vec<u8>>>> =
    LazyLock::new(|| recorded_by().map(|(_, messages)| messages).collect());

/// One of these, damaged; what the damage takes from is another of them.
fn damaged(seeds: &[Vec<u8>], which: &[Index; 2], damages: &[Damage]) -> Vec<u8> {
    let mut inputs: Vec<_> = which.iter().map(|which| seeds[which.index(seeds.len())].clone()).collect();
    damages.iter().for_each(|damage| damage.befalls(&mut inputs));
    inputs.swap_remove(0)
}

fn damages(most: usize) -> impl Strategy<Value = Vec<Damage>> {
    prop::collection::vec(damage(), 1..=most)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(60), ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_stream_of_pgoutput_is_never_a_panic(damages in damages(5)) {
        let mut messages = STREAM.clone();
        damages.iter().for_each(|damage| damage.befalls(&mut messages));
        targets::stream(&targets::framed(&messages));
    }

    #[test]
    fn a_damaged_stream_of_any_version_is_never_a_panic(version: Index, damages in damages(3)) {
        let mut messages = BY_VERSION[version.index(BY_VERSION.len())].clone();
        damages.iter().for_each(|damage| damage.befalls(&mut messages));
        targets::stream(&targets::framed(&messages));
    }

    /// J17: what it gives on is well-formed whatever the lines are.
    #[test]
    fn damaged_lines_of_wal2json_are_never_a_panic(damages in damages(5)) {
        let mut lines = LINES.clone();
        damages.iter().for_each(|damage| damage.befalls(&mut lines));
        targets::wal2json(&lines.join(&b'\n'));
    }
}

/// Inputs of each target, made once.
static SEEDS: LazyLock<Vec<Vec<Vec<u8>>>> =
    LazyLock::new(|| targets::TARGETS.iter().map(|target| (target.seeds)()).collect());

/// Damages an input of this target, and looks whether what has to hold does.
fn holds(name: &str, which: &[Index; 2], damages: &[Damage]) {
    let place = targets::TARGETS.iter().position(|target| target.name == name).unwrap();
    (targets::TARGETS[place].check)(&damaged(&SEEDS[place], which, damages));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(2_000), ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_message_is_refused_or_all_that_was_read(which: [Index; 2], damages in damages(3)) {
        holds("pgoutput", &which, &damages);
    }

    /// Of a value that was damaged comes JSON which says what the text did, or a refusal.
    #[test]
    fn a_damaged_text_of_any_type_is_json_or_refused(which: [Index; 2], damages in damages(3)) {
        holds("value", &which, &damages);
    }

    #[test]
    fn what_is_taken_for_a_name_or_a_cursor_prints_as_it_came(which: [Index; 2], damages in damages(3)) {
        holds("name", &which, &damages);
    }

    #[test]
    fn a_damaged_line_of_copy_is_refused_or_its_values(which: [Index; 2], damages in damages(3)) {
        holds("copy", &which, &damages);
    }

    #[test]
    fn a_damaged_envelope_is_refused_or_all_that_was_read(which: [Index; 2], damages in damages(2)) {
        holds("envelope", &which, &damages);
    }

    #[test]
    fn what_is_taken_for_a_cursor_is_never_another_one(damages in prop::collection::vec(damage(), 0..4), at: (u32, u64, u32)) {
        let position = Position { epoch: Epoch(at.0), commit_lsn: Lsn(at.1), index: at.2 };
        for printed in [position.to_string(), position.commit_lsn.to_string()] {
            let mut texts = vec![printed.clone().into_bytes()];
            damages.iter().for_each(|damage| damage.befalls(&mut texts));
            targets::name(&texts[0]);
            targets::name(printed.as_bytes());
        }
        prop_assert_eq!(position.to_string().parse(), Ok(position));
        prop_assert_eq!(position.commit_lsn.to_string().parse(), Ok(position.commit_lsn));
    }

    #[test]
    fn every_name_of_a_table_survives_its_quotes(
        schema in "[^\\x00]{1,20}",
        name in "(\\PC|[\".;'\\\\ ]|select){1,8}",
        damages in damages(2),
    ) {
        let table = TableName { schema, name };
        prop_assert_eq!(table.to_string().parse(), Ok(table.clone()));
        let mut texts = vec![table.to_string().into_bytes()];
        damages.iter().for_each(|damage| damage.befalls(&mut texts));
        targets::name(&texts[0]);
    }
}

/// So many, and as many times more as `PROPTEST_CASES` is above what it is where nobody sets it.
fn cases(usual: u32) -> u32 {
    (usual * ProptestConfig::default().cases / 256).max(1)
}

/// Bytes of address space that the process has had at most. What is only reserved counts too.
#[cfg(target_os = "linux")]
fn address_space_max() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// I23: a length is believed as far as there are bytes.
#[cfg(target_os = "linux")]
#[test]
fn lengths_that_are_only_told_cost_no_memory() {
    const LARGE: [&[u8]; 3] = [&[0xff; 4], &[0x7f, 0xff, 0xff, 0xff], &[0x10, 0, 0, 0]];
    let mut seen = Vec::new();
    let firsts = STREAM.iter().filter(|message| {
        !seen.contains(&message[0]) && {
            seen.push(message[0]);
            true
        }
    });
    let firsts: Vec<Vec<u8>> = firsts.cloned().collect();
    let lines: Vec<&Vec<u8>> = LINES.iter().take(20).collect();
    let before = address_space_max();
    for message in &firsts {
        for at in 1..message.len().saturating_sub(4).min(200) {
            for large in LARGE {
                let mut message = message.clone();
                message[at..at + 4].copy_from_slice(large);
                targets::pgoutput(&message);
                targets::stream(&targets::framed(&[&STREAM[0], &message]));
            }
        }
    }
    for line in lines {
        let text = String::from_utf8(line.clone()).unwrap();
        for number in ["4294967295", "9223372036854775807"] {
            let line = text.replace("\"typeoid\":23", &format!("\"typeoid\":{number}"));
            targets::wal2json(line.as_bytes());
        }
    }
    let more = address_space_max() - before;
    assert!(more < 256 << 20, "{} MiB for messages of some bytes", more >> 20);
}

/// Lines that nest, repeat and go on are refused in the time that it takes to read them.
#[test]
fn lines_made_to_be_slow_are_not() {
    let row = String::from_utf8(LINES[1].clone()).unwrap();
    let column = r#"{"name":"id","typeoid":23,"value":1},"#;
    let begin = row.find(column).unwrap();
    let many = |count: usize| format!("{}{}{}", &row[..begin], column.repeat(count), &row[begin..]);
    let nested = |count: usize| row.replacen("\"value\":1", &format!("\"value\":{}", "[".repeat(count)), 1);
    let escapes = |count: usize| row.replacen("\"one\"", &format!("\"{}\"", "\\u0041".repeat(count)), 1);
    let digits = |count: usize| row.replacen("\"value\":1", &format!("\"value\":{}", "9".repeat(count)), 1);
    let makers: [(&str, &dyn Fn(usize) -> String); 4] =
        [("columns", &many), ("depth", &nested), ("escapes", &escapes), ("digits", &digits)];
    for (what, make) in makers {
        let line = make(200_000);
        let begun = std::time::Instant::now();
        targets::wal2json(line.as_bytes());
        // What is quadratic takes hours.
        assert!(begun.elapsed().as_secs() < 60, "{what}: {:?}", begun.elapsed());
    }
}
