//! Subscriptions that would take too much memory.

use serde_json::{Value, json};
use waldelta_fanout::Config;

use crate::support::*;

/// A subscription with a long list of values.
fn long(id: usize) -> Value {
    let values: Vec<String> = (0..900).map(|value| (value + id * 1_000).to_string()).collect();
    json!({"id": format!("s{id}"), "table": "public.t", "where": format!("id IN ({})", values.join(","))})
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_that_take_too_much_memory_are_refused_by_name() {
    let config = Config { sessions_max: 50, subscriptions_max: 1_000, ..Config::default() };
    let world = World::with("room", Setup { config, ..Setup::default() }).await;
    let all: Vec<Value> = (0..10).map(long).collect();
    let mut greedy = world.hello("greedy", json!({"snapshot": false, "subscriptions": all})).await;
    let refused = greedy.next_of_type("error", PATIENCE).await;
    assert_eq!((&refused["code"], &refused["fatal"]), (&json!("WD-SUBSCRIPTIONS-TOO-LARGE"), &json!(true)));
    assert_eq!(greedy.closed(PATIENCE).await.0, 4403);

    // One at a time, by a client that is served until then.
    let mut patient = world.hello("patient", json!({"snapshot": false, "subscriptions": [long(0)]})).await;
    patient.next_of_type("live", PATIENCE).await;
    let mut taken = 1;
    let refused = loop {
        patient.send(&json!({"type": "subscribe", "subscriptions": [long(taken)]})).await;
        let told = loop {
            let frame = patient.next_json(PATIENCE).await;
            if ["snapshot_end", "error"].contains(&frame["type"].as_str().unwrap()) {
                break frame;
            }
        };
        if told["type"] == "error" {
            break told;
        }
        taken += 1;
    };
    assert_eq!(refused["code"], "WD-SUBSCRIPTIONS-TOO-LARGE");
    assert!((2..10).contains(&taken), "{taken} were taken");
    assert_eq!(patient.closed(PATIENCE).await.0, 4403);

    // Each of these may have what it has, and together they may not.
    let mut here = Vec::new();
    let full = loop {
        let few: Vec<Value> = (0..3).map(|id| long(1_000 + here.len() * 10 + id)).collect();
        let more = json!({"snapshot": false, "subscriptions": few});
        let mut client = world.hello(&format!("c{}", here.len()), more).await;
        let frame = client.next_json(PATIENCE).await;
        if frame["type"] == "error" {
            break (frame, client.closed(PATIENCE).await);
        }
        here.push(client);
    };
    assert_eq!(full.0["code"], "WD-TOO-MANY-SUBSCRIPTIONS");
    let reason: Value = serde_json::from_str(&full.1.1).unwrap();
    assert_eq!((full.1.0, reason["retry_ms"].is_u64()), (4429, true), "{reason}");
    assert!((10..49).contains(&here.len()), "{} have room", here.len());
    // Whoever goes makes room, and somebody small always finds some.
    world.live("small").await;
    drop(here.pop());
    world.wait_sessions(here.len(), "live").await;
    let last = json!({"snapshot": false, "subscriptions": (0..3).map(long).collect::<Vec<_>>()});
    world.hello("last", last).await.next_of_type("live", PATIENCE).await;
}
