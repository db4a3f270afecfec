//! Logical messages that belong to no transaction: in order with all else, and unknown to snapshots.

use std::sync::Arc;

use bytes::Bytes;
use waldelta_history::{Entry, Error, Transaction};
use waldelta_testkit::TestDatabase;
use waldelta_wal::{Change, Operation, Piece};

use crate::support::*;

/// As the assembler makes one of a message at this place, whose end nobody tells.
fn message(lsn: u64) -> Piece {
    let nobody = Arc::new(table(1, "unused"));
    let change = Change {
        operation: Operation::Message,
        table: None,
        row_key: None,
        data: Some(Bytes::from_static(b"{\"prefix\": \"p\", \"content\": \"c\"}")),
        ..insert(&nobody, 0, 0)
    };
    let mut piece = transaction(lsn, vec![change]);
    piece.head.xid = 0;
    piece
}

#[tokio::test]
async fn a_message_alone_is_a_transaction_without_an_id() {
    let database = TestDatabase::create("history_messages").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(7, "orders")).table;
    let one = |lsn| transaction(lsn, vec![insert(&orders, 0, lsn)]);
    // At the durable end, right behind another, and right before a commit that begins where it is said to end.
    let pieces = vec![message(START), message(START + 1), one(START + 2), message(START + 40)];
    let expected = pieces.clone();
    assert_eq!(writer.append(pieces).await.unwrap(), Some(end(START + 41)));
    writer.append(vec![one(START + 41)]).await.unwrap();
    // Sent again, it is known.
    for again in [START + 40, START] {
        let refused = writer.append(vec![message(again)]).await.unwrap_err();
        assert!(matches!(refused, Error::OutOfOrder { .. }), "{refused:?}");
    }
    assert_eq!(commit_lsns(&history).await, [START, START + 1, START + 2, START + 40, START + 41]);
    let page = read_all(&history, whole(START - 1)).await;
    for (part, piece) in page.parts.iter().zip(&expected) {
        assert_eq!((part.head, &part.changes, part.last), (piece.head, &piece.changes, true));
    }
    let entries = history.feed().after(whole(START - 1), usize::MAX).unwrap();
    let first = Transaction { head: expected[0].head, changes: expected[0].changes.clone() };
    assert_eq!(entries[0], Entry::Whole(Arc::new(first)));
    let stored = "SELECT string_agg(concat_ws('|', operation, transaction_id, metadata), ' ' ORDER BY lsn) FROM waldelta.change_history";
    assert_eq!(
        database.query_text(stored).await,
        format!(
            "message|{{\"transactional\": false}} message|{{\"transactional\": false}} insert|{} \
             message|{{\"transactional\": false}} insert|{}",
            START + 2,
            START + 41
        )
    );
    // No snapshot waits for it, whatever it shows.
    for snapshot in ["1:1:", "3:3:", "1:3:1,2"] {
        let mut unseen = history.xids_unseen_by(&snapshot.parse().unwrap(), whole(START + 41)).await.unwrap();
        unseen.sort_unstable();
        assert_eq!(unseen, [START + 2, START + 41], "{snapshot}");
    }
}
