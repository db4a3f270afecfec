//! OpenAPI 3.1: what is asked over HTTP.

use serde_json::{Map, Value, json};

use super::schema::{any_object, named, one_of_texts, text, text_of};
use super::schemas_of;
use crate::wire::packed::DICTIONARY_PATH;

/// A time to wait, at most a minute.
const WAIT: &str = "^[0-9]{1,5}[a-z]{0,2}$";

pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for operation in operations() {
        let (path, method, description) = operation.end();
        paths.entry(path).or_insert_with(|| json!({}))[method] = description;
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Waldelta",
            "version": "1",
            "description": "Every committed change of a PostgreSQL, to every client that follows its table. What answers mean is in \
                            docs/protocol.md; the frames on the WebSocket are in /asyncapi.json.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"ticket": []}, {}],
        "paths": paths,
        "components": {"responses": {"Problem": problem()}, "securitySchemes": security_schemes()},
    });
    document["components"]["schemas"] = schemas_of(&document);
    document
}

fn problem() -> Value {
    json!({
        "description": "The request was not served.",
        "headers": {
            "Retry-After": {"description": "Seconds; with 429 and 503.", "schema": {"type": "integer", "minimum": 0}},
            "WWW-Authenticate": {"description": "`Bearer`; with 401.", "schema": {"type": "string"}},
        },
        "content": {"application/problem+json": {"schema": named("Problem")}},
    })
}

fn security_schemes() -> Value {
    json!({
        "bearer": {
            "type": "http", "scheme": "bearer",
            "description": "A static token or a JSON web token. Needed where authentication is configured.",
        },
        "ticket": {
            "type": "apiKey", "in": "query", "name": "ticket",
            "description": "Instead of a token, where no header can be set: good once, from `POST /v1/tickets`. A token in a URL is refused.",
        },
    })
}

/// One method of one path.
struct Operation {
    path: &'static str,
    method: &'static str,
    description: Value,
}

impl Operation {
    fn new(method: &'static str, path: &'static str, id: &str, about: &str) -> Self {
        let problem = json!({"$ref": "#/components/responses/Problem"});
        // Whoever it is may be turned away by the name that they call the service, or the page that they come from; by what they
        // present, or where that cannot be checked; and for how often they ask.
        let description = json!({
            "operationId": id, "summary": about, "parameters": [],
            "responses": {"400": problem, "401": problem, "403": problem, "429": problem, "503": problem},
        });
        Operation { path, method, description }
    }

    /// For everybody, however often.
    fn open(mut self) -> Self {
        self.description["security"] = json!([]);
        if let Some(responses) = self.description["responses"].as_object_mut() {
            responses.retain(|status, _| status == "403");
        }
        self
    }

    /// For those with a token, or one of an operator.
    fn by_token(mut self) -> Self {
        self.description["security"] = json!([{"bearer": []}, {}]);
        self
    }

    fn query(self, name: &str, schema: Value, about: &str) -> Self {
        self.parameter(
            json!({"name": name, "in": "query", "required": false, "schema": schema, "description": about}),
        )
    }

    fn needed_query(self, name: &str, schema: Value, about: &str) -> Self {
        self.parameter(
            json!({"name": name, "in": "query", "required": true, "schema": schema, "description": about}),
        )
    }

    /// What of a table is wanted.
    fn of_rows(self) -> Self {
        let names = "Names with commas between, or a JSON array of names.";
        let numbers = one_of_texts(&["number", "string"], "`string`: bigint and numeric as strings.");
        self.query(
            "where",
            text("As in a subscription."),
            "Only rows that pass; needs one table by its name.",
        )
        .query("columns", text(names), "Only these columns, and the key; needs one table by its name.")
        .query("big_numbers", numbers, "How large numbers come.")
    }

    fn of_one_row(self) -> Self {
        self.path("table", named("TableName"), "The table.").path(
            "key",
            text("The value of the key, or a JSON array of its values."),
            "The row's key.",
        )
    }

    fn path(self, name: &str, schema: Value, about: &str) -> Self {
        self.parameter(
            json!({"name": name, "in": "path", "required": true, "schema": schema, "description": about}),
        )
    }

    fn parameter(mut self, parameter: Value) -> Self {
        if let Some(parameters) = self.description["parameters"].as_array_mut() {
            parameters.push(parameter);
        }
        self
    }

    fn body(mut self, schema: Value) -> Self {
        self.description["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": schema}}});
        self
    }

    fn answer(mut self, status: &str, media: &str, schema: Value, about: &str) -> Self {
        let media = json!({media: {"schema": schema}});
        self.description["responses"][status] = json!({"description": about, "content": media});
        self
    }

    /// Another form of the same answer.
    fn or_answer(mut self, status: &str, media: &str, schema: Value) -> Self {
        self.description["responses"][status]["content"][media] = json!({"schema": schema});
        self
    }

    fn empty_answer(mut self, status: &str, about: &str) -> Self {
        self.description["responses"][status] = json!({"description": about});
        self
    }

    fn problems(mut self, statuses: &[&str]) -> Self {
        for status in statuses {
            self.description["responses"][*status] = json!({"$ref": "#/components/responses/Problem"});
        }
        self
    }

    fn end(self) -> (&'static str, &'static str, Value) {
        (self.path, self.method, self.description)
    }
}

fn operations() -> Vec<Operation> {
    vec![
        stream(),
        changes(),
        ack(),
        tickets(),
        snapshot(),
        row(),
        row_history(),
        value(),
        dictionary(),
        status(),
        recent(),
        disconnect(),
        clients(),
        livez(),
        readyz(),
        metrics(),
        own_description("/openapi.json", "openapi", "This document."),
        own_description("/asyncapi.json", "asyncapi", "The frames on the WebSocket, as AsyncAPI 3."),
    ]
}

fn stream() -> Operation {
    Operation::new("get", "/v1/stream", "stream", "The WebSocket: see /asyncapi.json.")
        .empty_answer("101", "Frames follow, after the client's `hello`.")
        .empty_answer("426", "Not a connection that can become a WebSocket.")
        .problems(&["429", "503"])
}

fn changes() -> Operation {
    let limit = json!({"type": "integer", "minimum": 1, "maximum": 10_000, "default": 100});
    let tables = json!({"type": "array", "items": {"type": "string"}});
    let streamed =
        "Frames as the WebSocket has them: `tx`, `schema`, `reset`, `live`, `heartbeat`, `goaway`, `error`.";
    Operation::new(
        "get",
        "/v1/changes",
        "changes",
        "What comes after a cursor: a page, a long poll, or a stream.",
    )
    .query("after", named("After"), "Absent: from the oldest cursor that can be resumed.")
    .query("since", named("Time"), "Instead of `after`: what committed then or later.")
    .query("limit", limit, "Changes in a page.")
    .query("table", tables, "`schema.table`, `schema.*` or `*`; may be repeated. Absent: all.")
    .of_rows()
    .query("wait", text_of(WAIT, "Such as `20s` or `500ms`."), "Hold the answer until there is something.")
    .query("client_id", named("ClientId"), "Marks its own changes by `own`.")
    .answer("200", "application/json", named("Changes"), "A page; or, by `Accept`, frames as they come.")
    .or_answer("200", "text/event-stream", text(streamed))
    .or_answer("200", "application/x-ndjson", text(streamed))
    .empty_answer("304", "The client has this page: its `If-None-Match` names its tag.")
    .problems(&["400", "405", "410", "429", "503"])
}

fn ack() -> Operation {
    Operation::new(
        "post",
        "/v1/ack",
        "ack",
        "A client that reads over HTTP has applied everything up to here.",
    )
    .body(named("AckRequest"))
    .empty_answer("204", "It is kept.")
    .problems(&["400", "405", "413", "415", "503"])
}

fn tickets() -> Operation {
    let about = "A ticket for a URL, instead of a token, where no header can be set.";
    let mut operation = Operation::new("post", "/v1/tickets", "tickets", about)
        .by_token()
        .answer("201", "application/json", named("Ticket"), "Good once, for so long.")
        .problems(&["404", "405", "413"]);
    let mut body = any_object("Nothing, or an empty object.");
    body["maxProperties"] = 0.into();
    operation.description["requestBody"] =
        json!({"required": false, "content": {"application/json": {"schema": body}}});
    operation
}

fn snapshot() -> Operation {
    let lines = "`snapshot_begin`, `schema`, `rows` and `snapshot_end`, a frame a line. Without the last it is not whole.";
    Operation::new("get", "/v1/snapshot", "snapshot", "The rows of tables, read at one moment.")
        .needed_query("table", text("`schema.table`, `schema.*` or `*`."), "Which tables.")
        .of_rows()
        .answer("200", "application/x-ndjson", text(lines), "Frames; in gzip or zstd by `Accept-Encoding`.")
        .empty_answer("304", "The client has the snapshot that would be sent.")
        .problems(&["400", "404", "405", "429", "503"])
}

fn row() -> Operation {
    Operation::new("get", "/v1/rows/{table}/{key}", "row", "A row as of a place in history.")
        .of_one_row()
        .query("at", place(), "Absent: the head.")
        .answer("200", "application/json", named("RowAsOf"), "The row, and what made it so.")
        .problems(&["400", "404", "405", "410", "503"])
}

fn row_history() -> Operation {
    let limit = json!({"type": "integer", "minimum": 1, "maximum": 1_000, "default": 100});
    Operation::new("get", "/v1/rows/{table}/{key}/history", "rowHistory", "The versions of a row.")
        .of_one_row()
        .query("from", place(), "After this; absent: from the beginning.")
        .query("to", place(), "Up to this; absent: the head.")
        .query("limit", limit, "Versions in the answer.")
        .query("patch", one_of_texts(&["rfc6902"], "The form."), "With what differs from version to version.")
        .answer("200", "application/json", named("RowHistory"), "Versions, oldest first.")
        .problems(&["400", "404", "405", "410", "503"])
}

/// A place in history, as a query names it.
fn place() -> Value {
    text("A cursor, an LSN, or a time such as `2026-11-03T12:00:00Z`.")
}

fn value() -> Operation {
    let place = "The change's position, with its index.";
    Operation::new(
        "get",
        "/v1/values/{cursor}/{image}/{column}",
        "value",
        "A value that was too large for a frame.",
    )
    .path("cursor", named("Cursor"), place)
    .path("image", one_of_texts(&["data", "old"], "One of a change's two images."), "Which image.")
    .path("column", text("A column's name."), "Which column.")
    .answer("200", "application/json", json!({}), "The value, as history has it. It never changes.")
    .empty_answer("304", "The client has it: its `If-None-Match` names its tag.")
    .problems(&["400", "404", "410", "429", "503"])
}

fn dictionary() -> Operation {
    let bytes = json!({"type": "string", "contentMediaType": "application/octet-stream"});
    let about = "What packed frames on the WebSocket are unpacked with.";
    Operation::new("get", DICTIONARY_PATH, "dictionary", about)
        .open()
        .answer(
            "200",
            "application/octet-stream",
            bytes,
            "A raw content dictionary of zstd. It never changes.",
        )
        .empty_answer("304", "The client has it: its `If-None-Match` names its tag.")
}

fn status() -> Operation {
    Operation::new("get", "/v1/status", "status", "What the service says of itself: for operators.")
        .by_token()
        .answer("200", "application/json", named("Status"), "One reading of the whole service.")
}

fn recent() -> Operation {
    Operation::new("get", "/v1/recent", "recent", "What some numbers were over the last hour: for operators.")
        .by_token()
        .answer("200", "application/json", named("Recent"), "A sample every few seconds, oldest first.")
}

fn disconnect() -> Operation {
    let about = "Lets a client go, which may come back: for operators.";
    Operation::new("post", "/v1/sessions/{session}/disconnect", "disconnect", about)
        .by_token()
        .path("session", text("Its id, as in the status."), "The session.")
        .answer("200", "application/json", any_object("The session."), "It is let go.")
        .problems(&["404"])
}

fn clients() -> Operation {
    let limit = json!({"type": "integer", "minimum": 0, "default": 100});
    Operation::new("get", "/v1/clients", "clients", "The clients that history knows: for operators.")
        .by_token()
        .query("limit", limit, "Clients in the answer, at most 1000.")
        .answer("200", "application/json", named("Clients"), "Those that were here last, newest first.")
        .empty_answer("400", "The query cannot be read.")
        .problems(&["503"])
}

fn livez() -> Operation {
    Operation::new("get", "/livez", "livez", "Whether the process answers.").open().answer(
        "200",
        "text/plain",
        text("`ok`"),
        "It does.",
    )
}

fn readyz() -> Operation {
    Operation::new("get", "/readyz", "readyz", "Whether clients are served with current data.")
        .query("verbose", text("Any value, or none."), "Tell more, one thing a line: for operators.")
        .answer("200", "text/plain", text("`ok` and what else is to be said."), "They are.")
        .answer("503", "text/plain", text("Why not."), "They are not, or the service stops.")
}

fn metrics() -> Operation {
    Operation::new("get", "/metrics", "metrics", "Metrics for Prometheus: for operators.").by_token().answer(
        "200",
        "text/plain",
        text("In Prometheus's text format."),
        "All metrics.",
    )
}

fn own_description(path: &'static str, id: &str, about: &str) -> Operation {
    Operation::new("get", path, id, about).open().answer(
        "200",
        "application/json",
        any_object(about),
        "The document.",
    )
}
