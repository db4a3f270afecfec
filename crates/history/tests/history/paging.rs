//! Reading in pages: nothing left out, nothing twice, wherever a page ends.

use bytes::Bytes;
use waldelta_history::{History, Part, ReadLimit, Writer};
use waldelta_testkit::TestDatabase;
use waldelta_wal::{Change, Lsn, Position};

use crate::support::*;

async fn fill(writer: &mut Writer) {
    let orders = writer.number(table(1, "orders")).table;
    let changes = |count| (0..count).map(|seq| insert(&orders, seq, seq.into())).collect::<Vec<_>>();
    let pieces = [(START, 1), (START + 10, 7), (START + 20, 3), (START + 30, 1)];
    writer.append(pieces.map(|(lsn, count)| transaction(lsn, changes(count))).into()).await.unwrap();
}

fn after(part: &Part) -> Position {
    let mut position = part.head.position();
    if !part.last {
        position.index = part.changes.last().unwrap().seq;
    }
    position
}

#[tokio::test]
async fn pages_of_every_size_give_the_same() {
    let database = TestDatabase::create("history_pages").await;
    let (history, mut writer) = written(&database).await;
    fill(&mut writer).await;
    let upto = writer.head().cursor();
    let all = read_all(&history, whole(START - 1)).await;
    assert_eq!(all.parts.iter().map(|part| part.changes.len()).collect::<Vec<_>>(), [1, 7, 3, 1]);
    for limit in (1..=13)
        .flat_map(|changes_max| [1, 60, 1 << 20].map(|bytes_max| ReadLimit { changes_max, bytes_max }))
    {
        let mut position = whole(START - 1);
        let mut seen = Vec::new();
        loop {
            let page = history.read_after(position, upto, limit).await.unwrap();
            let count: usize = page.parts.iter().map(|part| part.changes.len()).sum();
            assert!(count >= 1 && count <= limit.changes_max as usize, "{limit:?}: {count}");
            for part in &page.parts {
                seen.extend(part.changes.iter().map(|change| (part.head.commit_lsn, change.seq)));
            }
            // Only the last part of a page can be cut off.
            assert!(page.parts[..page.parts.len() - 1].iter().all(|part| part.last));
            position = after(page.parts.last().unwrap());
            if !page.has_more {
                assert!(page.parts.last().unwrap().last);
                break;
            }
        }
        let expected: Vec<_> = all
            .parts
            .iter()
            .flat_map(|part| part.changes.iter().map(|change| (part.head.commit_lsn, change.seq)))
            .collect();
        assert_eq!(seen, expected, "{limit:?}");
    }
}

#[tokio::test]
async fn a_page_ends_inside_a_transaction_and_the_next_goes_on() {
    let database = TestDatabase::create("history_inside").await;
    let (history, mut writer) = written(&database).await;
    fill(&mut writer).await;
    let upto = writer.head().cursor();
    let limit = ReadLimit { changes_max: 4, bytes_max: 1 << 20 };
    let page = history.read_after(whole(START - 1), upto, limit).await.unwrap();
    assert!(page.has_more);
    assert_eq!(page.parts.len(), 2);
    assert!(page.parts[0].last && !page.parts[1].last);
    let page = history.read_after(after(&page.parts[1]), upto, limit).await.unwrap();
    assert_eq!(page.parts[0].changes[0].seq, 3);
}

#[tokio::test]
async fn only_whole_transactions_below_the_bound_are_read() {
    let database = TestDatabase::create("history_upto").await;
    let (history, mut writer) = written(&database).await;
    fill(&mut writer).await;
    let read = async |upto| {
        let page = history.read_after(whole(START - 1), upto, ALL).await.unwrap();
        assert!(!page.has_more);
        page.parts.iter().map(|part| part.head.commit_lsn.0 - START).collect::<Vec<_>>()
    };
    assert_eq!(read(whole(START + 20)).await, [0, 10, 20]);
    assert_eq!(read(whole(START + 19)).await, [0, 10]);
    let inside = Position { index: 3, ..whole(START + 10) };
    assert_eq!(read(inside).await, [0]);
    assert_eq!(read(whole(START - 1)).await, [0; 0]);
    assert_eq!(read(Position { index: 0, commit_lsn: Lsn(0), ..whole(0) }).await, [0; 0]);
}

#[tokio::test]
async fn one_row_comes_whatever_its_size_and_the_next_waits() {
    let database = TestDatabase::create("history_bytes").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    // Random digits: what compression leaves of them counts.
    let big = |seq: u32| {
        let mut state = u64::from(seq) + 1;
        let digits: String = (0..200_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                char::from(b'a' + u8::try_from((state >> 33) % 26).unwrap())
            })
            .collect();
        Change { data: Some(Bytes::from(format!("{{\"note\": \"{digits}\"}}"))), ..insert(&orders, seq, 1) }
    };
    writer.append(vec![transaction(START, vec![big(0), big(1), insert(&orders, 2, 2)])]).await.unwrap();
    let limit = ReadLimit { changes_max: 100, bytes_max: 1000 };
    let mut position = whole(START - 1);
    for (changes, has_more) in [(1, true), (1, true), (1, false)] {
        let page = history.read_after(position, whole(START), limit).await.unwrap();
        assert_eq!((page.parts[0].changes.len(), page.has_more), (changes, has_more));
        position = after(&page.parts[0]);
    }
}

#[tokio::test]
async fn what_compresses_well_does_not_make_a_page_unbounded() {
    let database = TestDatabase::create("history_inflation").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    let same = Bytes::from(format!("{{\"note\": \"{}\"}}", "x".repeat(100_000)));
    let changes = (0..50).map(|seq| Change { data: Some(same.clone()), ..insert(&orders, seq, 1) }).collect();
    writer.append(vec![transaction(START, changes)]).await.unwrap();
    let limit = ReadLimit { changes_max: 1000, bytes_max: 200_000 };
    let (mut position, mut count, mut pages) = (whole(START - 1), 0, 0);
    loop {
        let page = history.read_after(position, whole(START), limit).await.unwrap();
        let here = page.parts[0].changes.len();
        assert!((1..=9).contains(&here), "{here} times 100 kB");
        (count, pages) = (count + here, pages + 1);
        position = after(&page.parts[0]);
        assert_eq!(page.parts[0].last, !page.has_more);
        if !page.has_more {
            break;
        }
    }
    assert_eq!(count, 50);
    assert!(pages < 10, "{pages}");
}

#[tokio::test]
async fn more_readers_than_connections_do_not_wait_for_each_other() {
    let database = TestDatabase::create("history_readers").await;
    let (_, mut writer) = written(&database).await;
    fill(&mut writer).await;
    let mut config = config(&database);
    config.connections_max = 1;
    // This one knows no shapes yet, so each reader asks for one in the middle of its page.
    let history = History::open(&config).await.unwrap();
    let read = || history.read_after(whole(START - 1), whole(START + 30), ALL);
    let all = futures_util::future::join_all((0..8).map(|_| read()));
    for page in tokio::time::timeout(std::time::Duration::from_secs(10), all).await.unwrap() {
        assert_eq!(page.unwrap().parts.len(), 4);
    }
}

#[tokio::test]
async fn a_bare_lsn_is_everything_strictly_before_it() {
    let database = TestDatabase::create("history_lsn").await;
    let (history, mut writer) = written(&database).await;
    fill(&mut writer).await;
    let known_end = writer.head().durable_end.0;
    for (lsn, cursor) in [
        (Lsn(START - 1), None),
        (Lsn(START), Some(whole(START - 1))),
        (Lsn(START + 10), Some(whole(START + 9))),
        (known_end, Some(whole(known_end.0 - 1))),
        (Lsn(known_end.0 + 1), None),
    ] {
        assert_eq!(history.cursor_of_lsn(lsn).await.unwrap(), cursor, "{lsn}");
    }
}

#[tokio::test]
async fn transaction_ids_are_those_that_a_snapshot_does_not_show() {
    let database = TestDatabase::create("history_xids").await;
    let (history, mut writer) = written(&database).await;
    fill(&mut writer).await;
    // The oldest is in progress (prepared long ago, say), all after it are over, the newest are not in the list at all.
    let [first, second, third, last] = [START, START + 10, START + 20, START + 30];
    for (snapshot, upto, unseen) in [
        (format!("{first}:{third}:{first}"), last, vec![first, third, last]),
        (format!("{first}:{third}:{first}"), third, vec![first, third]),
        (format!("{first}:{last}:{first},{}", second + 1), third, vec![first]),
        (format!("1:{}:2,3", last + 1), last, vec![]),
        (format!("{second}:{second}:"), first, vec![]),
        (format!("{second}:{second}:"), second, vec![second]),
        (format!("{max}:{max}:", max = u64::MAX), last, vec![]),
    ] {
        let parsed = snapshot.parse().unwrap();
        let mut xids = history.xids_unseen_by(&parsed, whole(upto)).await.unwrap();
        xids.sort_unstable();
        assert_eq!(xids, unseen, "{snapshot} up to {upto}");
        assert!(xids.iter().all(|xid| !parsed.visible(*xid)));
    }
}

#[tokio::test]
async fn transaction_ids_are_found_by_their_index() {
    let database = TestDatabase::create("history_xids_plan").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    let last = START + 20_000;
    let pieces = (START..=last).map(|lsn| transaction(lsn, vec![insert(&orders, 0, lsn)]));
    writer.append(pieces.collect()).await.unwrap();
    // As autosummarize does it in time.
    let summarize = "ANALYZE waldelta.change_history;
        SELECT brin_summarize_new_values(indexrelid) FROM pg_index JOIN pg_class ON oid = indexrelid
        WHERE relam = (SELECT oid FROM pg_am WHERE amname = 'brin') AND relkind = 'i'";
    database.client().await.batch_execute(summarize).await.unwrap();
    let sql = include_str!("../../../../sql/queries/xids_unseen.sql")
        .replace("$1", &last.to_string())
        .replace("$2", &format!("'{{{START},{}}}'", START + 1))
        .replace("$3", "1")
        .replace("$4", "'0/FFFFFF'")
        .replace("$5", "10");
    let plan = database.query(&format!("EXPLAIN {sql}")).await;
    let plan = plan.iter().filter_map(|row| row[0].as_deref()).collect::<Vec<_>>().join("\n");
    // Of all that began after the oldest transaction in progress, only pages that can hold what is asked for are read.
    assert!(plan.contains("BitmapOr") && !plan.contains("Seq Scan"), "{plan}");
    let snapshot = format!("{START}:{last}:{START},{}", START + 1).parse().unwrap();
    let mut xids = history.xids_unseen_by(&snapshot, whole(last)).await.unwrap();
    xids.sort_unstable();
    assert_eq!(xids, [START, START + 1, last]);
}

#[tokio::test]
async fn acknowledged_cursors_are_kept_and_only_rise() {
    let database = TestDatabase::create("history_ack").await;
    let history = begun(&database).await;
    assert_eq!(history.acked("web-7").await.unwrap(), None);
    history.record_ack("web-7", whole(START + 10)).await.unwrap();
    history.record_ack("web-7", whole(START)).await.unwrap();
    history.record_ack("o'brien", whole(START + 2)).await.unwrap();
    assert_eq!(history.acked("web-7").await.unwrap(), Some(whole(START + 10)));
    assert_eq!(history.acked("o'brien").await.unwrap(), Some(whole(START + 2)));
}

/// What a database sets for everybody is not for us: a connection for reading rests for as long as nobody asks.
#[tokio::test]
async fn a_connection_that_rests_is_kept_whatever_the_database_sets() {
    let database = TestDatabase::create("history_rests").await;
    let name = database.name();
    let limits = ["idle_session_timeout", "idle_in_transaction_session_timeout"];
    for limit in limits {
        database.exec(&format!("ALTER DATABASE {name} SET {limit} = '20ms'")).await;
    }
    let (history, mut writer) = written(&database).await;
    fill(&mut writer).await;
    let backends = async || {
        let sql = format!(
            "SELECT coalesce(string_agg(pid::text, ' ' ORDER BY pid), '') FROM pg_stat_activity
             WHERE application_name = 'waldelta-history' AND datname = '{name}'"
        );
        database.query_text(&sql).await
    };
    assert_eq!(read_all(&history, whole(START - 1)).await.parts.len(), 4);
    let before = backends().await;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_ne!(before, "");
    assert_eq!(backends().await, before);
}
