//! `GET /v1/changes`.

use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use waldelta_wal::{Change, Lsn, Position};

use crate::support::*;

fn all_ids(page: &Value) -> Vec<u64> {
    page["transactions"].as_array().unwrap().iter().flat_map(ids).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other_also_inside_a_transaction() {
    let mut world = World::new("pages").await;
    let changes: Vec<Change> = (0..7).map(|seq| insert(&world.t, seq, seq.into())).collect();
    world.commit(FUTURE_XID, changes).await;
    world.commit_inserts(7..12).await;
    let other = insert(&world.u, 0, 99);
    world.commit(FUTURE_XID, vec![other]).await;
    let (mut got, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let (status, page) = world.get(&format!("/v1/changes?limit=3&table=public.t{after}"), "").await;
        assert_eq!(status, 200, "{page}");
        assert!(all_ids(&page).len() <= 3);
        got.extend(all_ids(&page));
        pages += 1;
        after = format!("&after={}", page["cursor"].as_str().unwrap());
        // One that may be kept has no head: it would be an old one.
        if pages == 1 || page["has_more"] == false {
            assert_eq!(page["head"], world.head().to_string());
        } else {
            assert_eq!(page["head"], Value::Null);
        }
        if page["has_more"] == false {
            assert_eq!(page["cursor"], page["head"]);
            break;
        }
    }
    assert_eq!(got, (0..12).collect::<Vec<_>>());
    assert!(pages >= 4);
    let (_, page) = world.get("/v1/changes", "").await;
    assert_eq!(all_ids(&page), (0..12).chain([99]).collect::<Vec<_>>(), "without a table: all of them");
}

/// What follows a part and is not told is no gap: the next part of the same answer goes on from what was told last.
#[tokio::test(flavor = "multi_thread")]
async fn parts_in_one_page_go_on_from_what_was_told_before_them() {
    let mut world = World::new("parts").await;
    let changes: Vec<Change> = (0..60).map(|seq| insert(&world.t, seq, seq.into())).collect();
    world.commit(FUTURE_XID, changes).await;
    // Each reading ends with rows that are not told.
    let filter = "id%20IN%20(0,1,12,13,30,31,58)";
    let (status, page) = world.get(&format!("/v1/changes?limit=10&table=public.t&where={filter}"), "").await;
    assert_eq!((status, all_ids(&page)), (200, vec![0, 1, 12, 13, 30, 31, 58]), "{page}");
    let parts = page["transactions"].as_array().unwrap();
    assert!(parts.len() > 1, "in several parts: {page}");
    for pair in parts.windows(2) {
        let prev: Position = pair[1]["prev"].as_str().unwrap().parse().unwrap();
        assert!(prev <= cursor(&pair[0]), "{prev} after {}", cursor(&pair[0]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_answers_when_there_is_something() {
    let mut world = World::new("poll").await;
    let head = world.head();
    let began = std::time::Instant::now();
    let (status, page) = world.get(&format!("/v1/changes?after={head}&wait=200ms"), "").await;
    assert!(began.elapsed() >= std::time::Duration::from_millis(200), "it waits while there is nothing");
    assert_eq!((status, all_ids(&page), &page["has_more"]), (200, vec![], &json!(false)));

    let change = by("me", insert(&world.t, 0, 1));
    let path = format!("/v1/changes?after={head}&wait=20s&client_id=me&table=public.t");
    // What does not concern it does not end the wait.
    let other = insert(&world.u, 0, 9);
    world.commit(FUTURE_XID, vec![other]).await;
    let piece = world.piece(world.next_lsn(), FUTURE_XID, vec![change], true);
    let position = piece.head.position();
    let address = world.stream_url();
    let (appended, (_, page)) = tokio::join!(world.writer.append(vec![piece]), get_from(&address, &path));
    appended.unwrap();
    let tx = &page["transactions"][0];
    assert_eq!((ids(tx), &tx["own"], cursor(tx)), (vec![1], &json!(true), position));
    assert_eq!(page["cursor"], page["head"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_whose_rest_does_not_concern_the_client_ends_all_the_same() {
    let mut world = World::new("rest").await;
    let mut changes: Vec<Change> = (0..3).map(|seq| insert(&world.t, seq, seq.into())).collect();
    changes.extend((3..6).map(|seq| insert(&world.u, seq, seq.into())));
    let position = world.commit(FUTURE_XID, changes).await;
    let (_, first) = world.get("/v1/changes?limit=3&table=public.t", "").await;
    assert_eq!(
        (ids(&first["transactions"][0]), &first["transactions"][0]["last"]),
        (vec![0, 1, 2], &json!(false))
    );
    let after = first["cursor"].as_str().unwrap();
    let (_, second) = world.get(&format!("/v1/changes?limit=3&table=public.t&after={after}"), "").await;
    let end = &second["transactions"][0];
    assert_eq!(
        (ids(end), &end["last"], &end["part"], cursor(end)),
        (vec![], &json!(true), &json!(0), position)
    );
    assert_eq!(end["prev"], first["cursor"]);
}

pub(crate) async fn get_from(stream_url: &str, path: &str) -> (u16, Value) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = stream_url.trim_start_matches("ws://").trim_end_matches("/v1/stream");
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_answered_is_a_problem_with_a_code() {
    let mut world = World::new("problems").await;
    world.commit_inserts(1..2).await;
    let beyond = Position { epoch: waldelta_wal::Epoch(7), ..world.head() };
    for (query, status, code) in [
        ("after=x".to_owned(), 400, "WD-CURSOR-INVALID"),
        (format!("after={beyond}"), 410, "WD-CURSOR-NOT-RESUMABLE"),
        ("after=0/1".to_owned(), 410, "WD-CURSOR-NOT-RESUMABLE"),
        ("limit=0".to_owned(), 400, "WD-REQUEST-INVALID"),
        ("table=t&where=id".to_owned(), 400, "WD-FILTER-INVALID"),
        ("since=yesterday".to_owned(), 400, "WD-REQUEST-INVALID"),
    ] {
        let (got, body) = world.get(&format!("/v1/changes?{query}"), "").await;
        assert_eq!((got, &body["code"], &body["status"]), (status, &json!(code), &json!(status)), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_below_the_head_is_the_same_for_good() {
    let mut world = World::new("pages_kept").await;
    let after = world.head();
    world.commit_inserts(1..6).await;
    let path = format!("/v1/changes?after={after}&limit=3&table=public.t");
    let (status, head, body) = world.get_text(&path, "").await;
    assert_eq!(status, 200);
    assert!(head.contains("cache-control: private, max-age=31536000, immutable"), "{head}");
    assert!(head.contains("vary: accept"), "the same URL is a stream, too: {head}");
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    assert!(tag.starts_with('"'), "a strong one: {tag}");
    // Also when there is more.
    world.commit_inserts(6..9).await;
    let (_, head_again, again) = world.get_text(&path, "").await;
    assert_eq!(again, body);
    assert!(head_again.contains(&format!("etag: {tag}")));
    let (status, head, body) = world.get_text(&path, &format!("If-None-Match: \"x\", {tag}\r\n")).await;
    assert_eq!((status, body.as_str()), (304, ""));
    assert!(head.contains(&format!("etag: {tag}")) && head.contains("immutable"), "{head}");

    // What can change is kept by nobody.
    for query in [
        "limit=3".to_owned(),
        format!("limit=3&after={}", Lsn(after.commit_lsn.0 + 1)),
        format!("limit=3&after={after}&client_id=me"),
        format!("limit=3&after={after}&wait=1s"),
        format!("limit=100&after={after}"),
    ] {
        let (status, head, body) = world.get_text(&format!("/v1/changes?{query}"), "").await;
        assert!(
            head.contains("cache-control: no-store") && !head.contains("etag"),
            "{status} {query}: {head}"
        );
        assert!(body.contains("\"head\""), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn since_is_everything_that_committed_at_a_time_or_later() {
    let mut world = World::new("since").await;
    // The third got its time before the second, and its place after it.
    for (id, second) in [(1, 10), (2, 30), (3, 20), (4, 40)] {
        let change = insert(&world.t, 0, id);
        let mut piece = world.piece(world.next_lsn(), FUTURE_XID, vec![change], true);
        piece.head.committed_at_us = second * 1_000_000;
        world.writer.append(vec![piece]).await.unwrap();
    }
    for (second, expected) in
        [(0, 1..5), (10, 1..5), (11, 2..5), (20, 2..5), (30, 2..5), (31, 4..5), (41, 5..5)]
    {
        let (status, page) = world.get(&format!("/v1/changes?since=1970-01-01T00:00:{second:02}Z"), "").await;
        assert_eq!((status, all_ids(&page)), (200, expected.collect::<Vec<_>>()), "{second}");
    }
    let after = world.head();
    let (status, body) =
        world.get(&format!("/v1/changes?since=1970-01-01T00:00:00Z&after={after}"), "").await;
    assert_eq!((status, &body["code"]), (400, &json!("WD-REQUEST-INVALID")));
}

/// What pages of at most `limit` changes tell, one after the other: changes and the ends of transactions, resets, shapes; each
/// with its place. And how many pages there are.
async fn walk(world: &World, query: &str, limit: usize) -> ([Vec<String>; 3], usize) {
    let (mut told, mut after, mut pages): ([Vec<String>; 3], _, _) = Default::default();
    loop {
        let (status, page) = world.get(&format!("/v1/changes?limit={limit}{query}{after}"), "").await;
        assert_eq!(status, 200, "{page}");
        let mut room = limit;
        for tx in page["transactions"].as_array().unwrap() {
            let lsn = cursor(tx).commit_lsn;
            let changes = tx["changes"].as_array().unwrap();
            told[0].extend(changes.iter().map(|change| format!("{lsn} {} {}", change["op"], change["key"])));
            if tx["last"] != json!(false) {
                told[0].push(format!("{lsn} ends"));
            }
            room = room.checked_sub(changes.len()).expect("not more than is asked for");
        }
        for (index, name, table) in [(1, "resets", "tables"), (2, "schemas", "table")] {
            let frames = page[name].as_array().unwrap();
            told[index].extend(frames.iter().map(|frame| format!("{} {}", frame["cursor"], frame[table])));
            room = room.checked_sub(frames.len()).expect("not more than is asked for");
        }
        pages += 1;
        let next = format!("&after={}", page["cursor"].as_str().unwrap());
        if page["has_more"] == false {
            assert_eq!(page["cursor"], page["head"]);
            return (told, pages);
        }
        assert_ne!(next, after, "it goes on");
        after = next;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn however_few_are_asked_for_at_once_the_same_is_told() {
    let mut world = World::new("pages_cut").await;
    let (t, u) = world.both();
    let of = |from: u32,
              table: &std::sync::Arc<waldelta_wal::Table>,
              ids: std::ops::Range<u64>|
     -> Vec<Change> { (from..).zip(ids).map(|(seq, id)| insert(table, seq, id)).collect() };
    let everything_of_t = of(0, &t, 0..7);
    let mut seldom = of(0, &u, 100..220);
    seldom[50] = insert(&t, 50, 10);
    seldom[119] = insert(&t, 119, 11);
    let begins_anew =
        vec![reset(&t, 0), insert(&t, 1, 12), insert(&u, 2, 13), reset(&u, 3), insert(&t, 4, 14)];
    let at_its_beginning = [vec![insert(&t, 0, 20)], of(1, &u, 300..340)].concat();
    for changes in [everything_of_t, seldom, begins_anew, of(0, &u, 400..450), at_its_beginning] {
        world.commit(FUTURE_XID, changes).await;
    }
    let altered = world.add_column("w");
    world.commit(FUTURE_XID, vec![schema_change(&altered, 0), insert(&altered, 1, 30)]).await;
    world.commit(FUTURE_XID, of(0, &u, 500..550)).await;
    for query in ["", "&table=public.t", "&table=public.t&where=id%20%3E%2010", "&table=public.nowhere"] {
        let (all, _) = walk(&world, query, 10_000).await;
        for limit in [1, 2, 3, 5, 7, 64] {
            let (told, pages) = walk(&world, query, limit).await;
            assert_eq!(told, all, "{query}, {limit} at once");
            let count = told.iter().flatten().filter(|one| !one.ends_with("ends")).count();
            // One more where nothing is left but what does not concern it.
            assert!(pages <= count / limit + 2, "{pages} pages of {limit} for {count}: {query}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_not_asked_for_each_change_that_nobody_wants() {
    let metrics = PrometheusBuilder::new().install_recorder().unwrap();
    let mut world = World::new("pages_seldom").await;
    for round in 0..5u64 {
        let mut changes: Vec<Change> =
            (0..1_000).map(|seq| insert(&world.u, seq, round * 1_000 + u64::from(seq))).collect();
        if round % 2 == 0 {
            changes[500] = insert(&world.t, 500, round);
        }
        world.commit(FUTURE_XID, changes).await;
    }
    let (told, pages) = walk(&world, "&table=public.t", 1).await;
    // Three changes, each with the end of its transaction, and what is left behind the last.
    assert_eq!((told[0].len(), pages), (6, 4));
    let text = metrics.render();
    let name = "waldelta_fanout_catch_up_reads_total ";
    let reads: u32 = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap();
    assert!((5..60).contains(&reads), "{reads} questions for 5000 changes in {pages} pages");
}
