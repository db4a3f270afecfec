//! Changes as lines for people. Values are printed as they came: a number that is read and printed again is another one where it has more
//! digits than a machine's. Columns are printed in the order of the table: what comes from history has them in its own.

use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// What of a `tx` frame is printed.
#[derive(Deserialize)]
pub(super) struct Changes<'a> {
    #[serde(borrow)]
    pub changes: Vec<Change<'a>>,
}

/// What of a `rows` frame is printed.
#[derive(Deserialize)]
pub(super) struct Rows<'a> {
    #[serde(default)]
    pub table: String,
    #[serde(borrow)]
    pub rows: Vec<&'a RawValue>,
}

/// A change as the service tells it.
#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(super) struct Change<'a> {
    #[serde(default)]
    pub op: String,
    #[serde(default)]
    table: Option<String>,
    #[serde(borrow, default)]
    key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    old: Option<&'a RawValue>,
    #[serde(default)]
    unchanged: Vec<String>,
    #[serde(default)]
    restart_identity: bool,
    #[serde(default)]
    cascade: bool,
}

impl Change<'_> {
    /// The table, except of a message.
    pub(super) fn table(&self) -> &str {
        self.table.as_deref().unwrap_or_default()
    }

    /// What changed, with the row. `columns`: of the table, as its shape has them.
    pub(super) fn text(&self, columns: &Value) -> String {
        let table = self.table();
        match self.op.as_str() {
            "message" => {
                // It belongs to no table.
                let said = self.data.map_or("", RawValue::get);
                let said: Value = serde_json::from_str(said).unwrap_or_default();
                format!("  message {} {}", said["prefix"].as_str().unwrap_or_default(), said["content"])
            }
            "truncate" => {
                let option = |is: bool, words| if is { words } else { "" };
                let restart = option(self.restart_identity, " restart identity");
                format!("  truncate {table}{restart}{}", option(self.cascade, " cascade"))
            }
            op => {
                let image = |before: &str, image: Option<&RawValue>| {
                    image.map_or_else(String::new, |image| format!("{before}{}", row_text(image, columns)))
                };
                format!("  {op} {table}{}{}", image(" ", self.data.or(self.key)), image(" was ", self.old))
            }
        }
    }

    /// The same; of an update, the columns that it has changed, each from what to what.
    pub(super) fn diff(&self, columns: &Value) -> String {
        let read = |row: Option<&RawValue>| row.and_then(|row| Columns::read(row, columns));
        let (Some(Columns(old)), Some(Columns(data))) = (read(self.old), read(self.data)) else {
            return self.text(columns);
        };
        let before = |name: &str| old.iter().find(|(known, _)| known == name).map(|(_, value)| value.get());
        let changed = data.iter().filter(|(name, value)| {
            before(name) != Some(value.get()) && !self.unchanged.iter().any(|same| same == name)
        });
        let changed = changed.map(|(name, value)| match before(name) {
            Some(before) => format!(" {name}: {before} -> {value}"),
            None => format!(" {name}: {value}"),
        });
        let key = self.key.map_or_else(String::new, |key| row_text(key, columns));
        format!("  {} {} {key}{}", self.op, self.table(), changed.collect::<String>())
    }
}

/// A row, or its key, in the order of its table's columns.
pub(super) fn row_text(row: &RawValue, columns: &Value) -> String {
    let Some(Columns(read)) = Columns::read(row, columns) else {
        return row.get().to_owned();
    };
    let fields = read.iter().map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

/// The columns of a row, in their order.
struct Columns(Vec<(String, Box<RawValue>)>);

impl Columns {
    fn read(row: &RawValue, columns: &Value) -> Option<Self> {
        let Columns(mut read) = serde_json::from_str(row.get()).ok()?;
        let names: Vec<_> =
            columns.as_array().into_iter().flatten().map(|column| column["name"].as_str()).collect();
        read.sort_by_key(|(name, _)| {
            names.iter().position(|known| *known == Some(name)).unwrap_or(usize::MAX)
        });
        Some(Columns(read))
    }
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Columns;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a row")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
                let mut columns = Vec::new();
                while let Some(column) = map.next_entry()? {
                    columns.push(column);
                }
                Ok(Columns(columns))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(change: &str) -> String {
        serde_json::from_str::<Change<'_>>(change).unwrap().text(&columns())
    }

    fn diff(change: &str) -> String {
        serde_json::from_str::<Change<'_>>(change).unwrap().diff(&columns())
    }

    fn columns() -> Value {
        serde_json::json!([{"name": "id"}, {"name": "b"}, {"name": "a"}])
    }

    #[test]
    fn of_an_update_what_it_has_changed_can_be_shown_alone() {
        let update = r#"{"op":"update","table":"public.t","key":{"id":1},"unchanged":["body"],
            "data":{"id":1,"title":"b","done":true,"body":"x"},"old":{"id":1,"title":"a","done":true}}"#;
        assert_eq!(diff(update), r#"  update public.t {"id":1} title: "a" -> "b""#);
        let insert = r#"{"op":"insert","table":"public.t","key":{"id":1},"data":{"id":1},"old":null}"#;
        assert_eq!(diff(insert), text(insert));
    }

    #[test]
    fn numbers_keep_their_digits_and_columns_their_order() {
        let update = r#"{"op":"update","table":"public.t","key":{"id":1},
            "data":{"a": 7.10, "b": 12345678901234567890.1250, "id": 1},"old":{"id":1,"b":1,"a":7.1}}"#;
        assert_eq!(
            diff(update),
            r#"  update public.t {"id":1} b: 1 -> 12345678901234567890.1250 a: 7.1 -> 7.10"#
        );
        let row = r#"{"id":1,"b":12345678901234567890.1250,"a":7.10}"#;
        assert!(text(update).contains(row), "{}", text(update));
    }

    #[test]
    fn every_kind_of_change_is_a_line() {
        for (change, line) in [
            (
                r#"{"op":"update","table":"public.t","key":{"id":1},"data":{"id":1},"old":{"id":1}}"#,
                r#"  update public.t {"id":1} was {"id":1}"#,
            ),
            (r#"{"op":"delete","table":"public.t","key":{"id":1}}"#, r#"  delete public.t {"id":1}"#),
            (r#"{"op":"truncate","table":"public.t","key":null}"#, "  truncate public.t"),
            (
                r#"{"op":"truncate","table":"public.t","key":null,"cascade":true,"restart_identity":true}"#,
                "  truncate public.t restart identity cascade",
            ),
            (r#"{"op":"message","data":{"prefix":"app","content":"hello"}}"#, r#"  message app "hello""#),
        ] {
            assert_eq!(text(change), line);
        }
    }
}
