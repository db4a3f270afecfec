//! Real bytes of a walsender that were damaged on the way, or made so by somebody: an answer or an error, never a panic, and no more
//! memory than the bytes are worth. What is undamaged reads back.

use std::collections::HashMap;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::value::RawValue;
use waldelta_wal::{
    Assembler, CopyText, EndLsn, Epoch, Lsn, Message, Position, Relation, TableName, Translated, Translator,
    Value, Wal2jsonError,
};

use crate::values::one_column;
use crate::walsender::{Catalog, NO_CUT, assembler, messages};

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
/// The shapes of the tables in the lines, as the catalog had them in the end.
static SHAPES: LazyLock<HashMap<TableName, Relation>> = LazyLock::new(|| {
    let mut shapes = HashMap::new();
    for message in crate::wal2json::stream() {
        if let Ok(Message::Relation(relation)) = Message::parse(&message) {
            shapes.insert(relation.table_name(), relation);
        }
    }
    shapes
});

/// Reads on past what is refused, which nobody else does: so more is read than a real reader would.
fn assemble(assembler: &mut Assembler, catalog: &mut Catalog, message: &[u8]) {
    use waldelta_wal::Output;
    while let Ok(Some(Output::Undefined(relation))) = assembler.push(message) {
        if catalog.define(assembler, &relation).is_err() {
            return;
        }
    }
}

/// The messages of a line; none where it is refused.
fn translate(translator: &mut Translator, line: &[u8]) -> Vec<Vec<u8>> {
    // One that asks for shapes without end would go round for ever.
    for _ in 0..3 {
        match translator.translate(line) {
            Ok(Translated::Messages(messages)) => return messages,
            Ok(Translated::Undefined(table)) => {
                let Some(shape) = SHAPES.get(&table) else { return Vec::new() };
                if translator.define(shape.clone(), &[]).is_err() {
                    return Vec::new();
                }
            }
            Err(_) => return Vec::new(),
        }
    }
    Vec::new()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_damaged_stream_of_pgoutput_is_never_a_panic(damages in prop::collection::vec(damage(), 1..6)) {
        let mut messages = STREAM.clone();
        damages.iter().for_each(|damage| damage.befalls(&mut messages));
        let (mut assembler, mut catalog) = (assembler(EndLsn::default(), 700), Catalog::default());
        for message in &messages {
            assemble(&mut assembler, &mut catalog, message);
        }
    }

    /// J17: what it gives on is well-formed whatever the lines are.
    #[test]
    fn damaged_lines_of_wal2json_are_never_a_panic(damages in prop::collection::vec(damage(), 1..6)) {
        let mut lines = LINES.clone();
        damages.iter().for_each(|damage| damage.befalls(&mut lines));
        let mut translator = Translator::new(EndLsn::default());
        let (mut assembler, mut catalog) = (assembler(EndLsn::default(), NO_CUT), Catalog::default());
        for line in &lines {
            for message in translate(&mut translator, line) {
                prop_assert!(Message::parse(&message).is_ok(), "{:?} of {}", message, String::from_utf8_lossy(line));
                assemble(&mut assembler, &mut catalog, &message);
            }
        }
    }
}

/// The texts of all built-in types, as a real server prints them: type, its name, text.
static TEXTS: LazyLock<Vec<(u32, String, Vec<u8>)>> = LazyLock::new(|| {
    let mut copy = CopyText::default();
    let mut texts = Vec::new();
    for line in include_str!("../../fixtures/types.txt").lines() {
        let fields = copy.split(line.as_bytes(), 5).unwrap().map(|field| match field {
            Value::Text(text) => text.to_vec(),
            Value::Null | Value::Unchanged => Vec::new(),
        });
        let fields: Vec<Vec<u8>> = fields.collect();
        let text = |index: usize| String::from_utf8(fields[index].clone()).unwrap();
        texts.push((text(0).parse().unwrap(), text(1), fields[2].clone()));
    }
    texts
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Of a value that was damaged comes JSON, or a refusal. Those of json are not looked at: what PostgreSQL has checked is
    /// taken over as it is.
    #[test]
    fn a_damaged_text_of_any_type_is_json_or_refused(
        which: Index,
        of_another: Index,
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        let (oid, name, text) = &TEXTS[which.index(TEXTS.len())];
        let mut texts = vec![text.clone(), TEXTS[of_another.index(TEXTS.len())].2.clone()];
        damages.iter().for_each(|damage| damage.befalls(&mut texts));
        let mut out = Vec::new();
        let written = one_column(*oid, name).encode_key([Value::Text(&texts[0])], &mut out);
        if written.is_ok() && !name.contains("json") {
            prop_assert!(serde_json::from_slice::<&RawValue>(&out).is_ok(), "{} {:?}", name, texts[0]);
        }
    }

    #[test]
    fn what_is_taken_for_a_cursor_prints_as_it_came(damages in prop::collection::vec(damage(), 0..4), at: (u32, u64, u32)) {
        let position = Position { epoch: Epoch(at.0), commit_lsn: Lsn(at.1), index: at.2 };
        let mut texts = vec![position.to_string().into_bytes()];
        damages.iter().for_each(|damage| damage.befalls(&mut texts));
        let text = String::from_utf8_lossy(&texts[0]);
        match text.parse::<Position>() {
            Ok(read) => prop_assert_eq!(read.to_string(), text),
            Err(_) => prop_assert!(text != position.to_string()),
        }
    }

    #[test]
    fn what_is_taken_for_an_lsn_is_read_again(damages in prop::collection::vec(damage(), 0..4), lsn: u64) {
        let mut texts = vec![Lsn(lsn).to_string().into_bytes()];
        damages.iter().for_each(|damage| damage.befalls(&mut texts));
        let text = String::from_utf8_lossy(&texts[0]);
        match text.parse::<Lsn>() {
            Ok(read) => prop_assert_eq!(read.to_string().parse(), Ok(read)),
            Err(_) => prop_assert!(text != Lsn(lsn).to_string()),
        }
    }

    #[test]
    fn every_name_of_a_table_survives_its_quotes(
        schema in "[^\\x00]{1,20}",
        name in "(\\PC|[\".;'\\\\ ]|select){1,8}",
        damages in prop::collection::vec(damage(), 1..3),
    ) {
        let table = TableName { schema, name };
        prop_assert_eq!(table.to_string().parse(), Ok(table.clone()));
        let mut texts = vec![table.to_string().into_bytes()];
        damages.iter().for_each(|damage| damage.befalls(&mut texts));
        if let Ok(read) = String::from_utf8_lossy(&texts[0]).parse::<TableName>() {
            prop_assert_eq!(read.to_string().parse(), Ok(read));
        }
    }
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
                let _ = Message::parse(&message);
                let (mut assembler, mut catalog) = (assembler(EndLsn::default(), NO_CUT), Catalog::default());
                assemble(&mut assembler, &mut catalog, &STREAM[0]);
                assemble(&mut assembler, &mut catalog, &message);
            }
        }
    }
    for line in lines {
        let text = String::from_utf8(line.clone()).unwrap();
        for number in ["4294967295", "9223372036854775807"] {
            let line = text.replace("\"typeoid\":23", &format!("\"typeoid\":{number}"));
            translate(&mut Translator::new(EndLsn::default()), line.as_bytes());
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
        let result: Result<Translated, Wal2jsonError> =
            Translator::new(EndLsn::default()).translate(line.as_bytes());
        translate(&mut Translator::new(EndLsn::default()), line.as_bytes());
        drop(result);
        // What is quadratic takes hours.
        assert!(begun.elapsed().as_secs() < 60, "{what}: {:?}", begun.elapsed());
    }
}
