//! The configuration file as a JSON Schema (2020-12), for editors: made of the settings that there are and of what the reference says of
//! each, so that neither is written twice.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::Config;

/// Every setting with its default, and what it is.
pub(crate) const REFERENCE: &str = include_str!("../../../../docs/reference/waldelta.toml");

/// The settings that are one of a few words.
const WORDS: [(&str, &[&str]); 4] = [
    ("source.plugin", &["pgoutput", "wal2json"]),
    ("capture.oversize", &["poison", "reference"]),
    ("capture.on_gap", &["stop", "new_epoch"]),
    ("server.role", &["all", "capture", "fanout"]),
];
/// Tables whose keys are anybody's: the names of claims.
const FREE: [&str; 2] = ["rules.claims", "auth.admin_claims"];

/// The schema. What a value has to be beside its type, `waldelta config check` says.
pub(crate) fn schema() -> Value {
    let about = comments();
    // Of a configuration that has one of each, and of the defaults: both are ours, and can be written as TOML.
    let table = |config: Config| serde_json::to_value(config).unwrap_or_default();
    let mut schema = of("", &table(Config::complete()), Some(&table(Config::default())), &about);
    let head = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "waldelta.toml",
    });
    if let (Value::Object(schema), Value::Object(head)) = (&mut schema, head) {
        schema.extend(head);
    }
    schema
}

/// What fits a value like this one.
fn of(name: &str, value: &Value, default: Option<&Value>, about: &HashMap<String, String>) -> Value {
    let below = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    let mut schema = match value {
        _ if FREE.contains(&name) => json!({"type": "object"}),
        Value::Object(table) => {
            let fields = table.iter().map(|(key, value)| {
                let default = default.and_then(|default| default.get(key));
                (key.clone(), of(&below(key), value, default, about))
            });
            let fields: Map<String, Value> = fields.collect();
            json!({"type": "object", "additionalProperties": false, "properties": fields})
        }
        Value::Array(values) => match values.first() {
            Some(first) => {
                let mut item = of(name, first, None, about);
                // It is said of all of them.
                item.as_object_mut().and_then(|item| item.remove("description"));
                json!({"type": "array", "items": item})
            }
            None => json!({"type": "array", "items": {"type": "string"}}),
        },
        Value::Bool(_) => json!({"type": "boolean"}),
        Value::Number(number) if number.is_f64() => json!({"type": "number", "minimum": 0}),
        Value::Number(_) => json!({"type": "integer", "minimum": 0}),
        Value::String(_) | Value::Null => json!({"type": "string"}),
    };
    if let Some((_, words)) = WORDS.iter().find(|(setting, _)| *setting == name) {
        schema["enum"] = json!(words);
    }
    if let Some(default) = default.filter(|default| !default.is_object()) {
        schema["default"] = default.clone();
    }
    if let Some(about) = about.get(name) {
        schema["description"] = about.as_str().into();
    }
    schema
}

/// The comment above each setting and section of the reference.
fn comments() -> HashMap<String, String> {
    let (mut about, mut section, mut words) = (HashMap::new(), String::new(), Vec::new());
    for line in REFERENCE.lines() {
        let key = line.split_once(" = ").map(|(key, _)| key);
        let opened = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Some(comment) = line.strip_prefix('#') {
            words.push(comment.trim());
            continue;
        }
        let name = match (opened, key) {
            (Some(opened), _) => {
                opened.clone_into(&mut section);
                opened.to_owned()
            }
            (None, Some(key)) if section.is_empty() => key.to_owned(),
            (None, Some(key)) => format!("{section}.{key}"),
            (None, None) => String::new(),
        };
        // An empty line ends what is said of the whole file.
        if !words.is_empty() && !name.is_empty() {
            about.insert(name, words.join(" "));
        }
        words.clear();
    }
    about
}

#[cfg(test)]
mod tests {
    use waldelta_testkit::json_schema::violations;

    use super::*;

    /// `make docs` writes it.
    #[test]
    fn the_schema_in_the_reference_is_made_of_the_settings() {
        let text = serde_json::to_string_pretty(&schema()).unwrap();
        waldelta_testkit::generated("docs/reference/waldelta.schema.json", &format!("{text}\n"));
    }

    #[test]
    fn what_is_said_of_settings_is_in_it() {
        let schema = schema();
        let sessions = &schema["properties"]["server"]["properties"]["sessions_max"];
        assert_eq!((&sessions["type"], &sessions["default"]), (&json!("integer"), &json!(10_000)));
        assert!(sessions["description"].as_str().unwrap().starts_with("Each session is an open file."));
        let tls = &schema["properties"]["server"]["properties"]["tls"];
        assert!(tls["description"].as_str().unwrap().starts_with("Encryption of `listen`"), "{tls}");
        assert_eq!(
            schema["properties"]["source"]["properties"]["plugin"]["enum"],
            json!(["pgoutput", "wal2json"])
        );
    }

    #[test]
    fn configurations_fit_it_and_mistakes_do_not() {
        let fits = |text: &str| {
            let value = serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap();
            violations(&schema(), &schema(), &value)
        };
        assert_eq!(fits(REFERENCE), Vec::<String>::new());
        let rule = "[[rules]]\ntable = 'a.b'\nclaims = { role = ['x'] }\ncolumns = ['c']\nwhere = 'd = 1'";
        assert_eq!(fits(rule), Vec::<String>::new());
        for wrong in [
            "[server]\nsessions_max = 'many'",
            "[server]\nsession_max = 1",
            "[capture]\non_gap = 'go'",
            "[[rules]]\ntables = 'a.b'",
            "[[auth.issuers]]\naudiences = 'one'",
        ] {
            assert_ne!(fits(wrong), Vec::<String>::new(), "{wrong}");
        }
    }

    /// A word that a setting does not take would be offered for it; one that it takes would be refused.
    #[test]
    fn the_words_are_those_that_are_taken() {
        for (name, words) in WORDS {
            let (section, key) = name.split_once('.').unwrap();
            let read = |word: &str| toml::from_str::<Config>(&format!("[{section}]\n{key} = '{word}'"));
            let told = read("nonsense").unwrap_err().to_string();
            for word in words {
                assert!(read(word).is_ok(), "{name} {word}");
                assert!(told.contains(word), "{name}: {told}");
            }
        }
    }
}
