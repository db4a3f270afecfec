//! The frames that a client sends.

use serde_json::{Value, json};

use super::schema::{Object, count, flag, list, named, nullable, one_of, one_of_texts, text};
use crate::wire::client::{CLIENT_ID_CHARS_MAX, SUBSCRIPTION_ID_BYTES_MAX};

/// Each frame's `type`, the name of its schema, and the schema.
pub(super) fn frames() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("hello", "Hello", hello()),
        ("subscribe", "Subscribe", subscribe()),
        ("unsubscribe", "Unsubscribe", unsubscribe()),
        ("ack", "Ack", ack()),
        ("auth", "Auth", auth()),
        ("ping", "Ping", ping()),
    ]
}

pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    vec![("ClientId", client_id()), ("Subscription", subscription())]
}

fn client_id() -> Value {
    json!({
        "type": "string", "minLength": 1, "maxLength": CLIENT_ID_CHARS_MAX,
        "description": "The client's stable id, without control characters. Of two connections of one subject with the same one the newer replaces the other.",
    })
}

fn subscription() -> Value {
    let id = json!({
        "type": "string", "minLength": 1, "maxLength": SUBSCRIPTION_ID_BYTES_MAX,
        "description": "Unique in the session; its bytes count.",
    });
    let filter =
        "Only rows that pass this filter, such as `region = 'eu' and total > 10`. Needs a table by its name.";
    let columns = "Only these columns, and the key. Needs a table by its name.";
    Object::new(
        "What the client follows. Its copy of a table is the union of its subscriptions of that table.",
    )
    .has("id", id)
    .has("table", text("`schema.table`, `schema.*` or `*`."))
    .may_have("where", text(filter))
    .may_have("columns", list(text("A column's name."), columns))
    .may_have("old", flag("Also the row before each change, as far as REPLICA IDENTITY gives it."))
    .may_have("big_numbers", one_of_texts(&["number", "string"], "`string`: bigint and numeric as strings."))
    .end()
}

fn subscriptions() -> Value {
    list(named("Subscription"), "What is followed.")
}

fn hello() -> Value {
    let from = Object::new("The last frame of rows of a snapshot that was not finished.")
        .has("id", text("As `snapshot_begin` told it."))
        .has("n", count("As `rows` told it."))
        .end();
    Object::of_kind("type", "hello", "The first frame, within five seconds.")
        .has("client_id", named("ClientId"))
        .has("subscriptions", subscriptions())
        .may_have("token", text("Where clients authenticate and the request had no token and no ticket."))
        .may_have("after", nullable(named("After")))
        .may_have("access", text("The `access` that was stored beside the cursor."))
        .may_have("own_changes", one_of_texts(&["skip", "include"], "Whether own changes come while live."))
        .may_have("snapshot", flag("False: begin at the head, and end rather than begin anew."))
        .may_have("snapshot_from", from)
        .end()
}

fn subscribe() -> Value {
    Object::of_kind(
        "type",
        "subscribe",
        "Adds subscriptions; tables that are new come with a snapshot of their own.",
    )
    .has("subscriptions", subscriptions())
    .end()
}

fn unsubscribe() -> Value {
    Object::of_kind("type", "unsubscribe", "Ends subscriptions.")
        .has("ids", list(text("A subscription's id."), "Those that end."))
        .end()
}

fn ack() -> Value {
    Object::of_kind("type", "ack", "Applied up to here; answered by `acked`.")
        .has("cursor", one_of(vec![named("Cursor"), named("Lsn")]))
        .end()
}

fn auth() -> Value {
    Object::of_kind("type", "auth", "A fresh token of the same subject; answered by `authenticated`.")
        .has("token", text("The token."))
        .end()
}

fn ping() -> Value {
    Object::of_kind("type", "ping", "Answered by `pong` with the same number.")
        .may_have("n", count("Any number."))
        .end()
}
