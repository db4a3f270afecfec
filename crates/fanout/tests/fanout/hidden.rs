//! A row that may not be seen is told of as one that never was, however much there is of it.

use std::sync::Arc;

use serde_json::{Value, json};
use waldelta_testkit::wait_until;
use waldelta_wal::{Change, Operation, Position, Table};

use crate::http_access::Token;
use crate::http_rules::{changed, of_tenant, row, tenants};
use crate::support::*;

/// Versions that one answer looks through without asking for a place among the long ones: 16 reads of 250.
const SHORT: usize = 4_000;

/// The row of this key changes so many times, of tenant `b` all along; where it changed last.
async fn changes_unseen(world: &mut World, p: &Arc<Table>, id: u64, times: usize) -> Position {
    let state = row(id, "b", "s", "n");
    let mut last = world.head();
    for from in (0..times).step_by(2_000) {
        let count = (times - from).min(2_000);
        let changes = (0..u32::try_from(count).unwrap())
            .map(|seq| Change { seq, ..changed(p, id, Some(&state), Some(&state)) });
        last = world.commit(FUTURE_XID, changes.collect()).await;
    }
    last
}

/// What is told of a row, whatever its key.
async fn told(world: &World, who: &Token, id: u64, query: &str) -> (u16, String, Value) {
    let path = format!("/v1/rows/public.p/{id}{query}");
    let (status, head, body) = world.get_text(&path, &who.header).await;
    let head = head.lines().filter(|line| !line.starts_with("date:")).collect::<Vec<_>>().join("\n");
    let mut body: Value = serde_json::from_str(&body).unwrap();
    body.as_object_mut().unwrap().remove("key");
    (status, head, body)
}

fn ops(body: &Value) -> Vec<&str> {
    body["versions"].as_array().unwrap().iter().map(|it| it["op"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn however_much_is_hidden_it_is_as_if_there_were_nothing() {
    let (mut world, p) = tenants("hidden_much").await;
    let a = of_tenant(&world, "a").await;
    let b = of_tenant(&world, "b").await;
    let before = world.commit(FUTURE_XID, vec![changed(&p, 7, None, Some(&row(7, "b", "s", "n")))]).await;
    let middle = changes_unseen(&mut world, &p, 7, SHORT / 2).await;
    changes_unseen(&mut world, &p, 7, SHORT / 2 + 1_500).await;
    for query in [
        "",
        "/history",
        &format!("?at={middle}"),
        &format!("/history?from={before}&limit=1"),
        &format!("/history?to={middle}&limit=1000&patch=rfc6902"),
    ] {
        let (hidden, never) = (told(&world, &a, 7, query).await, told(&world, &a, 8, query).await);
        assert_eq!(hidden, never, "{query}");
        assert!(hidden.0 == 404 || hidden.2["has_more"] == false, "{query}: {hidden:?}");
    }
    // Whose row it is goes on from page to page as ever.
    let (_, _, page) = told(&world, &b, 7, "/history?limit=1000").await;
    assert_eq!((ops(&page).len(), &page["has_more"]), (1_000, &json!(true)));

    // Behind all that there is something to be seen: it is told at once.
    let (of_a, of_b) = (row(7, "a", "s", "n"), row(7, "b", "s", "n"));
    world.commit(FUTURE_XID, vec![changed(&p, 7, Some(&of_b), Some(&of_a))]).await;
    world.commit(FUTURE_XID, vec![changed(&p, 7, Some(&of_a), Some(&of_b))]).await;
    let (_, _, body) = told(&world, &a, 7, "/history?limit=2").await;
    let end = told(&world, &a, 8, "/history").await.2["cursor"].clone();
    assert_eq!((ops(&body), &body["has_more"]), (vec!["insert", "delete"], &json!(false)));
    assert_eq!(body["cursor"], end);
    let (_, _, body) = told(&world, &a, 7, "/history?limit=1").await;
    assert_eq!((ops(&body), &body["has_more"]), (vec!["insert"], &json!(true)));
    assert_eq!(body["cursor"], body["versions"][0]["cursor"]);
}

/// An answer that is full ends where the next version that is seen is, and not where the next that is hidden is.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_answer_tells_nothing_of_what_is_hidden_behind_it() {
    let (mut world, p) = tenants("hidden_full").await;
    let a = of_tenant(&world, "a").await;
    // 64 versions are a little more than the 4 MiB that an answer has, 63 a little less.
    let note = "x".repeat(65_600);
    let (of_a, of_b) = (row(7, "a", "s", &note), row(7, "b", "s", "n"));
    world.commit(FUTURE_XID, vec![changed(&p, 7, None, Some(&of_a))]).await;
    for _ in 1..64 {
        world.commit(FUTURE_XID, vec![changed(&p, 7, Some(&of_a), Some(&of_a))]).await;
    }
    // What an operator had left out is told to nobody who may not see all rows.
    let skip = Change { operation: Operation::Skip, data: Some("{}".into()), ..insert(&p, 0, 7) };
    world.commit(FUTURE_XID, vec![skip]).await;
    let (_, _, body) = told(&world, &a, 7, "/history").await;
    assert_eq!((ops(&body).len(), &body["has_more"]), (64, &json!(false)));
    assert_eq!(body["cursor"], told(&world, &a, 8, "/history").await.2["cursor"]);
    world.commit(FUTURE_XID, vec![changed(&p, 7, Some(&of_a), Some(&of_b))]).await;
    let (_, _, body) = told(&world, &a, 7, "/history").await;
    assert_eq!((ops(&body).len(), &body["has_more"]), (64, &json!(true)), "there is more to be seen");
    assert_eq!(body["cursor"], body["versions"][63]["cursor"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_told_to_go_is_gone_whatever_befell_it_since() {
    let (mut world, p) = tenants("hidden_gone").await;
    let a = of_tenant(&world, "a").await;
    let reset = Change { table: Some(p.clone()), ..reset(&p, 0) };
    world.commit(FUTURE_XID, vec![reset]).await;
    let state = |id, tenant| row(id, tenant, "s", "n");
    // 7 is deleted; 9 becomes another's, who changes it on; 6 was never anybody else's; 8 never was.
    for id in [7, 9] {
        world.commit(FUTURE_XID, vec![changed(&p, id, None, Some(&state(id, "a")))]).await;
    }
    world.commit(FUTURE_XID, vec![changed(&p, 6, None, Some(&state(6, "b")))]).await;
    world.commit(FUTURE_XID, vec![changed(&p, 7, Some(&state(7, "a")), None)]).await;
    let left = changed(&p, 9, Some(&state(9, "a")), Some(&state(9, "b")));
    let left = world.commit(FUTURE_XID, vec![left]).await;
    changes_unseen(&mut world, &p, 6, 1).await;
    let last = changes_unseen(&mut world, &p, 9, 600).await;
    let same = async |one, other, query: &str| {
        let (one_told, other_told) =
            (told(&world, &a, one, query).await, told(&world, &a, other, query).await);
        assert_eq!(one_told, other_told, "{one} {other} {query}");
        (one_told.0, one_told.2["code"].clone())
    };
    for query in ["".to_owned(), format!("?at={left}"), format!("?at={last}")] {
        assert_eq!(same(7, 9, &query).await, (404, json!("WD-ROW-NOT-FOUND")), "{query}");
        assert_eq!(same(6, 8, &query).await, (410, json!("WD-ROW-UNKNOWN")), "{query}");
    }
    // So it is where all rows go: a row that is gone does not go again, and one of which nothing is known does.
    let truncate = Change { operation: Operation::Truncate, row_key: None, data: None, ..insert(&p, 0, 0) };
    world.commit(FUTURE_XID, vec![truncate]).await;
    let from = format!("/history?from={last}");
    for (one, other, expected) in [(7, 9, &[][..]), (6, 8, &["truncate"])] {
        let (one_told, other_told) =
            (told(&world, &a, one, &from).await, told(&world, &a, other, &from).await);
        assert_eq!((ops(&one_told.2), one_told.1), (expected.to_vec(), other_told.1), "{one}");
        assert_eq!(one_told.2, other_told.2, "{one} {other}");
        let (_, _, all) = told(&world, &a, one, "/history").await;
        assert_eq!(
            ops(&all).contains(&"truncate"),
            !expected.is_empty(),
            "{one}: the same from the beginning"
        );
    }
}

/// A long answer is no reason for others to wait, and ends with who asked for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_lets_others_read_and_ends_when_it_may_no_longer_be_given() {
    let (mut world, p) = tenants("hidden_long").await;
    let a = of_tenant(&world, "a").await;
    world.commit(FUTURE_XID, vec![changed(&p, 7, None, Some(&row(7, "b", "s", "n")))]).await;
    changes_unseen(&mut world, &p, 7, SHORT + 1_000).await;
    let asked = async || told(&world, &a, 7, "/history").await.0;
    let short = async || told(&world, &a, 8, "/history").await.0;
    // More of them than may go on beside each other.
    let (one, two, three, short) = tokio::join!(asked(), asked(), asked(), short());
    assert_eq!([one, two, three, short], [200; 4]);

    let lock = world.database.client().await;
    lock.batch_execute("BEGIN; LOCK TABLE waldelta.change_history IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted
        AND relation = 'waldelta.change_history'::regclass";
    let revoke = async {
        let waits = async || world.database.query_text(waiting).await != "0";
        wait_until("the reading waits", PATIENCE, waits).await;
        world.fanout.apply(waldelta_fanout::Policy::default());
        lock.batch_execute("ROLLBACK").await.unwrap();
    };
    let (answer, ()) = tokio::join!(told(&world, &a, 7, "/history"), revoke);
    assert_eq!((answer.0, &answer.2["code"]), (503, &json!("WD-PERMISSION-CHANGED")), "{:?}", answer.2);
}
