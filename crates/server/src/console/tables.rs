//! The tables of the console, and their rows.

use waldelta_console::{Column, Kind, Table, Value};

use crate::config::{Config, Setting, settings};
use crate::human::size;
use crate::metrics::logged;
use crate::status::Status;

const fn column(name: &'static str, kind: Kind, about: &'static str) -> Column {
    Column { name, kind, about }
}

const fn text(name: &'static str, about: &'static str) -> Column {
    column(name, Kind::Text, about)
}

const fn int(name: &'static str, about: &'static str) -> Column {
    column(name, Kind::Int, about)
}

const fn float(name: &'static str, about: &'static str) -> Column {
    column(name, Kind::Float, about)
}

const fn flag(name: &'static str, about: &'static str) -> Column {
    column(name, Kind::Bool, about)
}

/// What is shown of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    Version,
    State,
    Slots,
    Lag,
    Tables,
    Clients,
    Scopes,
    Stats,
    Checks,
    Errors,
    Config,
    Mem,
}

/// In the order in which they are listed; each of [`TABLES`] shows the one at its place.
pub(super) const SHOWS: [Shows; 12] = [
    Shows::Version,
    Shows::State,
    Shows::Slots,
    Shows::Lag,
    Shows::Tables,
    Shows::Clients,
    Shows::Scopes,
    Shows::Stats,
    Shows::Checks,
    Shows::Errors,
    Shows::Config,
    Shows::Mem,
];

pub(super) static TABLES: [Table; 12] = [
    Table {
        name: "version",
        about: "what runs",
        columns: &[text("version", "Version of the service."), text("role", "What this process does.")],
    },
    Table {
        name: "state",
        about: "whether clients are served, and the state of capture",
        columns: &[
            flag("ready", "Whether new clients are served."),
            text("state", "Of capture; null where this process only serves clients."),
            text("name", "The state's name among all named states."),
            text("holder", "Who writes history, where it is another one."),
            text("code", "Code of the failure."),
            text("message", "What failed."),
            text("fix", "How to mend it."),
            int("transactions", "Stored since the start."),
            int("changes", "Stored since the start."),
            int("epoch", "Of history."),
            text("head", "The last cursor that is durable."),
        ],
    },
    Table {
        name: "slots",
        about: "the slot at the source, and what room it has",
        columns: &[
            text("name", "Its name."),
            flag("active", "Whether somebody reads it."),
            text("wal_status", "As PostgreSQL has it."),
            int("retained_bytes", "WAL that it keeps."),
            text("retained", "The same for people."),
            int("safe_wal_bytes", "WAL that may still be written before it can be lost; null: no limit."),
            text("safe_wal", "The same for people."),
            int("wal_bytes_per_second", "WAL that the source writes, over the last minute."),
            int(
                "seconds_until_lost",
                "If nobody reads it; null without a limit, and while nothing is written.",
            ),
            text("verdict", "ok, warning, critical, lost."),
            text("fix", "What mends it."),
        ],
    },
    Table {
        name: "lag",
        about: "where each stage is, from the source to the slot",
        columns: &[
            text("stage", "source, received, decoded, durable, reported."),
            text("lsn", "Where it is in the WAL."),
            int("behind_bytes", "WAL between the stage before and this one."),
            text("behind", "The same for people."),
            float(
                "lag_seconds",
                "Of durable: how old the newest thing is that is known to be durable, while there may be more.",
            ),
        ],
    },
    Table {
        name: "tables",
        about: "tables of which something was stored since the start, or that are not whole",
        columns: &[
            text("name", "Schema and name."),
            int("changes", "Stored since the start."),
            float("changes_per_second", "Over about the last ten seconds."),
            float("changed_seconds", "Since the last of them."),
            text("state", "ok, joining, needs_repair."),
            text("reason", "Why it is not ok, or what the source does not tell of its rows."),
        ],
    },
    Table {
        name: "clients",
        about: "clients that are connected to this process",
        columns: &[
            text("session", "Its id: KILL it."),
            text("client_id", "Empty before it has said."),
            text("subject", "Whose it is, where clients authenticate."),
            text("state", "connecting, hydrating, catching_up, live, closing."),
            text("cursor", "Up to here everything was handed over."),
            text("acked", "What it has acknowledged."),
            int("sent_bytes", "Of frames."),
            text("sent", "The same for people."),
        ],
    },
    Table {
        name: "scopes",
        about: "what is followed: sessions that follow the same share it",
        columns: &[
            text("follows", "The tables, each with its filter."),
            int("sessions", "That follow it."),
            int("held_bytes", "Of frames that are kept ready."),
            text("held", "The same for people."),
        ],
    },
    Table {
        name: "stats",
        about: "the metrics, one value a row",
        columns: &[
            text("metric", "Name; see docs/reference/metrics.md."),
            text("labels", "As name=value, with commas."),
            float("value", "In the unit that its name ends in."),
        ],
    },
    Table {
        name: "checks",
        about: "what is looked at, the worst first, with what mends it",
        columns: &[
            text("of", "What was looked at."),
            text("name", "What was found."),
            text("severity", "critical, warning, info, ok."),
            text("code", "Of the failure."),
            text("message", "What is the case."),
            text("fix", "What mends it."),
        ],
    },
    Table {
        name: "errors",
        about: "the last warnings and errors of the log, newest first",
        columns: &[
            column("at", Kind::Time, "When."),
            text("level", "error, warn."),
            text("code", "Where it has one."),
            text("message", "What the log says."),
        ],
    },
    Table {
        name: "config",
        about: "the settings that are in force, without secrets",
        columns: &[
            text("name", "The setting."),
            text("value", "As in the file."),
            flag("is_default", "Whether it is that."),
        ],
    },
    Table {
        name: "mem",
        about: "memory of this process, and what of it is bounded",
        columns: &[
            text("name", "What takes it."),
            int("bytes", "So much of it."),
            text("size", "The same for people."),
        ],
    },
];

pub(super) fn version(status: &Status) -> Vec<Vec<Value>> {
    vec![vec![status.version.as_str().into(), status.role.as_str().into()]]
}

pub(super) fn state(status: &Status) -> Vec<Vec<Value>> {
    let capture = status.capture.as_ref();
    let writer = status.writer.as_ref();
    let of = |ours: Option<&String>, theirs: Option<&String>| Value::from(ours.or(theirs).cloned());
    vec![vec![
        status.ready.into(),
        capture.map(|capture| capture.state.clone()).into(),
        of(capture.map(|capture| &capture.name), writer.map(|writer| &writer.state)),
        of(
            capture.and_then(|capture| capture.holder.as_ref()),
            writer.and_then(|writer| writer.holder.as_ref()),
        ),
        of(capture.and_then(|capture| capture.code.as_ref()), writer.and_then(|writer| writer.code.as_ref())),
        of(
            capture.and_then(|capture| capture.message.as_ref()),
            writer.and_then(|writer| writer.message.as_ref()),
        ),
        of(capture.and_then(|capture| capture.fix.as_ref()), writer.and_then(|writer| writer.fix.as_ref())),
        capture.map(|capture| capture.transactions).into(),
        capture.map(|capture| capture.changes).into(),
        u64::from(status.history.epoch).into(),
        status.history.head.as_str().into(),
    ]]
}

pub(super) fn slots(status: &Status) -> Vec<Vec<Value>> {
    let row = |slot: &crate::status::SlotStatus| {
        vec![
            slot.name.as_str().into(),
            slot.active.into(),
            slot.wal_status.clone().into(),
            slot.retained_bytes.into(),
            size(slot.retained_bytes).into(),
            slot.safe_wal_bytes.into(),
            slot.safe_wal_bytes.map(size).into(),
            slot.wal_bytes_per_second.into(),
            slot.seconds_until_lost.into(),
            slot.verdict.as_str().into(),
            slot.fix.clone().into(),
        ]
    };
    status.slot.iter().map(row).collect()
}

pub(super) fn lag(status: &Status) -> Vec<Vec<Value>> {
    let Some(capture) = &status.capture else { return Vec::new() };
    let stages = [
        ("source", &capture.source_lsn, None),
        ("received", &capture.received_lsn, Some(capture.receive_lag_bytes)),
        ("decoded", &capture.decoded_lsn, Some(capture.decode_lag_bytes)),
        ("durable", &capture.durable_lsn, Some(capture.store_lag_bytes)),
        ("reported", &capture.reported_lsn, Some(capture.report_lag_bytes)),
    ];
    let row = |(stage, lsn, behind): (&str, &String, Option<u64>)| {
        let seconds = capture.lag_seconds.filter(|_| stage == "durable");
        vec![stage.into(), lsn.as_str().into(), behind.into(), behind.map(size).into(), seconds.into()]
    };
    stages.map(row).to_vec()
}

pub(super) fn tables(status: &Status) -> Vec<Vec<Value>> {
    let state_of = |name: &str| {
        let is = |table: &&crate::status::RepairStatus| table.table == name;
        let repair = status.needs_repair.iter().find(is).map(|table| ("needs_repair", table.reason.clone()));
        repair.or_else(|| status.joining.iter().find(is).map(|table| ("joining", table.reason.clone())))
    };
    let mut rows: Vec<Vec<Value>> = Vec::new();
    for table in &status.tables {
        let (state, reason) = match state_of(&table.table) {
            Some((state, reason)) => (state, Some(reason)),
            None => ("ok", table.warning.clone()),
        };
        rows.push(vec![
            table.table.as_str().into(),
            table.changes.into(),
            table.changes_per_second.into(),
            table.changed_seconds.into(),
            state.into(),
            reason.into(),
        ]);
    }
    let others = status.needs_repair.iter().chain(&status.joining);
    for name in others.map(|table| table.table.as_str()) {
        if let Some((state, reason)) = state_of(name)
            && !status.tables.iter().any(|table| table.table == name)
        {
            rows.push(vec![
                name.into(),
                Value::Int(0),
                Value::Float(0.0),
                Value::Null,
                state.into(),
                reason.into(),
            ]);
        }
    }
    rows
}

pub(super) fn clients(status: &Status) -> Vec<Vec<Value>> {
    let row = |session: &crate::status::SessionStatus| {
        vec![
            session.session.as_str().into(),
            session.client_id.as_str().into(),
            session.subject.clone().into(),
            session.state.as_str().into(),
            session.cursor.as_str().into(),
            session.acked.clone().into(),
            session.sent_bytes.into(),
            size(session.sent_bytes).into(),
        ]
    };
    status.sessions.iter().map(row).collect()
}

pub(super) fn checks(status: &Status) -> Vec<Vec<Value>> {
    let row = |check: &crate::status::Check| {
        vec![
            check.of.as_str().into(),
            check.name.as_str().into(),
            check.severity.as_str().into(),
            check.code.clone().into(),
            check.message.clone().into(),
            check.fix.clone().into(),
        ]
    };
    status.checks.iter().map(row).collect()
}

pub(super) fn errors() -> Vec<Vec<Value>> {
    let row = |problem: logged::Problem| {
        vec![
            Value::Time(problem.at),
            problem.level.into(),
            problem.code.map(|code| code.as_str()).into(),
            problem.message.into(),
        ]
    };
    logged::last().into_iter().rev().map(row).collect()
}

/// The metrics as they are scraped.
pub(super) fn stats(text: &str) -> Vec<Vec<Value>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let row = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').replace('"', "");
        Some(vec![name.into(), labels.into(), value.parse::<f64>().ok().into()])
    };
    lines.filter_map(row).collect()
}

/// What of the metrics is memory.
pub(super) fn mem(stats: &[Vec<Value>]) -> Vec<Vec<Value>> {
    const MEMORY: [(&str, &str); 4] = [
        ("process_resident_memory_bytes", "resident, all of it"),
        (
            "waldelta_history_feed_bytes",
            "the tail of history that is kept for clients (history.feed_bytes_max)",
        ),
        ("waldelta_fanout_frames_held_bytes", "frames that are kept ready"),
        (
            "waldelta_fanout_snapshot_bytes",
            "snapshots that are kept, compressed (server.snapshot_cache_bytes_max)",
        ),
    ];
    let found = MEMORY.iter().filter_map(|(metric, what)| {
        let row = stats.iter().find(|row| row[0] == Value::from(*metric))?;
        let Value::Float(bytes) = row[2] else { return None };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of bytes")]
        let bytes = bytes as u64;
        Some(vec![(*what).into(), bytes.into(), size(bytes).into()])
    });
    found.collect()
}

/// Each setting by its name.
pub(super) fn config(config: &Config) -> Vec<Vec<Value>> {
    let row = |setting: Setting| {
        let value = match setting.value {
            toml::Value::String(text) => text,
            other => other.to_string(),
        };
        vec![setting.name.into(), value.into(), setting.is_default.into()]
    };
    settings(config).into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::status;

    #[test]
    fn every_table_has_as_many_values_as_columns_and_of_their_types() {
        let status = status("streaming", "streaming");
        let metrics = "# HELP a b\nprocess_resident_memory_bytes 12000000\nx{a=\"b\",c=\"d\"} NaN\n";
        let stats_rows = stats(metrics);
        let all = [
            version(&status),
            state(&status),
            slots(&status),
            lag(&status),
            tables(&status),
            clients(&status),
            vec![],
            stats_rows.clone(),
            checks(&status),
            errors(),
            config(&Config::default()),
            mem(&stats_rows),
        ];
        for (table, rows) in TABLES.iter().zip(all) {
            for row in rows {
                assert_eq!(row.len(), table.columns.len(), "{}: {row:?}", table.name);
                for (value, column) in row.iter().zip(table.columns) {
                    let fits = match value {
                        Value::Null => true,
                        Value::Text(_) => column.kind == Kind::Text,
                        Value::Int(_) => column.kind == Kind::Int,
                        Value::Float(_) => column.kind == Kind::Float,
                        Value::Bool(_) => column.kind == Kind::Bool,
                        Value::Time(_) => column.kind == Kind::Time,
                    };
                    assert!(fits, "{}.{}: {value:?}", table.name, column.name);
                }
            }
        }
        let named: Vec<String> = TABLES.iter().map(|table| table.name.to_owned()).collect();
        let shows: Vec<String> = SHOWS.iter().map(|shows| format!("{shows:?}").to_lowercase()).collect();
        assert_eq!(named, shows);
        assert_eq!(mem(&stats_rows)[0][2], Value::from("12.0 MB"));
    }

    #[test]
    fn no_secret_is_shown() {
        let mut ours = Config::default();
        ours.source.url = "postgresql://me:secret@db.example/app?password=secret".into();
        ours.history.url = "host=db password=secret".into();
        ours.notify.webhook_url = "https://hooks.example/secret".into();
        let shown: Vec<String> = config(&ours).iter().map(|row| format!("{row:?}")).collect();
        assert!(shown.iter().all(|row| !row.contains("secret")), "{shown:?}");
        assert!(shown.iter().any(|row| row.contains("postgresql://db.example/…")), "{shown:?}");
    }
}
