//! Reading the members of a frame, with every value's text kept as it came.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use waldelta_wal::Position;

use super::{Row, Violation};
use crate::canonical::{canonical, members};

/// A JSON object whose values are not parsed yet.
pub(super) struct Object {
    text: String,
    members: BTreeMap<String, Box<RawValue>>,
}

impl Object {
    pub(super) fn parse(text: &str) -> Result<Self, Violation> {
        let members = serde_json::from_str(text)
            .map_err(|error| Violation(format!("not a JSON object ({error}): {text}")))?;
        Ok(Object { text: text.to_owned(), members })
    }

    pub(super) fn value(&self) -> Result<Value, Violation> {
        serde_json::from_str(&self.text)
            .map_err(|error| Violation(format!("not JSON ({error}): {}", self.text)))
    }

    pub(super) fn string(&self, name: &str) -> Result<String, Violation> {
        self.read(name, "a string")
    }

    pub(super) fn boolean(&self, name: &str) -> Result<bool, Violation> {
        self.read(name, "true or false")
    }

    pub(super) fn number(&self, name: &str) -> Result<u64, Violation> {
        self.read(name, "a whole number")
    }

    /// `None` where it is absent.
    pub(super) fn optional_number(&self, name: &str) -> Result<Option<u64>, Violation> {
        self.members.contains_key(name).then(|| self.number(name)).transpose()
    }

    pub(super) fn position(&self, name: &str) -> Result<Position, Violation> {
        self.string(name)?.parse().map_err(|_| self.wrong(name, "a cursor"))
    }

    pub(super) fn nullable_position(&self, name: &str) -> Result<Option<Position>, Violation> {
        let text: Option<String> = self.read(name, "a cursor or null")?;
        text.map(|text| text.parse().map_err(|_| self.wrong(name, "a cursor"))).transpose()
    }

    /// Absent counts as empty.
    pub(super) fn strings(&self, name: &str) -> Result<Vec<String>, Violation> {
        if self.members.contains_key(name) { self.read(name, "a list of strings") } else { Ok(Vec::new()) }
    }

    pub(super) fn object(&self, name: &str) -> Result<Object, Violation> {
        Object::parse(self.raw(name)?)
    }

    pub(super) fn objects(&self, name: &str) -> Result<Vec<Object>, Violation> {
        let items: Vec<Box<RawValue>> = self.read(name, "a list of objects")?;
        items.iter().map(|item| Object::parse(item.get())).collect()
    }

    /// The whole object as column values.
    pub(super) fn row(&self) -> Result<Row, Violation> {
        members(&self.text).map_err(|error| Violation(format!("not a row ({error}): {}", self.text)))
    }

    /// The member `key`, which is there but may be null.
    pub(super) fn key(&self) -> Result<Option<String>, Violation> {
        let text = self.raw("key")?;
        if text == "null" {
            return Ok(None);
        }
        canonical(text).map(Some).map_err(|_| self.wrong("key", "an object or null"))
    }

    /// The member `moved_from`: the key before, where a key change is told.
    pub(super) fn moved_from(&self) -> Result<Option<String>, Violation> {
        let Some(value) = self.members.get("moved_from") else { return Ok(None) };
        canonical(value.get()).map(Some).map_err(|_| self.wrong("moved_from", "an object"))
    }

    fn read<'a, T: Deserialize<'a>>(&'a self, name: &str, what: &str) -> Result<T, Violation> {
        serde_json::from_str(self.raw(name)?).map_err(|_| self.wrong(name, what))
    }

    fn raw(&self, name: &str) -> Result<&str, Violation> {
        let missing = || Violation(format!("{name:?} is missing: {}", self.text));
        self.members.get(name).map(|value| value.get()).ok_or_else(missing)
    }

    fn wrong(&self, name: &str, what: &str) -> Violation {
        Violation(format!("{name:?} is not {what}: {}", self.text))
    }
}
