//! What a column's type means for filters: how its values are read from images, which literals it is compared with, and how.
//!
//! A domain is what its base type is, as far as its kind says that. What else the catalog alone knows (enums, most domains,
//! types of extensions) is compared by its text, and has no order here: that of an enum is not that of its text.

use std::borrow::Cow;

use waldelta_wal::{Column, Kind, Scalar};

use super::condition::{Literal, TextType};
use super::decimal::{Decimal, Number};
use super::instant;
use super::value::{Float, Value};
use crate::wire::json;

/// Types that filters treat alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Bool,
    /// `smallint`, `integer`, `bigint`.
    Integer,
    Numeric,
    /// A domain over any of the types of numbers: compared by the number that it prints.
    SomeNumber,
    /// Compared with numbers in double precision, as in SQL; a number in quotes is a `real` first.
    Real,
    Double,
    /// `text`, `varchar`, `name`.
    Text,
    /// `char(n)`: blanks at the end do not count, except for LIKE.
    Padded,
    Uuid,
    Bytea,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    /// Compared by its text: enums, domains, types of extensions.
    ByText,
    /// JSON's null is null.
    Json,
    /// A composite, which is null only as a whole.
    Composite,
    /// The extension citext's type, whose equality is not that of its text.
    Citext,
    /// All others.
    Other,
}

/// A value as an image has it.
pub(super) enum Read<'a> {
    Value(Value<'a>),
    /// It is not null, and not what the type prints: a reference in the place of a value that is too large.
    Unreadable,
}

const NULL_ONLY: &str = "which can only be asked for with IS NULL and IS NOT NULL: keep what you filter by in a column of \
                         its own";

impl Family {
    pub(super) fn of(column: &Column) -> Self {
        let by_kind = || match &column.kind {
            Kind::Scalar(Scalar::Bool) => Family::Bool,
            Kind::Scalar(Scalar::Number) => Family::SomeNumber,
            Kind::Scalar(Scalar::Bytea) => Family::Bytea,
            Kind::Scalar(Scalar::Date) => Family::Date,
            Kind::Scalar(Scalar::Timestamp) => Family::Timestamp,
            Kind::Scalar(Scalar::TimestampTz) => Family::TimestampTz,
            Kind::Scalar(Scalar::Json | Scalar::Jsonb) => Family::Json,
            Kind::Scalar(Scalar::Text) if is_citext(&column.type_name) => Family::Citext,
            Kind::Scalar(Scalar::Text) => Family::ByText,
            Kind::Composite(_) => Family::Composite,
            Kind::Scalar(Scalar::Int2Vector | Scalar::OidVector) | Kind::Array(_) | Kind::Hstore => {
                Family::Other
            }
        };
        match column.type_oid {
            20 | 21 | 23 => Family::Integer,
            700 => Family::Real,
            701 => Family::Double,
            1700 => Family::Numeric,
            19 | 25 | 1043 => Family::Text,
            1042 => Family::Padded,
            1083 => Family::Time,
            2950 => Family::Uuid,
            oid => match (Kind::builtin(oid), by_kind()) {
                // Such as inet, interval, money, ranges: equal values can have unequal texts.
                (Some(_), Family::ByText | Family::SomeNumber) => Family::Other,
                (_, family) => family,
            },
        }
    }

    /// Why it cannot be compared for equality.
    pub(super) fn check_equality(self) -> Result<(), &'static str> {
        match self {
            Family::Citext => Err(
                "which compares without regard to case, as filters do not: keep a copy in lower case in a text \
                                   column and filter by that",
            ),
            Family::Json | Family::Composite | Family::Other => Err(NULL_ONLY),
            _ => Ok(()),
        }
    }

    /// Why it cannot be compared for order.
    pub(super) fn check_order(self) -> Result<(), &'static str> {
        match self {
            Family::ByText => Err("which has no order that filters know: use =, <> or IN"),
            family => family.check_equality(),
        }
    }

    /// Why LIKE cannot be asked of it.
    pub(super) fn check_like(self) -> Result<(), &'static str> {
        match self {
            Family::Text | Family::Padded | Family::ByText => Ok(()),
            family => {
                family.check_equality().and(Err("of which LIKE cannot be asked: use =, IN or a comparison"))
            }
        }
    }

    /// What a literal is for this family; else what it has to be.
    pub(super) fn value(self, column: &Column, literal: &Literal) -> Result<Value<'static>, &'static str> {
        let expected = self.expected();
        match (self, literal) {
            (Family::Bool, Literal::Bool(value)) => Ok(Value::Bool(*value)),
            (Family::Real | Family::Double, Literal::Number(number)) => double(number).ok_or(expected),
            (Family::Integer | Family::Numeric | Family::SomeNumber, Literal::Number(number)) => {
                Ok(Value::Number(Number::Finite(number.clone())))
            }
            (_, Literal::Text(text_type, text)) if text_type.is_none_or(|text_type| self.is(text_type)) => {
                self.quoted(column, text).ok_or(expected)
            }
            _ => Err(expected),
        }
    }

    /// What a text in quotes is for this family.
    fn quoted(self, column: &Column, text: &str) -> Option<Value<'static>> {
        match self {
            Family::Integer => match Number::parse(text)? {
                Number::Finite(number) if is_of(column.type_oid, &number) => {
                    Some(Value::Number(Number::Finite(number.into_owned())))
                }
                _ => None,
            },
            Family::Numeric | Family::SomeNumber => match Number::parse(text)? {
                Number::Finite(number) if number.extent() > super::DIGITS_MAX => None,
                number => Some(Value::Number(number.into_owned())),
            },
            Family::Real | Family::Double => match Number::parse(text)? {
                Number::Finite(number) if self == Family::Real => {
                    let value: f32 = number.to_string().parse().ok()?;
                    let is_of = value.is_finite() && (value != 0.0 || number.is_zero());
                    is_of.then(|| Value::Float(Float::new(value.into())))
                }
                Number::Finite(number) => double(&number),
                Number::NegativeInfinity => Some(Value::Float(Float::new(f64::NEG_INFINITY))),
                Number::Infinity => Some(Value::Float(Float::new(f64::INFINITY))),
                Number::NaN => Some(Value::Float(Float::new(f64::NAN))),
            },
            Family::Text | Family::ByText => Some(Value::Text(text.to_owned().into())),
            Family::Padded => Some(Value::Text(text.trim_end_matches(' ').to_owned().into())),
            Family::Uuid => uuid(text).map(|text| Value::Text(text.into())),
            Family::Bytea => bytea(text).map(|text| Value::Text(text.into())),
            Family::Date => instant::date(text).map(Value::Instant),
            Family::Time => instant::time(text).map(Value::Instant),
            Family::Timestamp => instant::timestamp(text).map(Value::Instant),
            Family::TimestampTz => instant::timestamp_tz(text).map(Value::Instant),
            Family::Bool | Family::Json | Family::Composite | Family::Citext | Family::Other => None,
        }
    }

    /// A literal that it is compared with.
    pub(super) fn sample(self) -> Literal {
        match self {
            Family::Bool => Literal::Bool(true),
            Family::Integer | Family::Numeric | Family::SomeNumber | Family::Real | Family::Double => {
                Literal::Text(None, "0".into())
            }
            Family::Uuid => Literal::Text(None, "00000000-0000-0000-0000-000000000000".into()),
            Family::Bytea => Literal::Text(None, "\\x".into()),
            Family::Date | Family::Timestamp | Family::TimestampTz => {
                Literal::Text(None, "2000-01-01".into())
            }
            Family::Time => Literal::Text(None, "00:00".into()),
            _ => Literal::Text(None, String::new()),
        }
    }

    fn is(self, text_type: TextType) -> bool {
        match text_type {
            TextType::Bytea => self == Family::Bytea,
            TextType::Date => self == Family::Date,
            // With char(n) it would ask for the blanks at the end as well.
            TextType::Text => self == Family::Text,
            TextType::Time => self == Family::Time,
            TextType::Timestamp => self == Family::Timestamp,
            TextType::TimestampTz => self == Family::TimestampTz,
            TextType::Uuid => self == Family::Uuid,
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Family::Bool => "true or false",
            Family::Integer => "numbers, such as 42",
            Family::Numeric | Family::SomeNumber => "numbers, such as 1.5, or 'NaN', 'Infinity', '-Infinity'",
            Family::Real | Family::Double => {
                "numbers of its range, such as 1.5, or 'NaN', 'Infinity', '-Infinity'"
            }
            Family::Text | Family::Padded | Family::ByText => "texts in single quotes",
            Family::Uuid => "uuids in single quotes, such as '6ba7b810-9dad-11d1-80b4-00c04fd430c8'",
            Family::Bytea => "bytes in hexadecimal form, such as '\\xdeadbeef'",
            Family::Date => "dates, such as '2024-12-31' or '0044-03-15 BC', or 'infinity', '-infinity'",
            Family::Time => "times of day, such as '23:59:59.5'",
            Family::Timestamp => {
                "timestamps without zone, such as '2024-12-31 23:59:59.5', or 'infinity', '-infinity'"
            }
            Family::TimestampTz => {
                "timestamps with zone (else in UTC), such as '2024-12-31 23:59:59.5+01:00', or 'infinity', '-infinity'"
            }
            Family::Json | Family::Composite | Family::Citext | Family::Other => "nothing",
        }
    }

    /// The value that an image's JSON text, which is not null, has.
    pub(super) fn read(self, text: &[u8]) -> Read<'_> {
        let value = match self {
            Family::Bool => match text {
                b"true" => Some(Value::Bool(true)),
                b"false" => Some(Value::Bool(false)),
                _ => None,
            },
            Family::Integer | Family::Numeric | Family::SomeNumber => number(text).map(Value::Number),
            Family::Real | Family::Double => self.float(text),
            Family::Text | Family::ByText | Family::Uuid | Family::Bytea => {
                json::string(text).map(Value::Text)
            }
            Family::Padded => json::string(text).map(|text| Value::Text(unpadded(text))),
            Family::Date => instant(text, instant::date),
            Family::Time => instant(text, instant::time),
            Family::Timestamp => instant(text, instant::timestamp),
            Family::TimestampTz => instant(text, instant::timestamp_tz),
            Family::Json | Family::Composite | Family::Citext | Family::Other => None,
        };
        value.map_or(Read::Unreadable, Read::Value)
    }

    fn float(self, text: &[u8]) -> Option<Value<'static>> {
        let text = match text.first()? {
            b'"' => json::string(text)?,
            _ => Cow::Borrowed(std::str::from_utf8(text).ok()?),
        };
        let value = match self {
            Family::Real => text.parse::<f32>().ok()?.into(),
            _ => text.parse::<f64>().ok()?,
        };
        Some(Value::Float(Float::new(value)))
    }
}

fn is_citext(type_name: &str) -> bool {
    type_name.rsplit('.').next() == Some("citext")
}

fn number(text: &[u8]) -> Option<Number<'_>> {
    match text.first()? {
        b'"' => Number::special(&json::string(text)?),
        _ => Decimal::parse(text).map(Number::Finite),
    }
}

fn instant(text: &[u8], read: fn(&str) -> Option<i64>) -> Option<Value<'static>> {
    read(&json::string(text)?).map(Value::Instant)
}

fn unpadded(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim_end_matches(' ')),
        Cow::Owned(text) => Cow::Owned(text.trim_end_matches(' ').to_owned()),
    }
}

/// A number in double precision, where it has a double.
fn double(number: &Decimal<'_>) -> Option<Value<'static>> {
    let value: f64 = number.to_string().parse().ok()?;
    let is_of = value.is_finite() && (value != 0.0 || number.is_zero());
    is_of.then(|| Value::Float(Float::new(value)))
}

/// Whether a number is one of an integer type.
fn is_of(type_oid: u32, number: &Decimal<'_>) -> bool {
    let bits = match type_oid {
        21 => 16,
        23 => 32,
        _ => 64,
    };
    let range = (i64::MIN >> (64 - bits))..=(i64::MAX >> (64 - bits));
    number.is_whole() && number.to_string().parse().is_ok_and(|number: i64| range.contains(&number))
}

/// A uuid as PostgreSQL prints it. It takes capitals, braces around it, and hyphens behind any four digits.
fn uuid(text: &str) -> Option<String> {
    let text = text.strip_prefix('{').map_or(Some(text), |rest| rest.strip_suffix('}'))?;
    let mut uuid = String::with_capacity(36);
    let mut digits = 0;
    let mut after_hyphen = true;
    for byte in text.bytes() {
        match byte {
            b'-' if digits % 4 == 0 && digits < 32 && !after_hyphen => after_hyphen = true,
            byte if byte.is_ascii_hexdigit() => {
                if matches!(digits, 8 | 12 | 16 | 20) {
                    uuid.push('-');
                }
                uuid.push(char::from(byte.to_ascii_lowercase()));
                digits += 1;
                after_hyphen = false;
            }
            _ => return None,
        }
    }
    (digits == 32).then_some(uuid)
}

/// Bytes as PostgreSQL prints them in hexadecimal form: this compares as they do.
fn bytea(text: &str) -> Option<String> {
    let digits = text.strip_prefix("\\x")?;
    let is_hex = digits.len() % 2 == 0 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| text.to_ascii_lowercase())
}
