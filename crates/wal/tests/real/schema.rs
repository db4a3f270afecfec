//! Shapes over time: when a table is asked for, what is told of it and when; what DDL messages, authors and origins do.

use std::sync::Arc;

use waldelta_wal::{
    AssembleError, Assembler, Change, EncodeError, EndLsn, Operation, Output, Piece, Repair, RepairReason,
    ReplicaIdentity, TruncateOptions,
};

use crate::walsender::{Catalog, NO_CUT, assembler, data, pieces_with, table};
use crate::wire::Cell::{Null, Text, Unchanged};
use crate::wire::{
    Cell, Columns, begin, commit, delete, end, insert, message, origin, relation, truncate, update,
};

const T: u32 = 16_400;
const INT: u32 = 23;
const TEXT: u32 = 25;
const ID: Columns<'_> = &[(true, "id", INT)];
const ID_NAME: Columns<'_> = &[(true, "id", INT), (false, "name", TEXT)];

fn one(assembler: &mut Assembler, catalog: &mut Catalog, messages: &[Vec<u8>]) -> Piece {
    let mut pieces = pieces_with(catalog, assembler, messages).unwrap();
    assert_eq!(pieces.len(), 1);
    pieces.remove(0)
}

fn operations(piece: &Piece) -> Vec<(Operation, u32)> {
    let version = |change: &Change| change.table.as_ref().map_or(0, |table| table.version);
    piece.changes.iter().map(|change| (change.operation, version(change))).collect()
}

#[test]
fn nothing_is_asked_before_a_row_that_is_not_durable() {
    let mut catalog = Catalog::default();
    let mut assembler = assembler(end(100), NO_CUT);
    let durable = [
        begin(100),
        relation(T, "t", b'd', ID),
        insert(T, &[Text("1")]),
        truncate(&[T, 99], 0),
        message(true, 90, "waldelta.ddl", br#"{"repairs":[{"table":16400,"reason":"rewritten"}]}"#),
        commit(100),
    ];
    assert_eq!(pieces_with(&mut catalog, &mut assembler, &durable).unwrap(), []);
    assert_eq!(catalog.asked.len(), 0);
    let live = [begin(108), insert(T, &[Text("2")]), commit(108)];
    let piece = one(&mut assembler, &mut catalog, &live);
    assert_eq!((catalog.asked.len(), piece.new_tables.len()), (1, 1), "the shape sent before is kept");
    assert_eq!(operations(&piece), [(Operation::Insert, 1)]);
}

#[test]
fn each_table_of_a_truncate_is_asked_for() {
    let mut catalog = Catalog::default();
    let mut assembler = assembler(EndLsn::default(), NO_CUT);
    let messages = [
        begin(100),
        relation(T, "t", b'd', ID),
        relation(T + 1, "u", b'd', ID),
        truncate(&[T, T + 1], 3),
        commit(100),
    ];
    let piece = one(&mut assembler, &mut catalog, &messages);
    assert_eq!(catalog.asked, ["t", "u"]);
    let options = TruncateOptions { cascade: true, restart_identity: true };
    assert!(piece.changes.iter().all(|change| change.truncate == options && change.row_key.is_none()));
    assert_eq!(operations(&piece), [(Operation::Truncate, 1); 2]);
}

#[test]
fn a_new_shape_is_told_once_before_the_first_change_that_has_it() {
    let mut catalog = Catalog::default();
    let mut assembler = assembler(EndLsn::default(), 0);
    let mut pieces = |messages: &[Vec<u8>]| pieces_with(&mut catalog, &mut assembler, messages).unwrap();
    let author = br#"{"client_id":"web-7"}"#;
    pieces(&[begin(100), relation(T, "t", b'd', ID), insert(T, &[Text("1")]), commit(100)]);
    let changed = pieces(&[
        begin(108),
        relation(T, "t", b'd', ID_NAME),
        message(true, 1, "waldelta.author", author),
        insert(T, &[Text("2"), Null]),
        insert(T, &[Text("3"), Null]),
        commit(108),
    ]);
    // Cut after each message: the shape is in the piece of the row that it is told for.
    assert_eq!(operations(&changed[0]), [(Operation::Schema, 2), (Operation::Insert, 2)]);
    assert_eq!(changed[0].new_tables.len(), 1);
    assert_eq!(operations(&changed[1]), [(Operation::Insert, 2)]);
    let [schema, insert_2] = &changed[0].changes[..] else { panic!("two changes") };
    assert!(
        data(schema).starts_with(r#"{"version":2,"columns":[{"name":"id","type":"integer","#),
        "{}",
        data(schema)
    );
    assert!(schema.author.is_none() && insert_2.author.is_some(), "a shape is nobody's");
    let nothing = pieces(&[begin(116), relation(T, "t", b'd', ID), commit(116)]);
    assert_eq!(operations(&nothing[0]), [], "no change of it, nothing to tell");
    let truncated = pieces(&[begin(124), truncate(&[T], 0), commit(124)]);
    assert_eq!(operations(&truncated[0]), [(Operation::Schema, 3), (Operation::Truncate, 3)]);
}

#[test]
fn an_author_of_a_truncate_under_a_new_shape_is_told_by_the_truncate() {
    let mut catalog = Catalog::default();
    let mut assembler = assembler(EndLsn::default(), NO_CUT);
    let first = [begin(100), relation(T, "t", b'd', ID), truncate(&[T], 0), commit(100)];
    pieces_with(&mut catalog, &mut assembler, &first).unwrap();
    let author = message(true, 1, "waldelta.author", br#"{"client_id":"web-7"}"#);
    let piece = one(
        &mut assembler,
        &mut catalog,
        &[begin(108), author, relation(T, "t", b'd', ID_NAME), truncate(&[T], 0), commit(108)],
    );
    let authors: Vec<bool> = piece.changes.iter().map(|change| change.author.is_some()).collect();
    assert_eq!(authors, [false, true]);
}

#[test]
fn a_table_that_is_forgotten_is_asked_for_again() {
    let mut catalog = Catalog::default();
    let mut assembler = assembler(EndLsn::default(), NO_CUT);
    let first = [begin(100), relation(T, "t", b'd', ID), insert(T, &[Text("1")]), commit(100)];
    pieces_with(&mut catalog, &mut assembler, &first).unwrap();
    assembler.forget(T);
    assembler.forget(99);
    let again = one(&mut assembler, &mut catalog, &[begin(108), insert(T, &[Text("2")]), commit(108)]);
    assert_eq!((catalog.asked.len(), again.new_tables.len()), (2, 0), "it is what it was");
    assert_eq!(operations(&again), [(Operation::Insert, 1)]);

    // The catalog knows it otherwise now: the shape that was sent stays valid.
    assembler.forget(T);
    assembler.push(&begin(116)).unwrap();
    let row = insert(T, &[Text("3")]);
    let Some(Output::Undefined(relation)) = assembler.push(&row).unwrap() else { panic!("asked for") };
    let mut other = table(&relation);
    other.version = 2;
    other.columns[0].nullable = true;
    assembler.define(Arc::new(other), true).unwrap();
    assert_eq!(assembler.push(&row).unwrap(), None);
    let Some(Output::Piece(piece)) = assembler.push(&commit(116)).unwrap() else { panic!("a piece") };
    assert_eq!(operations(&piece), [(Operation::Schema, 2), (Operation::Insert, 2)]);
}

#[test]
fn ddl_messages_tell_repairs_in_their_piece_and_forget() {
    let mut catalog = Catalog::default();
    let mut assembler = assembler(EndLsn::default(), 0);
    let ddl = br#"{"tag":"ALTER TABLE","repairs":[{"table":16400,"reason":"rewritten"},{"table":7,"reason":"default_added"},{"table":7,"reason":"default_added"}],"forget":[16400]}"#;
    let pieces = pieces_with(
        &mut catalog,
        &mut assembler,
        &[
            begin(100),
            relation(T, "t", b'd', ID),
            insert(T, &[Text("1")]),
            message(true, 1, "waldelta.ddl", ddl),
            insert(T, &[Text("2")]),
            commit(100),
        ],
    )
    .unwrap();
    let repairs: Vec<usize> = pieces.iter().map(|piece| piece.repairs.len()).collect();
    assert_eq!(repairs, [0, 2, 0, 0]);
    let repair = |table_oid, reason| Repair { table_oid, reason };
    assert_eq!(
        pieces[1].repairs,
        [repair(7, RepairReason::DefaultAdded), repair(T, RepairReason::Rewritten)]
    );
    assert_eq!(catalog.asked.len(), 2);
    assert!(
        pieces.iter().flat_map(|piece| &piece.changes).all(|change| change.operation == Operation::Insert)
    );
}

#[test]
fn a_ddl_message_of_no_transaction_is_a_message() {
    let mut assembler = assembler(EndLsn::default(), NO_CUT);
    let ddl = message(false, 96, "waldelta.ddl", br#"{"repairs":[{"table":16400,"reason":"rewritten"}]}"#);
    assembler.sent_at(77);
    let Some(Output::Piece(piece)) = assembler.push(&ddl).unwrap() else { panic!("a piece") };
    assert_eq!((piece.repairs.len(), operations(&piece)), (0, vec![(Operation::Message, 0)]));
    assert_eq!((piece.head.commit_lsn.0, piece.head.committed_at_us, piece.end.unwrap().0.0), (95, 77, 96));
}

#[test]
fn the_origin_is_in_every_change_of_its_transaction_alone() {
    let mut catalog = Catalog::default();
    let mut assembler = assembler(EndLsn::default(), 0);
    let messages = [
        begin(100),
        origin(b"els\xffewhere"),
        relation(T, "t", b'd', ID),
        insert(T, &[Text("1")]),
        message(true, 1, "app", b"x"),
        commit(100),
        begin(108),
        insert(T, &[Text("2")]),
        commit(108),
    ];
    let pieces = pieces_with(&mut catalog, &mut assembler, &messages).unwrap();
    let origins: Vec<_> =
        pieces.iter().flat_map(|piece| &piece.changes).map(|change| change.origin.as_deref()).collect();
    assert_eq!(origins, [Some("els\u{fffd}ewhere"), Some("els\u{fffd}ewhere"), None]);
    let mut alone = self::assembler(EndLsn::default(), 0);
    assert_eq!(alone.push(&origin(b"x")), Err(AssembleError::OutsideTransaction { what: "an origin" }));
}

/// What a change of a table of `id` (the key), `email` and `big` tells, by its identity and the old row sent.
fn changed(identity: ReplicaIdentity, flags: [bool; 3], message: Vec<u8>) -> Result<Change, EncodeError> {
    let mut assembler = assembler(EndLsn::default(), NO_CUT);
    let form = match identity {
        ReplicaIdentity::Default => b'd',
        ReplicaIdentity::Index => b'i',
        ReplicaIdentity::Nothing => b'n',
        ReplicaIdentity::Full | ReplicaIdentity::Mixed => b'f',
    };
    let columns = [(flags[0], "id", INT), (flags[1], "email", TEXT), (flags[2], "big", TEXT)];
    assembler.push(&begin(100)).unwrap();
    assembler.push(&relation(T, "t", form, &columns)).unwrap();
    let Some(Output::Undefined(relation)) = assembler.push(&message).unwrap() else { panic!("asked for") };
    let table = waldelta_wal::Table { identity, version: 1, ..table(&relation) };
    assembler.define(Arc::new(table), false).unwrap();
    match assembler.push(&message) {
        Ok(_) => {}
        Err(AssembleError::Row { source, .. }) => return Err(*source),
        Err(other) => panic!("{other}"),
    }
    let Some(Output::Piece(mut piece)) = assembler.push(&commit(100)).unwrap() else { panic!("a piece") };
    Ok(piece.changes.remove(0))
}

fn texts(change: &Change) -> [String; 3] {
    [&change.row_key, &change.data, &change.old_data]
        .map(|json| json.as_ref().map_or(String::new(), |json| String::from_utf8(json.to_vec()).unwrap()))
}

#[test]
fn what_was_not_sent_is_filled_from_the_old_row_where_that_has_it() {
    use ReplicaIdentity::*;
    const ALL: [bool; 3] = [true; 3];
    const KEY: [bool; 3] = [true, false, false];
    const EMAIL: [bool; 3] = [false, true, false];
    let new = [Text("2"), Text("e"), Unchanged];
    type Case<'a> = (ReplicaIdentity, [bool; 3], u8, [Cell<'a>; 3], [&'a str; 3]);
    let cases: &[Case<'_>] = &[
        (Default, KEY, b'K', [Text("1"), Null, Null], ["[2]", r#"{"id":2,"email":"e"}"#, r#"{"id":1}"#]),
        (
            Full,
            ALL,
            b'O',
            [Text("1"), Null, Text("b")],
            ["[2]", r#"{"id":2,"email":"e","big":"b"}"#, r#"{"id":1,"email":null,"big":"b"}"#],
        ),
        // As it comes of a partition with FULL, and of another.
        (
            Mixed,
            ALL,
            b'O',
            [Text("1"), Null, Text("b")],
            ["[2]", r#"{"id":2,"email":"e","big":"b"}"#, r#"{"id":1}"#],
        ),
        (Mixed, ALL, b'O', [Text("1"), Null, Null], ["[2]", r#"{"id":2,"email":"e"}"#, r#"{"id":1}"#]),
        (
            Index,
            EMAIL,
            b'K',
            [Null, Text("d"), Null],
            [r#"["e"]"#, r#"{"id":2,"email":"e"}"#, r#"{"email":"d"}"#],
        ),
    ];
    for (identity, flags, form, old, expected) in cases {
        let change = changed(*identity, *flags, update(T, *form, old, &new)).unwrap();
        assert_eq!(texts(&change), *expected, "{identity:?}");
        assert_eq!(change.unchanged.is_empty(), expected[1].contains("big"), "{identity:?}");
    }
    // The key itself can be what was not sent.
    let key = [Unchanged, Text("e"), Null];
    let change = changed(Default, KEY, update(T, b'K', &[Text("1"), Null, Null], &key)).unwrap();
    assert_eq!(texts(&change), ["[1]", r#"{"id":1,"email":"e","big":null}"#, r#"{"id":1}"#]);
}

#[test]
fn a_null_in_a_replica_identity_is_refused() {
    use ReplicaIdentity::*;
    for (identity, flags, form, column) in [
        (Default, [true, false, false], b'K', "id"),
        (Mixed, [true; 3], b'O', "id"),
        (Index, [false, true, false], b'K', "email"),
    ] {
        let old = if column == "id" { [Null, Text("e"), Null] } else { [Text("1"), Null, Null] };
        for message in [delete(T, form, &old), update(T, form, &old, &[Text("1"), Text("e"), Null])] {
            let error = changed(identity, flags, message).unwrap_err();
            assert_eq!(error, EncodeError::IdentityNull { column: column.into() }, "{identity:?}");
        }
    }
    assert!(changed(Full, [true; 3], delete(T, b'O', &[Text("1"), Null, Null])).is_ok());
}
