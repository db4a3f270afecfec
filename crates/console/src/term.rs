//! What a `SELECT` computes of a row.

use std::cmp::Ordering;

use crate::{Kind, Value};

/// An expression whose types were found to go together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Term {
    Constant(Value),
    /// The parameter with this index, as this type.
    Parameter(usize, Kind),
    /// The column with this index.
    Column(usize),
    Cast(Box<Term>, Kind),
    Not(Box<Term>),
    And(Box<Term>, Box<Term>),
    Or(Box<Term>, Box<Term>),
    IsNull(Box<Term>),
    Compare(Comparison, Box<Term>, Box<Term>),
    In(Box<Term>, Vec<Term>),
    Like {
        text: Box<Term>,
        pattern: Box<Term>,
        ignores_case: bool,
    },
    /// Of two integers, or of numbers of which one is none.
    Arithmetic(Arithmetic, Box<Term>, Box<Term>),
    Concatenate(Box<Term>, Box<Term>),
    /// Seconds since 1970.
    Epoch(Box<Term>),
    Coalesce(Vec<Term>),
    /// The value that an aggregate of this index has.
    Aggregate(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Plus,
    Minus,
    Times,
    By,
    Modulo,
}

/// What a term is computed of.
#[derive(Clone, Copy)]
pub(crate) struct Of<'a> {
    pub row: &'a [Value],
    pub parameters: &'a [Value],
    pub aggregates: &'a [Value],
}

/// Why a value cannot be computed, as a SQLSTATE and words.
pub(crate) type Fault = (&'static str, String);

impl Term {
    /// Whether it is computed of a row.
    pub(crate) fn has_column(&self) -> bool {
        match self {
            Term::Column(_) => true,
            Term::Constant(_) | Term::Parameter(..) | Term::Aggregate(_) => false,
            Term::Cast(term, _) | Term::Not(term) | Term::IsNull(term) | Term::Epoch(term) => {
                term.has_column()
            }
            Term::And(one, other)
            | Term::Or(one, other)
            | Term::Compare(_, one, other)
            | Term::Arithmetic(_, one, other)
            | Term::Concatenate(one, other)
            | Term::Like { text: one, pattern: other, .. } => one.has_column() || other.has_column(),
            Term::In(term, list) => term.has_column() || list.iter().any(Term::has_column),
            Term::Coalesce(terms) => terms.iter().any(Term::has_column),
        }
    }

    pub(crate) fn of(&self, of: Of<'_>) -> Result<Value, Fault> {
        Ok(match self {
            Term::Constant(value) => value.clone(),
            Term::Parameter(index, kind) => {
                cast(of.parameters.get(*index).cloned().unwrap_or(Value::Null), *kind)?
            }
            Term::Column(index) => of.row.get(*index).cloned().unwrap_or(Value::Null),
            Term::Aggregate(index) => of.aggregates.get(*index).cloned().unwrap_or(Value::Null),
            Term::Cast(term, kind) => cast(term.of(of)?, *kind)?,
            Term::Not(term) => match term.of(of)? {
                Value::Bool(value) => Value::Bool(!value),
                _ => Value::Null,
            },
            Term::And(one, other) => both(one.of(of)?, other.of(of)?, false),
            Term::Or(one, other) => both(one.of(of)?, other.of(of)?, true),
            Term::IsNull(term) => Value::Bool(term.of(of)? == Value::Null),
            Term::Compare(comparison, one, other) => {
                let order = one.of(of)?.compare(&other.of(of)?);
                order.map(|order| comparison.holds(order)).into()
            }
            Term::In(term, list) => {
                let value = term.of(of)?;
                let mut is_unknown = value == Value::Null;
                for item in list {
                    match value.compare(&item.of(of)?) {
                        Some(Ordering::Equal) => return Ok(Value::Bool(true)),
                        Some(_) => {}
                        None => is_unknown = true,
                    }
                }
                if is_unknown { Value::Null } else { Value::Bool(false) }
            }
            Term::Like { text, pattern, ignores_case } => match (text.of(of)?, pattern.of(of)?) {
                (Value::Text(text), Value::Text(pattern)) if *ignores_case => {
                    Value::Bool(is_like(&text.to_lowercase(), &pattern.to_lowercase()))
                }
                (Value::Text(text), Value::Text(pattern)) => Value::Bool(is_like(&text, &pattern)),
                _ => Value::Null,
            },
            Term::Arithmetic(operation, one, other) => operation.of(&one.of(of)?, &other.of(of)?)?,
            Term::Concatenate(one, other) => match (one.of(of)?, other.of(of)?) {
                (Value::Null, _) | (_, Value::Null) => Value::Null,
                (one, other) => Value::Text(format!("{one}{other}")),
            },
            Term::Epoch(term) => match term.of(of)? {
                Value::Time(at) => {
                    let since = at.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
                    Value::Float(since.as_secs_f64())
                }
                _ => Value::Null,
            },
            Term::Coalesce(terms) => {
                for term in terms {
                    let value = term.of(of)?;
                    if value != Value::Null {
                        return Ok(value);
                    }
                }
                Value::Null
            }
        })
    }
}

impl Comparison {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        }
    }
}

impl Arithmetic {
    fn of(self, one: &Value, other: &Value) -> Result<Value, Fault> {
        let by_zero = || ("22012", "division by zero".to_owned());
        if let (Value::Int(one), Value::Int(other)) = (one, other) {
            if *other == 0 && matches!(self, Arithmetic::By | Arithmetic::Modulo) {
                return Err(by_zero());
            }
            let value = match self {
                Arithmetic::Plus => one.checked_add(*other),
                Arithmetic::Minus => one.checked_sub(*other),
                Arithmetic::Times => one.checked_mul(*other),
                Arithmetic::By => one.checked_div(*other),
                Arithmetic::Modulo => one.checked_rem(*other),
            };
            return value.map(Value::Int).ok_or_else(|| ("22003", "bigint out of range".to_owned()));
        }
        let (Some(one), Some(other)) = (one.number(), other.number()) else { return Ok(Value::Null) };
        Ok(Value::Float(match self {
            Arithmetic::Plus => one + other,
            Arithmetic::Minus => one - other,
            Arithmetic::Times => one * other,
            Arithmetic::By | Arithmetic::Modulo if other == 0.0 => return Err(by_zero()),
            Arithmetic::By => one / other,
            Arithmetic::Modulo => one % other,
        }))
    }
}

fn cast(value: Value, kind: Kind) -> Result<Value, Fault> {
    let shown = value.to_string();
    let fault = || ("22P02", format!("{shown:?} is no {}", kind.name()));
    value.cast(kind).ok_or_else(fault)
}

/// `decides`: the value that decides whatever the other is: true of OR, false of AND.
fn both(one: Value, other: Value, decides: bool) -> Value {
    match (one, other) {
        (Value::Bool(value), _) | (_, Value::Bool(value)) if value == decides => Value::Bool(decides),
        (Value::Bool(_), Value::Bool(_)) => Value::Bool(!decides),
        _ => Value::Null,
    }
}

/// `%` stands for any characters, `_` for one, a backslash takes away the meaning of the next.
fn is_like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    // Where the last `%` stands, and how much of the text it stands for by now: only that can be another.
    let (mut at, mut in_pattern, mut last) = (0, 0, None);
    loop {
        let step = match pattern.get(in_pattern) {
            Some('%') => {
                last = Some((in_pattern + 1, at));
                in_pattern += 1;
                continue;
            }
            Some('_') => (at < text.len()).then_some(1),
            Some('\\') if in_pattern + 1 < pattern.len() => {
                (text.get(at) == pattern.get(in_pattern + 1)).then_some(2)
            }
            Some(wanted) => (text.get(at) == Some(wanted)).then_some(1),
            None if at == text.len() => return true,
            None => None,
        };
        match (step, last) {
            (Some(step), _) => (at, in_pattern) = (at + 1, in_pattern + step),
            (None, Some((behind, stood_for))) if stood_for < text.len() => {
                last = Some((behind, stood_for + 1));
                (at, in_pattern) = (stood_for + 1, behind);
            }
            (None, _) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likeness_is_postgresqls() {
        for (text, pattern, expected) in [
            ("", "", true),
            ("", "%", true),
            ("", "_", false),
            ("abc", "abc", true),
            ("abc", "a%", true),
            ("abc", "%c", true),
            ("abc", "%b%", true),
            ("abc", "_b_", true),
            ("abc", "ab", false),
            ("abc", "a%bc%d", false),
            ("aXbXc", "a%X_", true),
            ("100%", "100\\%", true),
            ("100x", "100\\%", false),
            ("äöü", "_ö_", true),
            ("aab", "%ab", true),
        ] {
            assert_eq!(is_like(text, pattern), expected, "{text} {pattern}");
        }
        let long = "a".repeat(5_000);
        assert!(!is_like(&long, &format!("{}b", "%a".repeat(50))), "in time that is no power of anything");
    }

    #[test]
    fn what_is_not_known_is_not_false() {
        let (yes, no, unknown) = (Value::Bool(true), Value::Bool(false), Value::Null);
        for (one, other, and, or) in [
            (&yes, &unknown, &unknown, &yes),
            (&no, &unknown, &no, &unknown),
            (&unknown, &unknown, &unknown, &unknown),
            (&yes, &no, &no, &yes),
            (&yes, &yes, &yes, &yes),
        ] {
            assert_eq!(&both(one.clone(), other.clone(), false), and);
            assert_eq!(&both(other.clone(), one.clone(), true), or);
        }
    }
}
