//! As what changes are told under what may be seen: each case of permission, before and after, with the client's own filter.

use super::*;
use crate::testing::{grant, rule};

/// `t (id, v, w, secret)`; `w = 1` may be seen.
fn narrowed(subscriptions: &[Subscription], columns: Option<&[&str]>, table: &Table) -> Option<Route> {
    let grant = grant(&[rule("t", columns, Some("w = :claims.w"))], serde_json::json!({"w": 1}));
    crate::testing::everything(subscriptions.to_vec()).granted(grant).route(Some(table)).unwrap()
}

fn full() -> Arc<Table> {
    let table = wide(ReplicaIdentity::Full);
    let mut secret = table.columns[1].clone();
    (secret.name, secret.number) = ("secret".into(), 4);
    let columns = table.columns.iter().cloned().chain([secret]).collect();
    Arc::new(Table { columns, ..(*table).clone() })
}

/// A row that may be seen or not, and that the client's filter passes, fails, or leaves open.
#[derive(Clone, Copy, Debug)]
struct Case {
    permitted: Option<bool>,
    own: Verdict,
}

fn image(id: i64, case: Case) -> Bytes {
    let w = match case.permitted {
        Some(true) => ",\"w\":1",
        Some(false) => ",\"w\":2",
        None => "",
    };
    let v = match case.own {
        Verdict::Passes => ",\"v\":\"in\"",
        Verdict::Fails => ",\"v\":\"out\"",
        Verdict::Unknown => "",
    };
    format!("{{\"id\":{id}{v}{w}}}").into()
}

#[test]
fn an_update_is_told_by_what_may_be_seen_before_and_after() {
    let table = full();
    let route = narrowed(&[filtered("a", "t", "v = 'in'")], None, &table).unwrap();
    let cases = [Some(true), Some(false), None].into_iter().flat_map(|permitted| {
        [Verdict::Passes, Verdict::Fails, Verdict::Unknown].map(|own| Case { permitted, own })
    });
    let cases: Vec<Case> = cases.collect();
    for before in &cases {
        for after in &cases {
            for moves in [false, true] {
                let from = if moves { 9 } else { 1 };
                let update = Change {
                    data: Some(image(1, *after)),
                    old_data: Some(image(from, *before)),
                    ..change(0, Operation::Update, &table, 1)
                };
                let seen = |case: &Case| match case.permitted {
                    Some(true) => case.own,
                    // Not to know whether it may be seen is not to see it.
                    Some(false) | None => Verdict::Fails,
                };
                let expected = match (seen(before), seen(after)) {
                    (Verdict::Fails, Verdict::Fails) => "nothing".to_owned(),
                    (_, Verdict::Fails) => format!("delete@{from} [\"a\"]"),
                    (Verdict::Fails, Verdict::Unknown) if !moves && before.permitted == Some(true) => {
                        "update@1 [\"a\"]".to_owned()
                    }
                    (Verdict::Fails, _) => "insert@1 [\"a\"]".to_owned(),
                    _ if moves => "delete@9 [\"a\"], insert@1 [\"a\"]".to_owned(),
                    _ => "update@1 [\"a\"]".to_owned(),
                };
                assert_eq!(told(route.telling(&update)), expected, "{before:?} {after:?} {moves}");
            }
        }
        let (seen, own) = (before.permitted == Some(true), before.own != Verdict::Fails);
        let of = |op: &str| if seen && own { format!("{op}@1 [\"a\"]") } else { "nothing".into() };
        let insert = Change { data: Some(image(1, *before)), ..change(0, Operation::Insert, &table, 1) };
        assert_eq!(told(route.telling(&insert)), of("insert"), "{before:?}");
        let delete = Change { old_data: Some(image(1, *before)), ..change(0, Operation::Delete, &table, 1) };
        assert_eq!(told(route.telling(&delete)), of("delete"), "{before:?}");
    }
}

#[test]
fn without_a_filter_of_its_own_a_client_is_told_of_what_it_may_see_alone() {
    let table = full();
    let route = narrowed(&[subscription("a", "t"), subscription("b", "*")], None, &table).unwrap();
    assert!(!route.tells_all_rows() && route.is_narrowed());
    let row = |permitted| Case { permitted: Some(permitted), own: Verdict::Passes };
    let update = |before, after| Change {
        data: Some(image(1, row(after))),
        old_data: Some(image(1, row(before))),
        ..change(0, Operation::Update, &table, 1)
    };
    assert_eq!(told(route.telling(&update(true, true))), "update@1 [\"a\",\"b\"]");
    assert_eq!(told(route.telling(&update(false, true))), "insert@1 [\"a\",\"b\"]");
    assert_eq!(told(route.telling(&update(true, false))), "delete@1 [\"a\",\"b\"]");
    assert_eq!(told(route.telling(&update(false, false))), "nothing");
    // Nothing is known of the row before: it is not told that it was anybody's.
    let unknown = Change { old_data: None, ..update(true, false) };
    assert_eq!(told(route.telling(&unknown)), "nothing");
    let unknown = Change { old_data: None, ..update(true, true) };
    assert_eq!(told(route.telling(&unknown)), "insert@1 [\"a\",\"b\"]");
    assert_eq!(told(route.telling(&change(0, Operation::Delete, &table, 1))), "nothing");
    assert_eq!(told(route.telling(&change(0, Operation::Truncate, &table, 1))), "truncate@1 [\"a\",\"b\"]");
}

#[test]
fn by_the_key_it_is_known_what_a_row_was_without_its_old_image() {
    let table = wide(ReplicaIdentity::Default);
    let grant = grant(&[rule("t", None, Some("id < 5"))], serde_json::json!({}));
    let selection = crate::testing::everything(vec![filtered("a", "t", "w = 1")]).granted(grant);
    let route = selection.route(Some(&table)).unwrap().unwrap();
    let of = |id: i64, old: Option<i64>, w: u8| {
        let update = Change {
            data: Some(format!("{{\"id\":{id},\"v\":\"x\",\"w\":{w}}}").into()),
            old_data: old.map(|id| format!("{{\"id\":{id}}}").into()),
            ..change(0, Operation::Update, &table, id)
        };
        told(route.telling(&update))
    };
    assert_eq!(of(1, None, 1), "update@1 [\"a\"]");
    assert_eq!(of(1, None, 2), "delete@1 [\"a\"]", "to be safe: it was the client's to see");
    assert_eq!((of(7, None, 1), of(7, None, 2)), ("nothing".into(), "nothing".into()));
    assert_eq!(of(7, Some(2), 1), "delete@2 [\"a\"]");
    assert_eq!(of(1, Some(8), 1), "insert@1 [\"a\"]");
    assert_eq!(of(1, Some(2), 1), "delete@2 [\"a\"], insert@1 [\"a\"]");
}

#[test]
fn a_column_that_may_not_be_seen_is_one_that_the_table_has_not() {
    let table = full();
    let grant = grant(&[rule("t", Some(&["v"]), Some("w = 1"))], serde_json::json!({}));
    let misfit = |one: Subscription, table: &Table| {
        let selection = crate::testing::everything(vec![one]);
        let under = selection.granted(grant.clone()).route(Some(table)).map(|route| route.is_some());
        (under, selection.route(Some(table)).map(|route| route.is_some()))
    };
    let columns = |names: &[&str]| Subscription {
        columns: Some(names.iter().map(|&name| name.to_owned()).collect()),
        ..subscription("a", "t")
    };
    // For each, what is asked for of one without the columns, and of this one.
    let mut without = (*table).clone();
    without.columns.truncate(2);
    let [by_w, by_secret] =
        ["w = 1 AND nope = 2", "secret LIKE 'a%'"].map(|filter| filtered("a", "t", filter));
    for one in [
        by_w,
        by_secret,
        filtered("a", "t", "secret = 1 OR id = 1"),
        columns(&["v", "w"]),
        columns(&["secret"]),
    ] {
        let (under, _) = misfit(one.clone(), &table);
        let (_, missing) = misfit(one.clone(), &without);
        assert_eq!(under.clone().unwrap_err(), missing.unwrap_err(), "{one:?}");
        assert_eq!(under.unwrap_err().message(), misfit(one, &table).0.unwrap_err().message());
    }
    for one in [filtered("a", "t", "id = 1 AND v = 'x'"), columns(&["v"]), columns(&["id"])] {
        assert_eq!(misfit(one, &table), (Ok(true), Ok(true)));
    }
    assert!(misfit(columns(&[""]), &table).0.is_err(), "a column without a name");
}

#[test]
fn columns_are_those_that_may_be_seen_and_the_key() {
    let table = full();
    let has = |subscriptions: &[Subscription], columns: Option<&[&str]>| {
        let route = narrowed(subscriptions, columns, &table).unwrap();
        ["id", "v", "w", "secret"]
            .map(|name| route.projection().is_none_or(|projection| projection.has(name)))
    };
    let all = [subscription("a", "t"), subscription("b", "*")];
    assert_eq!(has(&all, None), [true; 4]);
    assert_eq!(has(&all, Some(&["v", "elsewhere"])), [true, true, false, false]);
    assert_eq!(has(&all, Some(&[])), [true, false, false, false]);
    let v = Subscription { columns: Some(["v".to_owned()].into()), ..subscription("c", "t") };
    assert_eq!(has(std::slice::from_ref(&v), Some(&["v", "w"])), [true, true, false, false]);
    assert_eq!(has(&[v, subscription("b", "*")], Some(&["v", "w"])), [true, true, true, false]);
}

#[test]
fn what_is_read_of_the_table_is_what_may_be_seen_of_it() {
    let table = full();
    let sql = |subscriptions: &[Subscription]| narrowed(subscriptions, None, &table).unwrap().sql().unwrap();
    let one = |filter: &str| Predicate::new(&filter.parse().unwrap(), &table).unwrap().sql();
    let (permitted, a, b) = (one("w = 1"), one("v = 'a'"), one("v = 'b'"));
    assert_eq!(sql(&[subscription("a", "t")]), permitted);
    assert_eq!(sql(&[filtered("a", "t", "v = 'a'"), subscription("b", "*")]), permitted);
    assert_eq!(
        sql(&[filtered("a", "t", "v = 'a'"), filtered("b", "t", "v = 'b'")]),
        format!("({permitted}) AND (({a}) OR ({b}))")
    );
    // Where old rows do not say whether they could be seen, there is no such table.
    let key_alone = Table { identity: ReplicaIdentity::Default, ..(*table).clone() };
    assert!(narrowed(&[subscription("a", "t")], None, &key_alone).is_none());
}
