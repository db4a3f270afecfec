//! Holds JSON to a JSON Schema: to the part of the language that Waldelta's own descriptions use.
//!
//! It is stricter than the language in one point, since it tests what is written and not what may be read: a member that the
//! schema does not name is a violation, unless the schema says `additionalProperties`. A keyword that it does not know is a
//! panic, so that none is passed over.

use serde_json::{Map, Value};

/// Keywords that say something to readers and nothing about values.
const REMARKS: &[&str] = &["$schema", "description", "title", "examples", "format", "default"];

/// What in `value` does not fit a schema of `document`, whose references (`#/…`) are looked up there. Empty: it fits.
pub fn violations(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    Check { document }.check(schema, value, "", &mut found);
    found
}

/// The same for a schema by its name in `components`.
pub fn violations_of(document: &Value, name: &str, value: &Value) -> Vec<String> {
    let schema = &document["components"]["schemas"][name];
    assert!(schema.is_object(), "there is no schema {name}");
    violations(document, schema, value)
}

struct Check<'a> {
    document: &'a Value,
}

impl Check<'_> {
    fn check(&self, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
        let schema = schema.as_object().unwrap_or_else(|| panic!("not a schema: {schema}"));
        for (keyword, wanted) in schema {
            let mut fail = |what: String| found.push(format!("{at}: {what}"));
            match keyword.as_str() {
                "$ref" => self.check(self.target(wanted), value, at, found),
                "type" => {
                    let mut types =
                        wanted.as_array().map_or(std::slice::from_ref(wanted), Vec::as_slice).iter();
                    if !types.any(|name| is_of(value, name.as_str().unwrap())) {
                        fail(format!("{value} is no {wanted}"));
                    }
                }
                "const" if value != wanted => fail(format!("{value} is not {wanted}")),
                "enum" if !wanted.as_array().unwrap().contains(value) => {
                    fail(format!("{value} is none of {wanted}"));
                }
                "minimum" if value.as_f64().is_some_and(|n| n < wanted.as_f64().unwrap()) => {
                    fail(format!("{value} is below {wanted}"));
                }
                "maximum" if value.as_f64().is_some_and(|n| n > wanted.as_f64().unwrap()) => {
                    fail(format!("{value} is above {wanted}"));
                }
                "minLength" if length(value).is_some_and(|n| n < wanted.as_u64().unwrap()) => {
                    fail(format!("{value} is shorter than {wanted}"));
                }
                "maxLength" if length(value).is_some_and(|n| n > wanted.as_u64().unwrap()) => {
                    fail(format!("{value} is longer than {wanted}"));
                }
                "pattern" if value.as_str().is_some_and(|text| !matches(wanted.as_str().unwrap(), text)) => {
                    fail(format!("{value} does not match {wanted}"));
                }
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(wanted, item, &format!("{at}/{index}"), found);
                    }
                }
                "minItems"
                    if value.as_array().is_some_and(|all| (all.len() as u64) < wanted.as_u64().unwrap()) =>
                {
                    fail(format!("fewer than {wanted}"));
                }
                "required" => {
                    let Some(object) = value.as_object() else { continue };
                    for name in wanted.as_array().unwrap().iter().map(|name| name.as_str().unwrap()) {
                        if !object.contains_key(name) {
                            fail(format!("{name} is missing"));
                        }
                    }
                }
                "properties" => self.members(schema, value, at, found),
                // Looked at with `properties`, or alone.
                "additionalProperties" if !schema.contains_key("properties") => {
                    self.members(schema, value, at, found);
                }
                "oneOf" => self.one_of(wanted, value, at, found),
                "const"
                | "enum"
                | "minimum"
                | "maximum"
                | "minLength"
                | "maxLength"
                | "pattern"
                | "minItems"
                | "additionalProperties"
                | "discriminator" => {}
                other => assert!(
                    REMARKS.contains(&other) || other.starts_with("x-"),
                    "a keyword that this check does not know: {other}"
                ),
            }
        }
    }

    fn members(&self, schema: &Map<String, Value>, value: &Value, at: &str, found: &mut Vec<String>) {
        for (name, member) in value.as_object().into_iter().flatten() {
            let at = format!("{at}/{name}");
            match (
                schema.get("properties").and_then(|named| named.get(name)),
                schema.get("additionalProperties"),
            ) {
                (Some(known), _) => self.check(known, member, &at, found),
                (None, Some(Value::Bool(true))) => {}
                (None, Some(others @ Value::Object(_))) => self.check(others, member, &at, found),
                (None, _) => found.push(format!("{at}: is not described")),
            }
        }
    }

    /// Exactly one must fit. Where none does, what is wrong by the one that comes closest is told.
    fn one_of(&self, schemas: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
        let tried = schemas.as_array().unwrap().iter().map(|schema| {
            let mut wrong = Vec::new();
            self.check(schema, value, at, &mut wrong);
            wrong
        });
        let tried: Vec<Vec<String>> = tried.collect();
        match tried.iter().filter(|wrong| wrong.is_empty()).count() {
            1 => {}
            0 => found.extend(tried.into_iter().min_by_key(Vec::len).unwrap_or_default()),
            fit => found.push(format!("{at}: fits {fit} of the schemas, and not one")),
        }
    }

    fn target(&self, reference: &Value) -> &Value {
        let path = reference.as_str().and_then(|text| text.strip_prefix('#'));
        let target = path.and_then(|path| self.document.pointer(path));
        target.unwrap_or_else(|| panic!("{reference} leads nowhere"))
    }
}

fn is_of(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("not a type: {other}"),
    }
}

fn length(value: &Value) -> Option<u64> {
    value.as_str().map(|text| text.chars().count() as u64)
}

/// Whether a whole text matches `^…$` made of characters and classes (`[0-9a-f]`), each perhaps with `{n}`, `{m,n}` or `+`. It takes
/// as much as it can and never gives any back, which is right where what follows cannot be part of a class.
fn matches(pattern: &str, text: &str) -> bool {
    let pattern = pattern.strip_prefix('^').and_then(|rest| rest.strip_suffix('$'));
    let mut pattern = pattern.expect("a pattern of a whole text").chars().peekable();
    let mut text = text.chars().peekable();
    while let Some(first) = pattern.next() {
        let class: Vec<char> = match first {
            '[' => pattern.by_ref().take_while(|c| *c != ']').collect(),
            '(' | ')' | '|' | '\\' | '*' | '?' | '.' => {
                panic!("this check does not know {first} in a pattern")
            }
            other => vec![other],
        };
        let (at_least, at_most) = match pattern.peek() {
            Some('+') => {
                pattern.next();
                (1, usize::MAX)
            }
            Some('{') => {
                let counts: String = pattern.by_ref().skip(1).take_while(|c| *c != '}').collect();
                let (low, high) = counts.split_once(',').unwrap_or((&counts, &counts));
                (low.parse().unwrap(), high.parse().unwrap())
            }
            _ => (1, 1),
        };
        let mut taken = 0;
        while taken < at_most && text.next_if(|c| is_in(&class, *c)).is_some() {
            taken += 1;
        }
        if taken < at_least {
            return false;
        }
    }
    text.next().is_none()
}

/// Whether a character is in a class: `a-z` in it is a range, a `-` at its end is itself.
fn is_in(class: &[char], c: char) -> bool {
    let is_range = class.windows(3).any(|three| three[1] == '-' && (three[0]..=three[2]).contains(&c));
    is_range || class.iter().any(|one| *one == c && (c != '-' || class.last() == Some(&'-')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        let document = json!({"components": {"schemas": {
            "Key": {"type": "string", "pattern": "^[0-9a-f]{2}-[A-Z-]{1,3}/x+$"},
            "Pair": {
                "type": "object", "description": "Two.", "required": ["a"],
                "properties": {
                    "a": {"$ref": "#/components/schemas/Key"},
                    "n": {"type": ["integer", "null"], "minimum": 1, "maximum": 9},
                    "list": {"type": "array", "items": {"enum": ["x", "y"]}, "minItems": 1},
                    "any": {"type": "object", "additionalProperties": true},
                    "kind": {"oneOf": [{"const": 1}, {"type": "object", "properties": {"k": {"type": "boolean"}}}]},
                },
            },
        }}});
        let check = |value: Value| violations_of(&document, "Pair", &value).join("; ");
        for fits in [
            json!({"a": "0f-AB/xx"}),
            json!({"a": "00-ABC/x", "n": null, "list": ["x", "y"], "any": {"b": {}}, "kind": 1}),
            json!({"a": "00-A-C/x", "n": 9, "kind": {"k": true}}),
        ] {
            assert_eq!(check(fits.clone()), "", "{fits}");
        }
        for (value, wrong) in [
            (json!([]), r#": [] is no "object""#),
            (json!({}), ": a is missing"),
            (json!({"a": 1}), "/a: 1 is no \"string\""),
            (json!({"a": "0f-ABCD/x"}), "/a: "),
            (json!({"a": "0f-AB/"}), "/a: "),
            (json!({"a": "0g-AB/x"}), "/a: "),
            (json!({"a": "00-A/x", "n": 10}), "/n: 10 is above 9"),
            (json!({"a": "00-A/x", "n": 1.5}), "/n: 1.5 is no"),
            (json!({"a": "00-A/x", "list": ["z"]}), "/list/0: \"z\" is none of"),
            (json!({"a": "00-A/x", "list": []}), "/list: fewer than 1"),
            (json!({"a": "00-A/x", "b": 1}), "/b: is not described"),
            (json!({"a": "00-A/x", "kind": {"k": 1}}), "/kind"),
        ] {
            let told = check(value.clone());
            assert!(told.contains(wrong), "{value}: {told}");
        }
    }

    #[test]
    #[should_panic(expected = "does not know: unevaluatedProperties")]
    fn a_keyword_that_it_does_not_know_is_not_passed_over() {
        violations(&json!({}), &json!({"unevaluatedProperties": false}), &json!({}));
    }
}
