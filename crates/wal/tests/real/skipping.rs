//! What an operator orders to be left out, and tables that are reset: in a captured stream, with everything else as it was.

use proptest::prelude::*;
use proptest::sample::Index;
use waldelta_wal::{
    AssembleError, Change, EndLsn, Lsn, Operation, Piece, Repair, RepairReason, Reset, Skip, Translated,
    Translator, TruncateOptions,
};

use crate::walsender::{NO_CUT, assembler, data, followed_messages, is, messages, pieces, transactions};

fn skip(lsn: Lsn, seq: Option<u32>) -> Skip {
    Skip { lsn, seq, by: "anna".into(), why: "\"too\" large".into() }
}

fn skipped(table_oid: u32) -> Repair {
    Repair { table_oid, reason: RepairReason::Skipped }
}

/// The captured messages with these orders.
fn pieces_without(skips: Vec<Skip>, piece_bytes_max: usize) -> Vec<Piece> {
    let mut assembler = assembler(EndLsn::default(), piece_bytes_max).skipping(skips);
    pieces(&mut assembler, &followed_messages()).unwrap()
}

/// What a change becomes that is left out.
fn left_out(change: &Change, order: &Skip) -> Change {
    Change {
        operation: Operation::Skip,
        data: Some(order.to_json().into()),
        old_data: None,
        unchanged: Vec::new(),
        flagged: Vec::new(),
        truncate: TruncateOptions::default(),
        ..change.clone()
    }
}

/// The pieces of each transaction put together.
fn joined(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut whole: Vec<Piece> = Vec::new();
    for piece in pieces {
        match whole.last_mut() {
            Some(open) if !piece.first => {
                open.changes.extend(piece.changes);
                open.new_tables.extend(piece.new_tables);
                open.repairs.extend(piece.repairs);
                open.urgent |= piece.urgent;
                open.end = piece.end;
            }
            _ => whole.push(piece),
        }
    }
    for piece in &mut whole {
        piece.repairs.sort_unstable();
        piece.repairs.dedup();
    }
    whole
}

/// A transactional message, as pgoutput writes it.
fn logical(prefix: &str, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [b"M\x01\0\0\0\0\0\0\0\x07", prefix.as_bytes(), b"\0", &length, content].concat()
}

/// The captured messages with others right behind the beginning of a transaction, and which that is.
fn with_messages(begin: usize, more: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut messages = followed_messages();
    let at = messages.iter().enumerate().filter(|(_, message)| is(message, b'B')).nth(begin).unwrap().0;
    messages.splice(at + 1..at + 1, more.iter().cloned());
    messages
}

#[test]
fn a_row_that_cannot_be_encoded_is_passed() {
    let messages = messages();
    let error = pieces(&mut assembler(EndLsn::default(), NO_CUT), &messages).unwrap_err();
    let AssembleError::Row { table, commit_lsn, seq, row_key, .. } = error else { panic!("{error}") };
    let order = skip(commit_lsn, Some(seq));
    let mut assembler = assembler(EndLsn::default(), NO_CUT).skipping(vec![order.clone()]);
    let all = pieces(&mut assembler, &messages).unwrap();
    let last = all.last().unwrap();
    let change = &last.changes[usize::try_from(seq).unwrap()];
    assert_eq!((change.operation, data(change)), (Operation::Skip, &*order.to_json()));
    assert_eq!(
        data(change),
        format!(r#"{{"lsn":"{commit_lsn}","seq":{seq},"by":"anna","why":"\"too\" large"}}"#)
    );
    let told = change.table.as_ref().unwrap();
    assert_eq!(told.name, table);
    assert_eq!(last.repairs, [skipped(told.oid)]);
    let key = change.row_key.as_ref().map(|key| String::from_utf8(key.to_vec()).unwrap());
    assert_eq!(key, row_key, "as the error told it");
    assert!(all.len() > transactions().len());
}

#[test]
fn the_error_says_which_change_of_which_row_it_is() {
    let mut messages = followed_messages();
    // The second row of a transaction loses its last column, which is none of the key's: 'I', oid, 'N', count, columns.
    let inserts: Vec<usize> =
        (1..messages.len()).filter(|at| is(&messages[*at], b'I') && is(&messages[*at - 1], b'I')).collect();
    messages[inserts[0]][7] -= 1;
    let columns = messages[inserts[0]][7];
    let mut end = 8;
    for _ in 0..columns {
        end += match messages[inserts[0]][end] {
            b't' => {
                5 + u32::from_be_bytes(messages[inserts[0]][end + 1..end + 5].try_into().unwrap()) as usize
            }
            _ => 1,
        };
    }
    messages[inserts[0]].truncate(end);
    let error = pieces(&mut assembler(EndLsn::default(), NO_CUT), &messages).unwrap_err();
    let AssembleError::Row { commit_lsn, seq, row_key, .. } = &error else { panic!("{error}") };
    assert_eq!((*seq, row_key.as_deref()), (1, Some("[2]")));
    let message = error.to_string();
    assert!(
        message.starts_with(&format!("change 1 of transaction {commit_lsn}, a row of public.")),
        "{message}"
    );
    assert!(message.contains("the key [2] (`waldelta skip --lsn "), "{message}");
}

#[test]
fn a_whole_transaction_is_passed_unread_and_names_the_tables_it_concerns() {
    let all = transactions();
    let mut broken = 0;
    for (index, piece) in all.iter().enumerate() {
        let order = skip(piece.head.commit_lsn, None);
        // Rows of it are cut off in the middle, so that nothing but their table can be read.
        let mut messages = followed_messages();
        let mut open = Lsn(0);
        for message in &mut messages {
            if is(message, b'B') {
                open = Lsn(u64::from_be_bytes(message[1..9].try_into().unwrap()));
            }
            if open == piece.head.commit_lsn && matches!(message[0], b'I' | b'U' | b'D') {
                message.truncate(6);
                broken += 1;
            }
        }
        let mut assembler = assembler(EndLsn::default(), 0).skipping(vec![order.clone()]);
        let found = joined(pieces(&mut assembler, &messages).unwrap());
        assert_eq!(found.len(), all.len());
        let instead = &found[index];
        assert_eq!((instead.head, instead.first, instead.end), (piece.head, true, piece.end));
        assert_eq!(instead.urgent, piece.urgent);
        let [change] = &instead.changes[..] else { panic!("{:?}", instead.changes) };
        assert_eq!((change.seq, change.operation, data(change)), (0, Operation::Skip, &*order.to_json()));
        assert_eq!((&change.table, &change.author, &change.row_key), (&None, &None, &None));
        assert!(instead.new_tables.is_empty(), "nothing was asked for");
        let mut concerned: Vec<u32> =
            piece.changes.iter().filter_map(|change| change.table.as_ref().map(|table| table.oid)).collect();
        concerned.sort_unstable();
        concerned.dedup();
        assert_eq!(instead.repairs, concerned.into_iter().map(skipped).collect::<Vec<_>>());
        // What follows is as it was, but for shapes that were first seen in it.
        let told = |pieces: &[Piece]| -> Vec<String> {
            let changes = pieces.iter().flat_map(|piece| &piece.changes);
            let told = changes.filter(|change| change.operation != Operation::Schema);
            told.map(|change| format!("{} {:?}", change.operation.as_str(), change.data)).collect()
        };
        assert_eq!(&found[..index], &all[..index]);
        assert_eq!(told(&found[index + 1..]), told(&all[index + 1..]));
    }
    assert!(broken > 30, "{broken} rows could not have been read");
}

#[test]
fn a_transaction_that_does_not_come_whole_is_left_out_when_that_was_ordered() {
    let messages = followed_messages();
    let all = transactions();
    let commit = messages.iter().rposition(|message| is(message, b'C')).unwrap();
    let last = all.last().unwrap();
    let mut without = assembler(EndLsn::default(), NO_CUT);
    pieces(&mut without, &messages[..commit]).unwrap();
    assert_eq!(without.leave_out(), None, "nobody ordered it");
    assert!(without.in_transaction());
    let order = skip(last.head.commit_lsn, None);
    let mut with = assembler(EndLsn::default(), NO_CUT).skipping(vec![order.clone()]);
    pieces(&mut with, &messages[..commit]).unwrap();
    let piece = with.leave_out().unwrap();
    assert_eq!((piece.head, piece.first), (last.head, true));
    assert_eq!(piece.end, Some(EndLsn(Lsn(last.head.commit_lsn.0 + 1))));
    assert_eq!(piece.changes.iter().map(data).collect::<Vec<_>>(), [order.to_json()]);
    assert!(!with.in_transaction() && with.leave_out().is_none());
}

#[test]
fn orders_for_what_is_durable_do_nothing() {
    let all = transactions();
    let end = all[3].end.unwrap();
    let skips = all[..4].iter().map(|piece| skip(piece.head.commit_lsn, None)).collect();
    let mut catalog = crate::walsender::Catalog::after(&all[..4]);
    let mut assembler = assembler(end, NO_CUT).skipping(skips);
    let left = crate::walsender::pieces_with(&mut catalog, &mut assembler, &followed_messages()).unwrap();
    assert_eq!(left.len(), all.len() - 4);
    assert!(left.iter().flat_map(|piece| &piece.changes).all(|change| change.operation != Operation::Skip));
}

#[test]
fn resets_are_changes_of_their_own_and_nonsense_is_a_message() {
    let reset = |table_oid| Reset { table_oid, table: "public.t".into(), reason: "added".into() };
    let told = Reset::message(&[reset(7), reset(8)]);
    let author = logical("waldelta.author", br#"{"client_id":"web-7"}"#);
    let more = [
        author,
        logical("waldelta.reset", told.as_bytes()),
        logical("waldelta.reset", b"{\"tables\":[{}]}"),
        logical("waldelta.reset", b"\xff\x00"),
    ];
    let found = pieces(&mut assembler(EndLsn::default(), NO_CUT), &with_messages(0, &more)).unwrap();
    let changes = &found[0].changes[..4];
    let operations: Vec<_> = changes.iter().map(|change| change.operation).collect();
    assert_eq!(operations, [Operation::Reset, Operation::Reset, Operation::Message, Operation::Message]);
    assert_eq!(changes.iter().filter_map(Reset::of).collect::<Vec<_>>(), [reset(7), reset(8)]);
    assert!(changes[..2].iter().all(|change| change.author.is_none() && change.table.is_none()));
    assert!(changes[2].author.is_some(), "a message has its author");
    let changes_after = &found[0].changes[4..];
    assert!(!changes_after.is_empty() && changes_after.iter().all(|change| change.author.is_some()));

    // Of no transaction it acts as nothing but a message.
    let mut alone = logical("waldelta.reset", told.as_bytes());
    alone[1] = 0;
    let mut messages = followed_messages();
    messages.insert(0, alone);
    let found = pieces(&mut assembler(EndLsn::default(), NO_CUT), &messages).unwrap();
    assert_eq!(found[0].changes[0].operation, Operation::Message);
}

#[test]
fn wal2json_passes_a_whole_transaction_over_unread() {
    let lines = [
        r#"{"action":"B","xid":7,"timestamp":"2026-11-21 14:07:25.888789+00","lsn":"0/10","nextlsn":"0/20"}"#,
        r#"{"action":"I","nonsense"#,
        r#"{"action":"T","schema":"public","table":"unknown"}"#,
        r#"{"action":"M","transactional":true,"lsn":"0/9","prefix":"waldelta.fence","content":""}"#,
        r#"{"action":"C","xid":7,"timestamp":"2026-11-21 14:07:25.888789+00","lsn":"0/10","nextlsn":"0/20"}"#,
        r#"{"action":"I","nonsense"#,
    ];
    let mut translator =
        Translator::new(EndLsn::default()).skipping(&[skip(Lsn(0x10), None), skip(Lsn(9), Some(1))]);
    let mut kinds = String::new();
    for line in &lines[..5] {
        let Ok(Translated::Messages(messages)) = translator.translate(line.as_bytes()) else {
            panic!("{line}")
        };
        kinds.extend(messages.iter().map(|message| char::from(message[0])));
    }
    assert_eq!(kinds, "BMC");
    translator.translate(lines[5].as_bytes()).unwrap_err();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 3))]

    /// Whatever is left out and however it is cut: the others have their numbers, and are what they were.
    #[test]
    fn the_others_are_as_without(
        chosen in prop::collection::vec((any::<Index>(), any::<Index>()), 1..6),
        beyond: u16,
        piece_bytes_max in prop_oneof![Just(0usize), Just(700), Just(NO_CUT)],
    ) {
        let mut expected = transactions();
        let mut orders = vec![skip(Lsn(3), Some(0)), skip(Lsn(4), None)];
        for (transaction, change) in chosen {
            let piece = transaction.get_mut(&mut expected);
            orders.push(skip(piece.head.commit_lsn, Some(u32::from(beyond) + 1_000)));
            if piece.changes.is_empty() {
                continue;
            }
            let change = change.get_mut(&mut piece.changes);
            let order = skip(piece.head.commit_lsn, Some(change.seq));
            let was_nobodys = change.operation == Operation::Schema;
            *change = left_out(change, &order);
            piece.repairs.extend(change.table.as_ref().map(|table| skipped(table.oid)));
            if was_nobodys {
                // Whoever is the author of what follows.
                change.author = None;
            }
            orders.push(order);
        }
        orders.reverse();
        let mut found = joined(pieces_without(orders, piece_bytes_max));
        let changes = found.iter_mut().flat_map(|piece| &mut piece.changes);
        for (found, expected) in changes.zip(expected.iter().flat_map(|piece| &piece.changes)) {
            if expected.operation == Operation::Skip && expected.author.is_none() {
                found.author = None;
            }
        }
        prop_assert_eq!(found, joined(expected));
    }

    /// Resets, and nonsense in their place, come between; what is not of them is what it was.
    #[test]
    fn resets_change_nothing_else(
        contents in prop::collection::vec((any::<Index>(), any::<bool>(), prop::collection::vec(any::<u32>(), 0..4), any::<Vec<u8>>()), 1..5),
        piece_bytes_max in prop_oneof![Just(0usize), Just(700), Just(NO_CUT)],
    ) {
        let all = transactions();
        let begins = followed_messages().iter().filter(|message| is(message, b'B')).count();
        let mut messages = followed_messages();
        let mut resets = 0;
        for (at, sound, oids, bytes) in contents {
            let oids = oids.into_iter().filter(|oid| *oid != 0);
            let tables: Vec<Reset> = oids
                .map(|table_oid| Reset { table_oid, table: "a.\"b\"".into(), reason: "added".into() })
                .collect();
            let content = if sound { Reset::message(&tables).into_bytes() } else { bytes };
            resets += if sound { tables.len() } else { 0 };
            let begin = at.index(begins);
            let at = messages.iter().enumerate().filter(|(_, message)| is(message, b'B')).nth(begin).unwrap().0;
            messages.insert(at + 1, logical("waldelta.reset", &content));
        }
        let mut found = joined(pieces(&mut assembler(EndLsn::default(), piece_bytes_max), &messages).unwrap());
        let mut seen = 0;
        for piece in &mut found {
            prop_assert!(piece.changes.iter().map(|change| change.seq).eq(0..u32::try_from(piece.changes.len()).unwrap()));
            piece.changes.retain(|change| {
                let is_reset = change.operation == Operation::Reset;
                seen += usize::from(is_reset);
                let is_ours = change.data.as_ref().is_some_and(|data| data.starts_with(b"{\"prefix\":\"waldelta.reset\""));
                !is_reset && !is_ours
            });
            for (seq, change) in (0..).zip(&mut piece.changes) {
                change.seq = seq;
            }
        }
        prop_assert_eq!(seen, resets);
        prop_assert_eq!(found, joined(all));
    }
}
