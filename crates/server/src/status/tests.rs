//! Statuses to show, and what is said of them in words.

use super::*;
use waldelta_wal::{Table, TableName};

use crate::service::RuleStatus;

/// A status in this state, with a value for everything that can be told.
pub(crate) fn status(state: &str, name: &str) -> Status {
    let table = |table: &str| RepairStatus {
        table: table.into(),
        reason: "rewritten".into(),
        explanation: "all rows were written anew".into(),
        waits_for: None,
        since_lsn: "0/16B3748".into(),
        since_seconds: 3.5,
    };
    Status {
        version: "0".into(),
        role: Role::All,
        ready: true,
        writer: None,
        capture: Some(CaptureStatus {
            state: state.into(),
            name: name.into(),
            holder: None,
            code: None,
            message: None,
            fix: None,
            commits_wait: false,
            source_lsn: "0/20".into(),
            received_lsn: "0/20".into(),
            decoded_lsn: "0/20".into(),
            durable_lsn: "0/14".into(),
            reported_lsn: "0/14".into(),
            lag_bytes: 12,
            receive_lag_bytes: 0,
            decode_lag_bytes: 0,
            store_lag_bytes: 12,
            report_lag_bytes: 0,
            lag_seconds: Some(0.5),
            transactions: 1,
            changes: 2,
        }),
        needs_repair: vec![table("public.t")],
        joining: vec![table("public.n")],
        history: HistoryStatus { epoch: 1, head: "h".into(), retained: None, sealed: None },
        config: ConfigStatus::default(),
        slot: Some(SlotStatus {
            name: "s".into(),
            active: true,
            wal_status: Some("extended".into()),
            retained_bytes: 7,
            safe_wal_bytes: Some(9),
            wal_bytes_per_second: Some(3),
            seconds_until_lost: Some(3_670),
            verdict: "warning".into(),
            fix: Some("raise it".into()),
            invalidation: None,
        }),
        tables: Vec::new(),
        checks: Vec::new(),
        sessions: Vec::new(),
    }
}

/// Who writes, in this state.
pub(crate) fn writer(state: &str, holder: Option<&str>) -> WriterStatus {
    WriterStatus {
        state: state.into(),
        holder: holder.map(str::to_owned),
        silent_seconds: Some(1.0),
        unmoved_seconds: Some(2.0),
        code: None,
        message: None,
        fix: None,
    }
}

#[test]
fn spans_are_told_in_their_two_largest_units() {
    let told = [0, 59, 60, 3_599, 3_600, 86_399, 90_000].map(duration);
    assert_eq!(told, ["0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "23 h 59 min", "1 d 1 h"]);
}

#[test]
fn a_slot_without_a_limit_and_one_that_is_lost_are_told_apart() {
    let mut slot = status("streaming", "streaming").slot.unwrap();
    slot.safe_wal_bytes = None;
    assert_eq!(slot.room(), "retains 7 bytes, no limit on what it may retain");
    slot.invalidation = Some("wal_removed".into());
    assert_eq!(slot.room(), "retains 7 bytes, lost: wal_removed");
}

#[test]
fn a_status_is_as_it_is_described() {
    let described: serde_json::Value = serde_json::from_str(waldelta_fanout::openapi_text()).unwrap();
    let mut full = status("stopped", "slot_missing");
    full.writer = Some(writer("absent", Some("the other")));
    full.history.head = "00000001-00000000016b3748-ffffffff".to_owned();
    full.history.retained = Some(RetainedStatus {
        retain: "30d".into(),
        floor: full.history.head.clone(),
        floor_age_seconds: Some(1.5),
        partitions: 2,
        bytes: 3,
        held_for_clients: true,
        busy: false,
        not_shown: false,
    });
    full.history.sealed =
        Some(SealedStatus { seal: "1.2.ab".into(), upto: full.history.head.clone(), at_us: 4 });
    let line = full.history.retained.as_ref().map(RetainedStatus::line).unwrap();
    assert!(
        line.contains("2 partitions") && line.contains("held for clients") && !line.contains("in the way"),
        "{line}"
    );
    full.sessions.push(SessionStatus {
        session: "s1".into(),
        client_id: "c".into(),
        subject: Some("s".into()),
        state: "live".into(),
        cursor: full.history.head.clone(),
        acked: None,
        sent_bytes: 1,
    });
    full.config.rules.push(RuleStatus {
        rule: 1,
        table: "public.a".into(),
        code: "WD-RULE-MISFIT".into(),
        message: "m".into(),
        fix: None,
    });
    let full = serde_json::to_value(full).unwrap();
    let wrong = waldelta_testkit::json_schema::violations_of(&described, "Status", &full);
    assert_eq!(wrong, [""; 0], "docs/openapi.json is made in waldelta-fanout");
}

/// What one version says another can read: `waldelta status` need not be of the version that runs.
#[test]
fn a_status_survives_its_own_json() {
    let json = serde_json::to_value(status("stopped", "slot_missing")).unwrap();
    let read: Status = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), json);
    assert_eq!(
        (&json["capture"]["state"], &json["capture"]["name"]),
        (&"stopped".into(), &"slot_missing".into())
    );
}

#[test]
fn a_status_of_before_there_were_roles_can_be_read() {
    let mut json = serde_json::to_value(status("streaming", "streaming")).unwrap();
    for new in ["role", "writer"] {
        json.as_object_mut().unwrap().remove(new);
    }
    let read: Status = serde_json::from_value(json).unwrap();
    assert_eq!((read.role, read.capture.unwrap().state.as_str()), (Role::All, "streaming"));
}

#[test]
fn of_a_table_it_is_told_what_the_source_does_not_tell() {
    let warning = |key: &[u16], identity| {
        let table = Table {
            oid: 1,
            version: 1,
            name: TableName { schema: "public".into(), name: "t".into() },
            columns: Vec::new(),
            key: key.to_vec(),
            identity,
        };
        let stored_at = Instant::now();
        let reading = TableReading { table: Arc::new(table), changes: 1, changes_per_second: 0.1, stored_at };
        TableStatus::from(reading).warning
    };
    assert_eq!(warning(&[0], ReplicaIdentity::Default), None);
    assert!(warning(&[], ReplicaIdentity::Full).unwrap().contains("told apart"));
    assert!(warning(&[], ReplicaIdentity::Nothing).unwrap().contains("UPDATE and DELETE fail"));
}

/// One with tables and sessions.
pub(crate) fn busy() -> Status {
    let table = |name: &str, changes| TableStatus {
        table: name.into(),
        changes,
        changes_per_second: 0.5,
        changed_seconds: 2.0,
        warning: None,
    };
    let session = |client_id: &str, state: &str, sent_bytes| SessionStatus {
        session: format!("s-{client_id}"),
        client_id: client_id.into(),
        subject: None,
        state: state.into(),
        cursor: "00000001-00000000016b3748-ffffffff".into(),
        acked: None,
        sent_bytes,
    };
    let status = status("streaming", "streaming");
    let checks = checks::checks(&status, 0.0);
    Status {
        tables: vec![table("public.t", 7), table("public.u", 70_000)],
        sessions: vec![session("web-1", "live", 10), session("web-2", "catching_up", 2_000)],
        checks,
        ..status
    }
}

/// Some samples, the last of which is the greatest.
pub(crate) fn recent() -> RecentReading {
    let recent = Recent::default();
    (0..20).for_each(|at| recent.note(&busy(), 2, "", at * 5_000_000));
    recent.read()
}
