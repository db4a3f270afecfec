//! The key that a row had before an update changed it: stored with the change, so that whoever asks for the history of the
//! earlier key learns that the row left it.
//!
//! Purely, from what the source sent. Where it sent nothing of the old row, the key did not change.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use waldelta_wal::{Change, Operation, Table};

/// The key before, in the form of `row_key`; `None` where it is the same.
pub(crate) fn moved_from(change: &Change) -> Option<String> {
    let (Some(table), Some(key), Some(old)) = (&change.table, &change.row_key, &change.old_data) else {
        return None;
    };
    if change.operation != Operation::Update {
        return None;
    }
    let old_key = key_of(table, old)?;
    (old_key.as_bytes() != &key[..]).then_some(old_key)
}

/// The key's values in an old row, if it has all of them.
fn key_of(table: &Table, old: &[u8]) -> Option<String> {
    let mut names = table.key.iter().map(|index| table.columns.get(usize::from(*index)));
    let names: Vec<&str> = names.by_ref().map(|column| Some(column?.name.as_str())).collect::<Option<_>>()?;
    let mut values: Vec<Option<&RawValue>> = vec![None; names.len()];
    let mut json = serde_json::Deserializer::from_slice(old);
    // It stops behind the last value of the key, which is among the first columns as a rule. That the object does not end there
    // counts as an error.
    let _ = json.deserialize_map(KeyValues { names: &names, values: &mut values });
    let values: Vec<&str> =
        values.into_iter().map(|value| value.map(RawValue::get)).collect::<Option<_>>()?;
    Some(format!("[{}]", values.join(",")))
}

/// Picks the values of some members out of an object, and reads no further than the last of them.
struct KeyValues<'n, 'de> {
    names: &'n [&'n str],
    values: &'n mut [Option<&'de RawValue>],
}

/// A member's name; copied only where it has escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for KeyValues<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut row: A) -> Result<(), A::Error> {
        while self.values.iter().any(Option::is_none)
            && let Some(Name(name)) = row.next_key()?
        {
            match self.names.iter().position(|key| *key == name) {
                Some(index) => self.values[index] = Some(row.next_value()?),
                None => drop(row.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use waldelta_wal::{Column, Kind, ReplicaIdentity, TableName, TruncateOptions};

    use super::*;

    fn update(key: &str, old: Option<&str>) -> Change {
        let column = |number, name: &str| Column {
            number,
            kind: Kind::TEXT,
            name: name.to_owned(),
            type_oid: 25,
            type_modifier: -1,
            type_name: "text".into(),
            nullable: true,
            identity: true,
        };
        let table = Table {
            oid: 1,
            version: 1,
            name: TableName { schema: "public".into(), name: "t".into() },
            columns: vec![column(1, "a\"b"), column(2, "v"), column(3, "c")],
            key: vec![0, 2],
            identity: ReplicaIdentity::Full,
        };
        Change {
            seq: 0,
            operation: Operation::Update,
            table: Some(Arc::new(table)),
            row_key: Some(key.to_owned().into()),
            data: None,
            old_data: old.map(|old| old.to_owned().into()),
            unchanged: Vec::new(),
            flagged: Vec::new(),
            truncate: TruncateOptions::default(),
            origin: None,
            author: None,
        }
    }

    #[test]
    fn only_another_key_is_told() {
        let moved = |key, old| moved_from(&update(key, old));
        let old = r#"{"a\"b":1.50,"v":{"c":[2]},"c":"x,]\"ü"}"#;
        assert_eq!(moved(r#"[1.50,"x,]\"ü"]"#, Some(old)), None);
        assert_eq!(moved(r#"[1.51,"x,]\"ü"]"#, Some(old)).unwrap(), r#"[1.50,"x,]\"ü"]"#);
        assert_eq!(moved("[1]", None), None);
        let apart = r#"{"c":2,"v":{"c":[3]},"a\"b":1,"x":"y"}"#;
        assert_eq!(moved("[1,2]", Some(apart)), None);
        assert_eq!(moved("[1,3]", Some(apart)).unwrap(), "[1,2]", "in whatever order");
        assert_eq!(moved("[1,2]", Some(r#"{"c":2}"#)), None, "it does not say all of the key");
        assert_eq!(moved("[1,2]", Some("{")), None);
        let insert = Change { operation: Operation::Delete, ..update("[1]", Some(old)) };
        assert_eq!(moved_from(&insert), None);
    }
}
