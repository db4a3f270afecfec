//! The frames that the service sends.

use serde_json::{Value, json};

use super::schema::{Object, count, flag, list, named, nullable, one_of_texts, text, text_of};
use super::values;
use crate::start::Reset;
use crate::wire::Subprotocol;

/// Each frame's `type`, the name of its schema, and the schema.
pub(super) fn frames() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("welcome", "Welcome", welcome()),
        ("schema", "Schema", values::shape().end()),
        ("snapshot_begin", "SnapshotBegin", snapshot_begin()),
        ("rows", "Rows", rows()),
        ("snapshot_end", "SnapshotEnd", snapshot_end()),
        ("tx", "Transaction", transaction()),
        ("live", "Live", live()),
        ("heartbeat", "Heartbeat", heartbeat()),
        ("reset", "Reset", reset()),
        ("goaway", "GoAway", goaway()),
        ("error", "Error", error()),
        ("acked", "Acked", acked()),
        ("access", "Access", access()),
        ("auth_required", "AuthRequired", auth_required()),
        ("authenticated", "Authenticated", authenticated()),
        ("pong", "Pong", pong()),
    ]
}

pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    vec![("CloseReason", close_reason())]
}

fn frame(kind: &'static str, about: &'static str) -> Object {
    Object::of_kind("type", kind, about)
}

fn welcome() -> Value {
    let protocols = [Subprotocol::Json, Subprotocol::Zstd].map(Subprotocol::name);
    let dictionary = Object::new("What packed frames are unpacked with; there where they are spoken.")
        .has("id", count("Its number."))
        .has("url", text("Where it is, relative to the service."))
        .end();
    frame("welcome", "The answer to `hello`.")
        .has("session", text("For people: `waldelta status` shows it."))
        .has("protocol", one_of_texts(&protocols, "What is spoken."))
        .has("epoch", count("The source's history that the head is of."))
        .has("head", named("Cursor"))
        .has("floor", named("Cursor"))
        .has("mode", one_of_texts(&["resume", "snapshot"], "What comes next."))
        .has("heartbeat_ms", count("How often something comes at least."))
        .has("access", fingerprint())
        .may_have("dictionary", dictionary)
        .end()
}

fn snapshot_begin() -> Value {
    let table = Object::new("A table of the snapshot.")
        .has("table", named("TableName"))
        .has("rows_estimate", json!({"type": "integer", "description": "By the source's statistics; -1 where not all of its rows may be seen."}))
        .end();
    frame("snapshot_begin", "Rows of these tables follow, all of them. Its cursor is not to be stored.")
        .has("cursor", named("Cursor"))
        .has("tables", list(table, "The tables of the snapshot."))
        .has("id", text("What to come back with in `snapshot_from`."))
        .has(
            "n",
            count("The number of the first `rows` that comes: not 0 where it goes on from `snapshot_from`."),
        )
        .end()
}

fn rows() -> Value {
    frame("rows", "Rows of a snapshot.")
        .has("table", named("TableName"))
        .has("rows", list(named("Row"), "Some of the table's rows."))
        .has("n", count("The frame's number in its snapshot, from 0."))
        .end()
}

fn snapshot_end() -> Value {
    let table = Object::new("What was sent of a table.")
        .has("table", named("TableName"))
        .has("rows", count("How many rows."))
        .has("checksum", text_of("^[0-9a-f]{16}$", "The sum of the FNV-1a digests of the rows' texts."))
        .end();
    frame("snapshot_end", "The snapshot is whole; its cursor may be stored with its rows.")
        .has("cursor", named("Cursor"))
        .has("consistent_at", named("Cursor"))
        .has("tables", list(table, "What was sent."))
        .end()
}

fn transaction() -> Value {
    frame("tx", "A committed transaction, as far as it concerns the client.")
        .has("cursor", named("Cursor"))
        .has("prev", named("Cursor"))
        .has("lsn", named("Lsn"))
        .has("xid", nullable(count("The transaction's id at the source; null of a message outside of any.")))
        .has("ts", named("Time"))
        .may_have("origin", text("The replication origin, where the source has it from somewhere else."))
        .may_have("client_id", text("Its author."))
        .may_have("metadata", named("Metadata"))
        .has("own", flag("Whether the client is an author."))
        .may_have("part", count("Of a transaction that comes in parts."))
        .has("last", flag("False: more of this transaction follows, to be applied as one."))
        .has("changes", list(named("Change"), "In order."))
        .end()
}

fn live() -> Value {
    frame("live", "Caught up: from here on frames come as transactions commit.")
        .has("cursor", named("Cursor"))
        .end()
}

fn heartbeat() -> Value {
    frame("heartbeat", "Nothing for this client up to here; keep the cursor.")
        .has("cursor", named("Cursor"))
        .has("ts", named("Time"))
        .end()
}

fn reset() -> Value {
    let reasons = [Reset::HistoryPruned, Reset::EpochChanged, Reset::Gap, Reset::PermissionChanged];
    let reasons = reasons.map(Reset::as_str);
    frame("reset", "Drop all rows, or those of these tables, and take the snapshot that follows.")
        .has("reason", one_of_texts(&reasons, "Why."))
        .may_have("tables", list(named("TableName"), "Without: everything, the cursor too."))
        .end()
}

fn goaway() -> Value {
    frame("goaway", "Connect elsewhere after this time; the connection is closed soon.")
        .has("retry_ms", count("How long to wait."))
        .end()
}

fn error() -> Value {
    frame("error", "What the client asked for is refused.")
        .has("code", named("Code"))
        .has("message", text("What is the case."))
        .has("fix", text("What to do about it."))
        .may_have("subscription", text("The subscription that is refused."))
        .has("fatal", flag("Whether the session ends."))
        .end()
}

fn acked() -> Value {
    frame("acked", "The cursor that is kept for the client.").has("cursor", named("Cursor")).end()
}

fn fingerprint() -> Value {
    let about =
        "Names what the client's copy is of: stored beside the cursor, and sent back with it in `hello`.";
    text_of("^[0-9a-f]{16}[0-9a-f.*]{0,576}$", about)
}

fn access() -> Value {
    frame("access", "What the client has is of this fingerprint from here on.")
        .has("access", fingerprint())
        .end()
}

fn auth_required() -> Value {
    frame("auth_required", "The token ends soon: send a fresh one in `auth`.")
        .has("expires_in_ms", count("The connection is closed then."))
        .end()
}

fn authenticated() -> Value {
    frame("authenticated", "The answer to `auth`: the fresh token is the connection's from here on.")
        .may_have("expires_in_ms", count("So long it lasts; without, for ever."))
        .end()
}

fn pong() -> Value {
    frame("pong", "The answer to `ping`.").may_have("n", count("The number of the ping.")).end()
}

fn close_reason() -> Value {
    Object::new("The reason in a WebSocket close frame.")
        .has("code", named("Code"))
        .may_have("retry_ms", count("Come back after this time; there where coming back helps."))
        .end()
}
