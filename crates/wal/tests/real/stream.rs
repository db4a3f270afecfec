//! Whole transactions out of a captured stream.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use waldelta_wal::{Change, EndLsn, Lsn, Operation, Piece, TruncateOptions};

use crate::walsender::{
    Catalog, NO_CUT, assembler, changes_of, data, followed_messages, is, messages, pieces, pieces_with,
    transactions,
};

/// Everything of a transaction but what differs from capture to capture: LSNs, ids, times.
fn describe(piece: &Piece) -> String {
    let mut text = String::from(if piece.head.xid == 0 { "no transaction" } else { "transaction" });
    if piece.urgent {
        text += " urgent";
    }
    for table in &piece.new_tables {
        let columns: Vec<String> =
            table.columns.iter().map(|c| format!("{} {}", c.name, c.type_name)).collect();
        let columns =
            if columns.len() > 9 { format!("{} columns", columns.len()) } else { columns.join(", ") };
        let (name, version) = (&table.name, table.version);
        write!(text, "\n  new {name} {version} {:?} key {:?}: {columns}", table.identity, table.key).unwrap();
    }
    for change in &piece.changes {
        write!(text, "\n  {} {}", change.seq, change.operation.as_str()).unwrap();
        if let Some(table) = &change.table {
            write!(text, " {}", table.name).unwrap();
        }
        for (name, json) in [("key", &change.row_key), ("data", &change.data), ("old", &change.old_data)] {
            if let Some(json) = json {
                write!(text, "\n    {name} {}", abbreviated(std::str::from_utf8(json).unwrap())).unwrap();
            }
        }
        if let Some(origin) = &change.origin {
            write!(text, "\n    origin {origin}").unwrap();
        }
        if change.truncate != TruncateOptions::default() {
            write!(text, "\n    {:?}", change.truncate).unwrap();
        }
        for (name, columns) in [("unchanged", &change.unchanged), ("flagged", &change.flagged)] {
            if !columns.is_empty() {
                write!(text, "\n    {name} {columns:?}").unwrap();
            }
        }
        if let Some(author) = &change.author {
            write!(text, "\n    author {} {}", author.client_id, author.metadata.as_deref().unwrap_or("-"))
                .unwrap();
        }
    }
    text + "\n"
}

fn abbreviated(json: &str) -> String {
    let json = ["x", "y"]
        .into_iter()
        .fold(json.to_owned(), |json, c| json.replace(&c.repeat(2100), &format!("{c}*2100")));
    if json.len() > 400 { format!("{} bytes", json.len()) } else { json }
}

#[test]
fn the_transactions_are_those_of_the_workload() {
    let found: String = transactions().iter().map(describe).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/stream.txt");
    if found != fs::read_to_string(&path).unwrap_or_default() {
        let written = path.with_extension("txt.new");
        fs::write(&written, found).unwrap();
        panic!("{} differs from {}: if it is right, it replaces it", written.display(), path.display());
    }
}

#[test]
fn order_and_ends_are_those_of_the_commits() {
    let transactions = transactions();
    for pair in transactions.windows(2) {
        let (before, after) = (pair[0].end.unwrap(), pair[1].head.commit_lsn);
        assert!(before.includes(pair[0].head.commit_lsn));
        assert!(before.0 <= after, "a commit record begins at the end before at the earliest");
        assert!(pair[0].head.commit_lsn < pair[1].head.commit_lsn);
        let xids = [pair[0].head.xid, pair[1].head.xid];
        assert!(xids.contains(&0) || xids[0] < xids[1], "nothing ran at the same time");
    }
    for piece in &transactions {
        assert!(piece.first && piece.end.is_some());
        assert!(matches!(piece.head.xid >> 32, 0 | 1), "widened near the reference");
        assert_eq!(piece.head.xid == 0, piece.head.xid >> 32 == 0, "but what is of no transaction");
        assert!(
            piece.changes.iter().map(|change| change.seq).eq(0..u32::try_from(piece.changes.len()).unwrap())
        );
    }
    let year = 1_000_000 * 60 * 60 * 24 * 365;
    assert!(transactions[0].head.committed_at_us > 54 * year, "microseconds since 1970");
}

#[test]
fn what_is_durable_is_dropped_and_what_begins_at_the_end_is_not() {
    let all = transactions();
    for (index, last) in all.iter().enumerate() {
        for (durable, expected) in [(last.end.unwrap(), index + 1), (EndLsn(last.head.commit_lsn), index)] {
            let mut catalog = Catalog::after(&all[..expected]);
            let left =
                pieces_with(&mut catalog, &mut assembler(durable, NO_CUT), &followed_messages()).unwrap();
            let positions =
                |pieces: &[Piece]| pieces.iter().map(|piece| piece.head.commit_lsn).collect::<Vec<Lsn>>();
            assert_eq!(positions(&left), positions(&all[expected..]));
            let changes =
                |pieces: &[Piece]| pieces.iter().flat_map(|piece| piece.changes.clone()).collect::<Vec<_>>();
            assert_eq!(changes(&left), changes(&all[expected..]), "shapes sent in what is dropped are kept");
        }
    }
}

#[test]
fn every_shape_is_announced_before_its_first_use() {
    for durable in [EndLsn::default(), transactions()[4].end.unwrap()] {
        for piece_bytes_max in [NO_CUT, 0] {
            let mut announced = Vec::new();
            for piece in pieces(&mut assembler(durable, piece_bytes_max), &followed_messages()).unwrap() {
                for table in piece.new_tables {
                    assert!(!announced.contains(&table), "once");
                    announced.push(table);
                }
                for table in piece.changes.into_iter().filter_map(|change| change.table) {
                    assert!(announced.contains(&table), "{}", table.name);
                }
            }
        }
    }
}

/// Nobody sends it so; how much of a transaction has left already must not decide.
#[test]
fn an_origin_behind_changes_is_that_of_the_following_ones_however_it_is_cut() {
    let mut messages = followed_messages();
    let place = |messages: &[Vec<u8>], kind| messages.iter().position(|message| is(message, kind)).unwrap();
    let origin = messages.remove(place(&messages, b'O'));
    messages.insert(place(&messages, b'I') + 1, origin);
    for piece_bytes_max in [0, 500, NO_CUT] {
        let pieces = pieces(&mut assembler(EndLsn::default(), piece_bytes_max), &messages).unwrap();
        let origins: Vec<bool> =
            pieces.iter().flat_map(|piece| &piece.changes).map(|change| change.origin.is_some()).collect();
        assert_eq!(origins[..3], [false, true, false], "{piece_bytes_max}");
    }
}

#[test]
fn pieces_add_up_to_the_transaction() {
    let whole = transactions();
    for piece_bytes_max in [0, 1, 500, 3000] {
        let cut = pieces(&mut assembler(EndLsn::default(), piece_bytes_max), &followed_messages()).unwrap();
        assert!(cut.len() > whole.len());
        let mut cut = cut.into_iter();
        for whole in &whole {
            let mut changes: Vec<Change> = Vec::new();
            let mut urgent = false;
            loop {
                let piece = cut.next().unwrap();
                assert_eq!(piece.head, whole.head);
                assert_eq!(piece.first, changes.is_empty());
                changes.extend(piece.changes);
                urgent |= piece.urgent;
                if piece.end.is_some() {
                    assert_eq!(piece.end, whole.end);
                    break;
                }
            }
            assert_eq!(changes, whole.changes);
            assert_eq!(urgent, whole.urgent);
        }
        assert!(cut.next().is_none());
    }
}

#[test]
fn a_shape_sent_again_changes_nothing() {
    let mut doubled = Vec::new();
    for message in followed_messages() {
        if is(&message, b'R') {
            doubled.push(message.clone());
        }
        doubled.push(message);
    }
    assert_eq!(pieces(&mut assembler(EndLsn::default(), NO_CUT), &doubled).unwrap(), transactions());
}

#[test]
fn a_table_is_asked_for_when_a_row_needs_it_and_once_in_a_transaction() {
    let mut messages = followed_messages();
    let mut catalog = Catalog::default();
    pieces_with(&mut catalog, &mut assembler(EndLsn::default(), NO_CUT), &messages).unwrap();
    let asked = std::mem::take(&mut catalog.asked);
    assert!(!asked.contains(&"canary".to_owned()), "ours are not asked for");
    // Every shape of the capture twice, once more right before each row.
    for at in (0..messages.len()).rev().filter(|at| is(&messages[*at], b'R')).collect::<Vec<_>>() {
        messages.insert(at + 1, messages[at].clone());
    }
    pieces_with(&mut catalog, &mut assembler(EndLsn::default(), NO_CUT), &messages).unwrap();
    assert_eq!(catalog.asked, asked);
    let durable = transactions().last().unwrap().end.unwrap();
    pieces_with(&mut catalog, &mut assembler(durable, NO_CUT), &messages).unwrap();
    assert_eq!(catalog.asked, asked, "of what is durable nothing is asked");
}

#[test]
fn a_message_of_no_transaction_is_between_two() {
    let transactions = transactions();
    let (index, message) = transactions
        .iter()
        .enumerate()
        .find(|(_, piece)| piece.changes.first().is_some_and(is_between))
        .unwrap();
    let after = &transactions[index + 1];
    assert_eq!(
        message.end,
        Some(EndLsn(after.head.commit_lsn)),
        "the commit record begins where the message ends"
    );
    assert!(transactions[index - 1].end.unwrap().0 < message.head.commit_lsn);
    assert_eq!((message.head.xid, message.changes.len(), message.first), (0, 1, true));
    // Its end is stored: it is dropped, and what begins right there is not. One byte before, it is not stored.
    for (durable, expected) in [(message.end.unwrap(), after), (EndLsn(message.head.commit_lsn), message)] {
        let left = pieces(&mut assembler(durable, NO_CUT), &followed_messages()).unwrap();
        assert_eq!(left[0].head, expected.head);
    }
}

fn is_between(change: &Change) -> bool {
    change.operation == Operation::Message && change.data.is_some() && data(change).contains("app.between")
}

#[test]
fn only_messages_of_a_transaction_act() {
    let transactions = transactions();
    let alone: Vec<_> = transactions.iter().filter(|piece| piece.head.xid == 0).collect();
    let texts: Vec<&str> = alone.iter().map(|piece| data(&piece.changes[0])).collect();
    assert_eq!(
        texts,
        [
            r#"{"prefix":"app.now","content":"not of the transaction"}"#,
            r#"{"prefix":"waldelta.author","content":"{\"client_id\":\"nobody\"}"}"#,
            r#"{"prefix":"app.between","content":"right before the commit"}"#,
        ]
    );
    assert!(
        alone.iter().all(|piece| !piece.urgent && piece.changes[0].author.is_none()),
        "nor is a fence one"
    );
}

#[test]
fn what_a_partition_does_not_tell_is_not_known() {
    let transactions = transactions();
    let changes = changes_of(&transactions, "parted");
    let old = |change: &Change| change.old_data.as_ref().map(|old| String::from_utf8(old.to_vec()).unwrap());
    let updates: Vec<_> = changes.iter().filter(|change| change.operation == Operation::Update).collect();
    assert_eq!(updates.len(), 3);
    for update in &updates {
        assert!(!old(update).unwrap().contains("note"), "a null there could mean anything");
    }
    let long = |letter: &str| format!(r#""note":"{}""#, letter.repeat(2100));
    assert!(data(updates[0]).contains(&long("x")), "the old row of a partition with FULL has it");
    assert_eq!(
        (data(updates[1]), &updates[1].unchanged[..]),
        (r#"{"id":12,"day":2}"#, &["note".to_owned()][..])
    );
    assert_eq!(data(updates[2]), r#"{"id":13,"day":2,"note":null}"#);
    let moved: Vec<_> = changes.iter().skip(6).take(2).map(|change| change.operation).collect();
    assert_eq!(moved, [Operation::Delete, Operation::Insert], "from partition to partition");
}

#[test]
fn each_shape_is_told_before_the_first_change_that_has_it() {
    let transactions = transactions();
    let of_changing: Vec<_> = transactions
        .iter()
        .flat_map(|piece| &piece.changes)
        .filter(|change| change.table.as_ref().is_some_and(|table| table.name.name.starts_with("chang")))
        .map(|change| (change.operation, change.table.as_ref().unwrap().version))
        .collect();
    use Operation::{Delete, Insert, Schema, Update};
    assert_eq!(
        of_changing,
        [
            (Insert, 1),
            (Insert, 1),
            (Schema, 2),
            (Update, 2),
            (Schema, 3),
            (Update, 3),
            (Update, 3),
            (Schema, 4),
            (Delete, 4),
            (Delete, 4),
        ]
    );
    let told = changes_of(&transactions, "by_index").iter().filter(|c| c.operation == Schema).count();
    assert_eq!(told, 0, "of a transaction that was rolled back nothing is told");
}

#[test]
fn in_transaction_from_begin_to_commit() {
    let mut assembler = assembler(EndLsn::default(), 0);
    let mut catalog = Catalog::default();
    let mut open = false;
    for message in followed_messages() {
        open = (open || is(&message, b'B')) && !is(&message, b'C');
        pieces_with(&mut catalog, &mut assembler, &[message]).unwrap();
        assert_eq!(assembler.in_transaction(), open);
    }
}

#[test]
fn a_change_has_the_shape_that_was_valid_at_its_place() {
    let transactions = transactions();
    let shapes = |operation| {
        let inserts =
            transactions.iter().flat_map(|piece| &piece.changes).filter(move |c| c.operation == operation);
        inserts.filter_map(|change| change.table.clone()).filter(|table| table.name.name == "by_nothing")
    };
    let columns: Vec<usize> = shapes(Operation::Insert).map(|table| table.columns.len()).collect();
    assert_eq!(columns, [2, 2, 2, 2, 2, 2, 2, 2, 3, 3]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is damaged, lost or doubled on the way: an answer, never a panic.
    #[test]
    fn no_damage_makes_it_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..4),
        lost: prop::sample::Index,
        doubled: prop::sample::Index,
    ) {
        let mut messages = messages();
        for (message, at, byte) in damage {
            let length = messages.len();
            let message = &mut messages[message.index(length)];
            let at = at.index(message.len());
            message[at] = byte;
        }
        messages.remove(lost.index(messages.len()));
        let twice = messages[doubled.index(messages.len())].clone();
        messages.push(twice);
        let _ = pieces(&mut assembler(EndLsn::default(), 700), &messages);
    }
}

/// A publication of all tables has history's own rows in it: were they signs of life, each append would bring the next.
#[test]
fn rows_of_our_other_tables_say_nothing() {
    let other = |message: Vec<u8>| {
        let at = message.windows(7).position(|bytes| bytes == b"canary\0").filter(|_| is(&message, b'R'));
        let mut message = message;
        if let Some(at) = at {
            message[at..at + 6].copy_from_slice(b"leases");
        }
        message
    };
    let urgent = |messages: Vec<Vec<u8>>| {
        let all = pieces(&mut assembler(EndLsn::default(), NO_CUT), &messages).unwrap();
        all.iter().filter(|piece| piece.urgent).count()
    };
    let (with_canary, without) =
        (urgent(followed_messages()), urgent(followed_messages().into_iter().map(other).collect()));
    assert!(without > 0, "a fence is urgent");
    assert!(with_canary > without, "so is the canary, and no other table of ours");
}
