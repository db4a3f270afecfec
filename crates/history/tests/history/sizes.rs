//! Rows of a hundred megabytes and more: they go in, in messages that the server takes, and come out in pages of one.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use waldelta_history::{Config, Error, History, ReadLimit};
use waldelta_pgconn::{Environment, Target};
use waldelta_testkit::{TestDatabase, wait_until};
use waldelta_wal::{Change, Lsn, Position};

use crate::support::*;

const MEGABYTE: usize = 1_000_000;

/// An image with a string of this many bytes, and another.
fn image(fill: &str, bytes: usize) -> Bytes {
    Bytes::from(format!("{{\"big\": \"{}\", \"note\": \"n\"}}", fill.repeat(bytes / fill.len())))
}

#[tokio::test]
async fn a_row_of_150_megabytes_goes_in_and_comes_out() {
    let database = TestDatabase::create("history_huge").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    let (big, other) = (image("0123456789 abcdefg ", 140 * MEGABYTE), image("é", 10 * MEGABYTE));
    let huge =
        |seq| Change { data: Some(big.clone()), old_data: Some(other.clone()), ..insert(&orders, seq, 7) };
    let progress = writer.progress();
    writer
        .append(vec![transaction(START, vec![insert(&orders, 0, 1), huge(1), insert(&orders, 2, 2)])])
        .await
        .unwrap();
    assert!(progress.load(Ordering::Relaxed) > 150 * MEGABYTE as u64);
    // In pieces of a large transaction too.
    let large = Change { data: Some(other.clone()), ..insert(&orders, 0, 7) };
    writer.append(vec![piece(START + 10, vec![large], None)]).await.unwrap();
    writer.append(vec![piece(START + 10, vec![insert(&orders, 1, 3)], Some(START + 11))]).await.unwrap();

    // Each page is about as large as one row, however little of it the database stores.
    let limit = ReadLimit { changes_max: 100, bytes_max: 1 << 20 };
    let (mut after, mut pages) = (whole(START - 1), Vec::new());
    loop {
        let page = history.read_after(after, whole(START + 10), limit).await.unwrap();
        let part = page.parts.last().unwrap();
        let seq = part.changes.last().unwrap().seq;
        after = Position { index: if part.last { Position::WHOLE } else { seq }, ..part.head.position() };
        let changes: Vec<_> = page.parts.iter().flat_map(|part| &part.changes).collect();
        let bytes = |change: &&Change| change.data.as_ref().unwrap().len();
        pages.push((changes.len(), changes.iter().filter(|change| bytes(change) > MEGABYTE).count()));
        for change in changes.into_iter().filter(|change| bytes(change) > MEGABYTE) {
            let (data, old_data) =
                if change.old_data.is_some() { (&big, Some(&other)) } else { (&other, None) };
            assert!(change.data.as_ref() == Some(data) && change.old_data.as_ref() == old_data);
        }
        if !page.has_more {
            break;
        }
    }
    assert!(pages.iter().all(|(_, huge)| *huge <= 1), "{pages:?}");
    let total = pages.iter().fold((0, 0), |sum, page| (sum.0 + page.0, sum.1 + page.1));
    assert_eq!(total, (5, 2), "{pages:?}");
}

#[tokio::test]
async fn a_page_that_ends_early_leaves_nothing_to_be_received() {
    let database = TestDatabase::create("history_overflow").await;
    let (_, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    // A few bytes each, and a hundred kilobytes when they are printed: 400 MB in all.
    let number = Bytes::from_static(b"{\"number\": 1e131071}");
    let rows =
        (0..3000).map(|seq| Change { data: Some(number.clone()), ..insert(&orders, seq, 1) }).collect();
    writer.append(vec![transaction(START, rows)]).await.unwrap();
    let url = format!("{}?application_name=overflow", database.url());
    let target = Target::parse(&url, &Environment::default()).unwrap();
    let config = Config { target, connections_max: 1, ..config(&database) };
    let history = History::open(&config).await.unwrap();
    let backend = "SELECT pid FROM pg_stat_activity WHERE application_name = 'overflow'";
    let before = database.query_text(backend).await;
    let limit = ReadLimit { changes_max: 10_000, bytes_max: 1 << 20 };
    let first = history.read_after(whole(START - 1), whole(START), limit).await.unwrap();
    assert!(first.has_more && (30..50).contains(&first.parts[0].changes.len()));
    wait_until("the rest is given up, not received", Duration::from_secs(60), async || {
        !database.query(backend).await.contains(&vec![Some(before.clone())])
    })
    .await;
    let last = Position { index: first.parts[0].changes.last().unwrap().seq, ..whole(START) };
    let second = history.read_after(last, whole(START), limit).await.unwrap();
    assert_eq!(second.parts[0].changes[0].seq, last.index + 1);
}

#[tokio::test]
async fn what_is_refused_of_large_images_is_named() {
    let database = TestDatabase::create("history_too_large").await;
    let (history, writer) = written(&database).await;
    drop(writer);
    // The first is refused at its last byte, when most of it is gone; of the second nothing is sent.
    let malformed = image("x", 5 * MEGABYTE).slice(..5 * MEGABYTE);
    let too_large = Bytes::from(vec![0; 1 << 30]);
    for (bad, expected) in [(malformed, "22P02"), (too_large, "54000")] {
        let mut writer = history.writer("again").await.unwrap();
        let orders = writer.number(table(1, "orders")).table;
        let bad = Change { old_data: Some(bad), ..insert(&orders, 1, 77) };
        let error =
            writer.append(vec![transaction(START, vec![insert(&orders, 0, 1), bad])]).await.unwrap_err();
        let Error::Poison { position, table, row_key, sqlstate, .. } = error else { panic!("{error:?}") };
        assert_eq!(position, Position { epoch: EPOCH, commit_lsn: Lsn(START), index: 1 });
        assert_eq!((table.as_deref(), row_key.as_deref()), (Some("public.orders"), Some("[77]")));
        assert_eq!(sqlstate, expected);
    }
    assert_eq!(stored_end(&history).await, START);
}
