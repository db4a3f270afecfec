//! What is known of a table's shape, and whether a row has it.
//!
//! A row has a shape if its columns are those of the shape, of the same types and in the same order. Columns may be absent
//! only from the new row of an update, where unchanged TOAST is; a type that is never TOAST is never absent. That leaves a
//! doubt: a column that was dropped is absent too. Where the old row has the column there is none. Elsewhere the first
//! absence of each column is a misfit, so that the catalog is asked, and the later ones are taken for TOAST; the first
//! insert tells in any case.
//!
//! A column added with the name and type of one that was dropped, in the same place, is not noticed.

use serde_json::value::RawValue;

use super::error::{Misfit, Wal2jsonError};
use super::line::{Column, Row, RowChange};
use super::value;
use super::write::{self, Cell, OldCells};
use crate::relation::{Relation, RelationColumn};
use crate::table::ReplicaIdentity;

/// PostgreSQL's own limit is 1,600; this is what a tuple's count can say.
const COLUMNS_MAX: usize = i16::MAX as usize;

/// Types whose values never leave the row: of fixed length, or with storage `plain` (`typlen`, `typstorage` of pg_type).
#[rustfmt::skip]
const NEVER_TOAST: &[u32] = &[
    16, 18, 19, 20, 21, 22, 23, 24, 26, 27, 28, 29, 30, 600, 601, 603, 628, 700, 701, 718, 774, 790, 829, 1033, 1082,
    1083, 1114, 1184, 1186, 1266, 2202, 2203, 2204, 2205, 2206, 2950, 3220, 3615, 3642, 3734, 3769, 4089, 4096, 4191,
    5069,
];

/// The shape of a table.
pub(super) struct Shape {
    relation: Relation,
    /// For each column, whether it becomes part of the messages.
    published: Vec<bool>,
    /// For each column, whether it is known that rows can lack it.
    absent_before: Vec<bool>,
    /// What the first row said of the primary key.
    primary_key: Option<Vec<String>>,
    /// It was defined because a row asked for it, and no row had it yet: what does not fit now never will.
    pub(super) fresh: bool,
    announced: bool,
}

/// The values of a row that fits, a place for each column.
pub(super) struct Fit<'r> {
    new: Vec<Option<&'r RawValue>>,
    old: Vec<Option<&'r RawValue>>,
}

impl Shape {
    pub(super) fn new(
        relation: Relation,
        unpublished: &[String],
        fresh: bool,
    ) -> Result<Self, Wal2jsonError> {
        let columns = relation.columns.len();
        if columns > COLUMNS_MAX {
            return Err(Wal2jsonError::TooManyColumns { table: relation.table_name(), columns });
        }
        let published = relation.columns.iter().map(|column| !unpublished.contains(&column.name)).collect();
        let absent_before = vec![false; columns];
        Ok(Shape { relation, published, absent_before, primary_key: None, fresh, announced: false })
    }

    pub(super) fn oid(&self) -> u32 {
        self.relation.oid
    }

    /// Takes over what rows showed of a shape that was defined before, if it is the same.
    pub(super) fn inherit(&mut self, former: &Shape) {
        if former.relation.columns == self.relation.columns {
            self.absent_before.clone_from(&former.absent_before);
        }
    }

    /// Whether the row has this shape.
    pub(super) fn fit<'r>(&self, row: &'r Row<'_>) -> Result<Fit<'r>, Misfit> {
        let fit = match &row.change {
            RowChange::Insert { new } => Fit { new: self.place(new, |_| true, false)?, old: Vec::new() },
            RowChange::Update { new, old } => {
                Fit { new: self.place(new, |_| true, true)?, old: self.place_old(old)? }
            }
            RowChange::Delete { old } => Fit { new: Vec::new(), old: self.place_old(old)? },
        };
        if !self.fresh
            && let Some(index) = self.absent(&fit).find(|index| !self.absent_before[*index])
        {
            return Err(Misfit::Absent { column: self.relation.columns[index].name.clone() });
        }
        // A part of the primary key that is unchanged TOAST is not named either.
        if self.absent(&fit).next().is_none() && !self.has_primary_key(row) {
            return Err(Misfit::PrimaryKey);
        }
        Ok(fit)
    }

    /// The message of a row that fits.
    pub(super) fn message(&self, row: &Row<'_>, fit: &Fit<'_>) -> Result<Vec<u8>, Wal2jsonError> {
        let oid = self.relation.oid;
        Ok(match &row.change {
            RowChange::Insert { .. } => write::insert(oid, &self.cells(&fit.new, Cell::Unchanged)?),
            RowChange::Update { .. } => {
                let old = if self.old_was_logged(fit) { Some(self.old_cells(fit)?) } else { None };
                write::update(oid, old.as_ref(), &self.cells(&fit.new, Cell::Unchanged)?)
            }
            RowChange::Delete { .. } => write::delete(oid, &self.old_cells(fit)?),
        })
    }

    /// Notes that a row had this shape.
    pub(super) fn confirm(&mut self, row: &Row<'_>, fit: &Fit<'_>) {
        let absent: Vec<usize> = self.absent(fit).collect();
        if absent.is_empty() && self.primary_key.is_none() {
            self.primary_key = Some(row.primary_key.iter().map(|name| name.clone().into_owned()).collect());
        }
        absent.into_iter().for_each(|index| self.absent_before[index] = true);
        self.fresh = false;
    }

    /// The messages that tell the shape, before the first that needs it.
    pub(super) fn announce(&mut self) -> Vec<Vec<u8>> {
        if std::mem::replace(&mut self.announced, true) {
            return Vec::new();
        }
        let columns: Vec<&RelationColumn> = self.published_columns().collect();
        let mut messages: Vec<Vec<u8>> =
            columns.iter().filter_map(|column| write::type_name(column)).collect();
        messages.push(write::relation(&self.relation, &columns));
        messages
    }

    fn published_columns(&self) -> impl Iterator<Item = &RelationColumn> {
        self.relation.columns.iter().zip(&self.published).filter(|(_, published)| **published).map(|(c, _)| c)
    }

    fn is_full(&self) -> bool {
        self.relation.identity == ReplicaIdentity::Full
    }

    /// An old row has exactly the columns of the replica identity: under FULL all.
    fn place_old<'r>(&self, row: &'r [Column<'_>]) -> Result<Vec<Option<&'r RawValue>>, Misfit> {
        self.place(row, |column| column.identity || self.is_full(), false)
    }

    /// Puts the values of a row into the places of their columns, of which only the wanted ones may have any.
    fn place<'r>(
        &self,
        row: &'r [Column<'_>],
        wanted: impl Fn(&RelationColumn) -> bool,
        may_lack_toast: bool,
    ) -> Result<Vec<Option<&'r RawValue>>, Misfit> {
        let mut row = row.iter().peekable();
        let mut placed = Vec::with_capacity(self.relation.columns.len());
        for column in &self.relation.columns {
            if !wanted(column) {
                placed.push(None);
                continue;
            }
            let name = || column.name.clone();
            match row.next_if(|found| found.name == column.name) {
                Some(found) if found.type_oid == column.type_oid => placed.push(Some(found.value)),
                Some(_) => return Err(Misfit::Type { column: name() }),
                None if may_lack_toast && !NEVER_TOAST.contains(&column.type_oid) => placed.push(None),
                None => return Err(Misfit::Absent { column: name() }),
            }
        }
        match row.next() {
            None => Ok(placed),
            Some(unknown) => Err(Misfit::Unknown { column: unknown.name.clone().into_owned() }),
        }
    }

    /// The columns of which neither row says anything.
    fn absent(&self, fit: &Fit<'_>) -> impl Iterator<Item = usize> {
        let old = |index: usize| fit.old.get(index).is_some_and(Option::is_some);
        fit.new
            .iter()
            .enumerate()
            .filter(move |(index, new)| new.is_none() && !old(*index))
            .map(|(index, _)| index)
    }

    fn has_primary_key(&self, row: &Row<'_>) -> bool {
        let same = |expected: &mut dyn Iterator<Item = &str>| {
            expected.eq(row.primary_key.iter().map(|name| name.as_ref()))
        };
        match (self.relation.identity, &self.primary_key) {
            (ReplicaIdentity::Default, _) => {
                let identity = self.relation.columns.iter().filter(|column| column.identity);
                same(&mut identity.map(|column| column.name.as_str()))
            }
            (_, Some(known)) => same(&mut known.iter().map(String::as_str)),
            (_, None) => true,
        }
    }

    /// PostgreSQL logs the old key only where it changed or is TOAST; else wal2json prints the new one in its place.
    fn old_was_logged(&self, fit: &Fit<'_>) -> bool {
        let differs = |(old, new): (&Option<&RawValue>, &Option<&RawValue>)| match (old, new) {
            (Some(old), Some(new)) => old.get() != new.get(),
            (Some(_), None) => true,
            (None, _) => false,
        };
        self.is_full() || fit.old.iter().zip(&fit.new).any(differs)
    }

    fn old_cells<'r>(&self, fit: &Fit<'r>) -> Result<OldCells<'r>, Wal2jsonError> {
        let cells = self.cells(&fit.old, Cell::Null)?;
        Ok(if self.is_full() { OldCells::Full(cells) } else { OldCells::Key(cells) })
    }

    /// The cells of the published columns.
    fn cells<'r>(
        &self,
        values: &[Option<&'r RawValue>],
        absent: Cell<'static>,
    ) -> Result<Vec<Cell<'r>>, Wal2jsonError> {
        let published = self
            .relation
            .columns
            .iter()
            .zip(values)
            .zip(&self.published)
            .filter(|(_, published)| **published);
        let cell = |((column, value), _): ((&RelationColumn, &Option<&'r RawValue>), _)| {
            let Some(value) = *value else { return Ok(absent.clone()) };
            let text = value::text(column.type_oid, value).map_err(|expected| Wal2jsonError::Value {
                table: self.relation.table_name(),
                column: column.name.clone(),
                expected,
            })?;
            match text {
                Some(text) => Ok(Cell::Text(text)),
                // The columns of a primary key or an identity index are NOT NULL.
                None if column.identity && !self.is_full() => Err(Wal2jsonError::KeyLost {
                    table: self.relation.table_name(),
                    column: column.name.clone(),
                }),
                None => Ok(Cell::Null),
            }
        };
        published.map(cell).collect()
    }
}
