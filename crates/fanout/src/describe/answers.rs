//! The bodies of answers over HTTP, but those that are made of frames alone.

use serde_json::{Value, json};

use super::schema::{Object, count, flag, list, named, nullable, one_of_texts, text};
use super::values;

pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    vec![
        ("Changes", changes()),
        ("ShapeChange", values::shape().has("cursor", named("Cursor")).end()),
        ("ResetPlace", reset_place()),
        ("AckRequest", ack_request()),
        ("Ticket", ticket()),
        ("RowHistory", row_history()),
        ("RowVersion", row_version()),
        ("RowAsOf", row_as_of()),
        ("RowChange", row_change("What made the row so.").end()),
        ("Patch", patch()),
        ("Problem", problem()),
    ]
}

fn changes() -> Value {
    Object::new("A page of what comes after a cursor.")
        .has("transactions", list(named("Transaction"), "In order. The last one may go on in the next page."))
        .has("schemas", list(named("ShapeChange"), "Shapes that change in the page."))
        .has("resets", list(named("ResetPlace"), "Tables whose rows have to be read afresh."))
        .has("cursor", named("Cursor"))
        .may_have("head", named("Cursor"))
        .has("has_more", flag("Whether to ask again at once."))
        .end()
}

fn reset_place() -> Value {
    Object::new("The place up to which a table's changes do not add up to its rows.")
        .has("table", named("TableName"))
        .has("cursor", named("Cursor"))
        .end()
}

fn ack_request() -> Value {
    Object::new("What a client has applied.")
        .has("client_id", named("ClientId"))
        .has("cursor", named("After"))
        .end()
}

fn ticket() -> Value {
    Object::new("Stands for the token that it was made with, once.")
        .has("ticket", text("For `?ticket=`."))
        .has("expires_in_ms", count("It is good for so long."))
        .end()
}

fn row_history() -> Value {
    Object::new("The versions of a row, oldest first.")
        .has("table", named("TableName"))
        .has("key", key())
        .may_have("pruned", named("Cursor"))
        .has("versions", list(named("RowVersion"), "What befell the row."))
        .has("cursor", named("Cursor"))
        .has("has_more", flag("Whether there are more after `cursor`."))
        .end()
}

fn row_as_of() -> Value {
    Object::new("A row as of a place in history.")
        .has("table", named("TableName"))
        .has("key", key())
        .has("at", named("Cursor"))
        .has("data", nullable(named("Row")))
        .may_have("unchanged", list(text("A column."), "Columns whose value is not known."))
        .may_have("cut", cut())
        .has("version", named("RowChange"))
        .end()
}

fn row_version() -> Value {
    row_change("A version of a row, with the row as it then was; null: it was not there.")
        .has("data", nullable(named("Row")))
        .may_have("unchanged", list(text("A column."), "Columns whose value is not known."))
        .may_have("cut", cut())
        .may_have("patch", named("Patch"))
        .may_have("reverse", named("Patch"))
        .end()
}

fn row_change(about: &'static str) -> Object {
    Object::new(about)
        .has("cursor", named("Cursor"))
        .has("op", text("As in a change; or `baseline`, and `gap` where changes are missing."))
        .may_have("lsn", named("Lsn"))
        .may_have("xid", nullable(count("The transaction's id at the source.")))
        .may_have("ts", named("Time"))
        .may_have("table", named("TableName"))
        .may_have("origin", text("The replication origin."))
        .may_have("client_id", text("Its author."))
        .may_have("metadata", named("Metadata"))
        .may_have("moved_from", key())
        .may_have("moved_to", key())
        .may_have("flagged", list(text("A column."), "Columns whose value is not what `to_jsonb` gives."))
        .may_have("until", named("Cursor"))
        .may_have(
            "in_gap",
            flag("It lies in a gap: the row was so at this place, and is not known behind it."),
        )
}

fn cut() -> Value {
    Object::new(
        "How far the columns in `unchanged` were looked for: the row of this key as of this place has them.",
    )
    .has("key", key())
    .has("at", named("Cursor"))
    .end()
}

fn key() -> Value {
    list(json!({}), "The key's values, in its order.")
}

fn patch() -> Value {
    let operation = Object::new("An operation.")
        .has("op", one_of_texts(&["add", "remove", "replace"], "What to do."))
        .has("path", text("Of a column, or empty: the row as a whole."))
        .may_have("value", json!({}))
        .end();
    list(operation, "A JSON Patch (RFC 6902).")
}

fn problem() -> Value {
    Object::new("RFC 9457.")
        .has("type", text("Always `about:blank`."))
        .has("title", text("What the code means."))
        .has("status", count("The HTTP status."))
        .has("detail", text("What is the case."))
        .has("code", named("Code"))
        .may_have("fix", text("What to do about it."))
        .may_have("retry_after_ms", count("Ask again after this time."))
        .end()
}
