//! The named states in which capture waits or stops: what each means, what it costs the clients, and what ends it. Status,
//! metrics and `docs/reference/states.md`, which is made from here, all say the same.
//!
//! It is plain data. Which state a failure is, its code says.

use waldelta_wal::Code;

/// A state in which capture does not stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedState {
    /// Its name.
    pub name: &'static str,
    /// The codes of the failures that lead to it.
    pub codes: &'static [Code],
    /// The faults that it is the answer to, by their ids in `docs/reference/faults.md`.
    pub cases: &'static [&'static str],
    /// What is the case.
    pub meaning: &'static str,
    /// What the clients have of it.
    pub clients: &'static str,
    /// What capture does, with `capture.on_gap = "stop"`.
    pub stop: &'static str,
    /// What it does with `capture.on_gap = "new_epoch"`.
    pub new_epoch: &'static str,
    /// What `waldelta recover` does.
    pub recover: &'static str,
}

/// The state that a failure of this code is.
pub fn named(code: Code) -> Option<&'static NamedState> {
    ALL.iter().find(|state| state.codes.contains(&code))
}

const GAP_RESET: &str =
    "Served with what is durable. After the new epoch: `reset` with `epoch_changed`, and a fresh snapshot.";
const SERVED: &str = "Served with what is durable; nothing new comes.";
const STOPS: &str = "Stops, and waits for the new epoch that `waldelta recover` begins.";
const STOPS_FOR_A_PERSON: &str = "Stops, and goes on when it is mended.";
const TRIES: &str = "Tries again, with growing pauses.";
const AS_STOP: &str = "The same.";
const NEW_SLOT: &str = "Begins a new epoch with a new slot by itself.";
const RECOVER_NEW_SLOT: &str =
    "Begins a new epoch with a new slot; a gap of all tables tells what lies between.";
const RECOVER_SHOWS: &str = "Shows what has to be done.";
const NOTHING: &str = "Nothing: capture needs nobody.";

/// All of them: those of the slot first, then of the source, then of history, then of the data.
pub const ALL: &[NamedState] = &[
    NamedState {
        name: "slot_missing",
        codes: &[Code::SlotMissing],
        cases: &["A3", "A11", "A14", "V27"],
        meaning: "The slot is gone: dropped, or not brought along by a failover, a restore or an upgrade.",
        clients: GAP_RESET,
        stop: STOPS,
        new_epoch: NEW_SLOT,
        recover: RECOVER_NEW_SLOT,
    },
    NamedState {
        name: "slot_lost",
        codes: &[Code::SlotLost],
        cases: &["A5", "A6", "A30", "V22"],
        meaning: "The server has invalidated the slot: `wal_removed`, `idle_timeout`, `rows_removed` or \
                  `wal_level_insufficient`. It can never be read again.",
        clients: GAP_RESET,
        stop: STOPS,
        new_epoch: "Drops the slot and begins a new epoch with a new one by itself.",
        recover: "Drops the slot and begins a new epoch with a new one; a gap of all tables tells what lies between.",
    },
    NamedState {
        name: "slot_ahead",
        codes: &[Code::SlotAhead],
        cases: &["A4", "A8", "B12", "V4"],
        meaning: "The slot was told more than history holds: it was dropped and created again, somebody else read it or \
                  advanced it, or history was restored from an older backup. What lies between would be skipped.",
        clients: GAP_RESET,
        stop: STOPS,
        new_epoch: "Begins a new epoch where the slot is, by itself.",
        recover: "Begins a new epoch where the slot is; a gap of all tables tells what lies between.",
    },
    NamedState {
        name: "slot_active",
        codes: &[Code::SlotActive],
        cases: &["A7"],
        meaning: "Another connection reads the slot. One of ours that a connection before has left is ended after ten \
                  seconds, because only the holder of the writer's lease comes here; anybody else's is waited for.",
        clients: SERVED,
        stop: "Tries again, and names the process.",
        new_epoch: AS_STOP,
        recover: RECOVER_SHOWS,
    },
    NamedState {
        name: "slot_foreign",
        codes: &[Code::SlotUnusable, Code::SlotWithoutHistory],
        cases: &["A32"],
        meaning: "A slot of this name belongs to another database, plugin or program. It is never touched.",
        clients: SERVED,
        stop: STOPS_FOR_A_PERSON,
        new_epoch: AS_STOP,
        recover: RECOVER_SHOWS,
    },
    NamedState {
        name: "slots_exhausted",
        codes: &[Code::SlotsExhausted],
        cases: &["A15"],
        meaning: "max_replication_slots or max_wal_senders is used up.",
        clients: SERVED,
        stop: TRIES,
        new_epoch: AS_STOP,
        recover: "Fails with the same, and can be run again.",
    },
    NamedState {
        name: "slot_blocked",
        codes: &[Code::SlotBlocked],
        cases: &["A28", "V25"],
        meaning: "A new slot waits for a transaction that stays open. The message names who holds it.",
        clients: SERVED,
        stop: TRIES,
        new_epoch: AS_STOP,
        recover: "Fails with the same, leaves nothing behind, and can be run again.",
    },
    NamedState {
        name: "wal_level",
        codes: &[Code::WalLevel],
        cases: &["A15", "A30"],
        meaning: "The server does not write what a slot needs.",
        clients: SERVED,
        stop: STOPS_FOR_A_PERSON,
        new_epoch: AS_STOP,
        recover: RECOVER_SHOWS,
    },
    NamedState {
        name: "source_changed",
        codes: &[Code::SourceChanged],
        cases: &["A13", "A14", "V27"],
        meaning: "Another cluster (restored from a dump, upgraded), or a database that was dropped and created again. WAL \
                  positions of the two cannot be compared.",
        clients: GAP_RESET,
        stop: STOPS,
        new_epoch: "Begins a new epoch by itself where only the database is another one of the same cluster. Another \
                    cluster can be a wrong URL: that stays a decision.",
        recover: "Begins a new epoch with the source as it is now; a gap of all tables tells what lies between.",
    },
    NamedState {
        name: "source_behind",
        codes: &[Code::SourceBehind],
        cases: &["A9", "V5"],
        meaning: "History holds more than the source has: that was restored from an older backup, or it is another server. A \
                  standby that is still replaying is waited for.",
        clients: GAP_RESET,
        stop: STOPS,
        new_epoch: "Begins a new epoch by itself.",
        recover: "Begins a new epoch with the source as it is now; a gap of all tables tells what lies between.",
    },
    NamedState {
        name: "timeline_changed",
        codes: &[Code::TimelineChanged],
        cases: &["A10", "A11", "A12", "V6"],
        meaning: "The source was promoted or restored, and everything that history holds survived it.",
        clients: "None, where the slot came along and reaches back: sessions go on in the new epoch from where they are. \
                  Else as in `slot_missing`.",
        stop: "Goes on in a new epoch by itself, because nothing is missing, where the slot came along and reaches back; \
               else stops.",
        new_epoch: "Goes on in a new epoch by itself, with a gap where the slot did not come along.",
        recover: "Goes on in a new epoch, with a gap where the slot did not come along.",
    },
    NamedState {
        name: "diverged_timeline",
        codes: &[Code::DivergedTimeline],
        cases: &["A10", "A12", "V6"],
        meaning: "The source was promoted or restored at a place before what history holds. What history has beyond it did \
                  not survive, and clients may have it.",
        clients: "A client at or below the place where the timelines part goes on, where the slot came along; every other \
                  gets `reset` with `epoch_changed`.",
        stop: STOPS,
        new_epoch: "Begins a new epoch where the timelines part, by itself. Not where the source is on an older timeline \
                    than history: an old primary may have come back.",
        recover: "Begins a new epoch where the timelines part, with a gap where the slot did not come along. What did not \
                  survive stays readable in the old epoch.",
    },
    NamedState {
        name: "publication_missing",
        codes: &[Code::PublicationMissing],
        cases: &["A16", "A17", "V9"],
        meaning: "The publication is gone, or was gone when changes were made, which can never be decoded with it.",
        clients: GAP_RESET,
        stop: STOPS,
        new_epoch: "While it is gone, waits for somebody to create it. Then begins a new epoch with a new slot by itself, if \
                    changes were made without it.",
        recover: "While it is gone, shows what has to be done. Then drops the slot and begins a new epoch with a new one.",
    },
    NamedState {
        name: "source_down",
        codes: &[
            Code::SourceUnreachable,
            Code::DatabaseUnreachable,
            Code::DatabaseMissing,
            Code::DatabaseNotReady,
            Code::ConnectionsExhausted,
            Code::StatementTimeout,
            Code::LockTimeout,
            Code::ReplicationProtocol,
        ],
        cases: &["A1", "A2", "A20", "A22", "A26"],
        meaning: "The source cannot be reached, or is busy with itself.",
        clients: SERVED,
        stop: TRIES,
        new_epoch: AS_STOP,
        recover: NOTHING,
    },
    NamedState {
        name: "source_refuses",
        codes: &[
            Code::AuthenticationFailed,
            Code::TlsFailed,
            Code::ReplicationRefused,
            Code::PrivilegeMissing,
            Code::StatementFailed,
            Code::SourceStandby,
            Code::VersionUnsupported,
            Code::SettingsNotPinned,
            Code::PluginMissing,
            Code::PluginBlocked,
        ],
        cases: &["A23", "A24", "A25", "A26", "A33", "V14", "V19"],
        meaning: "The source is there and does not let capture in: password, TLS, rights (REPLICATION), the output \
                  plugin, or because it is a standby of a version before 16.",
        clients: SERVED,
        stop: "Tries again, with growing pauses, where the answer can change by itself; else stops, and goes on when it is \
               mended.",
        new_epoch: AS_STOP,
        recover: RECOVER_SHOWS,
    },
    NamedState {
        name: "standby",
        codes: &[Code::HistoryLeaseHeld, Code::HistoryFenced],
        cases: &["B13", "B14"],
        meaning: "Another instance writes this history. This one serves its own sessions with it, and takes over when the \
                  other ends.",
        clients: "None.",
        stop: "Waits, and takes over.",
        new_epoch: AS_STOP,
        recover: "Fails while another instance writes.",
    },
    NamedState {
        name: "history_down",
        codes: &[
            Code::HistoryUnreachable,
            Code::HistoryStalled,
            Code::HistoryWriteFailed,
            Code::HistoryReadFailed,
        ],
        cases: &["B3", "B9", "B10"],
        meaning: "The history database cannot be reached, takes nothing in, or refuses. The source keeps WAL meanwhile.",
        clients: "Nothing new comes; snapshots and catching up may fail too.",
        stop: "Tries again, with growing pauses, where that can help; else stops, and goes on when it is mended.",
        new_epoch: AS_STOP,
        recover: NOTHING,
    },
    NamedState {
        name: "history_not_begun",
        codes: &[
            Code::HistoryNotBegun,
            Code::BaselineMissing,
            Code::BaselineExists,
            Code::HistoryAlreadyBegun,
        ],
        cases: &[],
        meaning: "Capture was not set up in this history, or not to its end.",
        clients: "There is nothing to serve yet.",
        stop: STOPS_FOR_A_PERSON,
        new_epoch: AS_STOP,
        recover: RECOVER_SHOWS,
    },
    NamedState {
        name: "history_unusable",
        codes: &[
            Code::HistoryServerTooOld,
            Code::HistoryEncoding,
            Code::HistoryMigrationFailed,
            Code::HistorySchemaNewer,
            Code::HistoryOutOfOrder,
            Code::HistoryCorrupt,
        ],
        cases: &["B11", "B12"],
        meaning: "What lies in the history database cannot be gone on with.",
        clients: SERVED,
        stop: STOPS_FOR_A_PERSON,
        new_epoch: AS_STOP,
        recover: RECOVER_SHOWS,
    },
    NamedState {
        name: "other_feed",
        codes: &[Code::OtherFeed],
        cases: &[],
        meaning: "The configuration names another slot or publication than this history is fed by.",
        clients: SERVED,
        stop: STOPS_FOR_A_PERSON,
        new_epoch: AS_STOP,
        recover: RECOVER_SHOWS,
    },
    NamedState {
        name: "wal2json_unfit",
        codes: &[
            Code::Wal2jsonEncoding,
            Code::Wal2jsonRowFilter,
            Code::Wal2jsonPartitionRoot,
            Code::Wal2jsonIdentity,
            Code::Wal2jsonShape,
            Code::Wal2jsonTables,
        ],
        cases: &["V18"],
        meaning: "wal2json would lose something of what is published, or has sent a row that nothing explains.",
        clients: SERVED,
        stop: "Stops, and goes on when it is mended; where only the list of tables is another, goes on by itself.",
        new_epoch: AS_STOP,
        recover: RECOVER_SHOWS,
    },
    NamedState {
        name: "poison",
        codes: &[
            Code::PoisonRow,
            Code::SourceCannotDecode,
            Code::ValueTooLong,
            Code::ValueUnreadable,
            Code::PartitionIdentity,
            Code::WalUnreadable,
        ],
        cases: &["B18", "V15", "V16"],
        meaning: "A change that cannot be stored, or that the source itself cannot decode. It is never left out by itself.",
        clients: SERVED,
        stop: "Stops before it, and goes on when `waldelta skip` orders that it be left out.",
        new_epoch: AS_STOP,
        recover: "Resets the tables that were left incomplete by what was skipped.",
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fmt::Write;

    use super::*;

    #[test]
    fn a_code_is_one_state_and_a_name_is_one_too() {
        let mut codes = HashSet::new();
        let mut names = HashSet::new();
        for state in ALL {
            assert!(names.insert(state.name), "{} twice", state.name);
            assert!(state.codes.iter().all(|code| codes.insert(*code)), "a code of {} twice", state.name);
            assert_eq!(named(state.codes[0]), Some(state));
        }
        assert_eq!(named(Code::ClientTooSlow), None);
    }

    #[test]
    fn every_fault_of_slot_and_topology_is_a_state() {
        for id in 3..=14 {
            let id = format!("A{id}");
            assert!(ALL.iter().any(|state| state.cases.contains(&id.as_str())), "{id} has no state");
        }
    }

    /// `make docs` writes it.
    #[test]
    fn the_reference_page_of_states_is_what_the_code_says() {
        waldelta_testkit::generated("docs/reference/states.md", &page());
    }

    fn page() -> String {
        let mut page = String::from(
            "# States of capture\n\n<!-- Made from crates/capture/src/states.rs by `make docs`. -->\n\n\
             Capture either streams, is paused on the console, or is in one of these states: `waldelta status`, `/v1/status`, the metrics and the log name it,\n\
             with the code of the failure ([errors.md](errors.md)). Sessions are served all the while. *Stop* and *new epoch* are the\n\
             two settings of `capture.on_gap`. The ids are those of [faults.md](faults.md).\n\n\
             A stop is not the end: the process goes on, looks every two seconds whether somebody has begun a new epoch or ordered a\n\
             skip, and now and then whether the source is another one than when it stopped; then it starts again. When it is ended\n\
             in such a state, its exit code is 3.\n",
        );
        for state in ALL {
            let list = |items: Vec<String>| items.join(", ");
            let codes = state.codes.iter().map(|code| {
                let text = code.as_str();
                format!("[{text}](errors.md#{})", text.to_ascii_lowercase())
            });
            let cases = list(state.cases.iter().map(|case| (*case).to_owned()).collect());
            let cases = if cases.is_empty() { "—".to_owned() } else { cases };
            write!(
                page,
                "\n## {}\n\n{}\n\n- **Codes**: {}\n- **Cases**: {cases}\n- **Clients**: {}\n- **Stop**: {}\n- **New epoch**: \
                 {}\n- **`waldelta recover`**: {}\n",
                state.name,
                state.meaning,
                list(codes.collect()),
                state.clients,
                state.stop,
                state.new_epoch,
                state.recover,
            )
            .unwrap();
        }
        page
    }
}
