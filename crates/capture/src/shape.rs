//! The shape that a table's rows are decoded with: what the stream says of it, completed by what it does not say. Pure.
//!
//! Rows are as old as the WAL that they stand in, the catalog is of today. So the latest shape that history has goes
//! first: it was right when the rows before these were written, and whatever changed it since stands in the stream as
//! another relation, or as a message of the event trigger that says to ask anew. The catalog is believed in what history
//! cannot know: a column that is new to it, the primary key under identities that do not mark it, and what the source says
//! is new.

use waldelta_source::catalog::PublishedTable;
use waldelta_wal::{Column, ColumnFacts, Relation, RelationColumn, ReplicaIdentity, Table};

use crate::columns::{Known, Laid};

/// What is known to be new of a table since it was defined last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum News {
    /// Nothing: it is the first time on this connection that its relation came.
    None,
    /// The table was altered: its relation came again, as it does after most of what is done to a table, or the event
    /// trigger said so.
    Table,
    /// What its columns' types are made of, perhaps, which sends no relation: the event trigger said so, or a look at the
    /// catalog.
    Types,
}

/// The shape of a table's rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shaped {
    /// The table, without its version.
    pub(crate) table: Table,
    /// Whether one of its columns may be one that is there today, under another number: see [`Laid`].
    pub(crate) is_doubtful: bool,
}

/// The table, where history knows all of it; `None` where the catalog has to be asked.
pub(crate) fn from_history(relation: &Relation, stored: Option<&Table>, news: News) -> Option<Shaped> {
    // DEFAULT marks the columns of the primary key. Under the others it can change unseen.
    let marks_key = relation.identity == ReplicaIdentity::Default;
    let knows_all = |stored: &&Table| stored.columns.iter().all(|column| column.number != 0);
    stored
        .filter(|stored| marks_key && news == News::None && fits(stored, relation))
        .filter(knows_all)
        .map(|stored| Shaped { table: stored.clone(), is_doubtful: false })
}

/// The table by all that is known. `today` is the catalog's answer: `None` where the table is gone from it.
pub(crate) fn from_catalog(
    relation: &Relation,
    stored: Option<&Table>,
    today: Option<&PublishedTable>,
    news: News,
) -> Shaped {
    let is_as_stored = news == News::None && stored.is_some_and(|stored| fits(stored, relation));
    let before = stored.map_or(&[][..], |stored| &stored.columns);
    let now = today.map_or(&[][..], |today| &today.table.columns);
    let as_in = |columns: &[Column]| {
        let numbers = columns.iter().map(|column| column.number).collect();
        Laid { numbers, is_doubtful: false }
    };
    let Laid { numbers, is_doubtful } = match today {
        _ if is_as_stored && before.iter().all(|column| column.number != 0) => as_in(before),
        Some(today) if fits(&today.table, relation) => as_in(now),
        _ => {
            let last_number = today.map_or(0, |today| today.last_number);
            Known { before, today: now, last_number }.lay(&relation.columns)
        }
    };
    let mut numbers = numbers.into_iter();
    let facts = |column: &RelationColumn| {
        let number = numbers.next().unwrap_or_default();
        let (before, now) = (known(before, column, number), known(now, column, number));
        let facts = match (now, before) {
            (_, Some(before)) if is_as_stored && before.number != 0 => return Some(facts_of(before)),
            // The same column: what its type is made of can have changed since these rows were written.
            (Some(now), Some(before)) if news != News::Types => {
                ColumnFacts { kind: before.kind.clone(), ..facts_of(now) }
            }
            (Some(known), _) | (None, Some(known)) => facts_of(known),
            (None, None) => column.facts(),
        };
        Some(ColumnFacts { number, ..facts })
    };
    let primary_key = match today {
        Some(today) => today.primary_key.clone(),
        None => stored.map(key_names),
    };
    let identity = today.map(|today| today.table.identity).or(stored.map(|stored| stored.identity));
    let mut table = relation.to_table(primary_key.as_deref(), facts);
    // The stream says FULL of a partitioned table whatever its partitions are.
    if relation.identity == ReplicaIdentity::Full && identity == Some(ReplicaIdentity::Mixed) {
        table.identity = ReplicaIdentity::Mixed;
    }
    Shaped { table, is_doubtful }
}

/// Whether the stream shows the table in this shape.
pub(crate) fn fits(table: &Table, relation: &Relation) -> bool {
    let same_column = |(ours, theirs): (&Column, &RelationColumn)| {
        ours.name == theirs.name
            && ours.type_oid == theirs.type_oid
            && ours.type_modifier == theirs.type_modifier
            && ours.identity == theirs.identity
    };
    let identity = match table.identity {
        ReplicaIdentity::Mixed => ReplicaIdentity::Full,
        identity => identity,
    };
    identity == relation.identity
        && table.name == relation.table_name()
        && table.columns.len() == relation.columns.len()
        && table.columns.iter().zip(&relation.columns).all(same_column)
}

/// The column of this number, or of this name where it has none; if it is of the same type.
fn known<'a>(columns: &'a [Column], column: &RelationColumn, number: i16) -> Option<&'a Column> {
    let is_it = |known: &&Column| match number {
        0 => known.name == column.name,
        _ => known.number == number,
    };
    columns.iter().find(is_it).filter(|known| known.type_oid == column.type_oid)
}

fn facts_of(column: &Column) -> ColumnFacts {
    ColumnFacts {
        number: column.number,
        type_name: column.type_name.clone(),
        kind: column.kind.clone(),
        nullable: column.nullable,
    }
}

fn key_names(table: &Table) -> Vec<String> {
    table.key.iter().map(|index| table.columns[usize::from(*index)].name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use waldelta_wal::{CompositeKind, Field, Kind};

    use super::*;

    const COMPOSITE: u32 = 16_400;

    fn relation(identity: ReplicaIdentity, columns: &[(&str, u32, bool)]) -> Relation {
        let column = |(name, type_oid, identity): &(&str, u32, bool)| RelationColumn {
            identity: *identity,
            name: (*name).into(),
            type_oid: *type_oid,
            type_modifier: -1,
            type_name: None,
        };
        Relation {
            oid: 1,
            schema: "public".into(),
            name: "t".into(),
            identity,
            columns: columns.iter().map(column).collect(),
        }
    }

    fn pair(fields: &[&str]) -> Kind {
        let field = |(number, name): (i16, &&str)| Field {
            number,
            name: (*name).to_owned(),
            type_name: "integer".into(),
            kind: Kind::builtin(23).unwrap(),
        };
        let fields = (1..).zip(fields).map(field).collect();
        Kind::Composite(Arc::new(CompositeKind { type_oid: COMPOSITE, fields }))
    }

    /// The shape of a relation whose columns are numbered from `first` on and whose composites are of these fields.
    fn shape(relation: &Relation, first: i16, fields: &[&str], nullable: bool) -> Table {
        let number = |column: &RelationColumn| {
            let at = relation.columns.iter().position(|other| other.name == column.name).unwrap();
            first + i16::try_from(at).unwrap()
        };
        let facts = |column: &RelationColumn| {
            Some(ColumnFacts {
                number: number(column),
                type_name: "type".into(),
                kind: Kind::builtin(column.type_oid).unwrap_or_else(|| pair(fields)),
                nullable,
            })
        };
        Table { version: 3, ..relation.to_table(None, facts) }
    }

    fn published(table: Table, primary_key: &[&str]) -> PublishedTable {
        let primary_key = primary_key.iter().map(|name| (*name).to_owned()).collect();
        let last_number = table.columns.iter().map(|column| column.number).max().unwrap_or_default();
        PublishedTable { table, primary_key: Some(primary_key), last_number, rows_estimate: 0 }
    }

    #[test]
    fn what_fits_the_stored_shape_is_not_asked_for() {
        let columns = [("id", 23, true), ("pair", COMPOSITE, false)];
        let relation = relation(ReplicaIdentity::Default, &columns);
        let stored = shape(&relation, 1, &["a"], false);
        let shaped = Shaped { table: stored.clone(), is_doubtful: false };
        assert_eq!(from_history(&relation, Some(&stored), News::None), Some(shaped));
        assert_eq!(from_history(&relation, Some(&stored), News::Table), None, "something is new");
        assert_eq!(from_history(&relation, None, News::None), None);
        let full =
            super::tests::relation(ReplicaIdentity::Full, &[("id", 23, true), ("pair", COMPOSITE, true)]);
        assert_eq!(
            from_history(&full, Some(&shape(&full, 1, &["a"], false)), News::None),
            None,
            "the key is not marked"
        );
        for other in [
            Relation { name: "u".into(), ..relation.clone() },
            Relation { identity: ReplicaIdentity::Index, ..relation.clone() },
            Relation { columns: relation.columns[..1].to_vec(), ..relation.clone() },
        ] {
            assert_eq!(from_history(&other, Some(&stored), News::None), None, "{other:?}");
        }
    }

    #[test]
    fn a_type_altered_today_is_not_that_of_older_rows() {
        let full = relation(ReplicaIdentity::Full, &[("id", 23, true), ("pair", COMPOSITE, true)]);
        let stored = shape(&full, 1, &["a"], true);
        let today = published(shape(&full, 1, &["a", "b"], false), &["id"]);
        let table = from_catalog(&full, Some(&stored), Some(&today), News::None).table;
        assert_eq!(table.columns, stored.columns);
        assert_eq!(table.key, [0], "which the stream does not mark");
        let table = from_catalog(&full, Some(&stored), Some(&today), News::Types).table;
        assert_eq!(table.columns, today.table.columns, "the source said to ask anew");

        // Dropped and added again, which leaves the relation as it was.
        let again = published(shape(&full, 2, &["a", "b"], false), &["id"]);
        let table = from_catalog(&full, Some(&stored), Some(&again), News::Table).table;
        assert_eq!(table.columns, again.table.columns);
        let table = from_catalog(&full, Some(&stored), Some(&today), News::Table).table;
        assert_eq!((table.columns[1].nullable, &table.columns[1].kind), (false, &pair(&["a"])));

        // A column more, and the composite as it was.
        let columns = [("id", 23, true), ("pair", COMPOSITE, true), ("new", 25, true)];
        let wider = relation(ReplicaIdentity::Full, &columns);
        let today = published(shape(&wider, 1, &["a", "b"], false), &["id"]);
        let table = from_catalog(&wider, Some(&stored), Some(&today), News::None).table;
        assert_eq!(table.columns[1].kind, pair(&["a"]));
        assert_eq!((table.columns[2].number, table.columns[2].nullable), (3, false));
        // The same name and type, but another column.
        let today = published(shape(&wider, 5, &["a", "b"], false), &["id"]);
        let table = from_catalog(&wider, Some(&stored), Some(&today), News::None).table;
        assert_eq!((table.columns[1].number, &table.columns[1].kind), (6, &pair(&["a", "b"])));
    }

    #[test]
    fn a_table_gone_from_the_catalog_is_known_by_history_and_the_stream() {
        let full = relation(ReplicaIdentity::Full, &[("id", 23, true), ("pair", COMPOSITE, true)]);
        let stored =
            Table { key: vec![0], identity: ReplicaIdentity::Mixed, ..shape(&full, 1, &["a"], false) };
        let table = from_catalog(&full, Some(&stored), None, News::None).table;
        assert_eq!(table, Table { version: 0, ..stored.clone() });
        // Another table today, under an object id that was given out again.
        let foreign =
            published(shape(&relation(ReplicaIdentity::Default, &[("x", 25, true)]), 1, &[], false), &["x"]);
        let table = from_catalog(&full, Some(&stored), Some(&foreign), News::None).table;
        assert_eq!(table.columns, stored.columns);

        let renamed = Relation { name: "u".into(), ..full.clone() };
        let table = from_catalog(&renamed, Some(&stored), None, News::None).table;
        assert_eq!((&*table.name.name, table.columns), ("u", stored.columns));
        let unknown = from_catalog(&full, None, None, News::None).table;
        assert_eq!((unknown.columns[1].number, &unknown.columns[1].kind), (0, &Kind::TEXT));
    }

    #[test]
    fn mixed_partitions_are_known_by_the_catalog() {
        let full = relation(ReplicaIdentity::Full, &[("id", 23, true)]);
        let stored = shape(&full, 1, &[], false);
        let mut today = published(stored.clone(), &["id"]);
        today.table.identity = ReplicaIdentity::Mixed;
        assert_eq!(
            from_catalog(&full, Some(&stored), Some(&today), News::None).table.identity,
            ReplicaIdentity::Mixed
        );
        today.table.identity = ReplicaIdentity::Full;
        assert_eq!(
            from_catalog(&full, Some(&stored), Some(&today), News::None).table.identity,
            ReplicaIdentity::Full
        );
    }
}
