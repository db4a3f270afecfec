//! A value that the database refuses stops history at the very change, by name.

use bytes::Bytes;
use waldelta_history::Error;
use waldelta_testkit::TestDatabase;
use waldelta_wal::{Change, Code, Lsn, Position};

use crate::support::*;

#[tokio::test]
async fn a_refused_value_is_named_by_table_key_and_position() {
    let database = TestDatabase::create("history_poison").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    let bad =
        Change { data: Some(Bytes::from_static(b"{\"secret\": \"\\u0000\"}")), ..insert(&orders, 2, 77) };
    let pieces = vec![
        transaction(START, vec![insert(&orders, 0, 1)]),
        transaction(START + 10, vec![insert(&orders, 0, 1), insert(&orders, 1, 2), bad]),
    ];
    let error = writer.append(pieces).await.unwrap_err();
    assert_eq!(error.code(), Code::PoisonRow);
    assert!(!error.is_retryable());
    assert!(!error.to_string().contains("secret"), "{error}");
    let Error::Poison { position, table, row_key, sqlstate, .. } = error else { panic!("{error:?}") };
    assert_eq!(position, Position { epoch: EPOCH, commit_lsn: Lsn(START + 10), index: 2 });
    assert_eq!((table.as_deref(), row_key.as_deref()), (Some("public.orders"), Some("[77]")));
    assert_eq!(sqlstate, "22P05");
    assert_eq!(stored_end(&history).await, START, "nothing of the append is stored");
}

#[tokio::test]
async fn in_a_large_transaction_it_is_found_although_its_piece_is_gone() {
    let database = TestDatabase::create("history_poison_large").await;
    let (_, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    let mut rows: Vec<_> = (0..900).map(|seq| insert(&orders, seq, seq.into())).collect();
    rows[500].data = Some(Bytes::from_static(b"not json"));
    writer.append(vec![piece(START, rows, None)]).await.unwrap();
    let error =
        writer.append(vec![piece(START, vec![insert(&orders, 900, 1)], Some(START + 1))]).await.unwrap_err();
    let Error::Poison { position, sqlstate, .. } = error else { panic!("{error:?}") };
    assert_eq!(position, Position { epoch: EPOCH, commit_lsn: Lsn(START), index: 500 });
    assert_eq!(sqlstate, "22P02");
}
