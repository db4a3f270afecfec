//! What cannot be followed is an error that says what, never a guess.

use std::sync::Arc;

use waldelta_wal::{AssembleError, Code, EncodeError, EndLsn, Output, ReadError};

use crate::walsender::{NO_CUT, assembler, is, messages, pieces, supported_messages};

fn error(messages: &[Vec<u8>]) -> AssembleError {
    pieces(&mut assembler(EndLsn::default(), NO_CUT), messages).unwrap_err()
}

/// The captured messages with one taken out: the first of this type.
fn without(kind: u8) -> Vec<Vec<u8>> {
    let mut messages = supported_messages();
    let at = messages.iter().position(|message| is(message, kind)).unwrap();
    messages.remove(at);
    messages
}

#[test]
fn a_type_that_is_not_supported_is_refused_by_name() {
    let error = error(&messages());
    let AssembleError::UnsupportedType(unsupported) = &error else { panic!("{error}") };
    assert_eq!(unsupported.table.to_string(), "public.feelings");
    assert_eq!((&*unsupported.column, &*unsupported.type_name), ("feeling", "public.mood"));
    assert_eq!(error.code(), Code::TypeUnsupported);
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
    let all = supported_messages();
    let begin = all.iter().find(|message| is(message, b'B')).unwrap();
    let commit = all.iter().rfind(|message| is(message, b'C')).unwrap();
    assert!(matches!(error(&[begin.clone(), commit.clone()]), AssembleError::CommitMismatch { .. }));
}

#[test]
fn rows_of_a_table_that_was_not_defined_are_an_error() {
    let mut assembler = assembler(EndLsn::default(), NO_CUT);
    let error = supported_messages().iter().find_map(|message| assembler.push(message).err()).unwrap();
    let AssembleError::NotDefined { table } = error else { panic!("{error}") };
    assert_eq!(table.to_string(), "public.by_default");
}

#[test]
fn a_definition_must_fit_the_shape_sent() {
    let mut assembler = assembler(EndLsn::default(), NO_CUT);
    let relation = supported_messages().iter().find_map(|message| match assembler.push(message).unwrap() {
        Some(Output::Relation(relation)) => Some(relation),
        _ => None,
    });
    let table = relation.unwrap().to_table(None, |_| true).unwrap();
    let mut other = table.clone();
    other.columns.pop();
    assert!(matches!(assembler.define(Arc::new(other)), Err(AssembleError::DefinitionMismatch { .. })));
    let mut other = table.clone();
    other.key = vec![9];
    assert!(matches!(assembler.define(Arc::new(other)), Err(AssembleError::DefinitionMismatch { .. })));
    let mut other = table.clone();
    other.oid += 1;
    assert!(matches!(assembler.define(Arc::new(other)), Err(AssembleError::UnknownRelation { .. })));
    assembler.define(Arc::new(table)).unwrap();
}

#[test]
fn a_row_must_have_the_columns_of_its_shape() {
    let mut messages = supported_messages();
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
    let mut messages = supported_messages();
    messages[0].push(0);
    assert_eq!(error(&messages), AssembleError::Message(ReadError::Trailing { what: "message", left: 1 }));
}

#[test]
fn a_value_that_is_no_utf8_names_table_and_column() {
    let mut messages = supported_messages();
    let insert = messages.iter_mut().find(|message| is(message, b'I')).unwrap();
    let name = insert.windows(3).position(|bytes| bytes == b"one").unwrap();
    insert[name] = 0xff;
    let error = error(&messages);
    assert_eq!(error.code(), Code::ValueUnreadable);
    let AssembleError::Row { table, source, .. } = &error else { panic!("{error}") };
    assert_eq!(table.to_string(), "public.by_default");
    assert_eq!(source.to_string(), "column name cannot be read as text");
}
