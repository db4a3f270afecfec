//! What frames and answers are made of: cursors, times, rows, changes, shapes of tables.

use serde_json::{Value, json};
use waldelta_wal::Code;

use super::schema::{Object, any_object, count, flag, list, named, nullable, one_of, text, text_of};

const HEX_CURSOR: &str = "^[0-9a-f]{8}-[0-9a-f]{16}-[0-9a-f]{8}$";
const LSN: &str = "^[0-9A-F]{1,8}/[0-9A-F]{1,8}$";
const CODE: &str = "^WD-[A-Z0-9-]+$";

pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    vec![
        ("Cursor", cursor()),
        ("Lsn", text_of(LSN, "A commit LSN, as PostgreSQL prints it.")),
        ("After", after()),
        ("Time", time()),
        ("TableName", text("`schema.table`, each part quoted where SQL would need it.")),
        ("Code", code()),
        ("Row", row()),
        ("TooLarge", too_large()),
        ("Key", any_object("The primary key's columns with their values.")),
        ("Metadata", any_object("What the author has attached to its transaction.")),
        ("Subscriptions", list(text("A subscription's id."), "The subscriptions that the row passes.")),
        ("Field", field()),
        ("Column", column()),
        ("Insert", insert()),
        ("Update", update()),
        ("Delete", delete()),
        ("Truncate", truncate()),
        ("Message", message()),
        ("Change", one_of(["Insert", "Update", "Delete", "Truncate", "Message"].map(named).to_vec())),
    ]
}

fn cursor() -> Value {
    text_of(
        HEX_CURSOR,
        "Everything up to and including this: epoch, commit LSN, index of a change (`ffffffff`: the whole transaction). The \
         order of cursors is that of their text.",
    )
}

fn after() -> Value {
    one_of(vec![named("Cursor"), named("Lsn")])
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time", "description": "ISO 8601, in UTC."})
}

/// Every code with what it means, beside the schema: new ones may come, so it is no enumeration.
fn code() -> Value {
    let mut schema =
        text_of(CODE, "A stable code: docs/reference/errors.md tells why it comes and what mends it.");
    let all = Code::ALL.iter().map(|code| (code.as_str().to_owned(), code.explanation().title.into()));
    schema["x-codes"] = Value::Object(all.collect());
    schema
}

/// A value that is too large can stand in the place of any.
fn row() -> Value {
    let mut schema = any_object("A row: a member for each column, with the value that `to_jsonb` gives.");
    schema["x-too-large"] = named("TooLarge");
    schema
}

fn too_large() -> Value {
    let digest = text_of("^[0-9a-f]{64}$", "SHA-256 of the value's text.");
    let reference = Object::new("Where the value is, and what it is.")
        .has("bytes", count("Bytes of the value's text."))
        .has("sha256", digest)
        .may_have("url", text("Relative to the service; without it this is all that the service has."))
        .end();
    Object::new("In the place of a value that is too large for a frame.").has("$too_large", reference).end()
}

fn field() -> Value {
    Object::new("A field of a composite type.")
        .has("name", text("Its name."))
        .has("type", text("Its type, as SQL names it."))
        .may_have("fields", list(named("Field"), "Of a composite, or an array of composites."))
        .end()
}

fn column() -> Value {
    Object::new("A column, in the order of the table.")
        .has("name", text("Its name."))
        .has("type", text("Its type, as SQL names it."))
        .has("nullable", flag("Whether it may be null."))
        .has("key", flag("Whether it is of the primary key."))
        .may_have("number", count("What stays the same when it is renamed."))
        .may_have("fields", list(named("Field"), "Of a composite, or an array of composites."))
        .end()
}

/// What is told of a table's shape, wherever it is told.
pub(super) fn shape() -> Object {
    Object::of_kind("type", "schema", "Rows of the table have this shape from here on.")
        .has("table", named("TableName"))
        .has("version", count("Counted from 1; 0 in a snapshot: history has not seen a change in it yet."))
        .has("columns", list(named("Column"), "In the order of the table."))
}

/// What every change of a row or table has.
fn of(op: &str, about: &'static str) -> Object {
    authored(Object::of_kind("op", op, about)).has("table", named("TableName"))
}

fn of_row(op: &str, about: &'static str) -> Object {
    let flagged = "Columns whose value is not what `to_jsonb` gives.";
    of(op, about).has("key", nullable(named("Key"))).may_have("flagged", list(text("A column."), flagged))
}

fn authored(change: Object) -> Object {
    change
        .has("seq", count("Its place in the transaction."))
        .has("sub", named("Subscriptions"))
        .may_have("client_id", text("Its author, where the transaction has several."))
        .may_have("metadata", named("Metadata"))
}

fn unchanged() -> Value {
    list(text("A column."), "Columns that the source did not send: their value is as it was.")
}

fn insert() -> Value {
    of_row("insert", "A row that is new, or new to the subscription.")
        .has("data", named("Row"))
        .may_have("moved_from", named("Key"))
        .may_have("unchanged", unchanged())
        .end()
}

fn update() -> Value {
    of_row("update", "A row with the same key as before. Who does not have it takes it as an insert.")
        .has("data", named("Row"))
        .may_have("old", named("Row"))
        .may_have("unchanged", unchanged())
        .end()
}

fn delete() -> Value {
    of_row("delete", "A row that is gone, or no longer passes the subscription's filter.")
        .may_have("old", named("Row"))
        .end()
}

fn truncate() -> Value {
    of("truncate", "All rows of the table are gone.")
        .has("key", json!({"type": "null"}))
        .may_have("cascade", flag("Whether TRUNCATE said CASCADE."))
        .may_have("restart_identity", flag("Whether TRUNCATE said RESTART IDENTITY."))
        .end()
}

fn message() -> Value {
    let data = Object::new("What pg_logical_emit_message was given.")
        .has("prefix", text("Its first argument after the flag."))
        .has("content", text("Text, or `\\x…` where it is none."))
        .end();
    authored(Object::of_kind("op", "message", "A logical message; it has no table.")).has("data", data).end()
}
