//! A filter bound to a table's shape, and decided on rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use waldelta_wal::{Table, quote_ident};

use super::condition::{Condition, Relation};
use super::equality::{self, Equality};
use super::family::{Family, Read};
use super::outcomes::Outcomes;
use super::pattern::Pattern;
use super::value::Value;
use super::{Filter, FilterError, Row, Verdict, sql};
use crate::wire::json;

/// A filter bound to a table's shape. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Predicate(Arc<Bound>);

#[derive(Debug)]
struct Bound {
    test: Test,
    columns: Vec<u16>,
    equalities: Vec<Equality>,
    sql: String,
}

/// A condition with columns by their places, and values by their types.
#[derive(Debug)]
pub(super) enum Test {
    And(Vec<Test>),
    Or(Vec<Test>),
    Not(Box<Test>),
    Column { column: u16, family: Family, question: Question },
}

/// What is asked of one column.
#[derive(Debug)]
pub(super) enum Question {
    /// Whether it has one of these values, which are in order.
    In(Vec<Value<'static>>),
    Compare(Relation, Value<'static>),
    Like(Pattern),
    IsNull,
}

impl Predicate {
    /// Binds a filter to a table.
    pub(crate) fn new(filter: &Filter, table: &Table) -> Result<Self, FilterError> {
        let mut columns = BTreeSet::new();
        let test = bind(filter.condition(), table, &mut columns)?;
        let equalities = equality::of([&test].into_iter(), table);
        let sql = sql::expression(&test, table);
        Ok(Predicate(Arc::new(Bound { test, columns: columns.into_iter().collect(), equalities, sql })))
    }

    /// Indexes into the table's columns of those that it reads, ascending.
    pub(crate) fn columns(&self) -> &[u16] {
        &self.0.columns
    }

    /// Whether a row passes. What is not known of the row counts as any value, in each place by itself: where the filter asks
    /// for one column several times, the verdict can be [`Verdict::Unknown`] although all its values come to the same.
    pub(crate) fn verdict(&self, row: &Row<'_>) -> Verdict {
        self.0.test.outcomes(row).verdict()
    }

    /// The same as an SQL expression in parentheses over the table's quoted column names, its literals typed and quoted. Safe
    /// whatever `standard_conforming_strings` is; names mean the catalog's where `search_path` is `pg_catalog`.
    pub(crate) fn sql(&self) -> String {
        self.0.sql.clone()
    }

    /// Columns, each with values such that only rows with one of them there can pass; empty where nothing of the kind is known.
    pub(crate) fn equalities(&self) -> &[Equality] {
        &self.0.equalities
    }

    /// The same of rows that have to pass this and another, bound to this table too.
    pub(crate) fn equalities_with(&self, other: &Predicate, table: &Table) -> Vec<Equality> {
        equality::of([&self.0.test, &other.0.test].into_iter(), table)
    }
}

fn bind(condition: &Condition, table: &Table, columns: &mut BTreeSet<u16>) -> Result<Test, FilterError> {
    let mut all = |parts: &[Condition]| -> Result<Vec<Test>, FilterError> {
        parts.iter().map(|part| bind(part, table, columns)).collect()
    };
    let (name, question) = match condition {
        Condition::And(parts) => return all(parts).map(Test::And),
        Condition::Or(parts) => return all(parts).map(Test::Or),
        Condition::Not(inner) => return Ok(Test::Not(Box::new(bind(inner, table, columns)?))),
        Condition::In { column, .. }
        | Condition::Compare { column, .. }
        | Condition::Like { column, .. }
        | Condition::IsNull { column } => (column, condition),
    };
    let found = (0u16..).zip(&table.columns).find(|(_, column)| column.name == *name);
    let (index, column) = found.ok_or_else(|| FilterError::NoColumn { column: quote_ident(name) })?;
    let family = Family::of(column);
    let named = || (quote_ident(name), column.type_name.clone());
    let refused = |why| {
        let (column, type_name) = named();
        FilterError::NotComparable { column, type_name, why }
    };
    let value = |literal| {
        family.value(column, literal).map_err(|expected| {
            let (column, type_name) = named();
            FilterError::WrongValue { column, type_name, expected }
        })
    };
    let question = match question {
        Condition::In { values, .. } => {
            family.check_equality().map_err(refused)?;
            let mut values = values.iter().map(value).collect::<Result<Vec<_>, _>>()?;
            values.sort();
            values.dedup();
            Question::In(values)
        }
        Condition::Compare { relation, value: literal, .. } => {
            family.check_order().map_err(refused)?;
            Question::Compare(*relation, value(literal)?)
        }
        Condition::Like { pattern, .. } => {
            family.check_like().map_err(refused)?;
            let pattern = Pattern::new(pattern).map_err(|_| refused("of which this LIKE cannot be asked"))?;
            Question::Like(pattern)
        }
        _ => Question::IsNull,
    };
    columns.insert(index);
    Ok(Test::Column { column: index, family, question })
}

impl Test {
    fn outcomes(&self, row: &Row<'_>) -> Outcomes {
        match self {
            Test::And(parts) => {
                let mut all = Outcomes::TRUE;
                for part in parts {
                    all = all.and(part.outcomes(row));
                    if all == Outcomes::FALSE {
                        break;
                    }
                }
                all
            }
            Test::Or(parts) => {
                let mut any = Outcomes::FALSE;
                for part in parts {
                    any = any.or(part.outcomes(row));
                    if any == Outcomes::TRUE {
                        break;
                    }
                }
                any
            }
            Test::Not(inner) => inner.outcomes(row).not(),
            Test::Column { column, family, question } => question.outcomes(*family, row.value(*column)),
        }
    }
}

impl Question {
    /// The answer, of a value's JSON text where the row has it.
    fn outcomes(&self, family: Family, text: Option<&[u8]>) -> Outcomes {
        let text = match (self, text) {
            (Question::IsNull, None) => return Outcomes::NOT_NULL,
            (_, None) => return Outcomes::ANY,
            (Question::IsNull, Some(text)) => return Outcomes::of(text == b"null"),
            (_, Some(b"null")) => return Outcomes::NULL,
            (_, Some(text)) => text,
        };
        match self {
            // LIKE sees the blanks at the end of char(n) too.
            Question::Like(pattern) => {
                json::string(text).map_or(Outcomes::NOT_NULL, |text| Outcomes::of(pattern.matches(&text)))
            }
            Question::In(values) => match family.read(text) {
                Read::Value(value) => Outcomes::of(values.binary_search(&value).is_ok()),
                // What is too large to be kept is larger than any value of a filter.
                Read::Unreadable => Outcomes::FALSE,
            },
            Question::Compare(relation, other) => match family.read(text) {
                Read::Value(value) => Outcomes::of(relation.holds(value.cmp(other))),
                Read::Unreadable => Outcomes::NOT_NULL,
            },
            Question::IsNull => Outcomes::FALSE,
        }
    }
}
