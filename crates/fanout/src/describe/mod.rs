//! The contract with clients for machines: OpenAPI 3.1 of what is asked over HTTP, AsyncAPI 3 of the frames on the WebSocket.
//! Both are made here from the same schemas, served at `/openapi.json` and `/asyncapi.json`, and kept in `docs/`.
//!
//! It says what frames and answers look like; what they mean is in docs/protocol.md. Tests hold it to what the code
//! writes and reads, to the examples of that page, and to the routes there are.

mod answers;
mod asyncapi;
mod from_client;
mod from_service;
mod openapi;
mod operations;
mod schema;
#[cfg(test)]
pub(crate) mod tests;
mod values;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Map, Value};

static OPENAPI: LazyLock<String> = LazyLock::new(|| printed(&openapi::document()));
static ASYNCAPI: LazyLock<String> = LazyLock::new(|| printed(&asyncapi::document()));

/// `GET /openapi.json`: what is asked and answered over HTTP. The operator's routes are in it too, which the server has.
pub(crate) async fn openapi() -> impl IntoResponse {
    json(openapi_text())
}

/// `GET /asyncapi.json`: the frames on the WebSocket.
pub(crate) async fn asyncapi() -> impl IntoResponse {
    json(&ASYNCAPI)
}

/// The text of `/openapi.json`.
pub fn openapi_text() -> &'static str {
    &OPENAPI
}

fn json(text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")], text)
}

fn printed(document: &Value) -> String {
    format!("{document:#}\n")
}

/// The schemas that a document refers to, and those that they refer to.
fn schemas_of(document: &Value) -> Value {
    let frames = from_client::frames().into_iter().chain(from_service::frames());
    let mut all: BTreeMap<&str, Value> = frames.map(|(_, name, schema)| (name, schema)).collect();
    all.extend(from_client::schemas());
    all.extend(from_service::schemas());
    all.extend(answers::schemas());
    all.extend(operations::schemas());
    all.extend(values::schemas());
    let mut used = Map::new();
    let mut wanted = references(document);
    while let Some(name) = wanted.pop() {
        if let Some((name, schema)) = all.remove_entry(name.as_str()) {
            wanted.extend(references(&schema));
            used.insert(name.to_owned(), schema);
        }
    }
    Value::Object(used)
}

/// Names of the schemas that a value refers to.
fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(members) => {
            let named = members.get("$ref").and_then(Value::as_str).and_then(schema::name_of);
            let inner = members.values().flat_map(references);
            named.map(str::to_owned).into_iter().chain(inner).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}
