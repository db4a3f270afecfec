//! Nothing is delivered that the rules forbid, and nothing is missing that they allow: random transactions over rows of several
//! tenants, with what each frame holds looked at byte by byte.
//!
//! Every value of a row says whose it is, and every value of a column that nobody may see says that. So a frame that leaks
//! anything, in whichever image, has a text in it that must not be there.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use waldelta_wal::{ReplicaIdentity, TableName};

use super::*;
use crate::rules::{Grant, Rule};
use crate::session::delivery::{Delivery, Recipient};
use crate::testing::{grant, rule};

const TENANTS: u8 = 3;
const SECRET: &str = "SECRET";

/// Each tenant's rows of `t`, without the column `secret`; rows of `low` below an id; nothing of `hidden`.
fn rules() -> Vec<Rule> {
    vec![
        rule("t", Some(&["tenant", "v"]), Some("tenant = :claims.tenant")),
        rule("low", Some(&["v"]), Some("id < :claims.below")),
    ]
}

/// `name (id integer primary key, v text, tenant integer, secret text)`
fn shape(name: &str, identity: ReplicaIdentity) -> Arc<Table> {
    let mut table = table(name);
    let (mut tenant, mut secret) = (table.columns[0].clone(), table.columns[1].clone());
    (tenant.name, tenant.number, tenant.identity) = ("tenant".into(), 3, false);
    (secret.name, secret.number) = ("secret".into(), 4);
    table.columns.extend([tenant, secret]);
    // Not the first shape that history knows of it: that one would be read by everybody.
    Arc::new(Table { identity, version: 2, ..table })
}

/// A row, all of whose values say what they are.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    table: usize,
    id: i64,
    tenant: u8,
    made: usize,
}

impl Held {
    /// Whether a tenant may see it.
    fn is_of(&self, tenant: u8) -> bool {
        match self.table {
            0 => self.tenant == tenant,
            1 => self.id < i64::from(tenant),
            _ => false,
        }
    }

    /// What nobody may be told to whom the row is not shown.
    fn mark(&self) -> String {
        format!("[{}.{}.{}]", self.table, self.tenant, self.id)
    }

    fn image(&self, columns: &[&str]) -> Bytes {
        let v = format!("{} number {}", self.mark(), self.made);
        let all = json!({"id": self.id, "v": v, "tenant": self.tenant, "secret": format!("{SECRET} {v}")});
        let sent: Map<String, Value> =
            columns.iter().map(|name| ((*name).to_owned(), all[*name].clone())).collect();
        serde_json::to_string(&sent).unwrap().into()
    }
}

const ALL: &[&str] = &["id", "v", "tenant", "secret"];

#[derive(Clone, Debug)]
enum Step {
    Put { table: usize, id: i64, tenant: u8 },
    Move { table: usize, id: i64, to: i64, tenant: u8 },
    Delete { table: usize, id: i64 },
    Truncate { table: usize },
    Message,
}

fn transactions() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let (table, id, tenant) = (|| 0usize..3, || 0i64..4, || 1..=TENANTS);
    let step = prop_oneof![
        8 => (table(), id(), tenant()).prop_map(|(table, id, tenant)| Step::Put { table, id, tenant }),
        3 => (table(), id(), id(), tenant())
            .prop_map(|(table, id, to, tenant)| Step::Move { table, id, to, tenant }),
        3 => (table(), id()).prop_map(|(table, id)| Step::Delete { table, id }),
        1 => table().prop_map(|table| Step::Truncate { table }),
        1 => Just(Step::Message),
    ];
    prop::collection::vec(prop::collection::vec(step, 1..5), 1..25)
}

/// The source: its rows, and what it says of their changes.
struct Source {
    tables: [Arc<Table>; 3],
    rows: BTreeMap<(usize, i64), Held>,
    made: usize,
}

impl Source {
    fn perform(&mut self, seq: u32, step: &Step) -> Option<Change> {
        self.made += 1;
        let made = self.made;
        let (before, after) = match *step {
            Step::Message => return Some(message(seq, SECRET)),
            Step::Truncate { table } => {
                self.rows.retain(|(of, _), _| *of != table);
                return Some(change(seq, Operation::Truncate, &self.tables[table], 0));
            }
            Step::Put { table, id, tenant } => {
                (self.rows.remove(&(table, id)), Some(Held { table, id, tenant, made }))
            }
            Step::Delete { table, id } => (Some(self.rows.remove(&(table, id))?), None),
            Step::Move { table, id, to, .. } if id == to || self.rows.contains_key(&(table, to)) => {
                return None;
            }
            Step::Move { table, id, to, tenant } => {
                (Some(self.rows.remove(&(table, id))?), Some(Held { table, id: to, tenant, made }))
            }
        };
        self.rows.extend(after.clone().map(|row| ((row.table, row.id), row)));
        let table = &self.tables[before.as_ref().or(after.as_ref())?.table];
        let is_full = table.identity == ReplicaIdentity::Full;
        let id = after.as_ref().or(before.as_ref())?.id;
        let operation = match (&before, &after) {
            (None, _) => Operation::Insert,
            (_, None) => Operation::Delete,
            _ => Operation::Update,
        };
        let old_is_sent = is_full || after.is_none() || before.as_ref().is_some_and(|before| before.id != id);
        let old = before.filter(|_| old_is_sent);
        let author = Author { client_id: format!("{SECRET} author {made}"), metadata: None };
        let unseen = !(1..=TENANTS).any(|tenant| {
            old.as_ref().is_some_and(|row| row.is_of(tenant))
                || after.as_ref().is_some_and(|row| row.is_of(tenant))
        });
        Some(Change {
            data: after.map(|row| row.image(ALL)),
            old_data: old.map(|row| row.image(if is_full { ALL } else { &["id"] })),
            flagged: vec!["secret".into()],
            // Who wrote what nobody may see is nobody's business either.
            author: unseen.then(|| Arc::new(author)),
            ..change(seq, operation, table, id)
        })
    }
}

/// A client, and the rows that it has by what it was told.
struct Reader {
    tenant: u8,
    selection: Selection,
    attachment: Attachment,
    /// Only some rows were asked for.
    is_filtered: bool,
    rows: BTreeMap<(String, i64), Value>,
}

impl Reader {
    /// Looks at every byte of a frame, and applies it.
    fn take(&mut self, frame: &str) -> Vec<Value> {
        assert!(!frame.contains(SECRET), "tenant {}: {frame}", self.tenant);
        for (table, tenant, id) in
            (0..3).flat_map(|t| (1..=TENANTS).flat_map(move |o| (0..4).map(move |i| (t, o, i))))
        {
            let row = Held { table, id, tenant, made: 0 };
            assert!(
                row.is_of(self.tenant) || !frame.contains(&row.mark()),
                "tenant {}: {frame}",
                self.tenant
            );
        }
        assert!(!frame.contains("hidden"), "it is not there: {frame}");
        let frame: Value = serde_json::from_str(frame).unwrap();
        let changes = frame["changes"].as_array().unwrap().clone();
        changes.iter().for_each(|change| self.apply(change));
        changes
    }

    fn apply(&mut self, change: &Value) {
        let table = change["table"].as_str().unwrap().to_owned();
        let id = || change["key"]["id"].as_i64().unwrap();
        assert!(change["data"]["secret"].is_null() && change["flagged"].is_null(), "{change}");
        match change["op"].as_str().unwrap() {
            "insert" => {
                let before = self.rows.insert((table, id()), change["data"].clone());
                assert!(before.is_none(), "an insert of a row that is there: {change}");
            }
            "update" => {
                let before = self.rows.insert((table, id()), change["data"].clone());
                assert!(
                    before.is_some() || self.is_filtered,
                    "an update of a row that was never told: {change}"
                );
            }
            "delete" => {
                let before = self.rows.remove(&(table, id()));
                assert!(
                    before.is_some() || self.is_filtered,
                    "a delete of a row that was never told: {change}"
                );
            }
            "truncate" => self.rows.retain(|(of, _), _| *of != table),
            other => panic!("{other}"),
        }
    }
}

struct World {
    registry: Arc<Registry>,
    source: Source,
    readers: Vec<Reader>,
    lsn: u64,
}

impl World {
    fn new() -> Self {
        let registry = registry();
        let all = |id: &str, table: &str| subscription(id, table);
        let kinds: [Vec<Subscription>; 5] = [
            vec![all("a", "t"), all("b", "low"), all("c", "hidden")],
            vec![all("a", "*")],
            vec![Subscription { old: true, ..all("a", "public.*") }, all("b", "other.*")],
            vec![
                Subscription { old: true, ..filtered("a", "t", "v LIKE '%1%'") },
                filtered("b", "low", "v LIKE '%2%'"),
            ],
            vec![
                Subscription { columns: Some(["v".to_owned()].into()), ..all("a", "t") },
                all("b", "public.*"),
            ],
        ];
        let mut readers = Vec::new();
        for tenant in 1..=TENANTS {
            let grant: Grant = grant(&rules(), json!({"tenant": tenant, "below": tenant}));
            for (kind, subscriptions) in kinds.iter().enumerate() {
                let selection = Selection::new(subscriptions.clone(), grant.clone());
                let attachment = attach_selected(&registry, &format!("{tenant}.{kind}"), &selection);
                let is_filtered = kind == 3;
                readers.push(Reader { tenant, selection, attachment, is_filtered, rows: BTreeMap::new() });
            }
        }
        use ReplicaIdentity::{Default, Full};
        let tables = [shape("t", Full), shape("low", Default), shape("hidden", Full)];
        World { registry, source: Source { tables, rows: BTreeMap::new(), made: 0 }, readers, lsn: 10 }
    }

    fn commit(&mut self, steps: &[Step]) {
        let changes: Vec<Change> =
            (0u32..).zip(steps).filter_map(|(seq, step)| self.source.perform(seq, step)).collect();
        self.lsn += 10;
        let transaction = Transaction { head: head(self.lsn, self.lsn), changes };
        route_whole(&self.registry, &transaction);
        self.registry.routed_to(position(self.lsn));
        for reader in &mut self.readers {
            let mut shared = Vec::new();
            for item in items(&reader.attachment, self.lsn - 1) {
                for schema in &item.schemas {
                    assert!(!schema.frame.contains("secret") && !schema.frame.contains("hidden"));
                }
                match &item.content {
                    Content::Frame(frame) => shared = reader.take(frame),
                    other => panic!("{other:?}"),
                }
            }
            // Whoever catches up is told the same.
            let to = Recipient {
                client_id: "nobody",
                gets_own: true,
                selection: &reader.selection,
                prev: position(0),
            };
            let own = Delivery::default().frames(to, &transaction.head, &transaction.changes, true).unwrap();
            let tx = own.frames.iter().find(|frame| frame.contains("\"tx\""));
            let changes = tx.map(|frame| serde_json::from_str::<Value>(frame).unwrap()["changes"].clone());
            assert_eq!(changes.unwrap_or(json!([])), json!(shared));
            assert!(own.frames.iter().all(|frame| !frame.contains("hidden") && !frame.contains(SECRET)));
        }
        self.compare();
    }

    /// Each client has the rows that it may see, and no others.
    fn compare(&self) {
        for reader in &self.readers {
            let seen = self.source.rows.values().filter(|row| row.is_of(reader.tenant)).map(|row| {
                let columns: &[&str] = if row.table == 0 { &["id", "v", "tenant"] } else { &["id", "v"] };
                let name = &self.source.tables[row.table].name;
                let image: Value = serde_json::from_slice(&row.image(columns)).unwrap();
                ((name.to_string(), row.id), image)
            });
            let seen: BTreeMap<_, _> = seen.collect();
            match reader.is_filtered {
                true => assert!(reader.rows.iter().all(|(key, row)| seen.get(key) == Some(row))),
                false => assert_eq!(reader.rows, seen, "tenant {}", reader.tenant),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 10))]

    #[test]
    fn nothing_is_delivered_that_the_rules_forbid_and_nothing_is_missing(transactions in transactions()) {
        let mut world = World::new();
        for steps in &transactions {
            world.commit(steps);
        }
    }
}

#[test]
fn what_differs_in_what_may_be_seen_shares_no_scope_and_no_frame() {
    let registry = registry();
    let attach = |id: &str, claims: Value| {
        let grant = grant(&rules(), claims);
        attach_selected(&registry, id, &Selection::new(vec![subscription("s", "t")], grant))
    };
    let [one, same, other, nobody] = [
        ("one", json!({"sub": "a", "tenant": 1, "below": 1})),
        ("same", json!({"sub": "b", "tenant": 1, "below": 1})),
        ("other", json!({"sub": "a", "tenant": 2, "below": 1})),
        ("nobody", json!({"sub": "a"})),
    ]
    .map(|(id, claims)| attach(id, claims));
    assert!(Arc::ptr_eq(&one.scope, &same.scope), "users of one tenant share");
    assert!(!Arc::ptr_eq(&one.scope, &other.scope) && !Arc::ptr_eq(&one.scope, &nobody.scope));
    let t = shape("t", ReplicaIdentity::Full);
    let insert = |tenant| {
        let row = Held { table: 0, id: 1, tenant, made: 1 };
        Change { data: Some(row.image(ALL)), ..change(u32::from(tenant), Operation::Insert, &t, 1) }
    };
    route_whole(&registry, &Transaction { head: head(20, 1), changes: vec![insert(1), insert(2)] });
    let frames = [&one, &other].map(|attachment| match &items(attachment, 10)[..] {
        [item] => item.content.clone(),
        items => panic!("{items:?}"),
    });
    assert_ne!(frames[0], frames[1]);
    assert!(items(&nobody, 10).is_empty());
    // A table that is not there is neither reset nor told to have another shape.
    let hidden = Arc::new(table("hidden"));
    let changes = vec![reset_change(0, "hidden"), schema_change(1, &hidden), message(2, "x")];
    route_whole(&registry, &Transaction { head: head(30, 2), changes });
    let touched = Touched {
        tables: vec![TableName { schema: "public".into(), name: "hidden".into() }],
        authors: vec![],
    };
    route(&registry, &large(40, Some(touched)));
    for attachment in [&one, &other, &nobody] {
        assert!(items(attachment, 20).is_empty());
    }
}
