//! The list of checks, as the reference page has it. A check that is not in it, or has another code, is a defect.

use waldelta_wal::Code;

use super::{Check, State};

/// What one check is about.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// What it looks at.
    pub looks_at: &'static str,
    /// The codes that it ends with, unless all is well or the question could not be answered.
    pub codes: &'static [Code],
}

const fn kind(name: &'static str, looks_at: &'static str, codes: &'static [Code]) -> Kind {
    Kind { name, looks_at, codes }
}

/// Every check of the source, in the order in which they are made.
pub const LIST: &[Kind] = &[
    kind(
        "reachable",
        "Whether the source answers, and how well the connection to it is protected.",
        &[
            Code::TlsWeak,
            Code::SourceUnreachable,
            Code::TlsFailed,
            Code::ConfigInvalid,
            Code::AuthenticationFailed,
            Code::DatabaseMissing,
            Code::DatabaseNotReady,
            Code::ConnectionsExhausted,
        ],
    ),
    kind(
        "pooler",
        "Whether the address looks like a connection pooler's. Left out where it does not.",
        &[Code::PoolerAddress],
    ),
    kind(
        "version",
        "Whether the server is PostgreSQL 14 or newer, and no minor version that is known to lose changes.",
        &[Code::VersionUnsupported, Code::VersionFaulty],
    ),
    kind(
        "primary",
        "Whether the server is a primary; or a standby of PostgreSQL 16 or newer whose primary is named (`source.primary_url`) and answers.",
        &[Code::SourceStandby, Code::StandbyFeedback, Code::VersionUnsupported],
    ),
    kind("encoding", "The database's encoding. Every one is captured.", &[]),
    kind(
        "wal_level",
        "Whether `wal_level` is logical, and whether that only waits for a restart.",
        &[Code::WalLevel],
    ),
    kind(
        "timeouts",
        "`wal_sender_timeout`; and which timeouts of the role or database are set, all of which Waldelta sets for itself.",
        &[Code::SenderTimeout],
    ),
    kind(
        "clock",
        "Whether the server's clock agrees with that of this machine within 5 seconds.",
        &[Code::ClockSkew],
    ),
    kind(
        "role",
        "Whether the role may replicate; and whether it is a superuser or owns the publication, which it need not.",
        &[Code::PrivilegeMissing],
    ),
    kind(
        "publication",
        "Whether the publication exists, has the canary, publishes every operation, and none of Waldelta's own tables.",
        &[Code::PublicationMissing, Code::PublicationIncomplete, Code::PublishesItself],
    ),
    kind(
        "tables",
        "How many tables are published, and which tables and columns never are: unlogged and foreign tables, generated columns.",
        &[],
    ),
    kind(
        "plugin",
        "With wal2json: whether the server has the output plugin and lets it be used.",
        &[Code::PluginMissing, Code::PluginBlocked, Code::PrivilegeMissing],
    ),
    kind(
        "wal2json",
        "With wal2json: what of the publication it cannot tell.",
        &[
            Code::Wal2jsonEncoding,
            Code::Wal2jsonRowFilter,
            Code::Wal2jsonPartitionRoot,
            Code::Wal2jsonIdentity,
        ],
    ),
    kind(
        "identities",
        "Whether every published table has a replica identity, so that the application's UPDATE and DELETE work and say which row they are about.",
        &[Code::ReplicaIdentityMissing, Code::ReplicaIdentityMixed],
    ),
    kind(
        "select",
        "Whether the role may read every published table, for snapshots.",
        &[Code::PrivilegeMissing],
    ),
    kind("row_security", "Whether row-level security hides rows from snapshots.", &[Code::RowSecurity]),
    kind("canary", "Whether the role may update `waldelta.canary`.", &[Code::CanaryUnusable]),
    kind(
        "ddl",
        "Whether the event triggers are there that tell of DDL which changes rows, and fire.",
        &[Code::DdlUntold],
    ),
    kind(
        "slot",
        "Whether the slot exists, is ours and has not lost WAL; and who reads it.",
        &[Code::SlotMissing, Code::SlotUnusable, Code::SlotLost],
    ),
    kind(
        "retained_wal",
        "How much WAL the slot retains, and how near it is to losing some.",
        &[Code::SlotRetention, Code::SlotLost, Code::SlotMissing],
    ),
    kind("wal_limit", "Whether `max_slot_wal_keep_size` limits what slots retain.", &[Code::SlotUnlimited]),
    kind(
        "idle_timeout",
        "Whether `idle_replication_slot_timeout` (PostgreSQL 18) gives slots up.",
        &[Code::SlotIdleTimeout],
    ),
    kind("capacity", "Whether a slot and a WAL sender are left.", &[Code::SlotsExhausted]),
    kind(
        "transactions",
        "Transactions that have been open for more than 10 minutes.",
        &[Code::LongTransaction, Code::PrivilegeMissing],
    ),
    kind("prepared", "Prepared transactions older than that.", &[Code::PreparedTransaction]),
    kind(
        "synchronous",
        "Whether `synchronous_standby_names` takes Waldelta for a standby that commits wait for.",
        &[Code::SynchronousStandby],
    ),
    kind(
        "failover",
        "Where there are standbys (PostgreSQL 17): whether the slot follows a failover, and never gets ahead of them.",
        &[Code::SlotNotFailover, Code::StandbySlotsUnset, Code::SlotMissing],
    ),
];

/// Whether a check is as its list says. What could not be asked can have any code.
pub fn is_listed(check: &Check, list: &[Kind]) -> bool {
    list.iter().any(|kind| {
        kind.name == check.name
            && match (check.state, check.code) {
                (State::Ok, code) => code.is_none(),
                (State::Unknown, code) => code.is_some(),
                (_, code) => code.is_some_and(|code| kind.codes.contains(&code)),
            }
    })
}
