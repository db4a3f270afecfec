//! Values of rows, and their types.

use std::cmp::Ordering;
use std::fmt;
use std::time::SystemTime;

/// A type of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `text`.
    Text,
    /// `bigint`.
    Int,
    /// `double precision`.
    Float,
    /// `boolean`.
    Bool,
    /// `timestamp with time zone`.
    Time,
}

/// A value, or none.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// None: it is not known, or does not apply.
    Null,
    /// Of [`Kind::Text`].
    Text(String),
    /// Of [`Kind::Int`].
    Int(i64),
    /// Of [`Kind::Float`].
    Float(f64),
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::Time`].
    Time(SystemTime),
}

impl Kind {
    /// As PostgreSQL calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Int => "bigint",
            Kind::Float => "double precision",
            Kind::Bool => "boolean",
            Kind::Time => "timestamp with time zone",
        }
    }

    pub(crate) fn is_number(self) -> bool {
        matches!(self, Kind::Int | Kind::Float)
    }
}

impl Value {
    /// Its type; `None` where it is null.
    pub(crate) fn kind(&self) -> Option<Kind> {
        match self {
            Value::Null => None,
            Value::Text(_) => Some(Kind::Text),
            Value::Int(_) => Some(Kind::Int),
            Value::Float(_) => Some(Kind::Float),
            Value::Bool(_) => Some(Kind::Bool),
            Value::Time(_) => Some(Kind::Time),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "as PostgreSQL does it")]
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Value::Int(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The same value as another type. `None`: it is none of that type.
    pub(crate) fn cast(self, kind: Kind) -> Option<Value> {
        Some(match (self, kind) {
            (Value::Null, _) => Value::Null,
            (Value::Int(value), Kind::Bool) => Value::Bool(value != 0),
            (Value::Bool(value), Kind::Int) => Value::Int(value.into()),
            (value @ Value::Int(_), Kind::Float) => Value::Float(value.number()?),
            (Value::Float(value), Kind::Int) => Value::Int(whole(value.round())?),
            (Value::Text(text), kind) => return parse(text, kind),
            (value, Kind::Text) => Value::Text(value.to_string()),
            (value, kind) if value.kind() == Some(kind) => value,
            _ => return None,
        })
    }

    /// How two values of types that go together stand to each other; `None` where one is null.
    pub(crate) fn compare(&self, other: &Value) -> Option<Ordering> {
        match (self, other) {
            (Value::Null, _) | (_, Value::Null) => None,
            (Value::Text(one), Value::Text(other)) => Some(one.cmp(other)),
            (Value::Int(one), Value::Int(other)) => Some(one.cmp(other)),
            (Value::Bool(one), Value::Bool(other)) => Some(one.cmp(other)),
            (Value::Time(one), Value::Time(other)) => Some(one.cmp(other)),
            (one, other) => {
                let (one, other) = (one.number()?, other.number()?);
                // NaN is the greatest and equals itself, as in PostgreSQL.
                Some(one.partial_cmp(&other).unwrap_or_else(|| one.is_nan().cmp(&other.is_nan())))
            }
        }
    }
}

/// The integer that a whole number is, where there is one.
#[expect(clippy::cast_possible_truncation, reason = "the range was looked at")]
pub(crate) fn whole(value: f64) -> Option<i64> {
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    (-BOUND..BOUND).contains(&value).then_some(value as i64)
}

fn parse(text: String, kind: Kind) -> Option<Value> {
    Some(match kind {
        Kind::Text => Value::Text(text),
        Kind::Int => Value::Int(text.trim().parse().ok()?),
        Kind::Float => Value::Float(text.trim().parse().ok()?),
        Kind::Bool => match text.trim().to_ascii_lowercase().as_str() {
            "t" | "true" | "yes" | "on" | "1" => Value::Bool(true),
            "f" | "false" | "no" | "off" | "0" => Value::Bool(false),
            _ => return None,
        },
        Kind::Time => return None,
    })
}

impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => Ok(()),
            Value::Text(text) => out.write_str(text),
            Value::Int(value) => value.fmt(out),
            Value::Float(value) => value.fmt(out),
            Value::Bool(value) => out.write_str(if *value { "t" } else { "f" }),
            Value::Time(at) => {
                let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                since.as_secs_f64().fmt(out)
            }
        }
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value::Float(value)
    }
}

impl From<u64> for Value {
    /// What is beyond the greatest `bigint` is that.
    fn from(value: u64) -> Self {
        Value::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}
