//! Words to write JSON Schemas with: the part of the language that OpenAPI 3.1 and AsyncAPI 3 both read (draft 7).

use serde_json::{Map, Value, json};

/// Where both documents keep their schemas.
const SCHEMAS: &str = "#/components/schemas/";

/// An object, member by member. Others may be there too: whoever reads skips what it does not know.
pub(super) struct Object {
    about: &'static str,
    members: Map<String, Value>,
    required: Vec<&'static str>,
}

impl Object {
    pub(super) fn new(about: &'static str) -> Self {
        Object { about, members: Map::new(), required: Vec::new() }
    }

    /// A frame, or something else that is known by a member with a fixed text.
    pub(super) fn of_kind(member: &'static str, kind: &str, about: &'static str) -> Self {
        Self::new(about).has(member, json!({"const": kind, "type": "string"}))
    }

    /// A member that is always there.
    pub(super) fn has(mut self, name: &'static str, schema: Value) -> Self {
        self.required.push(name);
        self.may_have(name, schema)
    }

    /// A member that may be left out.
    pub(super) fn may_have(mut self, name: &'static str, schema: Value) -> Self {
        self.members.insert(name.to_owned(), schema);
        self
    }

    pub(super) fn end(self) -> Value {
        let mut schema = json!({"type": "object", "description": self.about, "properties": self.members});
        if !self.required.is_empty() {
            schema["required"] = json!(self.required);
        }
        schema
    }
}

/// A schema by its name.
pub(super) fn named(name: &str) -> Value {
    json!({"$ref": format!("{SCHEMAS}{name}")})
}

/// The name in a reference to a schema.
pub(super) fn name_of(reference: &str) -> Option<&str> {
    reference.strip_prefix(SCHEMAS)
}

pub(super) fn text(about: &str) -> Value {
    json!({"type": "string", "description": about})
}

pub(super) fn text_of(pattern: &str, about: &str) -> Value {
    json!({"type": "string", "pattern": pattern, "description": about})
}

pub(super) fn one_of_texts(texts: &[&str], about: &str) -> Value {
    json!({"type": "string", "enum": texts, "description": about})
}

/// A whole number from 0 on.
pub(super) fn count(about: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "description": about})
}

pub(super) fn flag(about: &str) -> Value {
    json!({"type": "boolean", "description": about})
}

pub(super) fn list(items: Value, about: &str) -> Value {
    json!({"type": "array", "items": items, "description": about})
}

pub(super) fn one_of(schemas: Vec<Value>) -> Value {
    json!({"oneOf": schemas})
}

pub(super) fn nullable(schema: Value) -> Value {
    one_of(vec![schema, json!({"type": "null"})])
}

/// An object of whatever members there are.
pub(super) fn any_object(about: &str) -> Value {
    json!({"type": "object", "additionalProperties": true, "description": about})
}
