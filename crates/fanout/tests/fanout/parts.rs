//! The client side with a task for each of its parts.

use serde_json::json;

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn parts_on_tasks_of_their_own_serve_and_end_as_all_of_them_together_do() {
    let (mut world, mut parts) = World::new("parts").await.restart_in_parts().await;
    let mut live = world.live("live").await;
    // It takes the snapshots, and the frontier.
    let mut fresh = world.hello("fresh", json!({})).await;
    fresh.next_of_type("live", PATIENCE).await;
    world.commit_inserts(1..3).await;
    for id in 1..3 {
        for client in [&mut live, &mut fresh] {
            assert_eq!(ids(&client.next_of_type("tx", PATIENCE).await), [id]);
        }
    }

    world.stop.cancel();
    for client in [&mut live, &mut fresh] {
        assert_eq!(client.closed(PATIENCE).await.0, 1012);
    }
    let ended = async {
        let mut names = Vec::new();
        while let Some(name) = parts.join_next().await {
            let name = name.unwrap();
            names.push(name);
            if name == "fanout" {
                // What is kept of clients is written by another part, which has ended before this one.
                let known = world.fanout.clients(10).await.unwrap();
                let mut known: Vec<_> = known.into_iter().map(|client| client.client_id).collect();
                known.sort_unstable();
                assert_eq!(known, ["fresh", "live"]);
            }
        }
        names.sort_unstable();
        names
    };
    let names = tokio::time::timeout(PATIENCE, ended).await.unwrap();
    assert_eq!(names, ["audit", "clients", "fanout", "frontier", "pages", "router", "snapshots"]);
    world.running.await.unwrap();
}
