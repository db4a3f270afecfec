//! What an operator is answered: the status of the service, and the clients that it knows. The server makes these; a test there holds
//! them to this.

use serde_json::{Value, json};

use super::schema::{Object, count, flag, list, named, nullable, one_of_texts, text};

pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    vec![
        ("Status", status()),
        ("CaptureStatus", capture_status()),
        ("WriterStatus", writer_status()),
        ("RepairStatus", repair_status()),
        ("SlotStatus", slot_status()),
        ("TableStatus", table_status()),
        ("Check", check()),
        ("Recent", recent()),
        ("SessionStatus", session_status()),
        ("Clients", clients()),
    ]
}

fn maybe_text(about: &str) -> Value {
    json!({"type": ["string", "null"], "description": about})
}

fn maybe_count(about: &str) -> Value {
    json!({"type": ["integer", "null"], "minimum": 0, "description": about})
}

fn seconds(about: &str) -> Value {
    json!({"type": ["number", "null"], "description": about})
}

fn status() -> Value {
    let history = Object::new("What is durable.")
        .has("epoch", count("Its epoch."))
        .has("head", text("The head."))
        .has("retained", nullable(retained_status()))
        .has("sealed", nullable(sealed_status()));
    Object::new("What the service says of itself.")
        .has("version", text("Of the service."))
        .has("role", one_of_texts(&["all", "capture", "fanout"], "What this process does of the service."))
        .has("ready", flag("Whether new clients are served with current data."))
        .has("capture", nullable(named("CaptureStatus")))
        .has("writer", nullable(named("WriterStatus")))
        .has(
            "needs_repair",
            list(named("RepairStatus"), "Tables whose rows changed in a way that no change tells."),
        )
        .has("joining", list(named("RepairStatus"), "Tables that are being added."))
        .has("history", history.end())
        .has("config", config_status())
        .has("slot", nullable(named("SlotStatus")))
        .has("tables", list(named("TableStatus"), "The tables of which something was stored since the start, by name; of very many those that changed first."))
        .has("checks", list(named("Check"), "What is looked at, the worst first."))
        .has("sessions", list(named("SessionStatus"), "Connected clients."))
        .end()
}

fn capture_status() -> Value {
    Object::new("Capture, from the source to history.")
        .has("state", text("`starting`, `streaming`, `standby`, `paused`, `reconnecting`, `stopped`."))
        .has("name", text("Its name among all named states: docs/reference/states.md."))
        .has("holder", maybe_text("The instance that writes history, while this one stands by."))
        .has("code", nullable(named("Code")))
        .has("message", maybe_text("What failed."))
        .has("fix", maybe_text("How to mend it."))
        .has("commits_wait", flag("Whether commits at the source wait for capture."))
        .has("source_lsn", named("Lsn"))
        .has("received_lsn", named("Lsn"))
        .has("decoded_lsn", named("Lsn"))
        .has("durable_lsn", named("Lsn"))
        .has("reported_lsn", named("Lsn"))
        .has("lag_bytes", count("WAL that may hold changes which are not durable."))
        .has("receive_lag_bytes", count("From the source's end to what was received."))
        .has("decode_lag_bytes", count("From there to what was taken apart, in whole transactions."))
        .has("store_lag_bytes", count("From there to what is durable."))
        .has("report_lag_bytes", count("From what is durable to what the slot was told."))
        .has("lag_seconds", seconds("Age of the newest thing known to be durable, while there may be more."))
        .has("transactions", count("Stored since the start."))
        .has("changes", count("Stored since the start."))
        .end()
}

fn retained_status() -> Value {
    Object::new("How much of history there is, as of the last sweep; null where another process writes.")
        .has("retain", text("How much is to be kept: `off`, a time, a size."))
        .has("floor", text("The oldest cursor that can be resumed."))
        .has("floor_age_seconds", seconds("How long ago what follows it was stored, at most."))
        .has("partitions", count("Of change_history."))
        .has("bytes", count("Of them, with indexes."))
        .has("held_for_clients", flag("Something is kept for longer because a client has yet to read it."))
        .has(
            "not_shown",
            flag("Something is there only because the source does not show it yet, or could not be asked."),
        )
        .has("busy", flag("Something is there only because a reader was in the way of removing it."))
        .end()
}

fn sealed_status() -> Value {
    Object::new("The newest seal of history; null where this process does not seal.")
        .has("seal", text("Its name, to be noted elsewhere."))
        .has("upto", text("The last position in it."))
        .has("at_us", count("When it was made, in microseconds since 1970."))
        .end()
}

fn config_status() -> Value {
    let rule = Object::new("A rule that does not fit a table: whom it is for sees nothing of it.")
        .has("rule", count("Its number in the file, from 1."))
        .has("table", named("TableName"))
        .has("code", named("Code"))
        .has("message", text("What does not fit."))
        .has("fix", maybe_text("The statement that mends it, where there is one."));
    Object::new("The configuration that is in force.")
        .has("read_seconds", seconds("How long ago it was read."))
        .has("code", nullable(named("Code")))
        .has("message", maybe_text("Why the file was not taken when it was last read again."))
        .has("waiting", list(text("A setting."), "Settings that differ in the file and wait for a restart."))
        .has("rules", list(rule.end(), "Rules that do not fit."))
        .end()
}

fn repair_status() -> Value {
    Object::new("A table whose changes do not add up to its rows.")
        .has("table", named("TableName"))
        .has("reason", text("Such as `rewritten`."))
        .has("explanation", text("The same in a sentence."))
        .has("waits_for", maybe_text("What a table that is being added waits for."))
        .has("since_lsn", named("Lsn"))
        .has("since_seconds", seconds("Since it was noticed."))
        .end()
}

fn slot_status() -> Value {
    Object::new("The slot at the source.")
        .has("name", text("Its name."))
        .has("active", flag("Whether somebody reads it."))
        .has("wal_status", maybe_text("As pg_replication_slots has it."))
        .has("retained_bytes", count("WAL that it retains."))
        .has("safe_wal_bytes", maybe_count("WAL that may still be written; null: no limit."))
        .has("wal_bytes_per_second", maybe_count("What the source writes."))
        .has("seconds_until_lost", maybe_count("If nobody reads it."))
        .has("verdict", one_of_texts(&["ok", "warning", "critical", "lost"], "What is to be made of that."))
        .has("fix", maybe_text("What mends it."))
        .has("invalidation", maybe_text("Why it can never be used again."))
        .end()
}

fn recent() -> Value {
    let sample = Object::new("The numbers of one moment.")
        .has("at_ms", count("Milliseconds since 1970."))
        .has("lag_seconds", seconds("As in the status."))
        .has(
            "delivery_p99_seconds",
            seconds("From the commit to the socket, of what was written since the sample before."),
        )
        .has("retained_bytes", seconds("WAL that the slot keeps."))
        .has("limit_bytes", seconds("WAL at which it can be lost; null: no limit."))
        .has("changes", seconds("Stored since the start; null where this process does not capture."))
        .has("sessions", count("Clients that are connected to this process."))
        .end();
    Object::new("What some numbers were over the last hour.")
        .has("step_seconds", count("Between two samples."))
        .has("samples", list(sample, "Oldest first."))
        .end()
}

fn check() -> Value {
    Object::new("One thing that is looked at, and what was found.")
        .has("of", text("`capture`, `writer`, `slot`, `lag`, `table`, `config`."))
        .has("name", text("Of capture and who writes the name of the state, of the slot its verdict, of a table the table."))
        .has("severity", text("`critical`, `warning`, `info`, `ok`."))
        .has("code", nullable(named("Code")))
        .has("message", maybe_text("What is the case."))
        .has("fix", maybe_text("What mends it."))
        .end()
}

fn table_status() -> Value {
    Object::new("What was stored of a table since the start.")
        .has("table", named("TableName"))
        .has("changes", count("Of it."))
        .has("changes_per_second", seconds("Changes a second, over about the last ten seconds."))
        .has("changed_seconds", seconds("Since the last of them."))
        .has("warning", maybe_text("What the source does not tell of its rows."))
        .end()
}

fn session_status() -> Value {
    Object::new("A connected client.")
        .has("session", text("Its id."))
        .has("client_id", text("Empty before `hello`."))
        .has("subject", maybe_text("Whose client it is, where clients authenticate."))
        .has("state", text("`connecting`, `hydrating`, `catching_up`, `live`, `closing`."))
        .has("cursor", text("Up to here everything was handed over."))
        .has("acked", maybe_text("What the client has acknowledged."))
        .has("sent_bytes", count("Of frames."))
        .end()
}

fn writer_status() -> Value {
    Object::new("Who writes history, as a process knows it that only serves clients.")
        .has("state", text("`writing`, `absent`, `not_begun`, `unknown`."))
        .has("holder", maybe_text("The instance that writes, or the last one that did."))
        .has("silent_seconds", seconds("Since it last renewed its lease."))
        .has("unmoved_seconds", seconds("Since the durable end last moved."))
        .has("code", nullable(named("Code")))
        .has("message", maybe_text("What is wrong."))
        .has("fix", maybe_text("How to mend it."))
        .end()
}

fn clients() -> Value {
    let client = Object::new("A client, connected or not.")
        .has("client_id", text("Its id."))
        .has("subject", maybe_text("Whose client it is, where clients authenticate."))
        .has("connected", flag("To the process that answers."))
        .has("acked", maybe_text("The last cursor that it acknowledged."))
        .has("acked_at", nullable(named("Time")))
        .has("seen_at", named("Time"))
        .has("first_seen_at", named("Time"))
        .has("protocol", maybe_text("What it spoke last: a subprotocol of the WebSocket, or `http`, `sse` or `ndjson` where it asked for changes over HTTP."))
        .has("user_agent", maybe_text("What its program called itself last."))
        .end();
    Object::new("The clients that history knows.").has("clients", list(client, "Newest first.")).end()
}
