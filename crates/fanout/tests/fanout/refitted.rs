//! Tables that a rule does not fit for a while: before history knows them, after that, and while nobody changes them.

use std::sync::Arc;

use serde_json::{Value, json};
use waldelta_fanout::{Config, Policy, Rule, Rules};
use waldelta_testkit::{HttpStream, Replica, WsClient};
use waldelta_wal::{Change, Column, ReplicaIdentity, Table};

use crate::support::*;

const P: &str = "public.p";
const FULL: &str = "ALTER TABLE p REPLICA IDENTITY FULL";
const DEFAULT: &str = "ALTER TABLE p REPLICA IDENTITY DEFAULT";

/// Table `p` has rows of `a` and of `b`, of which those of `a` may be seen, and history has no change of it. The rule can be
/// decided with REPLICA IDENTITY FULL.
async fn world(hint: &str, prepare: &str) -> World {
    let rule = |table: &str, filter: Option<&str>| Rule {
        table: table.into(),
        filter: filter.map(str::to_owned),
        ..Rule::default()
    };
    let rules = [rule(P, Some("tenant = 'a'")), rule("public.t", None)];
    let policy = Policy { rules: Rules::parse(&rules).unwrap(), ..Policy::default() };
    let world =
        World::with(hint, Setup { config: Config { policy, ..Config::default() }, ..Setup::default() });
    let world = world.await;
    world
        .database
        .exec(&format!(
            "CREATE TABLE p (id int PRIMARY KEY, tenant text); ALTER PUBLICATION waldelta ADD TABLE p;
             INSERT INTO p VALUES (1, 'a'), (2, 'b'); {prepare}"
        ))
        .await;
    world
}

/// A shape of `p`, which history gets to know with the next transaction.
async fn shape(world: &mut World, identity: ReplicaIdentity) -> Arc<Table> {
    let oid = world.database.query_text("SELECT 'p'::regclass::oid").await.parse().unwrap();
    let mut shape = Table { identity, ..table(oid, "p") };
    let is_full = identity == ReplicaIdentity::Full;
    let tenant = Column { name: "tenant".into(), identity: is_full, ..shape.columns[1].clone() };
    shape.columns[1] = tenant;
    world.add_shape(shape)
}

/// The source has this row by now, and the stream tells it.
async fn inserted(world: &mut World, p: &Arc<Table>, id: u64, tenant: &str, first: Option<Change>) {
    world.database.exec(&format!("INSERT INTO p VALUES ({id}, '{tenant}')")).await;
    let seq = u32::from(first.is_some());
    let data = json!({"id": id, "tenant": tenant}).to_string();
    let row = Change { data: Some(data.into()), ..insert(p, seq, id) };
    let xid = world.xid().await;
    world.commit(xid, first.into_iter().chain([row]).collect()).await;
}

/// A row of `t`, by a transaction that snapshots show.
async fn told_of_t(world: &mut World) {
    let (xid, row) = (world.xid().await, insert(&world.t, 0, 1));
    world.commit(xid, vec![row]).await;
}

async fn connected(world: &World, id: &str, replica: &mut Replica) -> WsClient {
    replica.disconnected();
    let mut client = world.connect().await;
    client.send(&replica.hello(id, &[json!({"id": "all", "table": "*"})])).await;
    client.follow(replica, "it is live", PATIENCE, Replica::is_live).await;
    client
}

/// Follows until so many tables were reset, and it has these rows.
async fn after_resets(client: &mut WsClient, replica: &mut Replica, resets: usize, ids: &[u64]) {
    let is_there = |replica: &Replica| replica.resets().len() == resets && rows(replica) == ids;
    client.follow(replica, "it was reset", PATIENCE, is_there).await;
    assert!(replica.resets().iter().all(|reason| reason == "permission_changed"), "{:?}", replica.resets());
}

fn rows(replica: &Replica) -> Vec<u64> {
    let id = |row: &String| serde_json::from_str::<Value>(row).unwrap()["id"].as_u64().unwrap();
    replica.rows(P).iter().map(id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_comes_to_fit_before_its_first_change_comes_with_its_rows() {
    let mut world = world("refit_first", "").await;
    let (mut replica, mut away) = (Replica::new(), Replica::new());
    let mut client = connected(&world, "here", &mut replica).await;
    drop(connected(&world, "away", &mut away).await);
    assert_eq!((rows(&replica), rows(&away)), (vec![], vec![]));
    assert_eq!(away.access(), replica.access());

    world.database.exec(FULL).await;
    let p = shape(&mut world, ReplicaIdentity::Full).await;
    // Of another: whoever lacks the table is concerned all the same.
    inserted(&mut world, &p, 3, "b", None).await;
    after_resets(&mut client, &mut replica, 1, &[1]).await;
    inserted(&mut world, &p, 4, "a", None).await;
    client.follow(&mut replica, "the next row", PATIENCE, |replica| rows(replica) == [1, 4]).await;
    assert_eq!(replica.resets().len(), 1);

    // Who comes back with a cursor from before lacks it too, once.
    let mut client = connected(&world, "away", &mut away).await;
    after_resets(&mut client, &mut away, 1, &[1, 4]).await;
    let access = replica.access().map(str::to_owned);
    client.follow(&mut away, "it has all", PATIENCE, |away| away.access() == access.as_deref()).await;
    assert_ne!(replica.access(), None);
    let mut again = connected(&world, "away", &mut away).await;
    inserted(&mut world, &p, 5, "a", None).await;
    again.follow(&mut away, "the next row", PATIENCE, |replica| rows(replica) == [1, 4, 5]).await;
    assert_eq!((away.resets().len(), away.access()), (1, replica.access()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_ceases_to_fit_before_its_first_change_is_dropped_and_comes_again() {
    let mut world = world("refit_closed", FULL).await;
    let mut replica = Replica::new();
    let mut client = connected(&world, "here", &mut replica).await;
    assert_eq!(rows(&replica), [1]);
    world.database.exec(DEFAULT).await;
    let unfit = shape(&mut world, ReplicaIdentity::Default).await;
    inserted(&mut world, &unfit, 3, "a", None).await;
    after_resets(&mut client, &mut replica, 1, &[]).await;
    // Nothing of it is told meanwhile, and nothing is said of it again.
    inserted(&mut world, &unfit, 4, "a", None).await;
    told_of_t(&mut world).await;
    client
        .follow(&mut replica, "others go on", PATIENCE, |replica| !replica.rows("public.t").is_empty())
        .await;
    assert_eq!((rows(&replica), replica.resets().len()), (vec![], 1));

    world.database.exec(FULL).await;
    let fits = shape(&mut world, ReplicaIdentity::Full).await;
    inserted(&mut world, &fits, 5, "b", Some(schema_change(&fits, 0))).await;
    after_resets(&mut client, &mut replica, 2, &[1, 3, 4]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_does_not_fit_between_two_changes_comes_with_the_next() {
    let mut world = world("refit_between", FULL).await;
    let p = shape(&mut world, ReplicaIdentity::Full).await;
    inserted(&mut world, &p, 3, "a", None).await;
    world.database.exec(DEFAULT).await;
    let (mut replica, mut away) = (Replica::new(), Replica::new());
    let mut client = connected(&world, "here", &mut replica).await;
    drop(connected(&world, "away", &mut away).await);
    assert_eq!(rows(&replica), [0u64; 0]);
    // History has no other shape: it was never changed in that one.
    world.database.exec(FULL).await;
    inserted(&mut world, &p, 4, "a", None).await;
    after_resets(&mut client, &mut replica, 1, &[1, 3, 4]).await;
    let mut client = connected(&world, "away", &mut away).await;
    after_resets(&mut client, &mut away, 1, &[1, 3, 4]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_had_another_name_meanwhile_comes_with_all_of_its_rows() {
    let mut world = world("refit_renamed", FULL).await;
    let p = shape(&mut world, ReplicaIdentity::Full).await;
    inserted(&mut world, &p, 3, "a", None).await;
    let mut replica = Replica::new();
    let mut client = connected(&world, "here", &mut replica).await;
    world.database.exec("ALTER TABLE p RENAME TO elsewhere; INSERT INTO elsewhere VALUES (4, 'a')").await;
    let elsewhere = Table { name: "public.elsewhere".parse().unwrap(), ..Table::clone(&p) };
    let elsewhere = world.add_shape(elsewhere);
    let row =
        Change { data: Some(json!({"id": 4, "tenant": "a"}).to_string().into()), ..insert(&elsewhere, 1, 4) };
    let xid = world.xid().await;
    world.commit(xid, vec![schema_change(&elsewhere, 0), row]).await;
    world.database.exec("ALTER TABLE elsewhere RENAME TO p").await;
    let back = shape(&mut world, ReplicaIdentity::Full).await;
    assert_eq!(back.version, 3);
    inserted(&mut world, &back, 5, "b", Some(schema_change(&back, 0))).await;
    after_resets(&mut client, &mut replica, 1, &[1, 3, 4]).await;
}

async fn lines(world: &World, query: &str) -> Vec<Value> {
    let url = world.stream_url();
    let address = url.trim_start_matches("ws://").trim_end_matches("/v1/stream");
    let path = format!("/v1/changes?{query}");
    let stream = HttpStream::get(address, &path, "Accept: application/x-ndjson\r\n").await;
    let body = stream.body(PATIENCE).await;
    body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_over_http_is_told_that_a_table_fits_no_more_and_again() {
    let mut world = world("refit_http", FULL).await;
    let before = world.head();
    let url = world.stream_url();
    let address = url.trim_start_matches("ws://").trim_end_matches("/v1/stream").to_owned();
    let path = format!("/v1/changes?after={before}&table={P}");
    let mut events = HttpStream::get(&address, &path, "Accept: text/event-stream\r\n").await;
    let shapes = [ReplicaIdentity::Full, ReplicaIdentity::Default, ReplicaIdentity::Full];
    for (id, identity) in (3..).zip(shapes) {
        let p = shape(&mut world, identity).await;
        let told = (p.version > 1).then(|| schema_change(&p, 0));
        inserted(&mut world, &p, id, "a", told).await;
    }
    let expected = ["schema", "tx 3", "reset", "reset", "schema", "tx 5"];
    let told = |frame: &Value| match frame["type"].as_str().unwrap() {
        "tx" => format!("tx {}", ids(frame).iter().map(u64::to_string).collect::<Vec<_>>().join(",")),
        "reset" => {
            let reset = json!({"type": "reset", "reason": "permission_changed", "tables": [P]});
            assert_eq!(*frame, reset);
            "reset".to_owned()
        }
        other => other.to_owned(),
    };
    let mut followed = Vec::new();
    while followed.len() < expected.len() {
        let event = events.event(PATIENCE).await.unwrap();
        if !["live", "heartbeat"].contains(&&*event.kind) {
            followed.push(told(&event.data));
        }
    }
    assert_eq!(followed, expected);
    let read = lines(&world, &format!("after={before}&table={P}")).await;
    assert_eq!(read.iter().map(told).collect::<Vec<_>>(), [&expected[..], &["live"]].concat());
    let (_, page) = world.get(&format!("/v1/changes?after={before}&table={P}"), "").await;
    let told: Vec<_> = page["transactions"].as_array().unwrap().iter().flat_map(ids).collect();
    let resets = page["resets"].as_array().unwrap().iter();
    let resets: Vec<_> = resets.map(|reset| reset["table"].as_str().unwrap()).collect();
    assert_eq!((told, resets), (vec![3, 5], vec![P, P]), "{page}");
}

/// A rule for a table of which history has no shape is held against what the source says of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_nobody_has_changed_is_looked_up_at_the_source() {
    for (hint, prepare, is_seen) in [("refit_unknown", "", false), ("refit_known", FULL, true)] {
        let mut world = world(hint, prepare).await;
        let mut replica = Replica::new();
        let mut client = connected(&world, "here", &mut replica).await;
        let (status, _) = world.get(&format!("/v1/snapshot?table={P}"), "").await;
        assert_eq!(status, if is_seen { 200 } else { 404 });
        let before = world.head();
        let oid = world.database.query_text("SELECT 'p'::regclass::oid").await.parse().unwrap();
        let p = Arc::new(table(oid, "p"));
        world.reset(&[&p]).await;
        told_of_t(&mut world).await;
        let has_t = |replica: &Replica| replica.rows("public.t").len() == 1 && replica.is_live();
        client.follow(&mut replica, "it has read past it", PATIENCE, has_t).await;
        let resets: &[&str] = if is_seen { &["gap"] } else { &[] };
        assert_eq!(replica.resets(), resets, "{hint}");
        assert_eq!(rows(&replica).len(), usize::from(is_seen), "{hint}");
        let (_, page) = world.get(&format!("/v1/changes?after={before}"), "").await;
        let named = page["resets"].as_array().unwrap().len();
        assert_eq!((named, page.to_string().contains(P)), (usize::from(is_seen), is_seen), "{page}");
        // Of its rows history knows nothing, whoever asks.
        for table in [P, "public.nosuch"] {
            let (status, body) = world.get(&format!("/v1/rows/{table}/1"), "").await;
            assert_eq!((status, &body["code"]), (404, &json!("WD-TABLE-NOT-CAPTURED")), "{body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_waits_while_its_place_is_pruned_says_so() {
    let mut world = world("refit_pruned", FULL).await;
    let cursor = world.commit_inserts(1..2).await[0];
    let url = world.stream_url();
    let address = url.trim_start_matches("ws://").trim_end_matches("/v1/stream").to_owned();
    let path = format!("/v1/changes?after={cursor}&table={P}&wait=60s");
    let request = HttpStream::get(&address, &path, "");
    let prune = async {
        let floor = waldelta_wal::Lsn(world.next_lsn() + 4);
        let pruned = format!(
            "UPDATE waldelta.captures SET pruned_epoch = epoch, pruned_lsn = '{floor}', pruned_time = now()"
        );
        world.database.exec(&pruned).await;
        world.skip_to(floor.0 + 8);
        world.commit_inserts(2..3).await;
    };
    let (stream, ()) = tokio::join!(request, prune);
    assert_eq!(stream.status(), 410);
    // Either while it waited or, where it came late, before.
    let body = stream.body(PATIENCE).await;
    assert!(
        ["WD-HISTORY-PRUNED", "WD-CURSOR-NOT-RESUMABLE"].iter().any(|code| body.contains(code)),
        "{body}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_of_columns_that_may_not_be_seen_any_more_ends_alone() {
    let mut world = world("refit_columns", "INSERT INTO t VALUES (1, 'x')").await;
    let asked = [
        json!({"id": "hidden", "table": "public.t", "columns": ["v"]}),
        json!({"id": "read", "table": "public.t", "columns": ["id"], "where": "v = 'x'"}),
        json!({"id": "key", "table": "public.t", "columns": ["id"]}),
    ];
    let mut replica = Replica::new();
    let mut client = world.connect().await;
    client.send(&replica.hello("c", &asked)).await;
    client.follow(&mut replica, "it is live", PATIENCE, Replica::is_live).await;
    assert_eq!(replica.rows("public.t"), [r#"{"id":1,"v":"x"}"#]);
    let rule = Rule { table: "public.t".into(), columns: Some(Vec::new()), ..Rule::default() };
    world.fanout.apply(Policy { rules: Rules::parse(&[rule]).unwrap(), ..Policy::default() });
    let is_told = |replica: &Replica| replica.rows("public.t") == [r#"{"id":1}"#];
    client.follow(&mut replica, "it has what is left", PATIENCE, is_told).await;
    assert_eq!(replica.resets(), ["permission_changed"]);
    let refused = |error: &Value| {
        assert_eq!(
            (&error["code"], &error["fatal"]),
            (&json!("WD-FILTER-INVALID"), &json!(false)),
            "{error}"
        );
        error["subscription"].as_str().unwrap().to_owned()
    };
    let mut refused: Vec<String> = replica.errors().iter().map(refused).collect();
    refused.sort();
    assert_eq!(refused, ["hidden", "read"]);
    // The third goes on.
    world.commit_inserts(2..3).await;
    let tx = client.next_of_type("tx", PATIENCE).await;
    assert_eq!((&tx["changes"][0]["data"], &tx["changes"][0]["sub"]), (&json!({"id": 2}), &json!(["key"])));
}
