//! Tables of whose first change everybody is told whose rule may not fit them.

use super::*;

fn tenant(n: u8) -> Grant {
    testing::grant(&[rule("public.*", None, Some("n = :claims.n"))], serde_json::json!({ "n": n }))
}

/// Two tenants, and one who may see everything and asks for a part.
fn world() -> World {
    let mut world = World::default();
    world.enter_granted(vec![subscription("s", "t", None)], tenant(1));
    world.enter_granted(vec![subscription("s", "*", None)], tenant(2));
    world.enter(vec![subscription("s", "t", Some("n = 3"))]);
    world
}

fn of(table: &Arc<Table>, n: u8) -> [Change; 1] {
    [insert(table, &format!(r#"{{"id":1,"v":"x","n":{n}}}"#))]
}

fn concerned(world: &mut World, changes: &[Change]) -> Vec<Number> {
    world.concerned(changes).0.into_keys().collect()
}

#[test]
fn the_first_change_of_a_table_concerns_all_whose_rule_may_not_fit_it() {
    let [table, second, full, _] = tables();
    let first = Arc::new(Table { version: 1, ..Table::clone(&full) });
    let mut world = world();
    assert_eq!(concerned(&mut world, &of(&first, 2)), [1, 2], "one of them is another tenant");
    assert_eq!(concerned(&mut world, &of(&first, 2)), [2], "once");
    assert_eq!(concerned(&mut world, &of(&full, 1)), [1], "a change tells a later shape");
    // Also of one that the rule does not fit, and not of one that history had before.
    let mut world = self::world();
    assert_eq!(concerned(&mut world, &of(&table, 4)), [1, 2]);
    let mut world = self::world();
    world.index.meet([first.oid].into_iter());
    assert_eq!(concerned(&mut world, &of(&first, 2)), [2]);
    assert!(concerned(&mut world, &of(&second, 4)).iter().all(|number| *number == 3));
}

#[test]
fn the_next_change_of_a_table_that_somebody_lacks_concerns_all_whose_rule_may_not_fit_it() {
    let [_, _, full, _] = tables();
    let mut world = world();
    assert_eq!(concerned(&mut world, &of(&full, 2)), [2]);
    world.moves.awaits(&[full.oid, 7]);
    assert_eq!(concerned(&mut world, &of(&full, 2)), [1, 2]);
    assert_eq!(concerned(&mut world, &of(&full, 2)), [2], "once");
}
