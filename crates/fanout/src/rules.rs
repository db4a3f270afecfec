//! Who may see what: rules over tables, columns and rows, and what they grant to one identity.
//!
//! Of the rules for a table, the first whose table and claims match decides, alone. Where none does, the table is not there
//! for the one who asks. A grant is part of a session's selection: what equal selections share, they share with equal grants,
//! so nothing that is shared crosses from one who may see it to one who may not.
//!
//! It knows no sessions and no rows: what of a change is told under a grant is decided by [`crate::subscription::Route`].

mod check;
mod grant;
mod permission;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

pub use check::Finding;
pub(crate) use grant::{Grant, Permit, Rows};
pub(crate) use permission::Permission;
use serde_json::{Map, Number, Value};
use waldelta_access::Identity;

use self::grant::Said;
use crate::filter::{Decimal, Filter, Template, claim};
use crate::subscription::Pattern;

/// Rules at most.
const RULES_MAX: usize = 1_000;
/// Columns that one rule names at most: a table of PostgreSQL has no more.
const COLUMNS_MAX: usize = 1_600;
/// Claims that one rule asks for at most, and values of each.
const CLAIMS_MAX: usize = 64;
const CLAIM_VALUES_MAX: usize = 1_000;
/// Grants that are kept before those are looked for which nobody has any more.
const GRANTS_KEPT: usize = 1_024;

/// One rule, as it is configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// `schema.table`, `schema.*` or `*`.
    pub table: String,
    /// Claims, by name, each with the values of which the identity must have one; empty: the rule is for everybody.
    pub claims: BTreeMap<String, Vec<Value>>,
    /// Columns that may be seen beside the key; `None`: all.
    pub columns: Option<Vec<String>>,
    /// Rows that may be seen, as a filter in which `:claims.name` stands for a claim's value; `None`: all.
    pub filter: Option<String>,
}

/// A rule that cannot be read. Rules are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule {number}, for {table:?}: {why}")]
pub struct RuleError {
    /// Which.
    pub number: usize,
    /// Its table, as it was written.
    pub table: String,
    /// What is wrong.
    pub why: String,
}

/// All rules. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Rules(Option<Arc<Set>>);

/// Rules in their order.
struct Set {
    rules: Vec<Parsed>,
    /// The grants that were made of them: equal ones are kept once, since many have the same.
    made: Mutex<Made>,
    said: Arc<Said>,
}

#[derive(Default)]
struct Made {
    grants: HashSet<Grant>,
    sweep_at: usize,
}

/// A rule as it was read.
#[derive(Debug)]
struct Parsed {
    pattern: Pattern,
    claims: Vec<(String, Vec<Value>)>,
    columns: Option<Arc<BTreeSet<String>>>,
    rows: RowsOf,
}

/// The rows that a rule gives.
#[derive(Debug)]
enum RowsOf {
    All,
    /// The same to everybody.
    Fixed(Filter),
    Claims(Template),
}

impl Rules {
    /// Everybody sees everything: without authentication and rules.
    pub fn everything() -> Self {
        Rules(None)
    }

    /// Reads rules. Without any, nobody sees anything.
    ///
    /// # Errors
    /// Where one of them cannot be read. Whether they fit the tables is looked at by [`Rules::check`].
    pub fn parse(rules: &[Rule]) -> Result<Self, RuleError> {
        let parse = |(number, rule): (usize, &Rule)| {
            let refused = |why: String| RuleError { number, table: rule.table.clone(), why };
            match number > RULES_MAX {
                true => Err(refused(format!("there are more than {RULES_MAX} rules"))),
                false => Parsed::new(rule).map_err(refused),
            }
        };
        let rules = (1..).zip(rules).map(parse).collect::<Result<Vec<_>, _>>()?;
        Ok(Rules(Some(Arc::new(Set { rules, made: Mutex::default(), said: Arc::default() }))))
    }

    /// What they grant to an identity; `None`: to somebody without one.
    pub(crate) fn grant(&self, identity: Option<&Identity>) -> Grant {
        let Some(set) = &self.0 else { return Grant::everything() };
        let nothing = Map::new();
        let claims = identity.map_or(&nothing, |identity| &*identity.claims);
        let applying = set.rules.iter().filter(|rule| rule.is_for(claims));
        set.shared(Grant::new(applying.map(|rule| rule.permit(claims)), set.said.clone()))
    }
}

impl Set {
    /// The grant that is equal to this one, where somebody has it already.
    fn shared(&self, grant: Grant) -> Grant {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = made.grants.get(&grant) {
            return same.clone();
        }
        if made.grants.len() >= made.sweep_at.max(GRANTS_KEPT) {
            made.grants.retain(Grant::is_shared);
            made.sweep_at = 2 * made.grants.len();
        }
        made.grants.insert(grant.clone());
        grant
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.rules).finish()
    }
}

impl Parsed {
    fn new(rule: &Rule) -> Result<Self, String> {
        let pattern = rule.table.parse().map_err(|_| "`table` is schema.table, schema.* or *".to_owned())?;
        if rule.claims.len() > CLAIMS_MAX {
            return Err(format!("`claims` has more than {CLAIMS_MAX} names"));
        }
        for (name, values) in &rule.claims {
            if values.is_empty() || values.len() > CLAIM_VALUES_MAX {
                return Err(format!("claim {name:?} needs 1 to {CLAIM_VALUES_MAX} values"));
            }
            if values.iter().any(|value| value.is_null() || value.is_array() || value.is_object()) {
                return Err(format!("the values of claim {name:?} must be texts, numbers, true or false"));
            }
        }
        let columns = rule.columns.iter().flatten();
        if columns.clone().count() > COLUMNS_MAX || columns.clone().any(String::is_empty) {
            return Err(format!("`columns` has an empty name, or more than {COLUMNS_MAX} names"));
        }
        let rows = match &rule.filter {
            None => RowsOf::All,
            Some(text) => {
                let template: Template = text.parse().map_err(|error| format!("`where`: {error}"))?;
                match template.is_settled().then(|| template.filter(&Map::new())).flatten() {
                    Some(filter) => RowsOf::Fixed(filter),
                    None => RowsOf::Claims(template),
                }
            }
        };
        Ok(Parsed {
            pattern,
            claims: rule.claims.clone().into_iter().collect(),
            columns: rule.columns.as_ref().map(|_| Arc::new(columns.cloned().collect())),
            rows,
        })
    }

    /// Whether it is for whoever has these claims.
    fn is_for(&self, claims: &Map<String, Value>) -> bool {
        self.claims.iter().all(|(name, values)| {
            let has = |claimed: &Value| values.iter().any(|value| is_same(value, claimed));
            match named(claims, name) {
                Some(Value::Array(all)) => all.iter().any(has),
                Some(claimed) => has(claimed),
                None => false,
            }
        })
    }

    fn permit(&self, claims: &Map<String, Value>) -> Permit {
        let rows = match &self.rows {
            RowsOf::All => Rows::All,
            RowsOf::Fixed(filter) => Rows::Filtered(filter.clone()),
            RowsOf::Claims(template) => template.filter(claims).map_or(Rows::Nothing, Rows::Filtered),
        };
        Permit { pattern: self.pattern.clone(), columns: self.columns.clone(), rows }
    }
}

/// A claim by its name: as a whole, else at its dots a part of an object.
fn named<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c Value> {
    let parts = || name.split('.').map(str::to_owned).collect::<Vec<_>>();
    claims.get(name).or_else(|| claim(claims, &parts()))
}

/// Whether two values are the same, numbers however they are written.
fn is_same(one: &Value, other: &Value) -> bool {
    let decimal = |number: &Number| Decimal::parse(number.to_string().as_bytes()).map(|one| one.to_string());
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || decimal(one) == decimal(other),
        (one, other) => one == other,
    }
}

#[cfg(test)]
pub(crate) mod tests;
