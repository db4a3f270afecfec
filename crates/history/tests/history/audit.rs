//! The audit: what is written stays as it is written.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use waldelta_history::{AuditAction, AuditEntry, History, NewEpoch};
use waldelta_testkit::TestDatabase;
use waldelta_wal::{Code, Epoch, Lsn, Skip};

use crate::support::*;

/// Action, subject, client, address and detail of all entries.
const ALL_ENTRIES: &str = "SELECT coalesce(string_agg(concat_ws(' ', action, coalesce(subject, '-'), coalesce(client_id, '-'), \
    coalesce(host(address), '-'), detail), E'\\n' ORDER BY id), '') FROM waldelta.audit";

async fn first_row(database: &TestDatabase, sql: &str) -> Vec<String> {
    let row = database.query(sql).await.remove(0);
    row.into_iter().map(Option::unwrap_or_default).collect()
}

#[tokio::test]
async fn entries_say_what_happened_and_who_it_was() {
    let database = TestDatabase::create("history_audit").await;
    let history = History::open(&config(&database)).await.unwrap();
    let home = IpAddr::from([192, 0, 2, 1]);
    let session = AuditAction::SessionBegan { session: Some("s-1".into()), transport: "websocket" };
    let refused = AuditAction::SessionRefused { code: Code::TokenInvalid, count: 7 };
    let read = AuditAction::RowHistoryRead {
        table: "public.orders".into(),
        read: "versions",
        count: 3,
        cursor: Some(whole(START)),
    };
    let reloaded =
        AuditAction::ConfigReloaded { changed: vec!["rules"], waiting: vec!["source.slot".into()] };
    let token = AuditAction::TokenCreated { token: "t1".into(), is_admin: true };
    history
        .audit(&[
            AuditEntry::new(session).by("anna").of_issuer("https://i").client("web-7").from(home),
            // An address of IPv4 that came through a socket of IPv6 is one of IPv4.
            AuditEntry::new(refused).from("::ffff:192.0.2.1".parse().unwrap()),
            AuditEntry::new(read).by("anna").of_issuer(""),
            AuditEntry::new(reloaded),
            AuditEntry::new(token).by("ben"),
        ])
        .await
        .unwrap();
    history.audit(&[]).await.unwrap();
    let entries = database.query_text(ALL_ENTRIES).await;
    assert_eq!(
        entries.lines().collect::<Vec<_>>(),
        [
            r#"session_began anna web-7 192.0.2.1 {"issuer": "https://i", "session": "s-1", "transport": "websocket"}"#,
            r#"session_refused - - 192.0.2.1 {"code": "WD-TOKEN-INVALID", "count": 7}"#,
            r#"row_history_read anna - - {"read": "versions", "count": 3, "table": "public.orders", "cursor": "00000001-0000000000001000-ffffffff"}"#,
            r#"config_reloaded - - - {"changed": ["rules"], "waiting": ["source.slot"]}"#,
            r#"token_created ben - - {"token": "t1", "is_admin": true}"#,
        ]
    );
    let written_by = "SELECT count(*) FROM waldelta.audit WHERE written_by = current_user";
    assert_eq!(database.query_text(written_by).await, "5");
}

#[tokio::test]
async fn what_is_written_is_neither_changed_nor_removed() {
    let database = TestDatabase::create("history_audit_kept").await;
    let history = History::open(&config(&database)).await.unwrap();
    let entry = || AuditEntry::new(AuditAction::TokenRevoked { token: None }).by("anna");
    history.audit(&[entry()]).await.unwrap();
    let before = database.query_text(ALL_ENTRIES).await;
    for forbidden in [
        "UPDATE waldelta.audit SET subject = 'nobody'",
        "DELETE FROM waldelta.audit",
        "DELETE FROM waldelta.audit WHERE false",
        "TRUNCATE waldelta.audit",
        "SET session_replication_role = replica; DELETE FROM waldelta.audit",
        "INSERT INTO waldelta.audit (id, action) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET action = 'y'",
    ] {
        let refused = database.client().await.batch_execute(forbidden).await;
        assert!(refused.is_err(), "{forbidden}");
        assert_eq!(database.query_text(ALL_ENTRIES).await, before, "{forbidden}");
    }
    history.audit(&[entry()]).await.unwrap();
    assert_eq!(database.query_text("SELECT count(*) FROM waldelta.audit").await, "2");
    // Whoever drops history means it.
    history.drop_everything().await.unwrap();
    let left = "SELECT count(*) FROM pg_proc WHERE proname = 'refuse_audit_change'";
    assert_eq!(database.query_text(left).await, "0");
}

/// The clock is the database's, and what waited is told with when it happened.
#[tokio::test]
async fn what_waited_happened_when_it_happened() {
    let database = TestDatabase::create("history_audit_time").await;
    let history = History::open(&config(&database)).await.unwrap();
    let entry = || AuditEntry::new(AuditAction::TokenRevoked { token: None });
    let hour = Duration::from_secs(3_600);
    let earlier = Instant::now().checked_sub(hour).unwrap();
    history.audit(&[entry().by("now"), entry().at(earlier).by("earlier")]).await.unwrap();
    let apart = "SELECT extract(epoch FROM max(at) - min(at))::int BETWEEN 3590 AND 3610,
        (SELECT subject FROM waldelta.audit ORDER BY at LIMIT 1),
        max(at) BETWEEN clock_timestamp() - interval '5 minutes' AND clock_timestamp() FROM waldelta.audit";
    assert_eq!(first_row(&database, apart).await, ["t", "earlier", "t"]);
}

/// Nothing that a client calls itself keeps an entry, or those beside it, from being written.
#[tokio::test]
async fn no_name_is_too_strange() {
    let database = TestDatabase::create_in_encoding("history_audit_latin", "LATIN1").await;
    let history = History::open(&config(&database)).await.unwrap();
    let entry =
        || AuditEntry::new(AuditAction::TablesAdded { tables: vec!["public.\"schätzung→\\\"".into()] });
    history.audit(&[entry().by("→\0"), entry().client("x".repeat(5_000)), entry().by("anna")]).await.unwrap();
    let read = "SELECT min(length(client_id))::text, count(*)::text, min(subject), \
        min(detail -> 'tables' ->> 0) FROM waldelta.audit";
    assert_eq!(
        first_row(&database, read).await,
        ["1000", "3", r"\u{2192}\u{fffd}", r#"public."sch\u{e4}tzung\u{2192}\""#]
    );
}

/// What changes history and what says so are one SQL transaction.
#[tokio::test]
async fn an_operators_order_is_written_with_what_it_does() {
    let database = TestDatabase::create("history_audit_orders").await;
    let (history, writer) = written(&database).await;
    let skip = |lsn| Skip { lsn: Lsn(lsn), seq: Some(2), by: "anna".into(), why: "a secret".into() };
    history.order_skip(&skip(START - 1)).await.unwrap_err();
    assert_eq!(database.query_text(ALL_ENTRIES).await, "", "nothing was ordered");
    history.order_skip(&skip(START + 10)).await.unwrap();
    let new = NewEpoch {
        captured: captured(),
        start: end(START + 5),
        fork: None,
        reason: "test".into(),
        continues: false,
        fingerprints: Vec::new(),
    };
    let head = writer.begin_epoch(new).await.unwrap();
    assert_ne!(head.epoch, Epoch(1));
    let entries = database.query_text(ALL_ENTRIES).await;
    let entries: Vec<_> = entries.lines().collect();
    assert_eq!(entries[0], r#"skipped anna - - {"lsn": "0/100A", "seq": 2}"#);
    assert!(entries[1].starts_with("recovered test - - {"), "{}", entries[1]);
    assert!(entries[1].contains(r#""epoch_before": 1"#) && entries[1].contains(r#""continues": false"#));
    assert_eq!(entries.len(), 2);
    // Where the entry cannot be written, nothing is done either.
    database
        .exec("ALTER TABLE waldelta.audit ADD CONSTRAINT none CHECK (action <> 'skipped') NOT VALID")
        .await;
    history.order_skip(&skip(START + 20)).await.unwrap_err();
    assert_eq!(history.skips().await.unwrap(), []);
}
