//! Whatever happens to the rows of a table: a client that does what it is told has the rows of its filters.
//!
//! Where the source sends whole old rows, or every column that a filter reads, it has exactly these. Where a filter reads a large
//! value that was not sent, it may have rows beyond them, and rows without that value; it never lacks a row.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use waldelta_wal::ReplicaIdentity;

use super::*;

/// Each filter, with what it means here.
type Meaning = fn(&Row3) -> bool;
const FILTERS: [(&str, Meaning); 6] = [
    ("w = 1", |row| row.w == Some(1)),
    ("w > 0 AND id < 2", |row| row.w.is_some_and(|w| w > 0) && row.id < 2),
    ("w IS NULL OR w IN (0, 2)", |row| row.w.is_none_or(|w| w == 0 || w == 2)),
    ("NOT w = 1", |row| row.w.is_some_and(|w| w != 1)),
    ("id = 3", |row| row.id == 3),
    // The only one that reads the large value.
    (FILTER, |row| row.w == Some(2) || row.w == Some(1) && row.v == "in"),
];

#[derive(Clone, Debug, PartialEq, Eq)]
struct Row3 {
    id: i64,
    v: &'static str,
    w: Option<u8>,
}

#[derive(Clone, Debug)]
enum Step {
    Put { id: i64, v: Option<&'static str>, w: Option<u8> },
    Move { id: i64, to: i64, w: Option<u8> },
    Delete { id: i64 },
    Truncate,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = || 0i64..5;
    let w = || prop::option::weighted(0.9, 0u8..4);
    let v = || prop::sample::select(vec!["in", "out"]);
    let step = prop_oneof![
        6 => (id(), prop::option::of(v()), w()).prop_map(|(id, v, w)| Step::Put { id, v, w }),
        2 => (id(), id(), w()).prop_map(|(id, to, w)| Step::Move { id, to, w }),
        2 => id().prop_map(|id| Step::Delete { id }),
        1 => Just(Step::Truncate),
    ];
    prop::collection::vec(step, 1..60)
}

fn image(row: &Row3, columns: &[&str]) -> Bytes {
    let all = json!({"id": row.id, "v": row.v, "w": row.w});
    let sent: Map<String, Value> =
        columns.iter().map(|column| ((*column).to_owned(), all[*column].clone())).collect();
    serde_json::to_string(&sent).unwrap().into()
}

/// The changes as the source sends them: with the whole old row, or with the key where it changed, and without the large value
/// `v` where it did not change and the old row is not whole.
fn change_of(table: &Arc<Table>, before: Option<&Row3>, after: Option<&Row3>) -> Change {
    let is_full = table.identity == ReplicaIdentity::Full;
    let operation = match (before, after) {
        (None, _) => Operation::Insert,
        (_, None) => Operation::Delete,
        _ => Operation::Update,
    };
    let id = after.or(before).unwrap().id;
    let v_is_sent = is_full || before.is_none_or(|before| after.is_none_or(|after| before.v != after.v));
    let sent: &[&str] = if v_is_sent { &["id", "v", "w"] } else { &["id", "w"] };
    let old_is_sent = before.is_some_and(|before| is_full || after.is_none_or(|after| before.id != after.id));
    let old: &[&str] = if is_full { &["id", "v", "w"] } else { &["id"] };
    Change {
        data: after.map(|row| image(row, sent)),
        old_data: before.filter(|_| old_is_sent).map(|row| image(row, old)),
        unchanged: if v_is_sent { Vec::new() } else { vec!["v".into()] },
        ..change(0, operation, table, id)
    }
}

/// A client's rows by key: the values that it has, and the subscriptions that each is of.
#[derive(Default)]
struct Client {
    rows: BTreeMap<i64, (Map<String, Value>, Vec<String>)>,
}

impl Client {
    fn apply(&mut self, change: &Change, telling: Telling<'_>) {
        let id = |key: &[&[u8]]| serde_json::from_slice::<i64>(key[0]).unwrap();
        let own_key = || id(&json::elements(change.row_key.as_ref().unwrap()).collect::<Vec<_>>());
        match telling {
            Telling::Insert(sub) => {
                assert!(!self.rows.contains_key(&own_key()), "an insert of a row that is there");
                self.put(own_key(), change, None, &sub);
            }
            Telling::Update(sub) => {
                let before = self.rows.remove(&own_key());
                self.put(own_key(), change, before.map(|(row, _)| row), &sub);
            }
            Telling::Delete { key, .. } => _ = self.rows.remove(&key.map_or_else(own_key, |key| id(&key))),
            Telling::Moved { from, insert, .. } => {
                let before = self.rows.remove(&id(&from));
                self.put(own_key(), change, before.map(|(row, _)| row), &insert);
            }
            Telling::Truncate(_) => self.rows.clear(),
            Telling::Message(_) | Telling::Shape => panic!("{telling:?}"),
        }
    }

    fn put(&mut self, id: i64, change: &Change, before: Option<Map<String, Value>>, sub: &[u8]) {
        let mut row: Map<String, Value> = serde_json::from_slice(change.data.as_ref().unwrap()).unwrap();
        for column in &change.unchanged {
            if let Some(value) = before.as_ref().and_then(|before| before.get(column)) {
                row.insert(column.clone(), value.clone());
            }
        }
        self.rows.insert(id, (row, serde_json::from_slice(sub).unwrap()));
    }
}

struct World {
    table: Arc<Table>,
    route: Route,
    filters: Vec<usize>,
    rows: BTreeMap<i64, Row3>,
    client: Client,
}

impl World {
    fn new(identity: ReplicaIdentity, filters: Vec<usize>) -> Self {
        let table = wide(identity);
        let one = |(index, filter): (usize, &usize)| filtered(&index.to_string(), "t", FILTERS[*filter].0);
        let route = route(&filters.iter().enumerate().map(one).collect::<Vec<_>>(), &table);
        World { table, route, filters, rows: BTreeMap::new(), client: Client::default() }
    }

    fn perform(&mut self, step: &Step) {
        let change = match *step {
            Step::Put { id, v, w } => {
                let before = self.rows.get(&id).cloned();
                let v = v.or(before.as_ref().map(|row| row.v)).unwrap_or("in");
                self.replace(before, Some(Row3 { id, v, w }))
            }
            Step::Move { id, to, w } => match self.rows.get(&id).cloned() {
                Some(before) if !self.rows.contains_key(&to) => {
                    let after = Row3 { id: to, w, ..before.clone() };
                    self.replace(Some(before), Some(after))
                }
                _ => return,
            },
            Step::Delete { id } => match self.rows.get(&id).cloned() {
                Some(before) => self.replace(Some(before), None),
                None => return,
            },
            Step::Truncate => {
                self.rows.clear();
                change(0, Operation::Truncate, &self.table, 0)
            }
        };
        if let Some(telling) = self.route.telling(&change) {
            self.client.apply(&change, telling);
        }
    }

    fn replace(&mut self, before: Option<Row3>, after: Option<Row3>) -> Change {
        let change = change_of(&self.table, before.as_ref(), after.as_ref());
        if let Some(before) = before {
            self.rows.remove(&before.id);
        }
        if let Some(after) = after {
            self.rows.insert(after.id, after);
        }
        change
    }

    /// The subscriptions that a row is of.
    fn of(&self, row: &Row3) -> Vec<String> {
        let passes = self.filters.iter().enumerate().filter(|(_, filter)| FILTERS[**filter].1(row));
        passes.map(|(index, _)| index.to_string()).collect()
    }

    fn compare(&self) {
        let decided = self.table.identity == ReplicaIdentity::Full || !self.filters.contains(&5);
        for (id, row) in &self.rows {
            let of = self.of(row);
            let here = self.client.rows.get(id);
            assert!(of.is_empty() || here.is_some(), "{row:?} is missing");
            let Some((values, sub)) = here else { continue };
            let whole = json!({"id": row.id, "v": row.v, "w": row.w});
            let expected = values.keys().map(|name| (name.clone(), whole[name].clone())).collect();
            assert_eq!(*values, expected);
            if decided {
                assert_eq!(*sub, of, "{row:?}");
            }
            assert!(!of.is_empty() || !decided, "{row:?} is none of the client's");
        }
        assert!(self.client.rows.keys().all(|id| self.rows.contains_key(id)), "a row that is gone");
    }
}

proptest! {
    #[test]
    fn a_client_that_does_what_it_is_told_has_the_rows_of_its_filters(
        steps in steps(),
        is_full in any::<bool>(),
        filters in prop::collection::vec(0..FILTERS.len(), 1..4),
    ) {
        let identity = if is_full { ReplicaIdentity::Full } else { ReplicaIdentity::Default };
        let mut world = World::new(identity, filters);
        for step in &steps {
            world.perform(step);
            world.compare();
        }
    }
}
