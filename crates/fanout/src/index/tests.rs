//! Whom the index names: against what the routes of the scopes say, and at what cost.

mod counts;
mod new;

use bytes::Bytes;
use proptest::prelude::*;
use waldelta_wal::{Column, Kind, Operation, ReplicaIdentity, Table};

use super::*;
use crate::filter::{Predicate, Row, Verdict};
use crate::rules::Rule;
use crate::scope::Budget;
use crate::subscription::Subscription;
use crate::testing::{self, at_once, message, position, reset_change, rule, schema_change};

/// `t (id integer primary key, v text, n integer)`; its second version is without `n`, the others have other replica identities.
fn tables() -> [Arc<Table>; 4] {
    let mut table = testing::table("t");
    let second = Table { version: 2, ..table.clone() };
    let kind = Kind::builtin(23).unwrap();
    let id = table.columns[0].clone();
    table.columns.push(Column { number: 3, name: "n".into(), kind, nullable: true, identity: false, ..id });
    let other = |version, identity| Table { version, identity, ..table.clone() };
    let (third, fourth) = (other(3, ReplicaIdentity::Full), other(4, ReplicaIdentity::Nothing));
    [table, second, third, fourth].map(Arc::new)
}

fn subscription(id: &str, table: &str, filter: Option<&str>) -> Subscription {
    Subscription { filter: filter.map(|filter| filter.parse().unwrap()), ..testing::subscription(id, table) }
}

fn scope(subscriptions: Vec<Subscription>, grant: Grant) -> Arc<Scope> {
    let selection = Arc::new(Selection::new(subscriptions, grant));
    Arc::new(Scope::new(selection, position(0), 1 << 10, &Arc::new(Budget::new(1 << 20))))
}

/// Scopes as the registry would keep them.
#[derive(Default)]
struct World {
    index: Index,
    moves: Moves,
    scopes: BTreeMap<Number, Arc<Scope>>,
    made: Number,
}

impl World {
    fn enter(&mut self, subscriptions: Vec<Subscription>) -> Number {
        self.enter_granted(subscriptions, Grant::everything())
    }

    fn enter_granted(&mut self, subscriptions: Vec<Subscription>, grant: Grant) -> Number {
        self.made += 1;
        let scope = scope(subscriptions, grant);
        self.moves.enter(self.made, scope.clone());
        self.scopes.insert(self.made, scope);
        self.made
    }

    fn leave(&mut self, number: Number) {
        self.moves.leave(number);
        self.scopes.remove(&number);
    }

    fn concerned(&mut self, changes: &[Change]) -> (BTreeMap<Number, Which>, Work) {
        let pace = &mut Pace::of(usize::MAX);
        at_once(self.index.apply(std::mem::take(&mut self.moves), pace));
        let found = at_once(self.index.concerned(changes, pace));
        let numbers: HashMap<*const Scope, Number> =
            self.scopes.iter().map(|(number, scope)| (Arc::as_ptr(scope), *number)).collect();
        let count = found.scopes.len();
        let numbered: BTreeMap<_, _> =
            found.scopes.into_iter().map(|(scope, which)| (numbers[&Arc::as_ptr(&scope)], which)).collect();
        assert_eq!(numbered.len(), count, "each once");
        (numbered, found.work)
    }
}

fn change(
    seq: u32,
    operation: Operation,
    table: &Arc<Table>,
    data: Option<&str>,
    old: Option<&str>,
) -> Change {
    let image = |text: Option<&str>| text.map(|text| Bytes::from(text.to_owned()));
    Change { data: image(data), old_data: image(old), ..testing::change(seq, operation, table, 1) }
}

fn insert(table: &Arc<Table>, data: &str) -> Change {
    change(0, Operation::Insert, table, Some(data), None)
}

#[test]
fn a_change_looks_at_the_scopes_of_its_value_alone() {
    const SCOPES: u64 = 10_000;
    let mut world = World::default();
    for n in 0..SCOPES {
        world.enter(vec![subscription("s", "t", Some(&format!("n = {n}")))]);
    }
    let [table, ..] = tables();
    let (found, work) = world.concerned(&[insert(&table, r#"{"id":1,"v":"x","n":77}"#)]);
    assert_eq!(found, BTreeMap::from([(78, Which::Listed(vec![0]))]));
    assert_eq!(work, Work { scopes: 1, lookups: 1, evaluations: 1 });

    let moved = r#"{"id":1,"v":"x","n":5}"#;
    let update = change(0, Operation::Update, &table, Some(r#"{"id":1,"v":"x","n":77}"#), Some(moved));
    let (found, work) = world.concerned(std::slice::from_ref(&update));
    assert_eq!((found.into_keys().collect::<Vec<_>>(), work.evaluations), (vec![6, 78], 2));

    let nowhere = insert(&table, r#"{"id":1,"v":"x","n":null}"#);
    let (found, work) = world.concerned(&[nowhere, insert(&table, r#"{"id":1,"v":"x","n":-1}"#)]);
    assert_eq!((found.len(), work), (0, Work { scopes: 0, lookups: 2, evaluations: 0 }));

    // One comes and one goes: the others are not looked at again.
    world.leave(78);
    let new = world.enter(vec![subscription("s", "t", Some("n in (77, 5)"))]);
    let (found, work) = world.concerned(&[update]);
    assert_eq!((found.into_keys().collect::<Vec<_>>(), work.evaluations), (vec![6, new], 2));

    // Without the row before, it may have been in any of them.
    let unknown = change(0, Operation::Update, &table, Some(moved), None);
    let (found, work) = world.concerned(&[unknown]);
    assert_eq!((found.len() as u64, work.evaluations), (SCOPES, SCOPES));
}

#[test]
fn a_filter_that_many_have_is_evaluated_once() {
    let mut world = World::default();
    for n in 0..1_000 {
        world.enter(vec![subscription(&format!("s{n}"), "t", Some("n > 10"))]);
    }
    let other = world.enter(vec![subscription("s", "t", Some("n > 11"))]);
    let [table, ..] = tables();
    let (found, work) = world.concerned(&[insert(&table, r#"{"id":1,"v":"x","n":11}"#)]);
    assert_eq!((found.len(), found.contains_key(&other)), (1_000, false));
    assert_eq!(work, Work { scopes: 1_000, lookups: 0, evaluations: 2 });
}

#[test]
fn a_large_transaction_is_told_apart_by_its_changes() {
    let mut world = World::default();
    let [table, ..] = tables();
    let (odd, all) = (
        world.enter(vec![subscription("s", "t", Some("v = 'odd'"))]),
        world.enter(vec![subscription("s", "t", Some("v = 'odd'")), subscription("t", "public.*", None)]),
    );
    let row = |n: u32| format!(r#"{{"id":{n},"v":"{}","n":1}}"#, if n % 2 == 1 { "odd" } else { "even" });
    let changes: Vec<Change> = (0..5).map(|n| insert(&table, &row(n))).collect();
    let (found, _) = world.concerned(&changes);
    assert_eq!(found, BTreeMap::from([(odd, Which::Listed(vec![1, 3])), (all, Which::Any)]));
    let of = |which: &Which| which.of(&changes).map(|change| change.data.clone()).collect::<Vec<_>>();
    assert_eq!(of(&found[&odd]), [changes[1].data.clone(), changes[3].data.clone()]);
    assert_eq!((of(&found[&all]).len(), of(&Which::NONE).len()), (5, 0));

    let mut marks = Marks { listed: LISTED_MAX, ..Marks::default() };
    marks.list(odd, 7);
    assert_eq!(marks.scopes[&odd], Which::Any, "what is noted is bounded");
}

#[test]
fn what_concerns_a_table_as_a_whole_concerns_whoever_has_a_filter_on_it() {
    let mut world = World::default();
    let [table, ..] = tables();
    let filtered = world.enter(vec![subscription("s", "t", Some("n = 1"))]);
    let named = world.enter(vec![subscription("s", "t", None)]);
    let everything = world.enter(vec![subscription("s", "*", None)]);
    let elsewhere =
        world.enter(vec![subscription("s", "u", Some("v = 'x'")), subscription("r", "other.*", None)]);
    let of_t = [filtered, named, everything];
    for operation in [Operation::Truncate, Operation::Schema] {
        let whole = match operation {
            Operation::Schema => schema_change(0, &table),
            _ => change(0, operation, &table, None, None),
        };
        assert!(world.concerned(&[whole]).0.into_keys().eq(of_t), "{operation:?}");
    }
    assert!(world.concerned(&[reset_change(0, "t")]).0.into_keys().eq(of_t));
    assert!(world.concerned(&[reset_change(0, "u")]).0.into_keys().eq([everything, elsewhere]));
    assert!(world.concerned(&[message(0, "x"), message(1, "y")]).0.into_keys().eq([everything]));
    assert!(world.concerned(&[change(0, Operation::Skip, &table, None, None)]).0.is_empty());

    let large = |world: &World, name: &str, messages| {
        let tables = [name.parse().unwrap()];
        at_once(world.index.of_tables(&tables, messages, &mut Pace::of(usize::MAX))).scopes.len()
    };
    assert_eq!((large(&world, "t", false), large(&world, "u", true), large(&world, "x", false)), (3, 2, 1));
    for number in [filtered, named, everything, elsewhere] {
        world.leave(number);
    }
    world.concerned(&[]);
    assert!(world.index.is_empty());
}

/// Filters of every kind that the index treats differently, and some that share columns and values.
const FILTERS: [&str; 14] = [
    "v = 'a'",
    "v = 'b'",
    "v in ('a', 'c')",
    "v = 'a' and n > 1",
    "v = 'a' or n = 1",
    "v = 'a' or v = 'b'",
    "n = 1",
    "n in (0, 2)",
    "n > 1",
    "n <= 1 and id > 1",
    "n is null",
    "not (v = 'a')",
    "id = 2",
    "id = 2 and v = 'b'",
];

/// What scopes may see: everything, and less of one kind or another.
fn grants() -> Vec<Grant> {
    let of = |rules: &[Rule]| testing::grant(rules, serde_json::json!({"id": [1, 2], "v": "a"}));
    vec![
        Grant::everything(),
        of(&[rule("t", None, Some("v = :claims.v"))]),
        of(&[rule("public.*", None, Some("id IN (:claims.id)"))]),
        of(&[rule("t", Some(&["v"]), None), rule("*", None, None)]),
        of(&[rule("u", None, None)]),
        of(&[rule("t", Some(&["v"]), Some("id = 1 OR id = 3")), rule("*", None, Some("v = 'b'"))]),
        of(&[rule("*", None, Some("n = 1 OR v > 'a'"))]),
        of(&[rule("*", None, Some("v = :claims.missing"))]),
    ]
}

#[derive(Clone, Debug)]
enum Act {
    /// A scope with these filters on `t`, and a subscription without one of something else, or of `t` too.
    Enter {
        filters: Vec<usize>,
        more: Option<&'static str>,
        grant: usize,
    },
    Leave(prop::sample::Index),
    /// A transaction: changes of the table in this version.
    Commit {
        version: usize,
        changes: Vec<Made>,
    },
}

/// A change of `t`.
#[derive(Clone, Debug)]
struct Made {
    operation: Operation,
    new: [u8; 3],
    old: [u8; 3],
    before: Before,
    v_unchanged: bool,
}

/// What the source sends of the row before.
#[derive(Clone, Copy, Debug)]
enum Before {
    Nothing,
    Key,
    Whole,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let more = prop::option::weighted(0.3, prop::sample::select(vec!["t", "u", "public.*", "*", "other.*"]));
    let grant = prop_oneof![Just(0), 0..grants().len()];
    let enter = (prop::collection::vec(0..FILTERS.len(), 0..4), more, grant)
        .prop_map(|(filters, more, grant)| Act::Enter { filters, more, grant });
    let operation = prop::sample::select(vec![
        Operation::Insert,
        Operation::Insert,
        Operation::Baseline,
        Operation::Update,
        Operation::Update,
        Operation::Update,
        Operation::Delete,
        Operation::Delete,
        Operation::Truncate,
        Operation::Schema,
        Operation::Skip,
    ]);
    let before = prop::sample::select(vec![Before::Nothing, Before::Key, Before::Whole, Before::Whole]);
    let row = || [1u8..4, 0u8..4, 0u8..4];
    let made = (operation, row(), row(), before, prop::bool::weighted(0.2)).prop_map(
        |(operation, new, old, before, v_unchanged)| Made { operation, new, old, before, v_unchanged },
    );
    let version = prop::sample::select(vec![0, 0, 0, 0, 0, 1, 2, 3]);
    let commit = (version, prop::collection::vec(made, 1..4))
        .prop_map(|(version, changes)| Act::Commit { version, changes });
    let act = prop_oneof![
        4 => enter,
        1 => any::<prop::sample::Index>().prop_map(Act::Leave),
        4 => commit,
    ];
    prop::collection::vec(act, 1..30)
}

impl Made {
    fn change(&self, seq: u32, table: &Arc<Table>) -> Change {
        let whole = |[id, v, n]: [u8; 3], has_v: bool| {
            let v = match v {
                _ if !has_v => String::new(),
                0 => r#","v":null"#.to_owned(),
                v => format!(r#","v":"{}""#, char::from(b'a' - 1 + v)),
            };
            let n = match (table.version, n) {
                (2, _) => String::new(),
                (_, 3) => r#","n":null"#.to_owned(),
                (_, n) => format!(r#","n":{n}"#),
            };
            format!(r#"{{"id":{id}{v}{n}}}"#)
        };
        // A key that changes is always told, and what was not sent is taken from a whole old row.
        let key_changes = self.new[0] != self.old[0];
        let (mut new, mut before) = (self.new, self.before);
        let has_v = !self.v_unchanged || matches!(before, Before::Whole);
        if self.v_unchanged {
            new[1] = self.old[1];
        }
        if matches!(before, Before::Nothing) && key_changes {
            before = Before::Key;
        }
        let old = match before {
            Before::Nothing => None,
            Before::Key => Some(format!(r#"{{"id":{}}}"#, self.old[0])),
            Before::Whole => Some(whole(self.old, true)),
        };
        match self.operation {
            Operation::Schema => schema_change(seq, table),
            Operation::Insert | Operation::Baseline => {
                change(seq, self.operation, table, Some(&whole(self.new, true)), None)
            }
            Operation::Update => {
                let told = Change {
                    unchanged: if has_v { Vec::new() } else { vec!["v".into()] },
                    ..change(seq, self.operation, table, Some(&whole(new, has_v)), old.as_deref())
                };
                Change { row_key: Some(format!("[{}]", new[0]).into()), ..told }
            }
            Operation::Delete => {
                let told = change(seq, self.operation, table, None, old.as_deref());
                Change { row_key: Some(format!("[{}]", self.old[0]).into()), ..told }
            }
            _ => change(seq, self.operation, table, None, None),
        }
    }
}

/// Whether all filters that a scope has fail on a change for sure, or nothing of it may be seen, so that it has no business to be
/// named.
fn fails_for_sure(scope: &Scope, change: &Change, table: &Arc<Table>) -> bool {
    let of_row = [Operation::Insert, Operation::Baseline, Operation::Update, Operation::Delete];
    if !of_row.contains(&change.operation) {
        return false;
    }
    let Some(permission) = scope.selection.grant().permission(table) else { return true };
    let had_row = matches!(change.operation, Operation::Update | Operation::Delete);
    let sees_after = change.data.is_some() && permission.passes(&Row::after(change, table));
    let sees_before = had_row && permission.passes(&Row::before(change, table));
    let matching = scope.selection.subscriptions().iter().filter(|other| other.table.matches(&table.name));
    let bound = matching.map(|subscription| {
        let filter = subscription.filter.as_ref()?;
        Some(Predicate::new(filter, &permission.visible(table)).ok())
    });
    let bound: Vec<Option<Option<Predicate>>> = bound.collect();
    // Whoever has a filter that is none for this table has to find that out.
    let is_unfit = bound.iter().any(|filter| filter.as_ref().is_some_and(Option::is_none));
    (!is_unfit && !sees_after && !sees_before && permission.rows().is_some())
        || bound.iter().all(|filter| {
            let Some(Some(predicate)) = filter else { return false };
            let fails = |row: Row<'_>| predicate.verdict(&row) == Verdict::Fails;
            let old = change.old_data.as_deref();
            let after = change.data.as_deref().is_none_or(|data| {
                let row = Row::new(table, data);
                fails(if let Some(old) = old { row.or(table, old) } else { row })
            });
            (after || !sees_after) && (!sees_before || fails(Row::new(table, old.unwrap_or(b"{}"))))
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 2))]

    #[test]
    fn the_index_misses_nobody_and_names_nobody_for_nothing(acts in acts()) {
        let mut world = World::default();
        let tables = tables();
        world.index.meet([tables[0].oid].into_iter());
        let grants = grants();
        for act in acts {
            match act {
                Act::Enter { filters, more, grant } => {
                    let filters = filters.into_iter().enumerate();
                    let mut subscriptions: Vec<Subscription> =
                        filters.map(|(n, filter)| subscription(&format!("s{n}"), "t", Some(FILTERS[filter]))).collect();
                    subscriptions.extend(more.map(|table| subscription("more", table, None)));
                    world.enter_granted(subscriptions, grants[grant].clone());
                }
                Act::Leave(which) => {
                    let numbers: Vec<Number> = world.scopes.keys().copied().collect();
                    if !numbers.is_empty() {
                        world.leave(*which.get(&numbers));
                    }
                }
                Act::Commit { version, changes } => {
                    let table = &tables[version];
                    let changes: Vec<Change> =
                        (0u32..).zip(&changes).map(|(seq, made)| made.change(seq, table)).collect();
                    let (found, _) = world.concerned(&changes);
                    let none = Which::NONE;
                    for (number, scope) in &world.scopes {
                        let which = found.get(number).unwrap_or(&none);
                        let look = scope.look(Some(table));
                        for change in &changes {
                            let is_named = which.of(&changes).any(|named| std::ptr::eq(named, change));
                            let is_told = is_told(change) && match &look {
                                Ok(Some(look)) => look.route.telling(change).is_some(),
                                Ok(None) => false,
                                Err(_) => true,
                            };
                            prop_assert!(is_named || !is_told, "{change:?} is missed by {:?}", scope.selection);
                            if let Which::Listed(_) = which {
                                let fails = fails_for_sure(scope, change, table);
                                prop_assert!(!is_named || !fails, "{change:?} is nothing to {:?}", scope.selection);
                            }
                        }
                    }
                }
            }
        }
    }
}
