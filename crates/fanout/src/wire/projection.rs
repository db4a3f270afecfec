//! How the rows of a table look to a client that asked for some columns, or for big numbers as strings.
//!
//! It works on images as JSON text, member by member; no value is parsed. Only what stands at the top level is turned into a
//! string: numbers inside of arrays and composites stay as they are. Which rows are told is not decided here.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use waldelta_wal::{Kind, Scalar, Table};

use super::json;
use super::oversize::{self, Image};
use crate::subscription::Numbers;

/// The types whose numbers every client can hold in a double: int2, int4, float4 and float8. A domain counts as big, since its
/// own object id does not tell what it is of.
const SMALL_NUMBERS: [u32; 4] = [21, 23, 700, 701];

/// The columns of a table that are told, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Projection {
    /// By name, those that are told.
    columns: HashMap<String, Shown>,
}

/// How a column's values are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    AsItIs,
    /// A number as a string of its text.
    AsString,
}

impl Projection {
    /// Some columns of a table, the key's always among them; `None` for all of them. There is none where everything is told
    /// as it is.
    pub(crate) fn new(table: &Table, columns: Option<&BTreeSet<&str>>, numbers: Numbers) -> Option<Self> {
        if columns.is_none() && numbers == Numbers::Number {
            return None;
        }
        let mut shown = HashMap::new();
        let mut changes_nothing = true;
        for (index, column) in (0u16..).zip(&table.columns) {
            let is_told = columns.is_none_or(|columns| columns.contains(column.name.as_str()));
            if !is_told && !table.key.contains(&index) {
                changes_nothing = false;
                continue;
            }
            let is_number = column.kind == Kind::Scalar(Scalar::Number);
            let is_big = is_number && !SMALL_NUMBERS.contains(&column.type_oid);
            let as_string = numbers == Numbers::String && is_big;
            changes_nothing &= !as_string;
            shown.insert(column.name.clone(), if as_string { Shown::AsString } else { Shown::AsItIs });
        }
        (!changes_nothing).then_some(Projection { columns: shown })
    }

    /// Whether a column is told.
    pub(crate) fn has(&self, column: &str) -> bool {
        self.columns.contains_key(column)
    }

    /// Whether a column's numbers are told as strings.
    pub(crate) fn is_string(&self, column: &str) -> bool {
        self.columns.get(column) == Some(&Shown::AsString)
    }

    /// Writes what is told of an image.
    pub(crate) fn write(&self, out: &mut Vec<u8>, image: &[u8]) {
        out.push(b'{');
        let mut is_first = true;
        for (name, value) in json::members(image) {
            let shown = json::string(name).and_then(|column| self.columns.get(&*column));
            let Some(shown) = shown else { continue };
            if !is_first {
                out.push(b',');
            }
            is_first = false;
            out.extend_from_slice(name);
            out.push(b':');
            match shown {
                Shown::AsItIs => out.extend_from_slice(value),
                Shown::AsString => write_as_string(out, value),
            }
        }
        out.push(b'}');
    }

    /// What is told of a table's shape.
    pub(crate) fn table(&self, table: &Table) -> Table {
        let mut told = Table { columns: Vec::new(), key: Vec::new(), ..table.clone() };
        for (index, column) in (0u16..).zip(&table.columns).filter(|(_, column)| self.has(&column.name)) {
            if table.key.contains(&index) {
                told.key.extend(u16::try_from(told.columns.len()));
            }
            told.columns.push(column.clone());
        }
        told
    }
}

/// Writes an image as a client sees it: through a projection, where there is one, and with what is too large replaced. `at` is
/// where the image can be found in history.
pub(crate) fn write_image(
    out: &mut Vec<u8>,
    projection: Option<&Projection>,
    image: &Bytes,
    at: Option<(waldelta_wal::Position, Image)>,
) {
    match projection {
        None => out.extend_from_slice(&oversize::bounded(image, at)),
        Some(projection) if !oversize::is_replaced(image) => projection.write(out, image),
        // What is left out does not count.
        Some(projection) => {
            let mut told = Vec::new();
            projection.write(&mut told, image);
            out.extend_from_slice(&oversize::bounded(&told.into(), at));
        }
    }
}

/// A number as a string of its text; anything else (null, `"NaN"`, a reference) as it is.
pub(crate) fn write_as_string(out: &mut Vec<u8>, value: &[u8]) {
    match value.first() {
        Some(b'-' | b'0'..=b'9') => {
            out.push(b'"');
            out.extend_from_slice(value);
            out.push(b'"');
        }
        _ => out.extend_from_slice(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::table;
    use proptest::prelude::*;

    /// `t (id bigint primary key, v text, small integer, amount numeric)`
    fn wide() -> Table {
        let mut table = table("t");
        let id = table.columns[0].clone();
        let number = |name: &str, type_oid| {
            let kind = Kind::builtin(type_oid).unwrap();
            waldelta_wal::Column { name: name.into(), type_oid, kind, nullable: true, ..id.clone() }
        };
        table.columns[0] = number("id", 20);
        table.columns.extend([number("small", 23), number("amount", 1700)]);
        table
    }

    fn projection(columns: Option<&[&str]>, numbers: Numbers) -> Projection {
        let columns = columns.map(|columns| columns.iter().copied().collect());
        Projection::new(&wide(), columns.as_ref(), numbers).unwrap()
    }

    fn told(projection: &Projection, image: &str) -> String {
        let mut out = Vec::new();
        projection.write(&mut out, image.as_bytes());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_that_were_not_asked_for_are_left_out_and_the_key_is_not() {
        let some = projection(Some(&["v"]), Numbers::Number);
        let image = r#"{"id": 7, "v": "a,}\"b", "small": 1, "amount": 9007199254740993.10}"#;
        assert_eq!(told(&some, image), r#"{"id":7,"v":"a,}\"b"}"#);
        assert_eq!(told(&some, r#"{"amount":1}"#), "{}");
        assert!(some.has("id") && some.has("v") && !some.has("small"));
        let shape = some.table(&wide());
        let names: Vec<&str> = shape.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!((names, shape.key), (vec!["id", "v"], vec![0]));
        let last = projection(Some(&["amount"]), Numbers::Number);
        let keyed = Table { key: vec![3], ..wide() };
        assert_eq!(last.table(&keyed).key, [1], "its place among those that are told");
    }

    #[test]
    fn big_numbers_become_strings_and_nothing_else_does() {
        let strings = projection(None, Numbers::String);
        assert_eq!(
            told(&strings, r#"{"id":-9007199254740993,"v":"1","small":1,"amount":1.50}"#),
            r#"{"id":"-9007199254740993","v":"1","small":1,"amount":"1.50"}"#
        );
        assert_eq!(
            told(&strings, r#"{"id":1,"amount":null,"v":null}"#),
            r#"{"id":"1","amount":null,"v":null}"#
        );
        for text in [r#"{"amount":"NaN"}"#, r#"{"amount":{"$too_large":{"bytes":1}}}"#] {
            assert_eq!(told(&strings, text), text);
        }
        assert!(strings.is_string("id") && !strings.is_string("small"));
    }

    #[test]
    fn nothing_is_done_where_everything_is_told_as_it_is() {
        let all: BTreeSet<&str> = ["id", "v", "small", "amount"].into();
        assert_eq!(Projection::new(&wide(), None, Numbers::Number), None);
        assert_eq!(Projection::new(&wide(), Some(&all), Numbers::Number), None);
        assert_eq!(Projection::new(&table("t"), None, Numbers::String), None, "no big number in it");
    }

    #[test]
    fn names_are_found_however_they_are_escaped() {
        let mut table = wide();
        table.columns[1].name = "a\"\u{e9}\u{1}".into();
        let some = Projection::new(&table, Some(&["a\"\u{e9}\u{1}"].into()), Numbers::Number).unwrap();
        for name in [r#""a\"é\u0001""#, r#""a\"\u00e9\u0001""#] {
            let image = format!(r#"{{{name}: 1, "small": 2}}"#);
            assert_eq!(told(&some, &image), format!("{{{name}:1}}"));
        }
    }

    #[test]
    fn what_is_left_out_is_not_too_large() {
        let image = Bytes::from(format!(r#"{{"id":1,"v":"{}","small":2}}"#, "x".repeat(9 << 20)));
        let written = |projection: &Projection| {
            let mut out = Vec::new();
            write_image(&mut out, Some(projection), &image, None);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(&projection(Some(&["small"]), Numbers::Number)), r#"{"id":1,"small":2}"#);
        assert!(written(&projection(Some(&["v"]), Numbers::Number)).contains("$too_large"));
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_panic(bytes: Vec<u8>) {
            projection(None, Numbers::String).write(&mut Vec::new(), &bytes);
        }
    }
}
