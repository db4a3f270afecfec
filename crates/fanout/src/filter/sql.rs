//! A predicate as SQL, to select the same rows from the table itself.
//!
//! Every value goes through [`literal`], every name through [`name`]: COPY takes no parameters.

use waldelta_wal::{Column, Kind, Scalar, Table};

use super::decimal::Number;
use super::family::Family;
use super::instant;
use super::predicate::{Question, Test};
use super::value::Value;

/// The expression, in parentheses.
pub(super) fn expression(test: &Test, table: &Table) -> String {
    match test {
        Test::And(parts) => joined(parts, table, " AND "),
        Test::Or(parts) => joined(parts, table, " OR "),
        Test::Not(inner) => format!("(NOT {})", expression(inner, table)),
        Test::Column { column, family, question } => match table.columns.get(usize::from(*column)) {
            Some(column) => format!("({})", asked(column, *family, question)),
            // It was bound to this table.
            None => "(false)".into(),
        },
    }
}

fn joined(parts: &[Test], table: &Table, word: &str) -> String {
    let parts: Vec<_> = parts.iter().map(|part| expression(part, table)).collect();
    format!("({})", parts.join(word))
}

fn asked(column: &Column, family: Family, question: &Question) -> String {
    let compared = compared(column, family);
    match question {
        Question::IsNull => is_null(column, family),
        Question::Compare(relation, value) => format!("{compared} {relation} {}", literal(family, value)),
        Question::Like(pattern) => format!("{compared} LIKE {}::text", quoted(pattern.text())),
        Question::In(values) => {
            let values: Vec<_> = values.iter().map(|value| literal(family, value)).collect();
            let values = match &values[..] {
                [value] => format!("= {value}"),
                values => format!("IN ({})", values.join(", ")),
            };
            match family {
                // The second alone is what is asked. The first is implied by it, and an index of the table answers it.
                Family::Text | Family::Padded => format!("{} {values} AND {compared} {values}", name(column)),
                _ => format!("{compared} {values}"),
            }
        }
    }
}

/// The column as what compares like the values of its images.
fn compared(column: &Column, family: Family) -> String {
    let name = name(column);
    match family {
        Family::Text | Family::Padded => format!("{name} COLLATE \"C\""),
        Family::SomeNumber => format!("{name}::text::numeric"),
        // What the type's output function says, which a cast to text may not.
        Family::ByText => {
            let is_null = is_null(column, family);
            format!("(CASE WHEN {is_null} THEN NULL ELSE format('%s', {name}) END) COLLATE \"C\"")
        }
        _ => name,
    }
}

fn is_null(column: &Column, family: Family) -> String {
    let name = name(column);
    match (family, &column.kind) {
        (Family::Json, Kind::Scalar(Scalar::Json)) => {
            format!("coalesce(json_typeof({name}), 'null') = 'null'")
        }
        (Family::Json, _) => format!("coalesce(jsonb_typeof({name}), 'null') = 'null'"),
        // IS NULL is true of a composite whose fields are all null. What is known by its text may be one.
        (Family::Composite | Family::ByText, _) => format!("{name} IS NOT DISTINCT FROM NULL"),
        _ => format!("{name} IS NULL"),
    }
}

/// A value with its type.
fn literal(family: Family, value: &Value<'_>) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => {
            let text = number.to_string();
            // As the column's own type it lets an index be used.
            let is_bigint = family == Family::Integer
                && matches!(number, Number::Finite(_))
                && text.parse::<i64>().is_ok();
            format!("{}::{}", quoted(&text), if is_bigint { "bigint" } else { "numeric" })
        }
        Value::Float(float) => {
            let text = match float.value() {
                value if value.is_nan() => "NaN".into(),
                value if value.is_infinite() => if value > 0.0 { "Infinity" } else { "-Infinity" }.into(),
                value => format!("{value:e}"),
            };
            format!("{}::float8", quoted(&text))
        }
        Value::Text(text) => {
            let type_name = match family {
                Family::Padded => "bpchar",
                Family::Uuid => "uuid",
                Family::Bytea => "bytea",
                _ => "text",
            };
            format!("{}::{type_name}", quoted(text))
        }
        Value::Instant(instant) => {
            let (text, type_name) = match family {
                Family::Date => (instant::date_text(*instant), "date"),
                Family::Time => (instant::time_text(*instant), "time"),
                Family::TimestampTz => (instant::timestamp_text(*instant, "+00"), "timestamptz"),
                _ => (instant::timestamp_text(*instant, ""), "timestamp"),
            };
            format!("{}::{type_name}", quoted(&text))
        }
    }
}

/// A text that means the same whether `standard_conforming_strings` is on or off. NUL is in no filter.
fn quoted(text: &str) -> String {
    let text = text.replace('\'', "''");
    match text.contains('\\') {
        true => format!("E'{}'", text.replace('\\', "\\\\")),
        false => format!("'{text}'"),
    }
}

/// A column's name, always in quotes.
fn name(column: &Column) -> String {
    format!("\"{}\"", column.name.replace('"', "\"\""))
}
