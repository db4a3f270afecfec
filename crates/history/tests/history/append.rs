//! What was appended is there, whole, once, in order.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use waldelta_history::{Entry, Error, Transaction};
use waldelta_testkit::{TestDatabase, wait_until};
use waldelta_wal::{Author, Change, Operation, Position, Table};

use crate::support::*;

/// Changes of every kind, with every field.
fn every_kind(orders: &Arc<Table>) -> Vec<Change> {
    let author = Arc::new(Author { client_id: "web-7".into(), metadata: Some("{\"user\": \"42\"}".into()) });
    vec![
        Change { author: Some(Arc::clone(&author)), ..insert(orders, 0, 1) },
        Change {
            operation: Operation::Update,
            data: Some(Bytes::from_static("{\"id\": 1, \"note\": \"\u{1f99b} \\\" \\n\"}".as_bytes())),
            old_data: Some(Bytes::from_static(b"{\"id\": 1}")),
            unchanged: vec!["big".into(), "a \"quoted\" one".into()],
            flagged: vec!["raw".into()],
            ..insert(orders, 1, 1)
        },
        Change {
            operation: Operation::Delete,
            data: None,
            old_data: Some(Bytes::from_static(b"{\"id\": 1}")),
            ..insert(orders, 2, 1)
        },
        Change { operation: Operation::Truncate, data: None, row_key: None, ..insert(orders, 3, 1) },
        Change {
            operation: Operation::Message,
            table: None,
            row_key: None,
            data: Some(Bytes::from_static(b"{\"prefix\": \"p\", \"content\": \"c\"}")),
            author: Some(Arc::new(Author { client_id: "web-8".into(), metadata: None })),
            ..insert(orders, 4, 1)
        },
    ]
}

#[tokio::test]
async fn every_field_comes_back() {
    let database = TestDatabase::create("history_fields").await;
    let (history, mut writer) = written(&database).await;
    assert_eq!(history.captured().await.unwrap(), Some((captured(), head(START))));
    let orders = writer.number(table(3_000_000_000, "Orders, \"all\"")).table;
    let changes = every_kind(&orders);
    let appended = writer.append(vec![transaction(START, changes.clone())]).await.unwrap();
    assert_eq!(appended, Some(end(START + 1)));
    assert_eq!(writer.head(), head(START + 1));

    let page = read_all(&history, whole(START - 1)).await;
    assert_eq!(page.parts.len(), 1);
    assert_eq!(page.parts[0].head, transaction_head(START));
    assert!(page.parts[0].last);
    assert_eq!(page.parts[0].changes, changes);
    // The feed has the very same, with the bytes that were appended.
    let entries = history.feed().after(whole(START - 1), usize::MAX).unwrap();
    assert_eq!(entries, [Entry::Whole(Arc::new(Transaction { head: transaction_head(START), changes }))]);
    assert_eq!(history.feed().head(), head(START + 1));

    let stored = database
        .query_text(
            "SELECT concat_ws('|', epoch, lsn, seq, table_name, table_oid, operation, row_key, transaction_id, schema_version,
                 timestamp AT TIME ZONE 'UTC', client_id) FROM waldelta.change_history WHERE seq = 0",
        )
        .await;
    let expected = format!(
        "1|0/{START:X}|0|public.\"Orders, \"\"all\"\"\"|3000000000|insert|[1]|{START}|1|2023-11-14 22:13:20.123456|web-7"
    );
    assert_eq!(stored, expected);
    assert_eq!(database.query_text("SELECT count(DISTINCT id) FROM waldelta.change_history").await, "5");
}

/// Which command of its SQL transaction has moved the durable end tells the two ways apart: rows come before it, or with it.
#[tokio::test]
async fn few_rows_are_stored_in_one_statement_as_copy_stores_them() {
    let database = TestDatabase::create("history_short").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(7, "orders")).table;
    let moved_by = async || database.query_text("SELECT cmin FROM waldelta.captures").await;
    let few = every_kind(&orders);
    // The first brings the shape along, and so goes by COPY.
    writer.append(vec![transaction(START, few.clone())]).await.unwrap();
    assert_ne!(moved_by().await, "0");
    writer
        .append(vec![transaction(START + 1, few.clone()), transaction(START + 2, few.clone())])
        .await
        .unwrap();
    assert_eq!(moved_by().await, "0", "they are one statement");
    let page = read_all(&history, whole(START - 1)).await;
    let stored: Vec<_> = page.parts.iter().map(|part| part.changes.clone()).collect();
    assert_eq!(stored, [few.clone(), few.clone(), few]);
    let heads: Vec<_> = page.parts.iter().map(|part| part.head).collect();
    assert_eq!(heads, [START, START + 1, START + 2].map(transaction_head));
    let many = (0..65).map(|seq| insert(&orders, seq, u64::from(seq))).collect();
    writer.append(vec![transaction(START + 3, many)]).await.unwrap();
    assert_ne!(moved_by().await, "0");
}

#[tokio::test]
async fn a_replayed_change_has_the_same_id() {
    let mut ids = Vec::new();
    for _ in 0..2 {
        let database = TestDatabase::create("history_ids").await;
        let (_, mut writer) = written(&database).await;
        let orders = writer.number(table(1, "orders")).table;
        writer.append(vec![transaction(START, vec![insert(&orders, 0, 1)])]).await.unwrap();
        ids.push(database.query_text("SELECT id FROM waldelta.change_history").await);
    }
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_transaction_that_is_included_is_refused_and_the_writer_goes_on() {
    let database = TestDatabase::create("history_order").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    let one = |lsn| transaction(lsn, vec![insert(&orders, 0, lsn)]);
    writer.append(vec![one(START), one(START + 1)]).await.unwrap();
    for again in [START - 5, START, START + 1] {
        let refused = writer.append(vec![one(START + 2), one(again)]).await.unwrap_err();
        assert!(matches!(refused, Error::OutOfOrder { .. }), "{refused:?}");
        assert!(!refused.is_retryable());
    }
    // Exactly at the durable end it is new.
    writer.append(vec![one(START + 2)]).await.unwrap();
    assert_eq!(commit_lsns(&history).await, [START, START + 1, START + 2]);
}

#[tokio::test]
async fn empty_transactions_and_keepalives_move_the_end_and_leave_nothing() {
    let database = TestDatabase::create("history_empty").await;
    let (history, mut writer) = written(&database).await;
    let mut watch = history.feed().watch();
    watch.mark_unchanged();
    assert_eq!(writer.append(vec![transaction(START, Vec::new())]).await.unwrap(), Some(end(START + 1)));
    assert!(watch.has_changed().unwrap());
    assert_eq!(writer.append(Vec::new()).await.unwrap(), None);
    writer.advance(end(START + 100)).await.unwrap();
    // What is included already is not stored, and the end never goes back.
    writer.advance(end(START + 100)).await.unwrap();
    writer.advance(end(START + 50)).await.unwrap();
    assert_eq!(stored_end(&history).await, START + 100);
    assert_eq!(history.feed().head(), head(START + 100));
    assert_eq!(history.feed().after(whole(START - 1), usize::MAX), Ok(Vec::new()));
    assert_eq!(commit_lsns(&history).await, [0; 0]);
    // A change after it follows.
    let orders = writer.number(table(1, "orders")).table;
    writer.append(vec![transaction(START + 100, vec![insert(&orders, 0, 1)])]).await.unwrap();
    assert_eq!(commit_lsns(&history).await, [START + 100]);
}

#[tokio::test]
async fn a_large_transaction_in_pieces_is_one_transaction_and_a_reference_in_the_feed() {
    let database = TestDatabase::create("history_large").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    let changes =
        |seqs: std::ops::Range<u32>| seqs.map(|seq| insert(&orders, seq, seq.into())).collect::<Vec<_>>();
    let (small, large, next) = (START, START + 10, START + 5000);
    // What is whole before it does not wait for it.
    let moved = writer
        .append(vec![transaction(small, changes(0..1)), piece(large, changes(0..700), None)])
        .await
        .unwrap();
    assert_eq!(moved, Some(end(small + 1)));
    assert!(writer.is_in_transaction());
    assert!(matches!(writer.advance(end(large)).await, Err(Error::TransactionOpen)));
    assert_eq!(writer.append(vec![piece(large, changes(700..1400), None)]).await.unwrap(), None);
    assert_eq!(commit_lsns(&history).await, [small]);
    assert_eq!(history.feed().head(), head(small + 1));
    // A table that appears first in the middle of it is stored with it.
    let lines = writer.number(table(2, "lines")).table;
    let author = Arc::new(Author { client_id: "web-7".into(), metadata: None });
    let late = Change { author: Some(Arc::clone(&author)), ..insert(&lines, 1400, 1) };
    let moved = writer
        .append(vec![piece(large, vec![late], Some(large + 1)), transaction(next, changes(0..1))])
        .await
        .unwrap();
    assert_eq!(moved, Some(end(next + 1)));
    assert_eq!(commit_lsns(&history).await, [small, large, next]);
    let page = read_all(&history, whole(small)).await;
    let seqs: Vec<_> = page.parts[0].changes.iter().map(|change| change.seq).collect();
    assert_eq!(seqs, (0..1401).collect::<Vec<_>>());
    let entries = history.feed().after(whole(small), usize::MAX).unwrap();
    let Entry::Large(reference) = &entries[0] else { panic!("{:?}", entries[0]) };
    assert_eq!(reference.head, transaction_head(large));
    // Of all of its pieces, and of none but its own.
    let mut touched = reference.touched.clone().unwrap();
    touched.tables.sort();
    assert_eq!(touched.tables, [lines.name.clone(), orders.name.clone()]);
    assert_eq!(touched.authors, [author]);
    assert_eq!(entries[1].position(), whole(next));
    let appeared = "SELECT lsn || '/' || seq FROM waldelta.table_schemas WHERE table_oid = 2";
    assert_eq!(database.query_text(appeared).await, format!("0/{large:X}/1400"));
}

#[tokio::test]
async fn a_large_transaction_can_end_without_further_changes() {
    let database = TestDatabase::create("history_bare_end").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    writer.append(vec![piece(START, vec![insert(&orders, 0, 1)], None)]).await.unwrap();
    let mut last = piece(START, Vec::new(), Some(START + 10));
    last.first = false;
    writer
        .append(vec![last, transaction(START + PARTITION_BYTES, vec![insert(&orders, 0, 2)])])
        .await
        .unwrap();
    assert_eq!(commit_lsns(&history).await, [START, START + PARTITION_BYTES]);
}

#[tokio::test]
async fn a_large_transaction_that_is_given_up_can_be_sent_again() {
    let database = TestDatabase::create("history_abandon").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    writer.append(vec![piece(START, vec![insert(&orders, 0, 1)], None)]).await.unwrap();
    writer.abandon().await.unwrap();
    assert_eq!(commit_lsns(&history).await, [0; 0]);
    writer.append(vec![transaction(START, vec![insert(&orders, 0, 1)])]).await.unwrap();
    assert_eq!(commit_lsns(&history).await, [START]);
    assert_eq!(database.query_text("SELECT count(*) FROM waldelta.table_schemas").await, "1");
}

#[tokio::test]
async fn a_writer_that_vanishes_inside_a_transaction_leaves_nothing() {
    let database = TestDatabase::create("history_vanish").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    let rows: Vec<_> = (0..2000).map(|seq| insert(&orders, seq, seq.into())).collect();
    let progress = writer.progress();
    writer.append(vec![piece(START, rows.clone(), None)]).await.unwrap();
    assert!(progress.load(std::sync::atomic::Ordering::Relaxed) > 100_000);
    drop(writer);
    // The next one of this process need not wait for the old backend to notice.
    let mut writer = history.writer("again").await.unwrap();
    assert_eq!(writer.head(), head(START));
    assert_eq!(database.query_text("SELECT count(*) FROM waldelta.change_history").await, "0");
    let orders = writer.number(table(1, "orders")).table;
    assert_eq!(orders.version, 1, "what was never stored was never a version");
    writer.append(vec![piece(START, rows, Some(START + 1))]).await.unwrap();
    assert_eq!(commit_lsns(&history).await, [START]);
}

#[tokio::test]
async fn an_append_that_is_cancelled_closes_the_writer_and_stores_nothing_by_half() {
    let database = TestDatabase::create("history_cancel").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    writer.append(vec![transaction(START, vec![insert(&orders, 0, 1)])]).await.unwrap();
    // Somebody holds the progress row, so that the append hangs in its last statement.
    let blocker = database.client().await;
    blocker.batch_execute("BEGIN; SELECT FROM waldelta.captures FOR UPDATE").await.unwrap();
    let append = writer.append(vec![transaction(START + 5, vec![insert(&orders, 0, 1)])]);
    assert!(tokio::time::timeout(Duration::from_millis(300), append).await.is_err());
    let closed = writer.append(vec![transaction(START + 5, vec![insert(&orders, 0, 1)])]).await.unwrap_err();
    assert!(matches!(closed, Error::WriterClosed) && closed.is_retryable(), "{closed:?}");
    drop(writer);
    let retake = history.writer("again");
    let unblock = async {
        wait_until("the new writer waits too, or is there", Duration::from_secs(60), async || {
            let waiting = "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE '%taken%' AND wait_event_type = 'Lock'
                AND datname = current_database() AND pid <> pg_backend_pid()";
            database.query_text(waiting).await == "t"
        })
        .await;
        blocker.batch_execute("ROLLBACK").await.unwrap();
    };
    let (writer, ()) = tokio::join!(retake, unblock);
    // Committed or not, the stored end and the rows agree.
    let (writer, lsns) = (writer.unwrap(), commit_lsns(&history).await);
    let stored = writer.head().durable_end.0.0;
    assert_eq!(lsns.contains(&(START + 5)), stored == START + 6, "{stored:x} {lsns:x?}");
}

#[tokio::test]
async fn shapes_are_numbered_and_stored_with_the_change_that_first_has_them() {
    let database = TestDatabase::create("history_shapes").await;
    let (history, mut writer) = written(&database).await;
    let first = writer.number(table(1, "orders")).table;
    writer.append(vec![transaction(START, vec![insert(&first, 0, 1)])]).await.unwrap();
    let mut wider = table(1, "orders");
    wider.columns.push(wider.columns[1].clone());
    wider.columns[2].name = "more".into();
    let second = writer.number(wider).table;
    assert_eq!(second.version, 2);
    let changes = vec![insert(&first, 0, 2), insert(&second, 1, 3)];
    writer.append(vec![transaction(START + 10, changes)]).await.unwrap();
    writer.release().await.unwrap();

    // Another process, which knows nothing yet.
    let other = waldelta_history::History::open(&config(&database)).await.unwrap();
    assert_eq!(other.tables().await.unwrap(), std::slice::from_ref(&second));
    let page = read_all(&other, whole(START - 1)).await;
    let shapes: Vec<_> =
        page.parts.iter().flat_map(|part| &part.changes).map(|c| c.table.clone().unwrap()).collect();
    assert_eq!(shapes, [first.clone(), first.clone(), second.clone()]);
    let mut writer = history.writer("again").await.unwrap();
    assert_eq!(writer.number((*second).clone()).table.version, 2);
    let from = database.query("SELECT table_oid, lsn, baseline FROM waldelta.history_from").await;
    assert_eq!(from, [[Some("1".to_owned()), Some(format!("0/{START:X}")), Some("f".to_owned())]]);
    assert_eq!(Position::before(EPOCH, end(START)), history.floor().await.unwrap());
}
