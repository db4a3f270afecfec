//! A row's key as a path names it, in the form that history has it: a compact JSON array of the key's values.

use std::borrow::Cow;

use serde_json::value::RawValue;
use waldelta_wal::{Code, Kind, Scalar, Table};

use crate::http::problem::Problem;
use crate::wire::json;

/// Values of a key at most: no index has more columns.
const VALUES_MAX: usize = 32;

/// Reads `[7,"a"]`, or `7` and `a` where the table's key is one column. Numbers are taken as they stand: `1.50` is not `1.5`.
pub(super) fn parse(text: &str, table: &Table) -> Result<String, Problem> {
    let columns: Vec<_> = table.key.iter().map(|index| table.columns.get(usize::from(*index))).collect();
    if columns.is_empty() {
        return Err(invalid(format!("{} has no key: its rows have no history of their own", table.name)));
    }
    if text.starts_with('[')
        && let Ok(values) = serde_json::from_str::<Vec<&RawValue>>(text)
    {
        return match values.len() {
            1..=VALUES_MAX => Ok(array(values.iter().map(|value| written(value.get())))),
            _ => Err(invalid(format!("a key has 1 to {VALUES_MAX} values"))),
        };
    }
    let [Some(column)] = columns[..] else {
        return Err(invalid("the key has several columns: name it by a JSON array of their values"));
    };
    let is_json = serde_json::from_str::<&RawValue>(text).is_ok_and(|value| value.get() == text);
    let value = match column.kind {
        Kind::Scalar(Scalar::Number | Scalar::Bool | Scalar::Json | Scalar::Jsonb) | Kind::Composite(_)
            if is_json =>
        {
            written(text)
        }
        _ if is_json && text.starts_with('"') => written(text),
        _ => Cow::Owned(quoted(text)),
    };
    Ok(array([value].into_iter()))
}

fn array<'a>(values: impl Iterator<Item = Cow<'a, str>>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(","))
}

/// A value as history writes it: clients may escape characters of a string in other ways.
fn written(value: &str) -> Cow<'_, str> {
    match json::string(value.as_bytes()) {
        Some(text) => Cow::Owned(quoted(&text)),
        None => Cow::Borrowed(value),
    }
}

fn quoted(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    json::write_string(&mut out, text);
    String::from_utf8_lossy(&out).into_owned()
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::bad_request(Code::RequestInvalid, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::table;

    #[test]
    fn a_key_is_read_in_every_form_that_a_client_may_write_it_in() {
        // `id integer`, `v text`
        let by_id = table("t");
        let by_text = Table { key: vec![1], ..table("t") };
        let by_both = Table { key: vec![0, 1], ..table("t") };
        for (table, text, key) in [
            (&by_id, "7", "[7]"),
            (&by_id, "[7]", "[7]"),
            (&by_id, "[ 7 ]", "[7]"),
            (&by_id, "-9007199254740993", "[-9007199254740993]"),
            (&by_id, "NaN", "[\"NaN\"]"),
            (&by_text, "7", "[\"7\"]"),
            (&by_text, "ü/\"", "[\"ü/\\\"\"]"),
            (&by_text, "\"\\u00fc\\u002f\"", "[\"ü/\"]"),
            (&by_text, "[\"\\u00fc\"]", "[\"ü\"]"),
            (&by_text, "[x", "[\"[x\"]"),
            (&by_both, "[7, \"a,\\n\"]", "[7,\"a,\\n\"]"),
        ] {
            assert_eq!(parse(text, table).as_deref(), Ok(key), "{text}");
        }
        let keyless = Table { key: Vec::new(), ..table("t") };
        for (table, text) in [(&by_both, "7"), (&by_id, "[]"), (&keyless, "7")] {
            assert_eq!(
                parse(text, table).map_err(|problem| problem.code),
                Err(Code::RequestInvalid),
                "{text}"
            );
        }
    }
}
