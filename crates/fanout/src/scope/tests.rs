//! What a tail keeps, what it says it no longer has, and how tables look.

use proptest::prelude::*;
use waldelta_wal::Column;

use super::*;
use crate::subscription::Subscription;
use crate::testing::{position, subscription, table};

fn item(lsn: u64, prev: Position) -> Item {
    Item {
        position: position(lsn),
        prev,
        content: Content::Frame(Utf8Bytes::from("x".repeat(100))),
        own: Vec::new(),
        schemas: Vec::new(),
        routed_at: Instant::now(),
        committed_at_us: 0,
        packed: OnceLock::new(),
    }
}

fn scope(floor: u64, bytes_max: usize) -> Arc<Scope> {
    in_budget(floor, bytes_max, &Arc::new(Budget::new(usize::MAX)))
}

fn in_budget(floor: u64, bytes_max: usize, budget: &Arc<Budget>) -> Arc<Scope> {
    Arc::new(Scope::new(Arc::default(), position(floor), bytes_max, budget))
}

fn lsns(items: &[Arc<Item>]) -> Vec<u64> {
    items.iter().map(|item| item.position.commit_lsn.0).collect()
}

#[test]
fn gives_what_is_after_and_says_when_it_cannot() {
    let scope = scope(10, 3 * (ITEM_BYTES + 100));
    assert_eq!(scope.read(position(9), 1 << 20).unwrap_err(), Behind);
    for lsn in [11, 12, 13] {
        scope.push(item(lsn, scope.newest()));
    }
    assert_eq!(lsns(&scope.read(position(10), 1 << 20).unwrap()), [11, 12, 13]);
    assert_eq!(lsns(&scope.read(position(11), 1).unwrap()), [12], "at least one");
    scope.push(item(14, scope.newest()));
    assert_eq!(scope.read(position(10), 1 << 20).unwrap_err(), Behind, "11 was evicted");
    assert_eq!(lsns(&scope.read(position(11), 1 << 20).unwrap()), [12, 13, 14]);
    scope.cut(position(20));
    assert_eq!(scope.read(position(14), 1 << 20).unwrap_err(), Behind);
    assert!(scope.read(position(20), 1 << 20).unwrap().is_empty());
    assert_eq!(scope.newest(), position(20));
}

#[test]
fn all_scopes_together_keep_no_more_than_the_budget() {
    let one = ITEM_BYTES + 100;
    let budget = Arc::new(Budget::new(4 * (one + 64)));
    let [a, b] = [1 << 20, 1 << 20].map(|bytes_max| in_budget(10, bytes_max, &budget));
    for lsn in 11..15 {
        let scope = if lsn % 2 == 1 { &a } else { &b };
        scope.push(item(lsn, scope.newest()));
    }
    assert_eq!(budget.taken(), (4 * one, 4));
    b.push(item(15, b.newest()));
    assert_eq!(a.read(position(10), 1 << 20).unwrap_err(), Behind, "the oldest of all went");
    assert_eq!(lsns(&a.read(position(11), 1 << 20).unwrap()), [13]);
    assert_eq!(lsns(&b.read(position(10), 1 << 20).unwrap()), [12, 14, 15]);
    a.cut(position(15));
    assert_eq!(budget.taken(), (3 * one, 4));
    drop(b);
    assert_eq!(budget.taken().0, 0);
    for lsn in 16..100 {
        a.push(item(lsn, a.newest()));
    }
    assert_eq!((budget.taken(), a.floor()), ((4 * one, 4), position(95)));

    // What a scope forgets by itself is not noted for ever.
    let small = in_budget(100, one, &budget);
    a.cut(position(100));
    for lsn in 101..200 {
        small.push(item(lsn, small.newest()));
    }
    assert_eq!(budget.taken(), (one, 1));
}

#[test]
fn what_no_frame_tells_is_no_predecessor() {
    let scope = scope(10, 1 << 20);
    let all_concerned = scope.push(Item { content: Content::AuthorsOnly, ..item(11, scope.newest()) });
    assert!(!all_concerned);
    assert_eq!(scope.newest(), position(10));
    let all_concerned = scope.push(Item { content: Content::Shapes, ..item(12, scope.newest()) });
    assert!(all_concerned, "everybody is told of a shape");
    assert_eq!(scope.newest(), position(10), "but a client need not have seen its position");
    assert!(scope.push(item(13, scope.newest())));
}

#[test]
fn a_table_looks_as_its_latest_shape() {
    let columns = Some(["v".to_owned()].into());
    let subscription = Subscription { columns, ..subscription("s", "t") };
    let selection = Arc::new(crate::testing::everything(vec![subscription]));
    let scope = Scope::new(selection, position(0), 1 << 20, &Arc::new(Budget::new(1 << 20)));
    let mut wide = table("t");
    wide.columns.push(Column { name: "more".into(), number: 3, ..wide.columns[1].clone() });
    let (one, two) = (Arc::new(wide.clone()), Arc::new(Table { version: 2, ..wide }));
    let look = |table: &Arc<Table>| scope.look(Some(table)).unwrap().unwrap();
    let version = |look: &Look| look.schema.as_ref().map(|schema| schema.version);
    let first = look(&one);
    let told: serde_json::Value = serde_json::from_str(&first.schema.as_ref().unwrap().frame).unwrap();
    let columns = told["columns"].as_array().unwrap();
    let names: Vec<_> = columns.iter().filter_map(|column| column["name"].as_str()).collect();
    assert_eq!((names, version(&first)), (vec!["id", "v"], Some(1)), "what is told of it");
    assert!(Arc::ptr_eq(&first, &look(&Arc::new(Table::clone(&one)))), "made once");
    assert_eq!((version(&look(&two)), version(&look(&one))), (Some(2), Some(1)));
    assert!(
        scope.look(Some(&Arc::new(table("u")))).unwrap().is_none() && scope.look(None).unwrap().is_none()
    );
    let narrow = Table { columns: one.columns[..1].to_vec(), version: 3, ..Table::clone(&one) };
    assert_eq!(scope.look(Some(&Arc::new(narrow))).unwrap_err().subscription, "s");
    for n in 0..2 * LOOKS_MAX {
        scope.look(Some(&Arc::new(table(&format!("x{n}"))))).unwrap();
    }
    assert!(scope.looks.lock().unwrap().len() <= LOOKS_MAX);
}

#[test]
fn all_scopes_together_keep_no_more_looks_than_there_is_room_for() {
    let subscription = |id: usize| subscription(&format!("{id:-<1000}"), "t");
    let scope = |id: usize, budget: &Arc<Budget>| {
        let selection = Arc::new(crate::testing::everything(vec![subscription(id)]));
        Scope::new(selection, position(0), 1 << 20, budget)
    };
    let t = Arc::new(table("t"));
    let kept = |scope: &Scope| scope.looks.lock().unwrap().len();
    let look = |scope: &Scope| assert!(scope.look(Some(&t)).unwrap().is_some(), "made anew where not kept");
    let budget = Arc::new(Budget::new(64 << 10));
    let mut scopes: Vec<Scope> = (0..50).map(|id| scope(id, &budget)).collect();
    scopes.iter().for_each(look);
    let all: usize = scopes.iter().map(kept).sum();
    assert!((2..16).contains(&all), "{all} looks of 1 KiB at least in 16 KiB");
    look(&scopes[49]);
    assert_eq!(kept(&scopes[49]), 0);
    // Who goes gives room back, and who finds none forgets its own for it.
    scopes.drain(..1);
    look(&scopes[48]);
    assert_eq!(kept(&scopes[48]), 1);
    let u = Arc::new(Table { oid: 1, ..table("t") });
    assert!(scopes[48].look(Some(&u)).unwrap().is_some());
    let tables: Vec<_> = scopes[48].looks.lock().unwrap().keys().copied().collect();
    assert_eq!(tables, [Some(1)]);
    let without = Arc::new(Budget::new(0));
    let poor = scope(0, &without);
    look(&poor);
    assert_eq!(kept(&poor), 0);
}

proptest! {
    /// Whatever is published, evicted, cut and read in between: a reader gets exactly the items after its position, in
    /// order, or is told that it is behind and then reads them elsewhere.
    #[test]
    fn a_reader_misses_nothing(
        steps in prop::collection::vec((0u8..10, 1u64..5), 1..200),
        bytes_max in 1usize..2_000,
        page in 1usize..1_000,
    ) {
        let scope = scope(0, bytes_max);
        let (mut published, mut seen) = (Vec::new(), Vec::new());
        let (mut at, mut lsn) = (position(0), 0);
        for (step, gap) in steps {
            match step {
                0..5 => {
                    lsn += gap;
                    scope.push(item(lsn, scope.newest()));
                    published.push(lsn);
                }
                5 => {
                    lsn += gap;
                    published.push(lsn);
                    scope.cut(position(lsn));
                }
                _ => match scope.read(at, page) {
                    Ok(items) => {
                        for item in &items {
                            prop_assert!(item.prev <= item.position);
                            seen.push(item.position.commit_lsn.0);
                            at = item.position;
                        }
                    }
                    Err(Behind) => {
                        let durable = published.iter().copied().filter(|lsn| position(*lsn) > at);
                        seen.extend(durable);
                        at = position(lsn);
                    }
                },
            }
        }
        let upto = published.iter().copied().filter(|lsn| position(*lsn) <= at).collect::<Vec<_>>();
        prop_assert_eq!(seen, upto);
    }
}
