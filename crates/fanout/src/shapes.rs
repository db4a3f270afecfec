//! The shapes that tables have, and had, as far as they are known.
//!
//! By its name alone nobody knows whether a rule fits a table. Where it fits none of the shapes that the table ever had, whoever
//! is bound to it has nothing of the table, and is not told that there is one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use waldelta_wal::{Change, Operation, Table, TableName};

use crate::error::Error;
use crate::inner::Inner;
use crate::rules::Grant;
use crate::start::Reset;
use crate::subscription::{Selection, reset_table};

/// The shapes of tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shapes(BTreeMap<TableName, Vec<Arc<Table>>>);

impl Shapes {
    /// Of the tables that are reset or get another shape by these changes: those of which the grant does not say by their names alone whether anything
    /// of them may be seen.
    pub(crate) async fn of_changed<'a>(
        inner: &Inner,
        grant: &Grant,
        changes: impl Iterator<Item = &'a Change>,
    ) -> Result<Self, Error> {
        let changed = changes.filter_map(|change| match shaped(change) {
            Some(table) => Some(table.name.clone()),
            None => reset_table(change),
        });
        let tables: BTreeSet<TableName> = changed.filter(|table| grant.depends_on_shape(table)).collect();
        if tables.is_empty() {
            return Ok(Shapes::default());
        }
        let shapes: Self = inner.history.tables_of_names(&tables).await?.into_iter().collect();
        if tables.iter().all(|table| shapes.0.contains_key(table)) {
            return Ok(shapes);
        }
        // It is captured only just now: history has none of its changes yet.
        let all = inner.captured.tables(&inner.history, &inner.source).await;
        let all = all.map_err(|code| Error::Tables { code })?;
        let of_these = all.0.iter().filter(|(table, _)| tables.contains(*table));
        Ok(Shapes(of_these.map(|(table, shapes)| (table.clone(), shapes.clone())).collect()))
    }

    /// The tables.
    pub(crate) fn names(&self) -> impl Iterator<Item = &TableName> {
        self.0.keys()
    }

    /// The table that begins anew with this change for whoever has this selection, and why. So does one of which something may be
    /// seen by its new shape and nothing by the one before, or the other way about: nothing is told of it meanwhile.
    pub(crate) fn reset_by(&self, selection: &Selection, change: &Change) -> Option<(Reset, TableName)> {
        if let Some(table) = reset_table(change) {
            return self.may_have_been_seen(selection, &table).then_some((Reset::Gap, table));
        }
        let table = shaped(change).filter(|table| selection.matches(&table.name))?;
        let earlier = self.0.get(&table.name)?.iter();
        let earlier = earlier.filter(|other| other.oid == table.oid && other.version < table.version);
        let before = earlier.max_by_key(|other| other.version)?;
        let is_other = selection.may_see(before) != selection.may_see(table);
        is_other.then(|| (Reset::PermissionChanged, table.name.clone()))
    }

    /// Whether whoever has this selection may have, or may have had, rows of a table. One of which no shape is known counts by its
    /// name.
    pub(crate) fn may_have_been_seen(&self, selection: &Selection, table: &TableName) -> bool {
        let shapes = self.0.get(table).map_or(&[][..], Vec::as_slice);
        selection.matches(table) && (shapes.is_empty() || shapes.iter().any(|shape| selection.may_see(shape)))
    }
}

/// The table that has another shape from this change on.
fn shaped(change: &Change) -> Option<&Arc<Table>> {
    change.table.as_ref().filter(|_| change.operation == Operation::Schema)
}

impl FromIterator<Arc<Table>> for Shapes {
    fn from_iter<T: IntoIterator<Item = Arc<Table>>>(tables: T) -> Self {
        let mut shapes = Shapes::default();
        for table in tables {
            shapes.0.entry(table.name.clone()).or_default().push(table);
        }
        shapes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{grant, reset_change, rule, schema_change, subscription, table};

    #[test]
    fn a_table_that_its_rule_never_fitted_was_never_seen() {
        let granted = grant(&[rule("public.*", None, Some("id = 1"))], serde_json::json!({}));
        let selection = Selection::new(vec![subscription("all", "*")], granted);
        let unfit = |name: &str| {
            let mut unfit = table(name);
            unfit.columns.iter_mut().for_each(|column| column.name = format!("other_{}", column.name));
            Arc::new(unfit)
        };
        let shapes: Shapes =
            [Arc::new(table("t")), unfit("u"), unfit("w"), Arc::new(table("w"))].into_iter().collect();
        let seen = ["t", "u", "v", "w"].map(|name| shapes.may_have_been_seen(&selection, &table(name).name));
        assert_eq!(
            seen,
            [true, false, true, true],
            "of one nothing is known, and one had another shape once"
        );
        let of_u = ["t", "u"].map(|name| shapes.reset_by(&selection, &reset_change(0, name)));
        assert_eq!(of_u, [Some((Reset::Gap, table("t").name)), None]);
        let elsewhere = Selection::new(vec![subscription("t", "t")], Grant::everything());
        assert!(!shapes.may_have_been_seen(&elsewhere, &table("w").name));
    }

    #[test]
    fn a_table_that_its_rule_fits_no_more_or_again_begins_anew() {
        let granted = grant(&[rule("t", None, Some("id = 1"))], serde_json::json!({}));
        let selection = Selection::new(vec![subscription("all", "*")], granted);
        let version = |version, id: &str| {
            let mut shape = Table { version, ..table("t") };
            shape.columns[0].name = id.into();
            Arc::new(shape)
        };
        let all = [version(1, "id"), version(2, "number"), version(3, "no"), version(4, "id")];
        let shapes: Shapes = all.iter().cloned().collect();
        let anew = |selection: &Selection| {
            all.each_ref()
                .map(|shape| shapes.reset_by(selection, &schema_change(0, shape)).map(|(why, _)| why))
        };
        let changed = Some(Reset::PermissionChanged);
        assert_eq!(anew(&selection), [None, changed, None, changed]);
        let everything = crate::testing::everything(vec![subscription("all", "*")]);
        assert_eq!(anew(&everything), [None; 4]);
        assert_eq!(anew(&selection.without(&["all".into()])), [None; 4], "nobody follows it");
    }
}
