//! What a filter says, as a tree in one form: what means the same is written the same way as far as that is cheap to see.
//!
//! It knows no table: what its values are, the types of columns say.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;

use waldelta_wal::quote_ident;

use super::decimal::Decimal;
use super::lexer::continues_word;

/// A condition. AND and OR lie in no AND or OR of their own kind, have two parts at least, in order and each once; NOT lies
/// in no NOT; the values of a list are in order and each once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Condition {
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
    /// `=` and IN: the column has one of the values.
    In {
        column: String,
        values: Vec<Literal>,
    },
    Compare {
        column: String,
        relation: Relation,
        value: Literal,
    },
    Like {
        column: String,
        pattern: String,
    },
    IsNull {
        column: String,
    },
}

/// How the column's value lies to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Relation {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// A value as the client wrote it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Literal {
    Bool(bool),
    Number(Decimal<'static>),
    /// A text in quotes, and the type that it was said to be of.
    Text(Option<TextType>, String),
    /// A claim of whoever a rule is applied to; in no filter, only in what filters are made of.
    Claim(Vec<String>),
}

/// A type whose values are written in quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TextType {
    Bytea,
    Date,
    Text,
    Time,
    Timestamp,
    TimestampTz,
    Uuid,
}

impl Condition {
    pub(super) fn and(parts: Vec<Condition>) -> Self {
        let flat = parts.into_iter().flat_map(|part| match part {
            Condition::And(parts) => parts,
            part => vec![part],
        });
        Self::joined(flat.collect(), Condition::And)
    }

    pub(super) fn or(parts: Vec<Condition>) -> Self {
        let flat = parts.into_iter().flat_map(|part| match part {
            Condition::Or(parts) => parts,
            part => vec![part],
        });
        Self::joined(flat.collect(), Condition::Or)
    }

    fn joined(mut parts: Vec<Condition>, join: fn(Vec<Condition>) -> Condition) -> Self {
        parts.sort();
        parts.dedup();
        match parts.len() {
            1 => parts.swap_remove(0),
            _ => join(parts),
        }
    }

    pub(super) fn add_columns<'c>(&'c self, columns: &mut BTreeSet<&'c str>) {
        match self {
            Condition::And(parts) | Condition::Or(parts) => {
                parts.iter().for_each(|part| part.add_columns(columns));
            }
            Condition::Not(inner) => inner.add_columns(columns),
            Condition::In { column, .. }
            | Condition::Compare { column, .. }
            | Condition::Like { column, .. }
            | Condition::IsNull { column } => _ = columns.insert(column),
        }
    }

    /// NOT NOT is the same as nothing, for null too.
    pub(super) fn negated(self) -> Self {
        match self {
            Condition::Not(inner) => *inner,
            condition => Condition::Not(Box::new(condition)),
        }
    }

    pub(super) fn one_of(column: String, mut values: Vec<Literal>) -> Self {
        values.sort();
        values.dedup();
        Condition::In { column, values }
    }

    /// The same with other values in place of each, which is one of a column: one where it is compared for order, else one or
    /// more. `None` where they are not so many, or there are none.
    pub(super) fn with_values(
        &self,
        values: &impl Fn(&str, &Literal) -> Option<Vec<Literal>>,
    ) -> Option<Self> {
        let all = |parts: &[Condition]| -> Option<Vec<Condition>> {
            parts.iter().map(|part| part.with_values(values)).collect()
        };
        Some(match self {
            Condition::And(parts) => Condition::and(all(parts)?),
            Condition::Or(parts) => Condition::or(all(parts)?),
            Condition::Not(inner) => inner.with_values(values)?.negated(),
            Condition::In { column, values: before } => {
                let each = before.iter().map(|literal| values(column, literal).filter(|new| !new.is_empty()));
                Condition::one_of(column.clone(), each.collect::<Option<Vec<_>>>()?.concat())
            }
            Condition::Compare { column, relation, value } => {
                let [value] = <[Literal; 1]>::try_from(values(column, value)?).ok()?;
                Condition::Compare { column: column.clone(), relation: *relation, value }
            }
            Condition::Like { .. } | Condition::IsNull { .. } => self.clone(),
        })
    }

    /// Whether it has nothing of a claim in it.
    pub(super) fn is_settled(&self) -> bool {
        match self {
            Condition::And(parts) | Condition::Or(parts) => parts.iter().all(Self::is_settled),
            Condition::Not(inner) => inner.is_settled(),
            Condition::In { values, .. } => values.iter().all(|value| !matches!(value, Literal::Claim(_))),
            Condition::Compare { value, .. } => !matches!(value, Literal::Claim(_)),
            Condition::Like { .. } | Condition::IsNull { .. } => true,
        }
    }

    /// Values of its longest list.
    pub(super) fn values(&self) -> usize {
        match self {
            Condition::And(parts) | Condition::Or(parts) => parts.iter().map(Self::values).max().unwrap_or(0),
            Condition::Not(inner) => inner.values(),
            Condition::In { values, .. } => values.len(),
            Condition::Compare { .. } => 1,
            Condition::Like { .. } | Condition::IsNull { .. } => 0,
        }
    }

    /// Comparisons, and the words that join them.
    pub(super) fn nodes(&self) -> usize {
        match self {
            Condition::And(parts) | Condition::Or(parts) => 1 + parts.iter().map(Self::nodes).sum::<usize>(),
            Condition::Not(inner) => 1 + inner.nodes(),
            _ => 1,
        }
    }

    /// How deep its parts lie in each other.
    pub(super) fn depth(&self) -> usize {
        match self {
            Condition::And(parts) | Condition::Or(parts) => {
                1 + parts.iter().map(Self::depth).max().unwrap_or(0)
            }
            Condition::Not(inner) => 1 + inner.depth(),
            _ => 1,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::And(parts) => join(f, parts, " AND "),
            Condition::Or(parts) => join(f, parts, " OR "),
            Condition::Not(inner) => match &**inner {
                Condition::In { column, values } => write_in(f, column, values, "<>", "NOT IN"),
                Condition::Like { column, pattern } => {
                    write!(f, "{} NOT LIKE {}", quote_ident(column), Quoted(pattern))
                }
                Condition::IsNull { column } => write!(f, "{} IS NOT NULL", quote_ident(column)),
                inner => write!(f, "NOT ({inner})"),
            },
            Condition::In { column, values } => write_in(f, column, values, "=", "IN"),
            Condition::Compare { column, relation, value } => {
                write!(f, "{} {relation} {value}", quote_ident(column))
            }
            Condition::Like { column, pattern } => {
                write!(f, "{} LIKE {}", quote_ident(column), Quoted(pattern))
            }
            Condition::IsNull { column } => write!(f, "{} IS NULL", quote_ident(column)),
        }
    }
}

fn join(f: &mut fmt::Formatter<'_>, parts: &[Condition], word: &str) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(word)?;
        }
        // AND binds closer.
        match part {
            Condition::Or(_) => write!(f, "({part})")?,
            part => write!(f, "{part}")?,
        }
    }
    Ok(())
}

fn write_in(
    f: &mut fmt::Formatter<'_>,
    column: &str,
    values: &[Literal],
    one: &str,
    several: &str,
) -> fmt::Result {
    let column = quote_ident(column);
    if let [value] = values {
        return write!(f, "{column} {one} {value}");
    }
    write!(f, "{column} {several} (")?;
    for (index, value) in values.iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        write!(f, "{comma}{value}")?;
    }
    f.write_str(")")
}

/// A text in quotes, as a filter has it.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.replace('\'', "''"))
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Bool(value) => value.fmt(f),
            Literal::Number(number) => number.fmt(f),
            Literal::Text(None, text) => Quoted(text).fmt(f),
            Literal::Text(Some(text_type), text) => write!(f, "{} {}", text_type.name(), Quoted(text)),
            Literal::Claim(path) => {
                f.write_str(":claims")?;
                path.iter().try_for_each(|name| match name.chars().all(continues_word) {
                    true => write!(f, ".{name}"),
                    false => write!(f, ".\"{}\"", name.replace('"', "\"\"")),
                })
            }
        }
    }
}

impl Relation {
    /// Whether a value lies so, given how it compares to the other.
    pub(super) fn holds(self, ordering: Ordering) -> bool {
        match self {
            Relation::Less => ordering.is_lt(),
            Relation::LessOrEqual => ordering.is_le(),
            Relation::Greater => ordering.is_gt(),
            Relation::GreaterOrEqual => ordering.is_ge(),
        }
    }

    /// The same with its sides exchanged.
    pub(super) fn reversed(self) -> Self {
        match self {
            Relation::Less => Relation::Greater,
            Relation::LessOrEqual => Relation::GreaterOrEqual,
            Relation::Greater => Relation::Less,
            Relation::GreaterOrEqual => Relation::LessOrEqual,
        }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Relation::Less => "<",
            Relation::LessOrEqual => "<=",
            Relation::Greater => ">",
            Relation::GreaterOrEqual => ">=",
        })
    }
}

impl TextType {
    const ALL: [Self; 7] = [
        TextType::Bytea,
        TextType::Date,
        TextType::Text,
        TextType::Time,
        TextType::Timestamp,
        TextType::TimestampTz,
        TextType::Uuid,
    ];

    /// The type of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            TextType::Bytea => "bytea",
            TextType::Date => "date",
            TextType::Text => "text",
            TextType::Time => "time",
            TextType::Timestamp => "timestamp",
            TextType::TimestampTz => "timestamptz",
            TextType::Uuid => "uuid",
        }
    }
}
