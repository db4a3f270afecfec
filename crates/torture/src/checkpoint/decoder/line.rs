//! What a line of `test_decoding` says of a row: `public.item: UPDATE: old-key: id[bigint]:1 new-tuple: id[bigint]:2 v[text]:'it''s'`.

use std::collections::BTreeMap;

/// A line without the word `table` before it.
#[derive(Debug, PartialEq)]
pub(super) struct Line {
    pub tables: Vec<String>,
    /// `INSERT`, `UPDATE`, `DELETE` or `TRUNCATE`.
    pub what: String,
    /// The columns of the row after it, of a `DELETE` those that are known of the row before: type and value by name.
    pub columns: BTreeMap<String, (String, Value)>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Value {
    Null,
    /// Out of line, and not sent.
    Unchanged,
    Text(String),
}

impl Line {
    /// Names are plain ones: nothing in them needs quotes.
    pub(super) fn parse(line: &str) -> Self {
        let (tables, rest) = line.split_once(": ").unwrap();
        let (what, mut rest) = rest.split_once(": ").unwrap();
        let mut columns = BTreeMap::new();
        // A TRUNCATE has flags there.
        while what != "TRUNCATE" && !rest.is_empty() && !rest.starts_with('(') {
            if let Some(old) = rest.strip_prefix("old-key: ") {
                rest = old;
            } else if let Some(new) = rest.strip_prefix("new-tuple: ") {
                columns.clear();
                rest = new;
            }
            let (name, after) = rest.split_once('[').unwrap();
            let (kind, after) = after.split_once("]:").unwrap();
            let (value, after) = value(after);
            columns.insert(name.to_owned(), (kind.to_owned(), value));
            rest = after.strip_prefix(' ').unwrap_or(after);
        }
        let tables = tables.split(", ").map(str::to_owned).collect();
        Line { tables, what: what.to_owned(), columns }
    }
}

/// The value at the beginning, and what follows it.
fn value(text: &str) -> (Value, &str) {
    if let Some(quoted) = text.strip_prefix('\'').or_else(|| text.strip_prefix("B'")) {
        let mut end = 0;
        loop {
            end += quoted[end..].find('\'').unwrap();
            match quoted[end + 1..].starts_with('\'') {
                true => end += 2,
                false => return (Value::Text(quoted[..end].replace("''", "'")), &quoted[end + 1..]),
            }
        }
    }
    let (word, rest) = text.split_at(text.find(' ').unwrap_or(text.len()));
    let value = match word {
        "null" => Value::Null,
        "unchanged-toast-datum" => Value::Unchanged,
        word => Value::Text(word.to_owned()),
    };
    (value, rest)
}

#[cfg(test)]
mod tests {
    use super::{Line, Value};

    #[test]
    fn values_end_where_they_end() {
        let line = Line::parse(
            "public.t: UPDATE: old-key: id[integer]:1 v[text]:'old' new-tuple: id[integer]:2 v[text]:'it''s: '' x[integer]:3 ''' b[bit]:B'101' \
             n[numeric]:null a[text[]]:'{a,\"b\"}' z[timestamp with time zone]:'2026-01-01 00:00:00+00' o[boolean]:true u[text]:unchanged-toast-datum",
        );
        let text = |name: &str| match &line.columns[name].1 {
            Value::Text(text) => text.clone(),
            other => format!("{other:?}"),
        };
        assert_eq!((line.what.as_str(), line.tables.as_slice()), ("UPDATE", &["public.t".to_owned()][..]));
        assert_eq!(text("id"), "2");
        assert_eq!(text("v"), "it's: ' x[integer]:3 '");
        assert_eq!([text("b"), text("n"), text("a"), text("o")], ["101", "Null", "{a,\"b\"}", "true"]);
        assert_eq!([text("z").as_str(), text("u").as_str()], ["2026-01-01 00:00:00+00", "Unchanged"]);
        assert_eq!(line.columns["a"].0, "text[]");
    }
}
