//! What a client of a round follows, and what it must have then: all tables, parts of some by filters, or what its tenant may see.
//! Each filter is said three times, independently: as a subscription, as SQL over the source, and as a function over what history has.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use waldelta_testkit::recorder::{Archive, Filter, Recorder, Seen};

use crate::access::Who;
use crate::tables::{ALL, RECORDED, REPAIRED, source_of};

/// What a client follows.
#[derive(Debug)]
pub(crate) struct Selection {
    pub who: Who,
    /// Of a client that keeps a copy.
    pub subscriptions: Vec<Value>,
    /// Each table that it has, and the SQL of what it is then.
    pub wanted: Vec<(&'static str, String)>,
    /// Of a client that keeps what it was told: the tables, and the parts of those that it does not follow whole.
    tables: Vec<&'static str>,
    parts: Arc<BTreeMap<String, Filter>>,
}

impl Selection {
    /// All tables.
    pub(crate) fn everything() -> Arc<Self> {
        let wanted = ALL.into_iter().chain(REPAIRED).map(|table| (table, source_of(table).to_owned()));
        Arc::new(Selection {
            who: Who::Everything,
            subscriptions: vec![json!({"id": "all", "table": "*"})],
            wanted: wanted.collect(),
            tables: RECORDED.into(),
            parts: Arc::default(),
        })
    }

    /// Parts of tables, by filters.
    fn filtered(parts: &[Part]) -> Arc<Self> {
        Arc::new(Selection {
            who: Who::Everything,
            subscriptions: parts.iter().enumerate().map(|(number, part)| part.subscription(number)).collect(),
            wanted: parts.iter().map(|part| (part.table, part.sql(part.condition))).collect(),
            tables: parts.iter().map(|part| part.table).collect(),
            parts: Arc::new(parts.iter().map(|part| (part.table.to_owned(), part.filter())).collect()),
        })
    }

    /// What a tenant may see of everything.
    pub(crate) fn of_tenant(tenant: u64) -> Arc<Self> {
        let parts = tenants_parts(tenant);
        let conditions = [format!("owner = {tenant}"), format!("a = {tenant}"), format!("region = {tenant}")];
        let wanted = parts.iter().zip(&conditions).map(|(part, condition)| (part.table, part.sql(condition)));
        let filter = |part: &Part| Filter { condition: None, asks_for_columns: false, ..part.filter() };
        Arc::new(Selection {
            who: Who::Tenant(tenant),
            subscriptions: vec![json!({"id": "all", "table": "*", "old": true})],
            wanted: wanted.collect(),
            tables: parts.iter().map(|part| part.table).collect(),
            parts: Arc::new(parts.iter().map(|part| (part.table.to_owned(), filter(part))).collect()),
        })
    }

    /// Two parts of one table at once, which are one copy of it.
    pub(crate) fn union() -> Arc<Self> {
        let of =
            |table: &str, id: &str, condition: &str| json!({"id": id, "table": table, "where": condition});
        Arc::new(Selection {
            who: Who::Everything,
            subscriptions: vec![
                of("public.owned", "a", "owner = 1"),
                of("public.owned", "b", "n < 300 AND v IS NOT NULL"),
                of("public.whole", "c", "id < 40"),
                of("public.whole", "d", "v IS NULL"),
                of("public.line", "e", "number < 5"),
                of("public.grows", "f", "id >= 60"),
            ],
            wanted: vec![
                (
                    "public.owned",
                    "(SELECT * FROM owned WHERE owner = 1 OR n < 300 AND v IS NOT NULL)".to_owned(),
                ),
                ("public.whole", "(SELECT * FROM whole WHERE id < 40 OR v IS NULL)".to_owned()),
                ("public.line", "(SELECT * FROM line WHERE number < 5)".to_owned()),
                ("public.grows", "(SELECT * FROM grows WHERE id >= 60)".to_owned()),
            ],
            tables: Vec::new(),
            parts: Arc::default(),
        })
    }

    /// Two lists of filters, between which the rows of most tables are shared out.
    pub(crate) fn of_filters() -> [Arc<Self>; 2] {
        [Self::filtered(&ONE), Self::filtered(&OTHER)]
    }

    /// A client of this name that keeps what it is told, and has nothing yet.
    pub(crate) fn recorder(&self, name: &str, archive: &Arc<Archive>) -> Recorder {
        Recorder::new(name, &self.tables, archive).of_parts(&self.parts)
    }
}

/// A part of a table.
struct Part {
    table: &'static str,
    condition: &'static str,
    passes: fn(&Seen<'_>) -> Option<bool>,
    key: &'static [&'static str],
    /// Beside the key; empty: all.
    columns: &'static [&'static str],
    is_full: bool,
}

/// By the key, by other columns, and by both; with and without whole old rows. A table with values out of line that does not send
/// whole old rows is followed without those: a row can come into a part without them (docs/protocol.md, "From the service").
const ONE: [Part; 6] = [
    Part::of("public.item", "owner = 1", |row| is(row, "owner", |owner| owner == 1.0), &["id"]),
    Part::of("public.big", "id < 90", |row| is(row, "id", |id| id < 90.0), &["id"]).only(&["note"]),
    Part::of(
        "public.pair",
        "a = 1 AND n > 5000",
        |row| both(is(row, "a", |a| a == 1.0), is(row, "n", |n| n > 5000.0)),
        &["a", "b"],
    ),
    Part::of(
        "public.whole",
        "v IS NULL OR id < 30",
        |row| Some(row.column("v")? == "null" || is(row, "id", |id| id < 30.0)?),
        &["id"],
    )
    .full(),
    Part::of(
        "public.part",
        "region IN (0, 2)",
        |row| is(row, "region", |region| region == 0.0 || region == 2.0),
        &["id", "region"],
    ),
    Part::of("public.owned", "owner = 2", |row| is(row, "owner", |owner| owner == 2.0), &["id"]).full(),
];

const OTHER: [Part; 6] = [
    Part::of("public.item", "NOT owner = 1", |row| is(row, "owner", |owner| owner != 1.0), &["id"]),
    Part::of(
        "public.big",
        "note >= 'n5'",
        |row| Some(row.column("note")? != "null" && row.column("note")? >= "\"n5"),
        &["id"],
    )
    .only(&["note"]),
    Part::of(
        "public.pair",
        "b BETWEEN 10 AND 40 OR n = 7",
        |row| either(is(row, "b", |b| (10.0..=40.0).contains(&b)), is(row, "n", |n| n == 7.0)),
        &["a", "b"],
    ),
    Part::of("public.whole", "v LIKE 'w%'", |row| Some(row.column("v")?.starts_with("\"w")), &["id"]).full(),
    Part::of(
        "public.part",
        "region = 1 AND id > 60",
        |row| both(is(row, "region", |region| region == 1.0), is(row, "id", |id| id > 60.0)),
        &["id", "region"],
    ),
    Part::of(
        "public.owned",
        "n BETWEEN 250 AND 750",
        |row| is(row, "n", |n| (250.0..=750.0).contains(&n)),
        &["id"],
    )
    .full()
    .only(&["owner"]),
];

/// In the order of the conditions in [`Selection::of_tenant`].
fn tenants_parts(tenant: u64) -> [Part; 3] {
    type Passes = fn(&Seen<'_>) -> Option<bool>;
    let [owner, a, region]: [Passes; 3] = match tenant {
        0 => [|row| is(row, "owner", zero), |row| is(row, "a", zero), |row| is(row, "region", zero)],
        1 => [|row| is(row, "owner", one), |row| is(row, "a", one), |row| is(row, "region", one)],
        other => panic!("tenant {other}"),
    };
    [
        Part::of("public.owned", "", owner, &["id"]).full().only(&["owner", "n", "v"]),
        Part::of("public.pair", "", a, &["a", "b"]),
        Part::of("public.part", "", region, &["id", "region"]),
    ]
}

fn zero(number: f64) -> bool {
    number == 0.0
}

fn one(number: f64) -> bool {
    number == 1.0
}

impl Part {
    const fn of(
        table: &'static str,
        condition: &'static str,
        passes: fn(&Seen<'_>) -> Option<bool>,
        key: &'static [&'static str],
    ) -> Self {
        Part { table, condition, passes, key, columns: &[], is_full: false }
    }

    /// The source sends whole old rows.
    const fn full(self) -> Self {
        Part { is_full: true, ..self }
    }

    /// With these columns alone, beside the key.
    const fn only(self, columns: &'static [&'static str]) -> Self {
        Part { columns, ..self }
    }

    fn subscription(&self, number: usize) -> Value {
        let mut subscription =
            json!({"id": format!("f{number}"), "table": self.table, "where": self.condition});
        if !self.columns.is_empty() {
            subscription["columns"] = self.columns.into();
        }
        subscription
    }

    fn sql(&self, condition: &str) -> String {
        let columns = match self.columns {
            [] => "*".to_owned(),
            columns => [self.key, columns].concat().join(", "),
        };
        format!("(SELECT {columns} FROM {} WHERE {condition})", self.table)
    }

    fn filter(&self) -> Filter {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Filter {
            condition: Some(self.condition.to_owned()),
            passes: self.passes,
            columns: owned(self.columns),
            asks_for_columns: !self.columns.is_empty(),
            key: owned(self.key),
            has_old_rows: self.is_full,
        }
    }
}

/// Whether a number in a row is so; a null is not.
fn is(row: &Seen<'_>, column: &str, test: fn(f64) -> bool) -> Option<bool> {
    row.column(column).map(|_| row.number(column).is_some_and(test))
}

fn both(one: Option<bool>, other: Option<bool>) -> Option<bool> {
    match (one, other) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (one, other) => Some(one? && other?),
    }
}

fn either(one: Option<bool>, other: Option<bool>) -> Option<bool> {
    match (one, other) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (one, other) => Some(one? || other?),
    }
}
