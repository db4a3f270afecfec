//! One value of a row or of a filter, made so that values of one column compare as their type does.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::decimal::Number;

/// A value. Values of one family of types are of one variant; others are never compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Value<'a> {
    Bool(bool),
    Number(Number<'a>),
    Float(Float),
    /// Compared by its bytes: what is not a text is in a form whose bytes compare as it does.
    Text(Cow<'a, str>),
    /// A date, a time or both, as a count.
    Instant(i64),
}

/// A double in PostgreSQL's order: NaN is the greatest and equals itself, both zeros are one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Float(f64);

impl Float {
    pub(super) fn new(value: f64) -> Self {
        match value {
            value if value.is_nan() => Float(f64::NAN),
            // Takes the sign from a zero, and leaves everything else as it is.
            value => Float(value + 0.0),
        }
    }

    pub(super) fn value(self) -> f64 {
        self.0
    }
}

impl Ord for Float {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.0.is_nan(), other.0.is_nan()) {
            (false, false) => self.0.total_cmp(&other.0),
            (mine, theirs) => mine.cmp(&theirs),
        }
    }
}

impl PartialOrd for Float {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Float {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Float {}

/// A value as an index has it: equal for equal values of a column's type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct IndexKey(Box<[u8]>);

/// What a key begins with.
const A_VALUE: u8 = 0;
const NO_VALUE: u8 = 1;

impl IndexKey {
    pub(super) fn new(value: &Value<'_>) -> Self {
        let mut key = vec![A_VALUE];
        match value {
            Value::Bool(value) => key.push(u8::from(*value)),
            Value::Number(number) => match number {
                Number::NegativeInfinity => key.push(b'-'),
                Number::Infinity => key.push(b'+'),
                Number::NaN => key.push(b'n'),
                Number::Finite(decimal) => decimal.write_key(&mut key),
            },
            // NaN has many forms, and Float has one of them.
            Value::Float(float) => key.extend_from_slice(&float.0.to_bits().to_be_bytes()),
            Value::Text(text) => key.extend_from_slice(text.as_bytes()),
            Value::Instant(instant) => key.extend_from_slice(&instant.to_be_bytes()),
        }
        IndexKey(key.into())
    }

    /// The key of what is not null and equals no value of a filter, by its JSON text.
    pub(super) fn of_none(json: &[u8]) -> Self {
        IndexKey([&[NO_VALUE], json].concat().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_have_their_order_and_one_key_each() {
        let ascending = [f64::NEG_INFINITY, -1.0, -0.0, 5e-324, 1.0, f64::INFINITY, f64::NAN];
        assert!(ascending.map(Float::new).is_sorted_by(|a, b| a < b));
        let key = |value: f64| IndexKey::new(&Value::Float(Float::new(value)));
        assert_eq!(key(0.0), key(-0.0));
        assert_eq!(key(f64::NAN), key(-f64::NAN));
        assert_ne!(key(0.1), key(f64::from(0.1f32)));
    }
}
