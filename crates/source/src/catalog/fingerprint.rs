//! The physical state of tables by the catalog, and what two states of a table tell of rows that changed without a message.
//!
//! It is the net below the event triggers (`sql/source/ddl_trigger.sql`), which may be absent or switched off, and the only
//! one for what is no DDL to them. It tells that something happened between two looks, not when. Where the catalog leaves
//! it open, it speaks of a repair that may not be needed, never the other way round.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use waldelta_wal::{RepairReason, TableName};

use crate::ask::{ask, ask_one};
use crate::{Error, Source};

/// The physical state of a published table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    schema: String,
    name: String,
    /// `relreplident`.
    identity: char,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity_index: Option<Vec<i16>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    primary_key: Option<Vec<i16>>,
    #[serde(default)]
    membership: Membership,
    /// `relfilenode`: another one where the rows were written anew, or all taken away. 0 for a partitioned table.
    file: u32,
    columns: Vec<Column>,
    /// Of a partitioned table that is published as a whole, everything below it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    partitions: Vec<Partition>,
    /// The composite types that values of it are made of, by object id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    composites: BTreeMap<u32, Vec<Attribute>>,
    /// The values of the enums that values of it are made of, by their object id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    enums: BTreeMap<u32, String>,
}

/// By what a table is published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Membership {
    /// The publication's object id.
    publication: u32,
    /// Those of its entries that name the table, a partitioned table above it, or its schema; none where it has all tables.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    entries: BTreeSet<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Column {
    number: i16,
    name: String,
    #[serde(rename = "type")]
    type_oid: u32,
    /// Of a type that is not built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    type_name: Option<String>,
    /// What a domain is made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<u32>,
    is_string: bool,
    modifier: i32,
    collation: u32,
    not_null: bool,
    /// Whether rows, of a partition perhaps, lack it and read as its default.
    missing: bool,
    /// The default's object id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default: Option<u32>,
    /// The transaction that last wrote the column's row in the catalog.
    written: u32,
    published: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Partition {
    oid: u32,
    /// Not partitioned itself.
    is_leaf: bool,
    /// The transaction that made it a partition.
    linked: u32,
    file: u32,
    /// The transaction that last wrote its row in the catalog, as one that empties it does.
    written: u32,
    identity: char,
    /// It was empty when it became a partition, because it was created as one.
    created_as_partition: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Attribute {
    number: i16,
    name: String,
    #[serde(rename = "type")]
    type_oid: u32,
}

/// A published table with its physical state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFingerprint {
    /// Its object id.
    pub oid: u32,
    /// Its name.
    pub name: TableName,
    /// Its state.
    pub fingerprint: Fingerprint,
}

/// The tables of the publication, own tables (schema `waldelta`) left out, ordered by name: partitioned tables where they are
/// published as a whole, else their leaves. Reads catalogs only, and waits for nobody.
///
/// # Errors
/// [`Error::PublicationMissing`]; or when the question fails.
pub async fn fingerprints(client: &Client, source: &Source) -> Result<Vec<TableFingerprint>, Error> {
    const WHAT: &str = "read the state of the publication's tables";
    // The planner expects far more rows than there are; compiling for them takes longer than the answer.
    ask_one(client, WHAT, "SELECT set_config('jit', 'off', false)", &[]).await?;
    let sql = include_str!("../../../../sql/source/fingerprints.sql");
    let rows = ask(client, WHAT, sql, &[&source.publication]).await?;
    if rows.is_empty() {
        return Err(Error::PublicationMissing { publication: source.publication.clone() });
    }
    let mut tables = Vec::with_capacity(rows.len());
    for row in &rows {
        let Some(oid) = row.read("oid")? else { continue };
        let name = TableName { schema: row.read("schema")?, name: row.read("name")? };
        let fingerprint = Fingerprint::from_json(row.read("fingerprint")?)
            .ok_or(Error::Unreadable { what: WHAT, column: "fingerprint" })?;
        tables.push(TableFingerprint { oid, name, fingerprint });
    }
    Ok(tables)
}

impl Fingerprint {
    /// As it is to be kept.
    pub fn to_json(&self) -> String {
        // Maps with number keys and structs of plain values always become JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// One that was kept; `None` where another version kept it in another form.
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// What happened to rows between two states of the same table and no message told; the gravest first.
    pub fn repairs(before: &Self, after: &Self) -> Vec<RepairReason> {
        Self::repairs_beside(before, after, &[])
    }

    /// As [`Self::repairs`], where these transactions (by the low 32 bits of their ids) are known to have truncated the whole
    /// table: a partition that one of them emptied last is explained by their messages.
    pub fn repairs_beside(before: &Self, after: &Self, truncated_by: &[u32]) -> Vec<RepairReason> {
        use RepairReason::*;
        let columns = ColumnChanges::between(before, after);
        let partitions = PartitionChanges::between(before, after, truncated_by);
        let rewrites = columns.are_touched && (before.file != after.file || partitions.has_other_files);
        let composite_changed =
            |(oid, now): (&u32, &Vec<Attribute>)| before.composites.get(oid).is_some_and(|then| then != now);
        let enum_renamed =
            |(oid, now): (&u32, &String)| before.enums.get(oid).is_some_and(|then| then != now);
        [
            (Rewritten, rewrites || columns.are_read_differently),
            (PartitionsChanged, partitions.have_moved_rows),
            (PartitionEmptied, partitions.has_other_files && !rewrites),
            (DefaultAdded, columns.have_new_values),
            (ColumnRenamed, columns.are_renamed),
            (TypeChanged, after.composites.iter().any(composite_changed)),
            (EnumRenamed, after.enums.iter().any(enum_renamed)),
        ]
        .into_iter()
        .filter_map(|(reason, applies)| applies.then_some(reason))
        .collect()
    }

    /// Whether the table was taken out of the publication and added again, perhaps with another row filter: what was written to
    /// it in between is missing. A publication that was made anew is another matter: without it nothing could be read.
    pub fn was_published_anew(before: &Self, after: &Self) -> bool {
        let (before, after) = (&before.membership, &after.membership);
        before.publication == after.publication
            && !before.entries.is_empty()
            && !after.entries.is_empty()
            && before.entries.is_disjoint(&after.entries)
    }

    /// Whether the catalog says something else of the table's shape, so that it has to be asked before the next row: names,
    /// types, NOT NULL, what is published, keys, identity.
    pub fn tells_new_shape(before: &Self, after: &Self) -> bool {
        let names = |print: &Self| (print.schema.clone(), print.name.clone());
        let keys = |print: &Self| {
            (print.identity, print.is_mixed(), print.identity_index.clone(), print.primary_key.clone())
        };
        let shape = |column: &Column| {
            let Column { number, type_oid, modifier, not_null, published, .. } = *column;
            let names = (column.name.clone(), column.type_name.clone());
            (number, names, type_oid, modifier, not_null, published)
        };
        names(before) != names(after)
            || keys(before) != keys(after)
            || !before.columns.iter().map(shape).eq(after.columns.iter().map(shape))
            || before.composites != after.composites
    }

    /// FULL, and partitions that are not.
    fn is_mixed(&self) -> bool {
        self.identity == 'f' && self.partitions.iter().any(|part| part.is_leaf && part.identity != 'f')
    }
}

/// What happened to published columns.
#[derive(Default)]
struct ColumnChanges {
    /// Rows have values under a name that they did not have one under.
    have_new_values: bool,
    are_renamed: bool,
    /// A column is new or was altered, so that a new file may hold other values.
    are_touched: bool,
    /// Another type without another file: the same bytes print differently.
    are_read_differently: bool,
}

impl ColumnChanges {
    fn between(before: &Fingerprint, after: &Fingerprint) -> Self {
        let mut changes = ColumnChanges::default();
        for now in after.columns.iter().filter(|column| column.published) {
            let Some(then) = before.columns.iter().find(|column| column.number == now.number) else {
                changes.have_new_values |= now.missing;
                changes.are_touched |= !now.missing;
                continue;
            };
            changes.have_new_values |= !then.published;
            changes.are_renamed |= then.name != now.name;
            changes.are_read_differently |= !prints_alike(then, now);
            // To alter a column's type makes its default anew. So one that still has its default was altered otherwise: also
            // where VACUUM FULL wrote into every row what was missing there.
            let has_same_default = then.default.is_some() && then.default == now.default;
            changes.are_touched |= then.written != now.written && !has_same_default;
        }
        changes
    }
}

/// Whether the same bytes print the same as values of both types.
fn prints_alike(then: &Column, now: &Column) -> bool {
    let base = |column: &Column| column.base.unwrap_or(column.type_oid);
    base(then) == base(now) || (then.is_string && now.is_string)
}

/// What happened below a partitioned table.
#[derive(Default)]
struct PartitionChanges {
    /// One came with rows or went away with them.
    have_moved_rows: bool,
    /// One was written anew or emptied.
    has_other_files: bool,
}

impl PartitionChanges {
    fn between(before: &Fingerprint, after: &Fingerprint, truncated_by: &[u32]) -> Self {
        let mut changes = PartitionChanges::default();
        let mut gone: HashMap<u32, &Partition> =
            before.partitions.iter().map(|then| (then.oid, then)).collect();
        for now in &after.partitions {
            let then = gone.remove(&now.oid);
            let is_known = then.is_some_and(|then| then.linked == now.linked);
            changes.have_moved_rows |= !is_known && !now.created_as_partition;
            // A new table's file has the number that its object id has.
            let file = then.map_or(now.oid, |then| then.file);
            changes.has_other_files |=
                now.is_leaf && now.file != file && !truncated_by.contains(&now.written);
        }
        changes.have_moved_rows |= gone.values().any(|then| then.is_leaf);
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(file: u32, columns: &[&str]) -> Fingerprint {
        let columns = columns.join(",");
        let text = format!(
            r#"{{"schema":"s","name":"t","identity":"d","file":{file},"columns":[{columns}],"enums":{{"7":"a{file}"}}}}"#
        );
        Fingerprint::from_json(&text).unwrap()
    }

    fn column(name: &str, written: u32, more: &str) -> String {
        format!(
            r#"{{"number":1,"name":"{name}","type":23,"is_string":false,"modifier":-1,"collation":0,"not_null":false,
                "missing":false,"written":{written},"published":true{more}}}"#
        )
    }

    #[test]
    fn the_gravest_reason_comes_first() {
        let (before, after) = (print(1, &[&column("a", 5, "")]), print(2, &[&column("b", 6, "")]));
        use RepairReason::{ColumnRenamed, EnumRenamed, Rewritten};
        assert_eq!(Fingerprint::repairs(&before, &after), [Rewritten, ColumnRenamed, EnumRenamed]);
        assert_eq!(Fingerprint::repairs(&after, &after), []);
    }

    #[test]
    fn a_new_file_is_a_rewrite_where_a_column_may_have_been_altered() {
        let rewritten = |then: &str, now: &str| {
            let repairs = Fingerprint::repairs(&print(1, &[then]), &print(2, &[now]));
            repairs.contains(&RepairReason::Rewritten)
        };
        let (plain, default) = (|written| column("a", written, ""), ",\"default\":9");
        assert!(!rewritten(&plain(5), &plain(5)), "VACUUM FULL, TRUNCATE");
        assert!(rewritten(&plain(5), &plain(6)), "ALTER TYPE");
        assert!(!rewritten(&column("a", 5, default), &column("a", 6, default)), "it kept its default");
        assert!(rewritten(&column("a", 5, default), &column("a", 6, ",\"default\":10")));
        assert!(rewritten(&column("a", 5, default), &plain(6)));
    }
}
