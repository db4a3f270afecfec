//! The feed, in the process that writes and in one that follows.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use waldelta_history::{Behind, Entry, History};
use waldelta_testkit::{TestDatabase, wait_until};
use waldelta_wal::{Author, Position};

use crate::support::*;

async fn has_head(history: &History, lsn: u64) {
    let mut watch = history.feed().watch();
    let reached = watch.wait_for(|now| *now >= head(lsn));
    tokio::time::timeout(Duration::from_secs(60), reached).await.expect("the head in time").unwrap();
}

#[tokio::test]
async fn a_reader_too_far_back_is_sent_to_the_table() {
    let database = TestDatabase::create("history_behind").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    let changes = || (0..2000).map(|seq| insert(&orders, seq, seq.into())).collect::<Vec<_>>();
    for n in 0..10 {
        writer.append(vec![transaction(START + n, changes())]).await.unwrap();
    }
    let Err(Behind { floor }) = history.feed().after(whole(START), 1) else {
        panic!("1 MiB cannot hold it all")
    };
    assert!(floor > whole(START) && floor < whole(START + 9), "{floor}");
    let newer = history.feed().after(floor, usize::MAX).unwrap();
    let page = history.read_after(whole(START), floor, ALL).await.unwrap();
    assert_eq!(
        page.parts.len() + newer.len(),
        9,
        "table up to the floor and feed after it meet without gap or overlap"
    );
}

#[tokio::test]
async fn a_follower_gets_everything_with_and_without_notifications() {
    let database = TestDatabase::create("history_follow").await;
    let (_history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    let one = |lsn| transaction(lsn, vec![insert(&orders, 0, lsn)]);
    let follower = History::open(&config(&database)).await.unwrap();
    let (stop, keeper_stop) = (CancellationToken::new(), CancellationToken::new());
    let test = async {
        // Nobody notifies yet: it is found by looking.
        writer.append(vec![one(START), transaction(START + 1, Vec::new()), one(START + 2)]).await.unwrap();
        has_head(&follower, START + 3).await;
        let entries = follower.feed().after(whole(START - 1), usize::MAX).unwrap();
        assert_eq!(entries.iter().map(Entry::position).collect::<Vec<_>>(), [whole(START), whole(START + 2)]);

        // A large one arrives as a reference.
        let mut rows: Vec<_> = (0..12_000).map(|seq| insert(&orders, seq, seq.into())).collect();
        rows[0].author = Some(Arc::new(Author { client_id: "web-7".into(), metadata: None }));
        writer.append(vec![piece(START + 5, rows, Some(START + 6)), one(START + 6)]).await.unwrap();
        has_head(&follower, START + 7).await;
        match follower.feed().after(whole(START + 2), usize::MAX) {
            Ok(entries) => {
                assert_eq!(
                    entries.iter().map(Entry::position).collect::<Vec<_>>(),
                    [whole(START + 5), whole(START + 6)]
                );
                // It comes in two pages; whom it concerns is known of both.
                let Entry::Large(large) = &entries[0] else { panic!("12,000 changes fit a page") };
                let touched = large.touched.clone().unwrap();
                assert_eq!(touched.tables, std::slice::from_ref(&orders.name));
                let authors: Vec<_> = touched.authors.iter().map(|author| &*author.client_id).collect();
                assert_eq!(authors, ["web-7"]);
            }
            Err(Behind { floor }) => panic!("a reference was evicted up to {floor}"),
        }
        stop.cancel();
    };
    let (followed, ()) = tokio::join!(follower.follow(stop.clone()), test);
    followed.unwrap();

    // With notifications: far sooner than the next look.
    let keeper = writer.lease_keeper();
    let stop = CancellationToken::new();
    let test = async {
        wait_until("the follower listens", Duration::from_secs(60), async || {
            let listening =
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waldelta-history-listen'
                AND query LIKE 'LISTEN%' AND datname = current_database()";
            database.query_text(listening).await == "1"
        })
        .await;
        let mut fast = 0;
        for n in 10..20 {
            writer.append(vec![one(START + n)]).await.unwrap();
            let started = std::time::Instant::now();
            has_head(&follower, START + n + 1).await;
            fast += usize::from(started.elapsed() < Duration::from_millis(500));
        }
        assert!(fast >= 6, "only {fast} of 10 heads came by notification");
        stop.cancel();
        keeper_stop.cancel();
    };
    let (followed, kept, ()) =
        tokio::join!(follower.follow(stop.clone()), keeper.run(keeper_stop.clone()), test);
    followed.unwrap();
    kept.unwrap();
}

#[tokio::test]
async fn a_follower_survives_a_cut_and_a_restored_history() {
    let database = TestDatabase::create("history_follow_cut").await;
    let (_history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    let follower = History::open(&config(&database)).await.unwrap();
    let stop = CancellationToken::new();
    let test =
        async {
            writer.append(vec![transaction(START, vec![insert(&orders, 0, 1)])]).await.unwrap();
            has_head(&follower, START + 1).await;
            database
            .exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
                AND application_name IN ('waldelta-history-listen', 'waldelta-history')")
            .await;
            writer.append(vec![transaction(START + 1, vec![insert(&orders, 0, 1)])]).await.unwrap();
            has_head(&follower, START + 2).await;
            // The database goes back in time under it.
            drop(writer);
            database.exec(&format!("UPDATE waldelta.captures SET durable_end = '0/{:X}'", START + 1)).await;
            wait_until("the follower goes back too", Duration::from_secs(60), async || {
                follower.feed().head() == head(START + 1)
            })
            .await;
            assert!(follower.feed().after(Position::before(EPOCH, end(START)), 1).is_err());
            stop.cancel();
        };
    let (followed, ()) = tokio::join!(follower.follow(stop.clone()), test);
    followed.unwrap();
}
