//! As what changes are told: every case of operation, verdicts and key, and a client that follows what it is told.

mod model;
mod permitted;

use std::sync::Arc;

use waldelta_wal::ReplicaIdentity;

use super::*;
use crate::subscription::Numbers;
use crate::testing::{change, filtered, subscription, table};

/// `t (id, v, w)`: whatever `v` is not sent leaves open, `w` decides: 2 passes, 1 leaves it to `v`, 0 fails.
const FILTER: &str = "w = 2 OR (w = 1 AND v = 'in')";

fn wide(identity: ReplicaIdentity) -> Arc<Table> {
    let mut table = table("t");
    let mut number = table.columns[0].clone();
    (number.name, number.number, number.identity, number.nullable) = ("w".into(), 3, false, true);
    table.columns.push(number);
    Arc::new(Table { identity, ..table })
}

fn route(subscriptions: &[Subscription], table: &Table) -> Route {
    crate::testing::everything(subscriptions.to_vec()).route(Some(table)).unwrap().unwrap()
}

fn w(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Passes => 2,
        Verdict::Unknown => 1,
        Verdict::Fails => 0,
    }
}

/// An update of row 1 (from row 9, where the key changes) with these verdicts; `v` is never sent.
fn update(table: &Arc<Table>, before: Option<Verdict>, after: Verdict, moves: bool) -> Change {
    let id = if moves { 9 } else { 1 };
    Change {
        data: Some(format!(r#"{{"id":1,"w":{}}}"#, w(after)).into()),
        old_data: before.map(|before| format!(r#"{{"w": {}, "id": {id}}}"#, w(before)).into()),
        unchanged: vec!["v".into()],
        ..change(0, Operation::Update, table, 1)
    }
}

/// `op@key sub`, several joined by a comma.
fn told(telling: Option<Telling<'_>>) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let one = |op: &str, key: Option<&Key<'_>>, sub: &Sub<'_>| {
        let key = key.map_or_else(|| "1".to_owned(), |key| text(key[0]));
        format!("{op}@{key} {}", text(sub))
    };
    match telling {
        None => "nothing".into(),
        Some(Telling::Insert(sub)) => one("insert", None, &sub),
        Some(Telling::Update(sub)) => one("update", None, &sub),
        Some(Telling::Delete { key, sub }) => one("delete", key.as_ref(), &sub),
        Some(Telling::Moved { from, delete, insert }) => {
            format!("{}, {}", one("delete", Some(&from), &delete), one("insert", None, &insert))
        }
        Some(Telling::Truncate(sub)) => one("truncate", None, &sub),
        Some(Telling::Message(sub)) => one("message", None, &sub),
        Some(Telling::Shape) => "shape".into(),
    }
}

#[test]
fn an_update_is_told_by_whether_the_row_is_there_before_and_after() {
    use Verdict::{Fails, Passes, Unknown};
    let table = wide(ReplicaIdentity::Index);
    let route = route(&[filtered("a", "t", FILTER)], &table);
    for (before, after, stays, moves) in [
        (Passes, Passes, "update@1", "delete@9, insert@1"),
        (Passes, Fails, "delete@1", "delete@9"),
        (Passes, Unknown, "update@1", "delete@9, insert@1"),
        (Fails, Passes, "insert@1", "insert@1"),
        (Fails, Fails, "nothing", "nothing"),
        (Fails, Unknown, "update@1", "insert@1"),
        (Unknown, Passes, "update@1", "delete@9, insert@1"),
        (Unknown, Fails, "delete@1", "delete@9"),
        (Unknown, Unknown, "update@1", "delete@9, insert@1"),
    ] {
        let check = |expected: &str, change: &Change| {
            let expected: Vec<_> = expected.split(", ").map(|one| format!("{one} [\"a\"]")).collect();
            let expected = expected.join(", ").replace("nothing [\"a\"]", "nothing");
            assert_eq!(told(route.telling(change)), expected, "{before:?} {after:?}");
        };
        check(stays, &update(&table, Some(before), after, false));
        check(moves, &update(&table, Some(before), after, true));
        if before == Unknown {
            check(stays, &update(&table, None, after, false));
        }
    }
}

#[test]
fn inserts_and_deletes_are_told_unless_the_row_fails() {
    use Verdict::{Fails, Passes, Unknown};
    let table = wide(ReplicaIdentity::Default);
    let route = route(&[filtered("a", "t", FILTER)], &table);
    for (verdict, is_told) in [(Passes, true), (Unknown, true), (Fails, false)] {
        let image = || Some(format!(r#"{{"id":1,"w":{}}}"#, w(verdict)).into());
        let of = |op: &str| if is_told { format!("{op}@1 [\"a\"]") } else { "nothing".into() };
        for operation in [Operation::Insert, Operation::Baseline] {
            let insert = Change { data: image(), ..change(0, operation, &table, 1) };
            assert_eq!(told(route.telling(&insert)), of("insert"));
        }
        let delete = Change { old_data: image(), ..change(0, Operation::Delete, &table, 1) };
        assert_eq!(told(route.telling(&delete)), of("delete"));
    }
    // With the default identity a delete has the key alone.
    let key_alone =
        Change { old_data: Some(r#"{"id":1}"#.into()), ..change(0, Operation::Delete, &table, 1) };
    assert_eq!(told(route.telling(&key_alone)), "delete@1 [\"a\"]", "to be safe");
    let by_key = self::route(&[filtered("a", "t", "id = 2")], &table);
    assert_eq!(told(by_key.telling(&key_alone)), "nothing", "the key decides");
    let nothing_known = change(0, Operation::Delete, &table, 1);
    assert_eq!(told(route.telling(&nothing_known)), "delete@1 [\"a\"]");
}

#[test]
fn what_is_of_no_row_is_told_to_all() {
    let table = wide(ReplicaIdentity::Default);
    let route = route(&[filtered("a", "t", FILTER), filtered("b", "t", "w = 7")], &table);
    let of = |operation| told(route.telling(&change(0, operation, &table, 1)));
    assert_eq!(of(Operation::Truncate), "truncate@1 [\"a\",\"b\"]");
    assert_eq!(of(Operation::Schema), "shape");
    assert_eq!((of(Operation::Skip), of(Operation::Reset)), ("nothing".into(), "nothing".into()));
}

#[test]
fn an_update_without_an_old_image_has_changed_nothing_of_the_identity() {
    let by_key = filtered("a", "t", "id = 2 AND w = 1");
    let change = |table: &Arc<Table>| update(table, None, Verdict::Unknown, false);
    for (identity, expected) in [
        (ReplicaIdentity::Default, "nothing"),
        (ReplicaIdentity::Index, "nothing"),
        // Of which columns a partition's identity is, is not known.
        (ReplicaIdentity::Mixed, "delete@1 [\"a\"]"),
    ] {
        let table = wide(identity);
        let (route, change) = (route(std::slice::from_ref(&by_key), &table), change(&table));
        assert_eq!(told(route.telling(&change)), expected);
    }
    let table = wide(ReplicaIdentity::Default);
    let entered = filtered("a", "t", "id = 1 AND w = 1");
    let (route, change) = (route(&[entered], &table), change(&table));
    assert_eq!(told(route.telling(&change)), "update@1 [\"a\"]");
}

#[test]
fn what_is_unchanged_is_taken_from_the_old_image() {
    let table = wide(ReplicaIdentity::Full);
    let route = route(&[filtered("a", "t", FILTER)], &table);
    for (v, expected) in [("in", "insert@1 [\"a\"]"), ("out", "nothing")] {
        let change = Change {
            old_data: Some(format!(r#"{{"id":1,"v":"{v}","w":0}}"#).into()),
            ..update(&table, None, Verdict::Unknown, false)
        };
        assert_eq!(told(route.telling(&change)), expected);
    }
}

#[test]
fn every_subscription_is_named_whose_rows_it_is_of() {
    let table = wide(ReplicaIdentity::Full);
    let image = |w: u8| Some(Bytes::from(format!(r#"{{"id":1,"v":"x","w":{w}}}"#)));
    let update = |before, after| Change {
        old_data: image(before),
        data: image(after),
        ..change(0, Operation::Update, &table, 1)
    };
    let two = [filtered("one", "t", "w = 1"), filtered("two", "t", "w = 2"), filtered("low", "t", "w < 2")];
    let route = route(&two, &table);
    assert_eq!(told(route.telling(&update(1, 2))), "update@1 [\"two\"]", "another row of the same copy");
    assert_eq!(told(route.telling(&update(3, 1))), "insert@1 [\"low\",\"one\"]");
    assert_eq!(told(route.telling(&update(1, 3))), "delete@1 [\"low\",\"one\"]", "it was theirs");
    assert_eq!(told(route.telling(&update(3, 4))), "nothing");

    // With one that has all rows, all rows are told.
    let all = [two[0].clone(), subscription("all", "public.*")];
    let route = self::route(&all, &table);
    assert!(!route.tells_all_rows() && route.sql().is_none());
    assert_eq!(told(route.telling(&update(1, 3))), "update@1 [\"all\"]", "it left the other");
    assert_eq!(told(route.telling(&update(3, 1))), "update@1 [\"all\",\"one\"]");
    let delete = Change { old_data: image(3), ..change(0, Operation::Delete, &table, 1) };
    assert_eq!(told(route.telling(&delete)), "delete@1 [\"all\"]");
}

#[test]
fn without_a_filter_every_change_is_what_it_is() {
    let table = wide(ReplicaIdentity::Default);
    let with_old = Subscription { old: true, ..subscription("b", "public.*") };
    let other = subscription("c", "other.*");
    let route = route(&[with_old, subscription("a", "t"), other.clone()], &table);
    assert!(route.tells_all_rows() && route.has_old() && route.projection().is_none());
    let both = "[\"a\",\"b\"]";
    for (operation, expected) in
        [(Operation::Insert, "insert@1"), (Operation::Update, "update@1"), (Operation::Delete, "delete@1")]
    {
        let change = change(0, operation, &table, 1);
        assert_eq!(told(route.telling(&change)), format!("{expected} {both}"));
    }
    let moved = Change { old_data: Some(r#"{"id": 9}"#.into()), ..change(0, Operation::Update, &table, 1) };
    assert_eq!(told(route.telling(&moved)), format!("delete@9 {both}, insert@1 {both}"));
    assert!(crate::testing::everything(vec![other]).route(Some(&table)).unwrap().is_none());
}

#[test]
fn keys_that_are_only_printed_in_another_way_are_no_key_change() {
    let table = table("t");
    let route = route(&[subscription("a", "t")], &table);
    let table = Arc::new(table);
    for (key, old, expected) in [
        ("[1e+20]", r#"{"id": 100000000000000000000, "v": "y"}"#, "update"),
        ("[[1,2]]", r#"{"v": "y", "id": [1, 2]}"#, "update"),
        (r#"["a\u000ab"]"#, r#"{"id":"a\nb"}"#, "update"),
        (r#"["a\nb"]"#, r#"{"id":"anb"}"#, "delete"),
        ("[1]", r#"{"id":"1"}"#, "delete"),
        ("[1]", r#"{"v":"the key is not sent"}"#, "update"),
    ] {
        let change = Change {
            row_key: Some(key.into()),
            old_data: Some(old.into()),
            ..change(0, Operation::Update, &table, 1)
        };
        assert!(told(route.telling(&change)).starts_with(expected), "{key}");
    }
}

#[test]
fn what_does_not_fit_names_its_subscription() {
    let table = wide(ReplicaIdentity::Default);
    let columns =
        Subscription { columns: Some(["w".to_owned(), "x".to_owned()].into()), ..subscription("b", "t") };
    for one in [filtered("b", "t", "x = 1"), columns] {
        let selection = crate::testing::everything(vec![filtered("a", "t", "w = 1"), one]);
        let misfit = selection.route(Some(&table)).unwrap_err();
        assert_eq!((misfit.subscription.as_str(), misfit.table), ("b", table.name.clone()));
        assert_eq!(*misfit.error, FilterError::NoColumn { column: "x".into() });
        let other = Table { name: "public.u".parse().unwrap(), ..(*table).clone() };
        assert!(selection.route(Some(&other)).unwrap().is_none());
    }
}

#[test]
fn columns_and_rows_are_the_union_of_the_subscriptions() {
    let table = wide(ReplicaIdentity::Default);
    let columns = |id: &str, columns: &[&str]| Subscription {
        columns: Some(columns.iter().map(|&name| name.to_owned()).collect()),
        ..filtered(id, "t", "w = 1")
    };
    let has = |subscriptions: &[Subscription]| {
        let route = route(subscriptions, &table);
        ["id", "v", "w"].map(|name| route.projection().is_none_or(|projection| projection.has(name)))
    };
    assert_eq!(has(&[columns("a", &["v"])]), [true, true, false]);
    assert_eq!(has(&[columns("a", &["id"]), columns("b", &["w"])]), [true, false, true]);
    assert_eq!(has(&[columns("a", &["id"]), subscription("b", "*")]), [true, true, true]);

    let sql =
        route(&[columns("a", &["v"]), filtered("b", "t", "w = 2"), filtered("c", "t", "w = 1")], &table);
    let one = |filter: &str| Predicate::new(&filter.parse().unwrap(), &table).unwrap().sql();
    assert_eq!(sql.sql(), Some(format!("({}) OR ({})", one("w = 1"), one("w = 2"))));
    let strings = Subscription { big_numbers: Numbers::String, ..subscription("b", "*") };
    let mut big = (*table).clone();
    big.columns[2].type_oid = 20;
    let route = route(&[subscription("a", "t"), strings], &big);
    assert!(route.projection().is_some_and(|projection| projection.is_string("w")));
}
