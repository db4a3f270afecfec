//! Filters that compare the same columns for equality, found by the values that a row has there.
//!
//! Where a row's image lacks a column, the columns before it still tell filters apart: those of the key come first, and are
//! known of a row before its change where others are not.

use std::collections::{BTreeSet, HashMap};

use super::Work;
use super::images::{Images, Key};
use super::table::Id;
use crate::filter::{Equality, IndexKey};

/// The filters that compare certain columns for equality, in a certain order.
#[derive(Default)]
pub(super) struct ByValues {
    /// By the value of the first column, of the first two, and so on.
    levels: Vec<HashMap<Vec<IndexKey>, BTreeSet<Id>>>,
    all: BTreeSet<Id>,
}

impl ByValues {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn insert(&mut self, id: Id, equalities: &[Equality]) {
        self.all.insert(id);
        self.levels.resize_with(equalities.len(), HashMap::new);
        for (level, paths) in self.levels.iter_mut().zip(Paths::of(equalities)) {
            for path in paths {
                level.entry(path).or_default().insert(id);
            }
        }
    }

    pub(super) fn remove(&mut self, id: Id, equalities: &[Equality]) {
        self.all.remove(&id);
        for (level, paths) in self.levels.iter_mut().zip(Paths::of(equalities)) {
            for path in paths {
                let Some(ids) = level.get_mut(&path) else { continue };
                ids.remove(&id);
                if ids.is_empty() {
                    level.remove(&path);
                }
            }
        }
    }

    /// Adds the filters that have the values of either image, as far as these are known.
    pub(super) fn look_up(&self, columns: &[u16], images: &Images<'_>, work: &mut Work, into: &mut Vec<Id>) {
        for row in images.rows() {
            work.lookups += 1;
            let keys: Vec<Key> = columns.iter().map(|column| images.key(row, *column)).collect();
            if keys.contains(&Key::Null) {
                continue;
            }
            let known: Vec<IndexKey> = keys.into_iter().map_while(Key::known).collect();
            match known.len().checked_sub(1).and_then(|last| self.levels.get(last)) {
                Some(level) => into.extend(level.get(&known).into_iter().flatten()),
                None => into.extend(&self.all),
            }
        }
    }
}

/// The values under which a filter is found by the first column, by the first two, and so on.
struct Paths<'a> {
    equalities: std::slice::Iter<'a, Equality>,
    last: Vec<Vec<IndexKey>>,
}

impl<'a> Paths<'a> {
    fn of(equalities: &'a [Equality]) -> Self {
        Paths { equalities: equalities.iter(), last: vec![Vec::new()] }
    }
}

impl Iterator for Paths<'_> {
    type Item = Vec<Vec<IndexKey>>;

    fn next(&mut self) -> Option<Self::Item> {
        let values = &self.equalities.next()?.values;
        let longer = |path: &Vec<IndexKey>, value: &IndexKey| {
            path.iter().chain([value]).cloned().collect::<Vec<IndexKey>>()
        };
        self.last =
            self.last.iter().flat_map(|path| values.iter().map(move |value| longer(path, value))).collect();
        Some(self.last.clone())
    }
}
