//! What it costs to find whom a change concerns where ten thousand scopes differ in their filters: counted, not timed.

use super::*;
use crate::rules::Rules;

const SCOPES: u64 = 10_000;

/// A scope for each filter.
fn world(filters: impl Iterator<Item = String>) -> World {
    let mut world = World::default();
    for filter in filters {
        world.enter(vec![subscription("s", "t", Some(&filter))]);
    }
    world
}

/// How many scopes a change concerns, and the filters evaluated for it.
fn check(world: &mut World, change: &Change, scopes: u64, evaluations: u64) {
    let (found, work) = world.concerned(std::slice::from_ref(change));
    assert_eq!((found.len() as u64, work.evaluations), (scopes, evaluations), "{change:?}");
}

/// An update of the row `id` from one pair of `v` and `n` to another; `None` where the source does not send the row before.
fn update(table: &Arc<Table>, id: u64, old: Option<(u64, u64)>, (v, n): (u64, u64)) -> Change {
    let image = |v: u64, n: u64| format!(r#"{{"id":{id},"v":"{v}","n":{n}}}"#);
    let old = old.map(|(v, n)| image(v, n));
    let told = change(0, Operation::Update, table, Some(&image(v, n)), old.as_deref());
    Change { row_key: Some(format!("[{id}]").into()), ..told }
}

#[test]
fn two_columns_compared_for_equality_lead_to_the_filters_that_compare_both() {
    let [table, ..] = tables();
    let both = (0..SCOPES).map(|n| format!("v = '{}' AND n = {}", n / 100, n % 100));
    let mut world = world(both);
    check(&mut world, &insert(&table, r#"{"id":1,"v":"7","n":77}"#), 1, 1);
    check(&mut world, &insert(&table, r#"{"id":1,"v":"7","n":100}"#), 0, 0);
    check(&mut world, &insert(&table, r#"{"id":1,"v":null,"n":77}"#), 0, 0);
    check(&mut world, &update(&table, 1, Some((3, 4)), (5, 6)), 2, 2);
    check(&mut world, &update(&table, 1, Some((3, 4)), (3, 4)), 1, 1);
    check(&mut world, &update(&table, 1, None, (3, 4)), SCOPES, SCOPES);
    world.leave(704 + 1);
    check(&mut world, &insert(&table, r#"{"id":1,"v":"7","n":4}"#), 0, 0);
    check(&mut world, &insert(&table, r#"{"id":1,"v":"7","n":5}"#), 1, 1);
}

#[test]
fn an_equality_that_all_have_does_not_hide_the_one_in_which_they_differ() {
    let [table, ..] = tables();
    let mut alike = world((0..SCOPES).map(|n| format!("v = 'order' AND n = {n} AND id > 0")));
    check(&mut alike, &insert(&table, r#"{"id":1,"v":"order","n":77}"#), 1, 1);
    // Of the row before only the key is known: it tells them apart, whatever else they ask for.
    let mut by_key = world((0..SCOPES / 10).map(|n| format!("v = 'order' AND id = {n}")));
    check(&mut by_key, &update(&table, 77, None, (1, 1)), 1, 1);
    check(&mut by_key, &insert(&table, r#"{"id":77,"v":"order","n":1}"#), 1, 1);
    check(&mut by_key, &insert(&table, r#"{"id":77,"v":"other","n":1}"#), 0, 0);
}

#[test]
fn lists_lead_to_the_filters_that_have_the_value() {
    let [table, ..] = tables();
    let mut lists = world((0..SCOPES).map(|n| format!("n IN ({n}, {}, {})", n + 1, n + 2)));
    check(&mut lists, &insert(&table, r#"{"id":1,"v":"x","n":77}"#), 3, 3);
    check(&mut lists, &update(&table, 1, Some((1, 77)), (1, 78)), 4, 4);
    check(&mut lists, &insert(&table, r#"{"id":1,"v":"x","n":-1}"#), 0, 0);
    let two = |n: u64| format!("v IN ('{}', 'x') AND n IN ({}, {})", n / 100, n % 100, 100 + n % 100);
    let mut two = world((0..SCOPES / 10).map(two));
    check(&mut two, &insert(&table, r#"{"id":1,"v":"7","n":177}"#), 1, 1);
    check(&mut two, &insert(&table, r#"{"id":1,"v":"x","n":77}"#), 10, 10);
}

#[test]
fn a_range_is_evaluated_where_the_equality_beside_it_leads_to_it() {
    let [table, ..] = tables();
    let mut ranges = world((0..SCOPES).map(|n| format!("n = {} AND id > {}", n / 10, n % 10)));
    check(&mut ranges, &insert(&table, r#"{"id":4,"v":"x","n":77}"#), 4, 10);
    check(&mut ranges, &insert(&table, r#"{"id":4,"v":"x","n":-1}"#), 0, 0);
}

/// Nothing leads to a range by itself: all of them are evaluated, each distinct one once for a change.
#[test]
fn a_range_alone_is_evaluated_on_every_change_however_many_have_it() {
    let [table, ..] = tables();
    let distinct = SCOPES / 10;
    let mut world = World::default();
    for n in 0..SCOPES {
        world.enter(vec![subscription(&format!("s{n}"), "t", Some(&format!("n > {}", n % distinct)))]);
    }
    check(&mut world, &insert(&table, r#"{"id":1,"v":"x","n":7}"#), 7 * 10, distinct);
    check(&mut world, &update(&table, 1, Some((1, 7)), (1, 9)), 9 * 10, distinct);
}

/// A scope for each tenant, who may see the rows that have its number in `n`, and follows them by the table's name, by its schema,
/// or with everything.
fn tenants() -> World {
    let rules = Rules::parse(&[rule("*", Some(&["v"]), Some("n = :claims.n"))]).unwrap();
    let mut world = World::default();
    for n in 0..SCOPES {
        let table = ["t", "public.*", "*"][usize::try_from(n % 3).unwrap()];
        let identity = testing::identity(serde_json::json!({"sub": "somebody", "n": n}));
        world.enter_granted(vec![subscription("s", table, None)], rules.grant(Some(&identity)));
    }
    world
}

#[test]
fn what_tenants_may_see_is_found_by_its_value_however_they_follow_it() {
    let full = tables()[2].clone();
    let mut world = tenants();
    for n in [77, 78, 79] {
        check(&mut world, &insert(&full, &format!(r#"{{"id":1,"v":"x","n":{n}}}"#)), 1, 1);
    }
    check(&mut world, &insert(&full, r#"{"id":1,"v":"x","n":null}"#), 0, 0);
    check(&mut world, &update(&full, 1, Some((1, 4)), (1, 6)), 2, 2);
    check(&mut world, &update(&full, 1, Some((1, 4)), (2, 4)), 1, 1);
    for n in [4, 6] {
        world.leave(n + 1);
    }
    check(&mut world, &update(&full, 1, Some((1, 4)), (1, 6)), 0, 0);
    // Of a table whose old rows do not say whose they were, nothing may be seen.
    let key_alone = tables()[0].clone();
    world.index.meet([key_alone.oid].into_iter());
    check(&mut world, &insert(&key_alone, r#"{"id":1,"v":"x","n":77}"#), 0, 0);
    check(&mut world, &update(&key_alone, 1, None, (1, 7)), 0, 0);
    let numbers: Vec<Number> = world.scopes.keys().copied().collect();
    numbers.into_iter().for_each(|number| world.leave(number));
    world.concerned(&[]);
    assert!(world.index.is_empty());
}

#[test]
fn what_tenants_ask_for_of_what_they_may_see_is_found_by_both() {
    let full = tables()[2].clone();
    let rules = Rules::parse(&[rule("t", None, Some("n = :claims.n"))]).unwrap();
    let mut world = World::default();
    for n in 0..SCOPES {
        let identity = testing::identity(serde_json::json!({"n": n % 100}));
        let own = format!("v = '{}' AND id > 0", n / 100);
        world.enter_granted(vec![subscription("s", "t", Some(&own))], rules.grant(Some(&identity)));
    }
    check(&mut world, &insert(&full, r#"{"id":1,"v":"7","n":77}"#), 1, 1);
    check(&mut world, &insert(&full, r#"{"id":0,"v":"7","n":77}"#), 0, 1);
    check(&mut world, &insert(&full, r#"{"id":1,"v":"7","n":100}"#), 0, 0);
    check(&mut world, &update(&full, 1, Some((3, 4)), (5, 6)), 2, 2);
}

#[test]
fn beyond_a_bound_whoever_may_see_anything_of_a_table_is_concerned_and_nobody_is_missed() {
    let mut world = tenants();
    let named = |name: usize| {
        let name = waldelta_wal::TableName { schema: "public".into(), name: format!("t{name}") };
        Arc::new(Table { name, ..(*tables()[2]).clone() })
    };
    let truncate = |table: &Arc<Table>| change(0, Operation::Truncate, table, None, None);
    // A third of them name `t` and do not follow these.
    let all = SCOPES - SCOPES.div_ceil(3);
    for name in 0..32 {
        assert_eq!(world.concerned(&[truncate(&named(name))]).0.len() as u64, all, "{name}");
    }
    let row = r#"{"id":1,"v":"x","n":77}"#;
    check(&mut world, &insert(&named(31), row), all, 0);
    check(&mut world, &insert(&named(0), row), 1, 1);
    let everything = world.enter(vec![subscription("s", "*", None)]);
    check(&mut world, &insert(&named(0), row), 2, 1);
    world.leave(everything);
    let numbers: Vec<Number> = world.scopes.keys().copied().collect();
    numbers.into_iter().for_each(|number| world.leave(number));
    world.concerned(&[]);
    assert!(world.index.is_empty());
}
