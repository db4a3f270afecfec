//! What cannot be followed is an error that says what, never a guess.

use std::sync::Arc;

use waldelta_wal::{AssembleError, Code, EncodeError, EndLsn, Output, ReadError, ReplicaIdentity};

use crate::walsender::{NO_CUT, assembler, data, followed_messages, is, messages, pieces, table};

fn error(messages: &[Vec<u8>]) -> AssembleError {
    pieces(&mut assembler(EndLsn::default(), NO_CUT), messages).unwrap_err()
}

/// The captured messages with one taken out: the first of this type.
fn without(kind: u8) -> Vec<Vec<u8>> {
    let mut messages = followed_messages();
    let at = messages.iter().position(|message| is(message, kind)).unwrap();
    messages.remove(at);
    messages
}

#[test]
fn an_old_row_of_another_replica_identity_is_refused() {
    let error = error(&messages());
    assert_eq!(error.code(), Code::PartitionIdentity);
    let AssembleError::Row { table, source, .. } = &error else { panic!("{error}") };
    assert_eq!(table.to_string(), "public.crossed");
    assert_eq!(**source, EncodeError::IdentityNull { column: "id".into() });
}

#[test]
fn a_message_of_no_transaction_inside_of_one_is_an_error() {
    let mut messages = followed_messages();
    let at = messages.iter().position(|message| is(message, b'M') && message[1] == 0).unwrap();
    let begin = messages.iter().position(|message| is(message, b'B')).unwrap();
    let alone = messages.remove(at);
    messages.insert(begin + 1, alone);
    assert!(matches!(error(&messages), AssembleError::InsideTransaction { .. }));
}

#[test]
fn messages_out_of_order_are_errors() {
    assert!(matches!(error(&without(b'C')), AssembleError::NestedBegin { .. }));
    assert_eq!(error(&without(b'B')), AssembleError::OutsideTransaction { what: "a row" });
    assert!(matches!(error(&without(b'R')), AssembleError::UnknownRelation { .. }));
    let commit = messages().into_iter().find(|message| is(message, b'C')).unwrap();
    assert_eq!(error(&[commit]), AssembleError::OutsideTransaction { what: "a commit" });
}

#[test]
fn a_commit_of_another_transaction_is_an_error() {
    let all = followed_messages();
    let begin = all.iter().find(|message| is(message, b'B')).unwrap();
    let commit = all.iter().rfind(|message| is(message, b'C')).unwrap();
    assert!(matches!(error(&[begin.clone(), commit.clone()]), AssembleError::CommitMismatch { .. }));
}

#[test]
fn a_definition_must_fit_the_shape_sent() {
    let mut assembler = assembler(EndLsn::default(), NO_CUT);
    let undefined = followed_messages().iter().find_map(|message| match assembler.push(message).unwrap() {
        Some(Output::Undefined(relation)) => Some((relation, message.clone())),
        _ => None,
    });
    let (relation, row) = undefined.unwrap();
    let table = table(&relation);
    let mut define = |change: &dyn Fn(&mut waldelta_wal::Table)| {
        let mut other = table.clone();
        change(&mut other);
        assembler.define(Arc::new(other), false)
    };
    let mismatch = |result| matches!(result, Err(AssembleError::DefinitionMismatch { .. }));
    assert!(mismatch(define(&|table| drop(table.columns.pop()))));
    assert!(mismatch(define(&|table| table.key = vec![9])));
    assert!(
        mismatch(define(&|table| table.identity = ReplicaIdentity::Mixed)),
        "only where the stream says FULL"
    );
    assert!(matches!(define(&|table| table.oid += 1), Err(AssembleError::UnknownRelation { .. })));
    define(&|_| {}).unwrap();
    assert_eq!(assembler.push(&row).unwrap(), None);
}

#[test]
fn a_row_must_have_the_columns_of_its_shape() {
    let mut messages = followed_messages();
    let insert = messages.iter_mut().find(|message| is(message, b'I')).unwrap();
    // A row of three columns loses the last one, which is a text: 'I', oid, 'N', count, columns.
    insert[7] = 2;
    insert.truncate(8 + 6 + 8);
    let error = error(&messages);
    assert_eq!(error.code(), Code::WalUnreadable);
    let AssembleError::Row { source, .. } = error else { panic!("{error}") };
    assert_eq!(*source, EncodeError::ColumnCount { expected: 3, found: 2 });
}

#[test]
fn a_message_with_more_after_its_end_is_an_error() {
    let mut messages = followed_messages();
    messages[0].push(0);
    assert_eq!(error(&messages), AssembleError::Message(ReadError::Trailing { what: "message", left: 1 }));
}

#[test]
fn a_value_that_is_no_utf8_is_stored_and_flagged() {
    let mut messages = followed_messages();
    let insert = messages.iter_mut().find(|message| is(message, b'I')).unwrap();
    let name = insert.windows(3).position(|bytes| bytes == b"one").unwrap();
    insert[name] = 0xff;
    let pieces = pieces(&mut assembler(EndLsn::default(), NO_CUT), &messages).unwrap();
    let change = &pieces[0].changes[0];
    assert!(data(change).contains(r#""name":"\\xff6e65""#), "{}", data(change));
    assert_eq!(change.flagged, ["name"]);
}

#[test]
fn a_name_that_is_no_utf8_is_an_error() {
    let mut messages = followed_messages();
    let relation = messages.iter_mut().find(|message| is(message, b'R')).unwrap();
    let name = relation.windows(4).position(|bytes| bytes == b"name").unwrap();
    relation[name] = 0xff;
    assert_eq!(
        error(&messages),
        AssembleError::Message(ReadError::NotUtf8 { what: "relation column: name" })
    );
}
