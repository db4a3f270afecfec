//! What a WebSocket client sees by the rules, and what happens to it when they change.

use serde_json::{Value, json};
use waldelta_fanout::{Config, Policy, Rule, Rules};
use waldelta_testkit::{Frame, Replica, WsClient, wait_until};

use crate::authentication::{NEVER, any, live_as, unread};
use crate::http_access::{Token, by_tokens, token};
use crate::support::*;

fn policy(rules: &[(&str, Option<&str>)]) -> Policy {
    let rule = |(table, filter): &(&str, Option<&str>)| Rule {
        table: (*table).to_owned(),
        filter: filter.map(str::to_owned),
        ..Rule::default()
    };
    let rules: Vec<Rule> = rules.iter().map(rule).collect();
    Policy { rules: Rules::parse(&rules).unwrap(), ..Policy::default() }
}

async fn world(hint: &str, policy: Policy, config: Config) -> World {
    let config = Config { policy, ..config };
    World::with(hint, Setup { config, access: by_tokens(), ..Setup::default() }).await
}

async fn of_tenant(world: &World, subject: &str, tenant: &str) -> Token {
    token(world, subject, |new| _ = new.claims.insert("tenant".into(), tenant.into())).await
}

async fn hello(world: &World, replica: &Replica, token: &Token, tables: &[&str]) -> WsClient {
    let subscriptions: Vec<Value> = tables.iter().map(|table| json!({"id": table, "table": table})).collect();
    let mut hello = replica.hello("c", &subscriptions);
    hello["token"] = token.text.clone().into();
    let mut client = world.connect().await;
    client.send(&hello).await;
    client
}

async fn is_settled(client: &mut WsClient, replica: &mut Replica, what: &str) {
    client.follow(replica, what, PATIENCE, Replica::is_live).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_subscriptions_of_different_tenants_share_nothing() {
    let mut world =
        world("perm_tenants", policy(&[("t", Some("id = :claims.tenant"))]), Config::default()).await;
    let (one, two) = (of_tenant(&world, "ann", "1").await, of_tenant(&world, "bob", "2").await);
    let (mut ann, mut bob) = (live_as(&world, "c", &one).await, live_as(&world, "c", &two).await);
    let changes = vec![insert(&world.t, 0, 1), insert(&world.t, 1, 2), insert(&world.t, 2, 3)];
    world.commit(FUTURE_XID, changes).await;
    assert_eq!(ids(&ann.next_of_type("tx", PATIENCE).await), [1]);
    assert_eq!(ids(&bob.next_of_type("tx", PATIENCE).await), [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_may_not_be_seen_is_answered_as_one_that_does_not_exist() {
    let world = world("perm_hidden", policy(&[("t", None)]), Config::default()).await;
    let ann = token(&world, "ann", any).await;
    let mut answers = Vec::new();
    for table in ["u", "nosuch"] {
        let mut client = hello(&world, &Replica::new(), &ann, &[table]).await;
        client.next_of_type("welcome", PATIENCE).await;
        let alike = |error: Value| {
            let error = error.to_string().replace(&format!("public.{table}"), "public.x");
            error.replace(&format!("\"{table}\""), "\"x\"")
        };
        let error = alike(client.next_of_type("error", PATIENCE).await);
        let closed = client.closed(PATIENCE).await;
        // And while connected.
        let mut client = live_as(&world, "c", &ann).await;
        client.send(&json!({"type": "subscribe", "subscriptions": [{"id": "s", "table": table}]})).await;
        let late = alike(client.next_of_type("error", PATIENCE).await);
        answers.push((error, closed, late));
    }
    assert_eq!(answers[0], answers[1]);
    assert!(answers[0].0.contains("WD-TABLE-NOT-CAPTURED") && answers[0].1.0 == 4403, "{answers:?}");
}

/// By names and by whatever there is; `u` has never changed, so that history does not know it.
#[tokio::test(flavor = "multi_thread")]
async fn rules_that_change_are_told_to_who_is_connected() {
    for (hint, tables) in [("perm_live", &["t", "u"][..]), ("perm_wild", &["*"][..])] {
        let all = policy(&[("t", None), ("u", None)]);
        let mut world = world(hint, all.clone(), Config::default()).await;
        world.database.exec("INSERT INTO t VALUES (1, 'x'), (2, 'x'); INSERT INTO u VALUES (1, 'x')").await;
        let ann = token(&world, "ann", any).await;
        let mut replica = Replica::new();
        let mut client = hello(&world, &replica, &ann, tables).await;
        is_settled(&mut client, &mut replica, "it has all of it").await;
        let rows = |replica: &Replica| ["public.t", "public.u"].map(|table| replica.rows(table).len());
        let before = replica.access().unwrap().to_owned();
        assert_eq!((rows(&replica), before.len()), ([2, 1], 16));

        for (rules, expected) in [
            (policy(&[("t", Some("id = 1"))]), [1, 0]),
            (policy(&[("u", None)]), [0, 1]),
            (policy(&[]), [0, 0]),
            (all, [2, 1]),
        ] {
            let resets = replica.resets().len();
            world.fanout.apply(rules);
            let is_told = |replica: &Replica| replica.resets().len() > resets && replica.is_live();
            client.follow(&mut replica, "it has what it may see", PATIENCE, is_told).await;
            assert_eq!(rows(&replica), expected);
        }
        assert!(replica.resets().iter().all(|reason| reason == "permission_changed"));
        assert_eq!(replica.access(), Some(&*before));

        // What was not told before is not told afterwards, and the stream goes on.
        world.fanout.apply(policy(&[("u", None)]));
        client
            .follow(&mut replica, "it has lost `t`", PATIENCE, |replica| {
                replica.rows("public.t").is_empty() && replica.is_live()
            })
            .await;
        let (t, u) = world.both();
        world.commit(FUTURE_XID, vec![insert_text(&t, 0, 7, "secret"), insert(&u, 1, 7)]).await;
        let tx = client.next_of_type("tx", PATIENCE).await;
        assert_eq!(tx["changes"].as_array().unwrap().len(), 1, "{tx}");
        assert!(!tx.to_string().contains("secret"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_while_rules_changed_begins_anew() {
    let (all, some) = (policy(&[("*", None)]), policy(&[("t", Some("id = 1"))]));
    let world = world("perm_away", all, Config::default()).await;
    world.database.exec("INSERT INTO t VALUES (1, 'x'), (2, 'x')").await;
    let ann = token(&world, "ann", any).await;
    let mut replica = Replica::new();
    let mut client = hello(&world, &replica, &ann, &["t"]).await;
    is_settled(&mut client, &mut replica, "it has all of it").await;
    for (rules, resets, rows) in [(None, 0, 2), (Some(some), 1, 1), (None, 1, 1)] {
        drop(client);
        replica.disconnected();
        if let Some(rules) = rules {
            world.fanout.apply(rules);
        }
        client = hello(&world, &replica, &ann, &["t"]).await;
        is_settled(&mut client, &mut replica, "it is back").await;
        assert_eq!((replica.resets().len(), replica.rows("public.t").len()), (resets, rows));
    }
    // Without `access` nobody can know.
    drop(client);
    world.fanout.apply(policy(&[("t", None)]));
    let after = replica.position().unwrap().to_string();
    let mut client = world.hello("c", json!({"token": ann.text, "after": after})).await;
    assert_eq!(client.next_of_type("welcome", PATIENCE).await["mode"], "resume");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_token_with_other_claims_shows_something_else() {
    let world = world("perm_claims", policy(&[("t", Some("id = :claims.tenant"))]), Config::default()).await;
    world.database.exec("INSERT INTO t VALUES (1, 'x'), (2, 'x')").await;
    let (one, two) = (of_tenant(&world, "ann", "1").await, of_tenant(&world, "ann", "2").await);
    let mut replica = Replica::new();
    let mut client = hello(&world, &replica, &one, &["t"]).await;
    is_settled(&mut client, &mut replica, "it has its own").await;
    assert_eq!(replica.rows("public.t"), [r#"{"id":1,"v":"x"}"#]);
    client.send(&json!({"type": "auth", "token": two.text})).await;
    let is_other = |replica: &Replica| replica.resets().len() == 1 && replica.is_live();
    client.follow(&mut replica, "it has the other's", PATIENCE, is_other).await;
    assert_eq!(replica.rows("public.t"), [r#"{"id":2,"v":"x"}"#]);
}

/// What waits to be written was read as it might be seen before: it is not written any more.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_slow_client_is_not_sent_any_more() {
    let config = Config { write_timeout: NEVER, heartbeat_interval: NEVER, ..Config::default() };
    let mut world = world("perm_slow", policy(&[("t", None)]), config).await;
    let (ann, bob) = (token(&world, "ann", any).await, token(&world, "bob", any).await);
    let mut fast = world.hello("fast", json!({"token": bob.text})).await;
    fast.next_of_type("live", PATIENCE).await;
    let hello = json!({"type": "hello", "client_id": "slow", "token": ann.text, "snapshot": false,
                       "subscriptions": [{"id": "s", "table": "t"}]});
    let mut slow = unread(&world, hello).await;
    slow.next_of_type("live", PATIENCE).await;
    let text = "z".repeat(100_000);
    for id in 0..40 {
        let change = insert_text(&world.t, 0, id, &text);
        world.commit(FUTURE_XID + id, vec![change]).await;
        fast.next_of_type("tx", PATIENCE).await;
    }
    world.fanout.apply(policy(&[("u", None)]));
    fast.next_of_type("reset", PATIENCE).await;
    wait_until("its session has ended", PATIENCE, || async {
        world.fanout.sessions().iter().all(|session| session.client_id != "slow")
    })
    .await;
    let mut told = 0;
    while let Frame::Text(text) = slow.next_frame(PATIENCE).await {
        told += usize::from(text.contains(r#""type":"tx""#));
    }
    assert!(told < 20, "{told} transactions were sent to a client that did not read");
}
