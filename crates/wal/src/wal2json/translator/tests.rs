//! Lines one by one, most of them as wal2json 2.5 printed them. Whole streams are compared in `tests/real`.

use proptest::prelude::*;

use super::*;
use crate::lsn::Lsn;
use crate::pgoutput::{Message, OldTuple};
use crate::relation::RelationColumn;
use crate::row::Value;
use crate::table::ReplicaIdentity;
use crate::wal2json::Misfit;

const INT: u32 = 23;
const TEXT: u32 = 25;
const FLOAT: u32 = 701;

/// A table of `public`; a column whose name ends with an asterisk is of the replica identity.
fn table(oid: u32, name: &str, identity: ReplicaIdentity, columns: &[(&str, u32)]) -> Relation {
    let column = |(name, type_oid): &(&str, u32)| RelationColumn {
        identity: name.ends_with('*') || identity == ReplicaIdentity::Full,
        name: name.trim_end_matches('*').into(),
        type_oid: *type_oid,
        type_modifier: -1,
        type_name: None,
    };
    Relation {
        oid,
        schema: "public".into(),
        name: name.into(),
        identity,
        columns: columns.iter().map(column).collect(),
    }
}

/// `d (id int primary key, name text, big text)`.
fn d() -> Relation {
    table(7, "d", ReplicaIdentity::Default, &[("id*", INT), ("name", TEXT), ("big", TEXT)])
}

const INSERT: &str = r#"{"action":"I","lsn":"0/159B490","schema":"public","table":"d","columns":[{"name":"id","typeoid":23,"value":1},{"name":"name","typeoid":25,"value":"one"},{"name":"big","typeoid":25,"value":"x"}],"pk":[{"name":"id","typeoid":23}]}"#;
const UPDATE: &str = r#"{"action":"U","lsn":"0/159B5F0","schema":"public","table":"d","columns":[{"name":"id","typeoid":23,"value":1},{"name":"name","typeoid":25,"value":"uno"},{"name":"big","typeoid":25,"value":"x"}],"identity":[{"name":"id","typeoid":23,"value":1}],"pk":[{"name":"id","typeoid":23}]}"#;
const UPDATE_WITHOUT_BIG: &str = r#"{"action":"U","lsn":"0/159B5F0","schema":"public","table":"d","columns":[{"name":"id","typeoid":23,"value":1},{"name":"name","typeoid":25,"value":"uno"}],"identity":[{"name":"id","typeoid":23,"value":1}],"pk":[{"name":"id","typeoid":23}]}"#;
const UPDATE_WITHOUT_NAME: &str = r#"{"action":"U","lsn":"0/159B5F0","schema":"public","table":"d","columns":[{"name":"id","typeoid":23,"value":1},{"name":"big","typeoid":25,"value":"uno"}],"identity":[{"name":"id","typeoid":23,"value":1}],"pk":[{"name":"id","typeoid":23}]}"#;
const DELETE: &str = r#"{"action":"D","lsn":"0/159B790","schema":"public","table":"d","identity":[{"name":"id","typeoid":23,"value":2}],"pk":[{"name":"id","typeoid":23}]}"#;
const TRUNCATE: &str = r#"{"action":"T","lsn":"0/15787E8","schema":"public","table":"d"}"#;

fn translator() -> Translator {
    Translator::new(EndLsn(Lsn(100)))
}

/// A translator that knows a table and has told its shape.
fn knowing(shape: Relation, line: &str) -> Translator {
    let mut translator = translator();
    asked(&mut translator, line);
    translator.define(shape, &[]).unwrap();
    messages(&mut translator, line);
    translator
}

fn messages(translator: &mut Translator, line: &str) -> Vec<Vec<u8>> {
    match translator.translate(line.as_bytes()) {
        Ok(Translated::Messages(messages)) => messages,
        other => panic!("{other:?} {line}"),
    }
}

/// The types of the messages.
fn kinds(translator: &mut Translator, line: &str) -> String {
    messages(translator, line).iter().map(|message| char::from(message[0])).collect()
}

fn asked(translator: &mut Translator, line: &str) {
    let Ok(Translated::Undefined(_)) = translator.translate(line.as_bytes()) else {
        panic!("asks for {line}")
    };
}

fn misfit(translator: &mut Translator, line: &str) -> Misfit {
    match translator.translate(line.as_bytes()) {
        Err(Wal2jsonError::Shape { misfit, .. }) => misfit,
        other => panic!("{other:?} {line}"),
    }
}

fn absent(column: &str) -> Misfit {
    Misfit::Absent { column: column.into() }
}

#[test]
fn a_table_is_asked_for_and_told_before_its_first_row() {
    let mut translator = translator();
    let public_d = TableName { schema: "public".into(), name: "d".into() };
    assert_eq!(translator.translate(INSERT.as_bytes()), Ok(Translated::Undefined(public_d.clone())));
    assert_eq!(translator.translate(INSERT.as_bytes()), Ok(Translated::Undefined(public_d)), "again");
    translator.define(d(), &[]).unwrap();
    assert_eq!(kinds(&mut translator, INSERT), "RI");
    assert_eq!(kinds(&mut translator, UPDATE), "U");
    assert_eq!(kinds(&mut translator, DELETE), "D");
    assert_eq!(kinds(&mut translator, TRUNCATE), "T");
    translator.forget(7);
    asked(&mut translator, TRUNCATE);
    translator.define(d(), &[]).unwrap();
    assert_eq!(kinds(&mut translator, TRUNCATE), "RT");
}

#[test]
fn what_ddl_changed_is_asked_for() {
    let mut translator = knowing(d(), INSERT);
    let ddl = r#"{"action":"M","lsn":"0/1","transactional":true,"prefix":"waldelta.ddl","content":"{\"forget\":[7]}"}"#;
    assert_eq!(kinds(&mut translator, ddl), "M");
    asked(&mut translator, INSERT);
}

#[test]
fn begin_and_commit_are_those_of_pgoutput() {
    let mut translator = translator();
    let begin = r#"{"action":"B","xid":745,"timestamp":"2026-11-21 13:59:35.43404+00","lsn":"0/1577828","nextlsn":"0/1577858"}"#;
    let message = messages(&mut translator, begin).remove(0);
    let committed_at_us = 1_795_269_575_434_040;
    let commit_lsn = Lsn(0x157_7828);
    assert_eq!(Message::parse(&message), Ok(Message::Begin { commit_lsn, committed_at_us, xid: 745 }));
    let commit = begin.replace("\"B\"", "\"C\"");
    let message = messages(&mut translator, &commit).remove(0);
    let end = EndLsn(Lsn(0x157_7858));
    assert_eq!(Message::parse(&message), Ok(Message::Commit { commit_lsn, end, committed_at_us }));
}

#[test]
fn rows_of_a_transaction_that_history_has_are_passed_over() {
    let mut translator = translator();
    let begin = |lsn: u32| {
        format!(
            r#"{{"action":"B","xid":7,"timestamp":"2026-11-21 13:59:35+00","lsn":"0/{lsn:X}","nextlsn":"0/FF"}}"#
        )
    };
    assert_eq!(kinds(&mut translator, &begin(99)), "B");
    assert_eq!(kinds(&mut translator, INSERT), "");
    assert_eq!(kinds(&mut translator, TRUNCATE), "");
    assert_eq!(kinds(&mut translator, &begin(99).replace("\"B\"", "\"C\"")), "C");
    asked(&mut translator, INSERT);
    assert_eq!(kinds(&mut translator, &begin(100)), "B", "which may begin exactly where the last one ended");
    asked(&mut translator, INSERT);
}

#[test]
fn a_definition_that_no_line_asked_for_is_doubted() {
    let mut translator = knowing(d(), INSERT);
    let other = table(7, "d", ReplicaIdentity::Default, &[("id*", INT), ("name", TEXT)]);
    translator.define(other, &[]).unwrap();
    asked(&mut translator, INSERT);
}

#[test]
fn a_row_of_another_shape_asks_once() {
    use ReplicaIdentity::{Default, Full, Index};
    let unknown = |column: &str| Misfit::Unknown { column: column.into() };
    let cases: &[(&str, Relation, Misfit)] = &[
        (INSERT, table(7, "d", Default, &[("id*", INT), ("name", TEXT)]), unknown("big")),
        (
            INSERT,
            table(7, "d", Default, &[("id*", INT), ("renamed", TEXT), ("big", TEXT)]),
            absent("renamed"),
        ),
        (INSERT, table(7, "d", Default, &[("id*", INT), ("big", TEXT), ("name", TEXT)]), absent("big")),
        (
            INSERT,
            table(7, "d", Default, &[("id*", INT), ("name", TEXT), ("big", 1043)]),
            Misfit::Type { column: "big".into() },
        ),
        (
            INSERT,
            table(7, "d", Default, &[("id*", INT), ("name", TEXT), ("big", TEXT), ("new", TEXT)]),
            absent("new"),
        ),
        (INSERT, table(7, "d", Default, &[("id", INT), ("name*", TEXT), ("big", TEXT)]), Misfit::PrimaryKey),
        (INSERT, table(7, "d", Default, &[("id", INT), ("name", TEXT), ("big", TEXT)]), Misfit::PrimaryKey),
        // What is never TOAST is never absent from an update.
        (
            UPDATE,
            table(7, "d", Default, &[("id*", INT), ("n", INT), ("name", TEXT), ("big", TEXT)]),
            absent("n"),
        ),
        (UPDATE, table(7, "d", Default, &[("id*", INT), ("name", TEXT)]), unknown("big")),
        // What a change of REPLICA IDENTITY brings.
        (UPDATE, table(7, "d", Full, &[("id", INT), ("name", TEXT), ("big", TEXT)]), absent("name")),
        (DELETE, table(7, "d", Full, &[("id", INT), ("name", TEXT), ("big", TEXT)]), absent("name")),
        (DELETE, table(7, "d", Index, &[("id", INT), ("name*", TEXT), ("big", TEXT)]), absent("name")),
        (DELETE, table(7, "d", Default, &[("id", INT), ("name", TEXT), ("big", TEXT)]), unknown("id")),
        (
            DELETE,
            table(7, "d", Default, &[("id*", 20), ("name", TEXT)]),
            Misfit::Type { column: "id".into() },
        ),
    ];
    for (line, other, expected) in cases {
        // Not asked for, so it gets its chance.
        let mut translator = translator();
        translator.define(other.clone(), &[]).unwrap();
        asked(&mut translator, line);
        translator.define(other.clone(), &[]).unwrap();
        assert_eq!(misfit(&mut translator, line), *expected, "{line}");
        // Nothing has changed, so another one may be tried.
        translator.define(d(), &[]).unwrap();
        assert_eq!(kinds(&mut translator, line).len(), 2);
        assert_eq!(kinds(&mut translator, line).len(), 1);
    }
}

#[test]
fn an_absent_column_asks_for_the_first_time_and_is_unchanged_then() {
    let mut translator = knowing(d(), INSERT);
    for line in [UPDATE_WITHOUT_BIG, UPDATE_WITHOUT_NAME] {
        asked(&mut translator, line);
        translator.define(d(), &[]).unwrap();
        assert_eq!(kinds(&mut translator, line), "RU");
    }
    for line in [UPDATE_WITHOUT_BIG, UPDATE_WITHOUT_NAME, UPDATE] {
        assert_eq!(kinds(&mut translator, line), "U", "both are known by now");
    }
    let message = messages(&mut translator, UPDATE_WITHOUT_BIG).remove(0);
    let Ok(Message::Update { old: None, new, .. }) = Message::parse(&message) else { panic!("an update") };
    assert!(new.values().eq([Value::Text(b"1"), Value::Text(b"uno"), Value::Unchanged]));
}

#[test]
fn a_dropped_column_is_noticed_at_its_first_absence() {
    let mut translator = knowing(d(), INSERT);
    asked(&mut translator, UPDATE_WITHOUT_BIG);
    let dropped = table(7, "d", ReplicaIdentity::Default, &[("id*", INT), ("name", TEXT)]);
    translator.define(dropped, &[]).unwrap();
    let message = messages(&mut translator, UPDATE_WITHOUT_BIG).remove(1);
    let Ok(Message::Update { new, .. }) = Message::parse(&message) else { panic!("an update") };
    assert_eq!(new.len(), 2);
}

#[test]
fn the_old_row_leaves_no_doubt_about_what_is_absent() {
    let f = table(8, "f", ReplicaIdentity::Full, &[("id", INT), ("name", TEXT), ("big", TEXT)]);
    let line = r#"{"action":"U","lsn":"0/159C388","schema":"public","table":"f","columns":[{"name":"id","typeoid":23,"value":1},{"name":"name","typeoid":25,"value":null}],"identity":[{"name":"id","typeoid":23,"value":1},{"name":"name","typeoid":25,"value":"one"},{"name":"big","typeoid":25,"value":"y"}],"pk":[{"name":"id","typeoid":23}]}"#;
    let mut translator = translator();
    translator.define(f, &[]).unwrap();
    assert_eq!(kinds(&mut translator, line), "RU", "without asking");
    let message = messages(&mut translator, line).remove(0);
    let Ok(Message::Update { old: Some(OldTuple::Full(old)), new, .. }) = Message::parse(&message) else {
        panic!("an update with the whole old row")
    };
    assert!(new.values().eq([Value::Text(b"1"), Value::Null, Value::Unchanged]));
    assert!(old.values().eq([Value::Text(b"1"), Value::Text(b"one"), Value::Text(b"y")]));
}

#[test]
fn a_primary_key_that_changes_is_noticed() {
    let full = table(7, "d", ReplicaIdentity::Full, &[("id", INT), ("name", TEXT), ("big", TEXT)]);
    let mut translator = knowing(full.clone(), INSERT);
    let other = INSERT.replace(r#""pk":[{"name":"id","#, r#""pk":[{"name":"name","#);
    asked(&mut translator, &other);
    translator.define(full, &[]).unwrap();
    assert_eq!(
        kinds(&mut translator, &other),
        "RI",
        "the shape is told again, so that the caller looks again"
    );
    assert_eq!(kinds(&mut translator, &other), "I");
}

#[test]
fn a_null_in_the_key_is_a_value_that_was_lost() {
    // NaN, of a table with replica identity DEFAULT.
    let insert = r#"{"action":"I","lsn":"0/15AF818","schema":"public","table":"nank","columns":[{"name":"a","typeoid":701,"value":null},{"name":"b","typeoid":23,"value":1}],"pk":[{"name":"a","typeoid":701}]}"#;
    let delete = r#"{"action":"D","lsn":"0/15AF9B0","schema":"public","table":"nank","identity":[{"name":"a","typeoid":701,"value":null}],"pk":[{"name":"a","typeoid":701}]}"#;
    let mut translator = translator();
    translator.define(table(9, "nank", ReplicaIdentity::Default, &[("a*", FLOAT), ("b", INT)]), &[]).unwrap();
    for line in [insert, delete] {
        let error = translator.translate(line.as_bytes()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "column a of table public.nank names the row, and its value was lost: NaN or an infinity"
        );
    }
    // With option numeric-data-types-as-string of wal2json 2.6.
    let exact = insert.replace("null", "\"NaN\"");
    let message = messages(&mut translator, &exact).remove(1);
    let Ok(Message::Insert { new, .. }) = Message::parse(&message) else { panic!("an insert") };
    assert!(new.values().eq([Value::Text(b"NaN"), Value::Text(b"1")]));
}

#[test]
fn columns_that_are_not_published_must_fit_and_are_left_out() {
    let unpublished = ["name".to_owned()];
    let mut translator = translator();
    translator.define(d(), &unpublished).unwrap();
    let messages = messages(&mut translator, INSERT);
    let Ok(Message::Relation(relation)) = Message::parse(&messages[0]) else { panic!("a relation") };
    assert_eq!(relation.columns.iter().map(|column| &*column.name).collect::<Vec<_>>(), ["id", "big"]);
    let Ok(Message::Insert { new, .. }) = Message::parse(&messages[1]) else { panic!("an insert") };
    assert!(new.values().eq([Value::Text(b"1"), Value::Text(b"x")]));
    asked(&mut translator, &INSERT.replace("\"typeoid\":25,\"value\":\"one\"", "\"typeoid\":23,\"value\":1"));
}

#[test]
fn a_name_that_goes_to_another_table_is_asked_for() {
    let mut translator = knowing(d(), INSERT);
    let renamed = Relation { name: "former_d".into(), ..d() };
    translator.define(renamed, &[]).unwrap();
    asked(&mut translator, INSERT);
    let mut namesake = d();
    namesake.oid = 70;
    translator.define(namesake, &[]).unwrap();
    let message = messages(&mut translator, INSERT).remove(1);
    assert!(matches!(Message::parse(&message), Ok(Message::Insert { relation: 70, .. })));
    assert_eq!(kinds(&mut translator, &INSERT.replace("\"d\"", "\"former_d\"")), "RI");
}

#[test]
fn names_of_types_are_told_before_the_shape() {
    let mut shape = table(7, "d", ReplicaIdentity::Default, &[("id*", INT), ("name", 16_390), ("big", TEXT)]);
    shape.columns[1].type_name = Some("\"My App\".\"Mood\"".into());
    let mut translator = translator();
    translator.define(shape, &[]).unwrap();
    let line = INSERT.replace("\"typeoid\":25,\"value\":\"one\"", "\"typeoid\":16390,\"value\":\"sad\"");
    assert_eq!(kinds(&mut translator, &line), "YRI");
}

#[test]
fn a_value_that_is_not_its_type_says_its_column_and_not_the_value() {
    let mut translator = knowing(d(), INSERT);
    let error = translator.translate(INSERT.replace("\"one\"", "12345").as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "column name of table public.d is not printed as a string");
    assert_eq!(kinds(&mut translator, INSERT), "I", "an error changes nothing");
}

#[test]
fn more_columns_than_a_row_can_have_are_refused() {
    let mut shape = d();
    shape.columns = vec![shape.columns.remove(1); 32_768];
    let error = translator().define(shape, &[]).unwrap_err();
    assert_eq!(error.to_string(), "table public.d has 32768 columns, more than a row can have");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let _ = translator().translate(&bytes);
    }

    #[test]
    fn no_damage_makes_it_panic(
        line in prop::sample::select(vec![INSERT, UPDATE, UPDATE_WITHOUT_BIG, DELETE, TRUNCATE]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut: prop::sample::Index,
    ) {
        let mut translator = knowing(d(), INSERT);
        let mut bytes = line.as_bytes().to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            if let Ok(Translated::Messages(messages)) = translator.translate(bytes) {
                for message in messages {
                    prop_assert!(Message::parse(&message).is_ok());
                }
            }
        }
    }

    #[test]
    fn any_text_and_name_arrive(name in "[^\\x00]{1,20}", text in "[^\\x00]*", old in "[^\\x00]*") {
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        let column = |text: &str| format!(r#"{{"name":{},"typeoid":25,"value":{}}}"#, quoted(&name), quoted(text));
        let line = format!(
            r#"{{"action":"U","schema":{0},"table":{0},"columns":[{1}],"identity":[{2}],"pk":[]}}"#,
            quoted(&name), column(&text), column(&old),
        );
        let mut shape = table(7, &name, ReplicaIdentity::Full, &[("", TEXT)]);
        shape.schema.clone_from(&name);
        shape.columns[0].name.clone_from(&name);
        let mut translator = translator();
        translator.define(shape.clone(), &[]).unwrap();
        let messages = messages(&mut translator, &line);
        prop_assert_eq!(Message::parse(&messages[0]), Ok(Message::Relation(shape)));
        let Ok(Message::Update { old: Some(OldTuple::Full(was)), new, .. }) = Message::parse(&messages[1]) else {
            panic!("an update")
        };
        prop_assert!(new.values().eq([Value::Text(text.as_bytes())]));
        prop_assert!(was.values().eq([Value::Text(old.as_bytes())]));
    }
}
