//! The shapes that tables have, and had, as far as they are known.
//!
//! By its name alone nobody knows whether a rule fits a table. Where it fits none of the shapes that the table ever had, whoever
//! is bound to it has nothing of the table, and is not told that there is one.
//!
//! What one client was shown of them is another question: see [`shown`].

mod shown;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) use shown::Shown;
use waldelta_wal::{Change, Operation, Table, TableName};

use crate::error::Error;
use crate::inner::Inner;
use crate::rules::Grant;
use crate::start::Reset;
use crate::subscription::{Selection, reset_table};

/// The shapes of tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shapes {
    /// By the names that they had.
    named: BTreeMap<TableName, Vec<Arc<Table>>>,
    /// Others, right before one of these, by which their tables had other names.
    renamed: Vec<Arc<Table>>,
}

impl Shapes {
    /// Of the tables that are reset or get another shape by these changes: those of which the grant does not say by their names alone
    /// whether anything of them may be seen, or may have been.
    pub(crate) async fn of_changed<'a>(
        inner: &Inner,
        grant: &Grant,
        changes: impl Iterator<Item = &'a Change>,
    ) -> Result<Self, Error> {
        let (mut tables, mut shaped_anew) = (BTreeSet::new(), Vec::new());
        for change in changes {
            let (shaped, reset) = (shaped(change), reset_table(change));
            let name = shaped.map(|table| &table.name).or(reset.as_ref());
            if let Some(name) = name.filter(|name| grant.depends_on_shape(name)) {
                tables.insert(name.clone());
                shaped_anew.extend(shaped);
            }
        }
        if tables.is_empty() {
            return Ok(Shapes::default());
        }
        let mut shapes: Self = inner.log.tables_of_names(&tables).await?.into_iter().collect();
        for table in shaped_anew {
            shapes.add_before(inner, table).await?;
        }
        if tables.iter().all(|table| shapes.named.contains_key(table)) {
            return Ok(shapes);
        }
        // It is captured only just now: history has none of its changes yet.
        let all = inner.captured.tables(&*inner.log, &*inner.origin).await;
        let all = all.map_err(|code| Error::Tables { code })?;
        let of_these = all.named.iter().filter(|(table, _)| tables.contains(*table));
        shapes.named.extend(of_these.map(|(table, shapes)| (table.clone(), shapes.clone())));
        Ok(shapes)
    }

    /// Adds the shape that a table had before this one, where it had another name by it.
    async fn add_before(&mut self, inner: &Inner, table: &Table) -> Result<(), Error> {
        let Some(version) = table.version.checked_sub(1).filter(|version| *version > 0) else {
            return Ok(());
        };
        let is_it = |other: &Arc<Table>| (other.oid, other.version) == (table.oid, version);
        if self.named.get(&table.name).into_iter().flatten().chain(&self.renamed).any(is_it) {
            return Ok(());
        }
        match inner.log.table(table.oid, version).await {
            Ok(before) => self.renamed.push(before),
            // History does not have it, as behind a gap between epochs: then the one before that counts.
            Err(waldelta_history::Error::Corrupt { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The tables.
    pub(crate) fn names(&self) -> impl Iterator<Item = &TableName> {
        self.named.keys()
    }

    /// The table that begins anew with this change for whoever has this selection, and why. So does one of which something may be
    /// seen by its new shape and nothing by the one before, or the other way about: nothing is told of it meanwhile.
    pub(crate) fn reset_by(&self, selection: &Selection, change: &Change) -> Option<(Reset, TableName)> {
        if let Some(table) = reset_table(change) {
            return self.may_have_been_seen(selection, &table).then_some((Reset::Gap, table));
        }
        let table = shaped(change).filter(|table| selection.matches(&table.name))?;
        let before = self.before(table)?;
        let sees = |table: &Table| selection.matches(&table.name) && selection.may_see(table);
        match (sees(before), sees(table)) {
            (false, true) => Some((Reset::PermissionChanged, table.name.clone())),
            (true, false) => Some((Reset::PermissionChanged, before.name.clone())),
            _ => None,
        }
    }

    /// Whether a table has another name by this shape than by the one before.
    pub(crate) fn is_renamed(&self, table: &Table) -> bool {
        self.before(table).is_some_and(|before| before.name != table.name)
    }

    /// The shape that a table had before this one.
    fn before(&self, table: &Table) -> Option<&Arc<Table>> {
        let of_name = self.named.get(&table.name).into_iter().flatten();
        let earlier = of_name
            .chain(&self.renamed)
            .filter(|other| other.oid == table.oid && other.version < table.version);
        earlier.max_by_key(|other| other.version)
    }

    /// Whether whoever has this selection may have, or may have had, rows of a table. One of which no shape is known counts by its
    /// name.
    pub(crate) fn may_have_been_seen(&self, selection: &Selection, table: &TableName) -> bool {
        let shapes = self.named.get(table).map_or(&[][..], Vec::as_slice);
        selection.matches(table) && (shapes.is_empty() || shapes.iter().any(|shape| selection.may_see(shape)))
    }
}

#[cfg(test)]
impl Shapes {
    /// Shapes, and others by which the tables had other names.
    pub(crate) fn of_renamed<const N: usize, const M: usize>(
        named: [Arc<Table>; N],
        renamed: [Arc<Table>; M],
    ) -> Self {
        Shapes { renamed: renamed.into(), ..named.into_iter().collect() }
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
            shapes.named.entry(table.name.clone()).or_default().push(table);
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

    #[test]
    fn a_table_that_comes_by_another_name_begins_anew_where_it_was_not_seen_by_the_one_before() {
        let granted = grant(
            &[rule("t", None, Some("id = 1")), rule("v", None, Some("missing = 1"))],
            serde_json::json!({}),
        );
        let selection = Selection::new(vec![subscription("all", "*")], granted);
        let version =
            |version, name: &str| Arc::new(Table { version, oid: 7, name: table(name).name, ..table("t") });
        let all = [version(1, "t"), version(2, "u"), version(3, "t"), version(4, "v"), version(5, "t")];
        let of_t = [0, 2, 4].map(|index: usize| all[index].clone());
        let shapes = Shapes::of_renamed(of_t, [0, 1, 2, 3].map(|index: usize| all[index].clone()));
        let anew = all.each_ref().map(|shape| shapes.reset_by(&selection, &schema_change(0, shape)));
        let of_t = Some((Reset::PermissionChanged, table("t").name));
        assert_eq!(anew, [None, None, of_t.clone(), of_t.clone(), of_t]);
        assert_eq!(all.each_ref().map(|shape| shapes.is_renamed(shape)), [false, true, true, true, true]);
    }
}
