//! What one identity may see of which tables.
//!
//! Two grants are equal where they grant the same, whoever they are for. It says nothing of a table's shape: that is the
//! business of [`Permission`].

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashSet};
use std::fmt::{self, Write};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use waldelta_wal::{Table, TableName};

use super::permission::{Permission, Unfit};
use crate::filter::Filter;
use crate::subscription::Pattern;

/// Shapes of tables of which it is remembered that their rules do not fit; beyond that it may be said again.
const SAID_MAX: usize = 1_000;

/// What one may see. Cheap to clone; equal where it grants the same, whoever it is for. Its `Debug` has no values of claims.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Grant(Arc<Granted>);

#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Granted {
    /// Everything, also tables that come later and logical messages.
    all: bool,
    /// In the order of their rules. The first that is of a table says what may be seen of it.
    permits: Vec<Permit>,
    said: Reporter,
}

/// What one may see of the tables of a pattern.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Permit {
    pub pattern: Pattern,
    /// Columns beside the key; `None`: all.
    pub columns: Option<Arc<BTreeSet<String>>>,
    pub rows: Rows,
}

/// Rows that one may see.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Rows {
    All,
    Filtered(Filter),
    /// None, whatever is in the table: its rule asks for a claim that is not there.
    Nothing,
}

impl Permit {
    /// Whether all rows may be seen, with all columns.
    pub(crate) fn is_of_all(&self) -> bool {
        self.columns.is_none() && self.rows == Rows::All
    }

    /// The columns beside the key; `None`: all.
    pub(crate) fn shown(&self) -> Option<BTreeSet<&str>> {
        self.columns.as_ref().map(|columns| columns.iter().map(String::as_str).collect())
    }

    /// The filter that rows have to pass; `None` without one.
    pub(crate) fn filter(&self) -> Option<&Filter> {
        match &self.rows {
            Rows::Filtered(filter) => Some(filter),
            Rows::All | Rows::Nothing => None,
        }
    }
}

impl Grant {
    pub(crate) fn everything() -> Self {
        Grant(Arc::new(Granted { all: true, permits: Vec::new(), said: Reporter::default() }))
    }

    /// What these permits give together, of which for each table the first counts.
    pub(super) fn new(permits: impl Iterator<Item = Permit>, said: Arc<Said>) -> Self {
        let (mut kept, mut seen): (Vec<Permit>, HashSet<Pattern>) = (Vec::new(), HashSet::new());
        for permit in permits {
            // One that no table is left for is no part of what is granted.
            let by_schema = match &permit.pattern {
                Pattern::Table(table) => seen.contains(&Pattern::Schema(table.schema.clone())),
                Pattern::All | Pattern::Schema(_) => false,
            };
            if by_schema || seen.contains(&Pattern::All) || !seen.insert(permit.pattern.clone()) {
                continue;
            }
            kept.push(permit);
        }
        // Nor is one that gives nothing where nothing comes after it that could.
        while kept.last().is_some_and(|last| last.rows == Rows::Nothing) {
            kept.pop();
        }
        match kept.first() {
            Some(first) if first.pattern == Pattern::All && first.is_of_all() => Self::everything(),
            _ => Grant(Arc::new(Granted { all: false, permits: kept, said: Reporter(said) })),
        }
    }

    /// Whether everything may be seen, whatever comes. It is so without rules, and where the first rule that applies is of all
    /// tables with all rows and columns.
    pub(crate) fn is_everything(&self) -> bool {
        self.0.all
    }

    /// Whether both are one in memory. Two that are equal need not be: rules may have been read again in between.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether somebody has it beside whoever asks.
    pub(super) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// What may be seen of a table; `None`: nothing, it is not there, or everything may be seen.
    pub(crate) fn permit(&self, table: &TableName) -> Option<&Permit> {
        let decides = self.0.permits.iter().find(|permit| permit.pattern.matches(table))?;
        (decides.rows != Rows::Nothing).then_some(decides)
    }

    /// What may be seen where it is less than everything.
    pub(crate) fn permits(&self) -> &[Permit] {
        &self.0.permits
    }

    /// Whether anything of a table may be seen, as far as its name says that.
    pub(crate) fn has(&self, table: &TableName) -> bool {
        self.is_everything() || self.permit(table).is_some()
    }

    /// Whether it takes a table's shape to know whether anything of it may be seen.
    pub(crate) fn depends_on_shape(&self, table: &TableName) -> bool {
        self.permit(table).and_then(Permit::filter).is_some()
    }

    /// Whether logical messages may be seen: they belong to no table, so no rule narrows them.
    pub(crate) fn has_messages(&self) -> bool {
        self.is_everything()
    }

    /// What may be seen of a table of this shape; `None`: nothing, it is not there. So it is too where the rule does not fit the
    /// shape, or cannot be decided on what the source sends: the log says so once.
    pub(crate) fn permission(&self, table: &Table) -> Option<Permission> {
        if self.is_everything() {
            return Some(Permission::everything());
        }
        let permit = self.permit(&table.name)?;
        match Permission::new(permit, table) {
            Ok(permission) => Some(permission),
            Err(unfit) => {
                self.0.said.0.say(permit, table, &unfit);
                None
            }
        }
    }

    /// Names what is granted: the same over restarts, whoever it is for.
    pub(crate) fn fingerprint(&self) -> String {
        let mut text = String::from(if self.is_everything() { "everything" } else { "permits" });
        // Debug of a text has it in quotes, with what would end them escaped: no text looks like two.
        let write = |text: &mut String| {
            for Permit { pattern, columns, rows } in &self.0.permits {
                write!(text, "\n{:?} {columns:?} ", pattern.to_string())?;
                match rows {
                    Rows::All => text.write_str("all")?,
                    Rows::Nothing => text.write_str("nothing")?,
                    Rows::Filtered(filter) => write!(text, "{:?}", filter.to_string())?,
                }
            }
            fmt::Result::Ok(())
        };
        // Writing into a text does not fail.
        let _ = write(&mut text);
        let digest = Sha256::digest(text.as_bytes());
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Default for Grant {
    fn default() -> Self {
        Self::everything()
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Grant").field(&self.fingerprint()).finish()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("pattern", &self.pattern).finish_non_exhaustive()
    }
}

/// Of which shapes of tables it was said that their rules do not fit.
#[derive(Default)]
pub(super) struct Said(Mutex<HashSet<(Pattern, u32, u32)>>);

impl Said {
    fn say(&self, permit: &Permit, table: &Table, unfit: &Unfit) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() >= SAID_MAX {
            said.clear();
        }
        if said.insert((permit.pattern.clone(), table.oid, table.version)) {
            tracing::warn!(
                code = unfit.code().as_str(),
                table = %table.name,
                rule = %permit.pattern,
                why = %unfit,
                "nobody to whom a rule applies sees its table"
            );
        }
    }
}

/// Where a grant says that a rule does not fit: no part of what it grants.
#[derive(Clone, Default)]
struct Reporter(Arc<Said>);

impl PartialEq for Reporter {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Reporter {}

impl Hash for Reporter {
    fn hash<H: Hasher>(&self, _state: &mut H) {}
}

impl Ord for Reporter {
    fn cmp(&self, _other: &Self) -> Ordering {
        Ordering::Equal
    }
}

impl PartialOrd for Reporter {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
