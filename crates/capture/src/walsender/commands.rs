//! The commands of the replication protocol (PostgreSQL documentation, "Streaming Replication Protocol"), and the
//! questions that only a replication connection can answer about itself.

use std::time::Duration;

use waldelta_source::Plugin;
use waldelta_wal::{EndLsn, Lsn};

use super::connection::{Connection, CopyBoth, Row};
use super::error::Error;

/// What IDENTIFY_SYSTEM says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct System {
    /// `system_identifier` of the cluster.
    pub(crate) system_id: u64,
    /// Timeline.
    pub(crate) timeline: u32,
}

/// A slot that was just created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CreatedSlot {
    /// Transactions that commit at or after it are streamed.
    pub(crate) consistent_point: EndLsn,
    /// Name of the snapshot that shows exactly what committed before. It lives until this connection's next command.
    pub(crate) snapshot: String,
}

/// Values whose text depends on each of the settings that are pinned, and what they must read.
const PROBES: &[(&str, &str)] = &[
    ("timestamptz '2026-02-03 04:05:06.789+00'", "2026-02-03 04:05:06.789+00"),
    ("interval '1 year 2 mons 3 days 04:05:06'", "1 year 2 mons 3 days 04:05:06"),
    ("float8 '0.1' + float8 '0.2'", "0.30000000000000004"),
    (r"bytea '\x00ff'", r"\x00ff"),
];

/// SQLSTATE of a file that is not there.
const UNDEFINED_FILE: &str = "58P01";
/// SQLSTATE where a slot is to be created and the server does not write what it needs.
const NOT_IN_PREREQUISITE_STATE: &str = "55000";
/// SQLSTATEs of an option that is not known, or not to be had here.
const NOT_OFFERED: [&str; 3] = ["0A000", "22023", "42601"];

impl Connection {
    /// Asks who the server is.
    pub(crate) fn identify_system(&mut self) -> Result<System, Error> {
        let what = "identify the system";
        let rows = self.query(what, "IDENTIFY_SYSTEM")?;
        let parsed = rows.first().and_then(|row| {
            Some(System { system_id: column(row, 0)?.parse().ok()?, timeline: column(row, 1)?.parse().ok()? })
        });
        parsed.ok_or(Error::Unexpected { what })
    }

    /// The history file of a timeline; `None` where the server has none.
    pub(crate) fn timeline_history(&mut self, timeline: u32) -> Result<Option<String>, Error> {
        let what = "read the history of the timeline";
        // The first timeline has no ancestors, and no file.
        if timeline <= 1 {
            return Ok(None);
        }
        match self.query(what, &format!("TIMELINE_HISTORY {timeline}")) {
            Ok(rows) => {
                let content = rows.first().and_then(|row| column(row, 1));
                content.map(|content| Some(content.to_owned())).ok_or(Error::Unexpected { what })
            }
            Err(Error::Refused { source, .. }) if source.is(UNDEFINED_FILE) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates the slot and exports the snapshot that goes with it. It waits for every transaction that is open now.
    ///
    /// With `failover`, which version 17 and newer know, standbys are asked to keep the slot too, so that it is there after a
    /// failover; where the server refuses that, it is made without.
    pub(crate) fn create_slot(
        &mut self,
        slot: &str,
        plugin: Plugin,
        failover: bool,
    ) -> Result<CreatedSlot, Error> {
        let what = "create the replication slot";
        let create = format!("CREATE_REPLICATION_SLOT {} LOGICAL {plugin}", identifier(slot));
        // The form without parentheses is understood by every version.
        let plain = format!("{create} EXPORT_SNAPSHOT");
        let created = match failover {
            false => self.query(what, &plain),
            true => match self.query(what, &format!("{create} (SNAPSHOT 'export', FAILOVER true)")) {
                Err(Error::Refused { source, .. }) if NOT_OFFERED.iter().any(|state| source.is(state)) => {
                    tracing::info!(slot, refusal = %source, "standbys will not keep the slot");
                    self.query(what, &plain)
                }
                created => created,
            },
        };
        let rows = created.map_err(|error| match (error, plugin) {
            (Error::Refused { source, .. }, _) if source.is(NOT_IN_PREREQUISITE_STATE) => {
                Error::WalLevel(source)
            }
            (error, Plugin::Pgoutput) => error,
            (error, Plugin::Wal2json) => error.of_plugin(),
        })?;
        let parsed = rows.first().and_then(|row| {
            Some(CreatedSlot {
                consistent_point: EndLsn(column(row, 1)?.parse::<Lsn>().ok()?),
                snapshot: column(row, 2)?.to_owned(),
            })
        });
        parsed.ok_or(Error::Unexpected { what })
    }

    /// Makes a copy of a slot that lives as long as this connection. Its name, and up to where everything was confirmed.
    pub(crate) fn copy_slot(&mut self, slot: &str) -> Result<(String, EndLsn), Error> {
        let what = "copy the replication slot";
        let copy = format!("waldelta_copy_{}", self.backend_pid());
        let sql = format!(
            "SELECT lsn FROM pg_catalog.pg_copy_logical_replication_slot({}, {}, true)",
            literal(slot),
            literal(&copy)
        );
        let rows = self.query(what, &sql)?;
        let from = rows.first().and_then(|row| column(row, 0)?.parse::<Lsn>().ok());
        Ok((copy, EndLsn(from.ok_or(Error::Unexpected { what })?)))
    }

    /// Drops the slot.
    pub(crate) fn drop_slot(&mut self, slot: &str) -> Result<(), Error> {
        self.query("drop the replication slot", &format!("DROP_REPLICATION_SLOT {}", identifier(slot)))?;
        Ok(())
    }

    /// The server gives up on a walsender's client that says nothing for this long; `None`: never.
    pub(crate) fn wal_sender_timeout(&mut self) -> Result<Option<Duration>, Error> {
        let what = "read wal_sender_timeout";
        let rows =
            self.query(what, "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'")?;
        let ms: u64 =
            rows.first().and_then(|row| column(row, 0)?.parse().ok()).ok_or(Error::Unexpected { what })?;
        Ok((ms > 0).then(|| Duration::from_millis(ms)))
    }

    /// Checks that values print as they must: settings of the role or database could say otherwise.
    pub(crate) fn check_pinned(&mut self) -> Result<(), Error> {
        let what = "probe how values print";
        let encoding = ("pg_catalog.current_setting('client_encoding')", self.encoding.name());
        let probes = || PROBES.iter().chain([&encoding]);
        let values: Vec<String> = probes().map(|(value, _)| format!("({value})::text")).collect();
        let rows = self.query(what, &format!("SELECT {}", values.join(", ")))?;
        let row = rows.first().ok_or(Error::Unexpected { what })?;
        for (index, &(_, expected)) in probes().enumerate() {
            let found = column(row, index).ok_or(Error::Unexpected { what })?;
            if found != expected {
                return Err(Error::NotPinned { found: found.to_owned(), expected });
            }
        }
        Ok(())
    }

    /// Begins to stream what the slot has for the publication, from transactions that commit at or after `from`.
    pub(crate) fn start_replication(
        self,
        slot: &str,
        publication: &str,
        from: EndLsn,
    ) -> Result<CopyBoth, Error> {
        let command = format!(
            "START_REPLICATION SLOT {} LOGICAL {from} (proto_version '1', publication_names {}, messages 'true')",
            identifier(slot),
            // A list of identifiers inside a literal.
            literal(&identifier(publication)),
        );
        self.copy_both("start the replication", &command)
    }
}

fn column(row: &Row, index: usize) -> Option<&str> {
    row.get(index)?.as_deref()
}

/// Quotes an identifier, always: the replication grammar has other reserved words than SQL.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a literal of the replication grammar, in which a backslash means itself.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_inside_and_out() {
        assert_eq!(identifier(r#"a"b"#), r#""a""b""#);
        assert_eq!(literal(&identifier(r#"it's "x", y\z"#)), r#"'"it''s ""x"", y\z"'"#);
    }
}
