//! What is known of the row before a change, while that is switched.

use crate::world::World;

/// A value that stands outside of the row, and is sent only where it changed.
const LONG: &str = "repeat('x', 100000)";
const ROW: &str = "operation || ' ' || row_key || ' ' || coalesce((data - 'big')::text, '-') || ' ' \
                   || coalesce(length(data->>'big')::text, 'without') || ' ' || coalesce((old_data - 'big')::text, '-') \
                   || ' ' || coalesce(length(old_data->>'big')::text, 'without') || coalesce(' ' || metadata::text, '')";

async fn world(hint: &str) -> World {
    let world = World::begun(
        hint,
        "CREATE TABLE t (id int PRIMARY KEY, k int NOT NULL, n int, big text);
         ALTER TABLE t ALTER big SET STORAGE EXTERNAL; CREATE UNIQUE INDEX t_k ON t (k)",
    )
    .await;
    world.source_db.exec(&format!("INSERT INTO t VALUES (1, 10, 0, {LONG}), (2, 20, 0, {LONG})")).await;
    world
}

const SWITCHES: [&str; 5] = [
    "UPDATE t SET n = 1 WHERE id = 1",
    "ALTER TABLE t REPLICA IDENTITY FULL; UPDATE t SET n = 2 WHERE id = 1",
    "ALTER TABLE t REPLICA IDENTITY USING INDEX t_k; UPDATE t SET n = 3 WHERE id = 1; UPDATE t SET k = 11 WHERE id = 1; DELETE FROM t WHERE id = 2",
    "ALTER TABLE t REPLICA IDENTITY NOTHING; INSERT INTO t VALUES (3, 30, 0, 'short')",
    "ALTER TABLE t REPLICA IDENTITY DEFAULT; UPDATE t SET n = 4 WHERE id = 1; UPDATE t SET id = 5 WHERE id = 1",
];

const EXPECTED: [&str; 10] = [
    r#"insert [1] {"k": 10, "n": 0, "id": 1} 100000 - without"#,
    r#"insert [2] {"k": 20, "n": 0, "id": 2} 100000 - without"#,
    r#"update [1] {"k": 10, "n": 1, "id": 1} without - without {"unchanged": ["big"]}"#,
    r#"update [1] {"k": 10, "n": 2, "id": 1} 100000 {"k": 10, "n": 1, "id": 1} 100000"#,
    r#"update [10] {"k": 10, "n": 3, "id": 1} without - without {"unchanged": ["big"]}"#,
    r#"update [11] {"k": 11, "n": 3, "id": 1} without {"k": 10} without {"unchanged": ["big"], "moved_from": "[10]"}"#,
    r#"delete [20] - without {"k": 20} without"#,
    r#"insert [3] {"k": 30, "n": 0, "id": 3} 5 - without"#,
    r#"update [1] {"k": 11, "n": 4, "id": 1} without - without {"unchanged": ["big"]}"#,
    r#"update [5] {"k": 11, "n": 4, "id": 5} without {"id": 1} without {"unchanged": ["big"], "moved_from": "[1]"}"#,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switched_between_transactions() {
    let world = world("identbetween").await;
    let capture = world.run();
    for switch in SWITCHES {
        world.source_db.exec(switch).await;
    }
    world.wait_told(10).await;
    assert_eq!(world.told(ROW).await, EXPECTED);
    world.assert_gapless().await;
    capture.stop().await;
}

/// And the same while nobody captures: the catalog shows only the last of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switched_within_a_transaction_and_met_later() {
    let world = world("identwithin").await;
    world.source_db.exec(&format!("BEGIN; {}; COMMIT", SWITCHES.join("; "))).await;
    let capture = world.run();
    world.wait_told(10).await;
    assert_eq!(world.told(ROW).await, EXPECTED);
    world.assert_gapless().await;
    capture.stop().await;
}

/// Under FULL nothing marks the primary key, and it changes without a sign in the columns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_key_that_changes_under_full() {
    let world = World::begun(
        "identkey",
        "CREATE TABLE t (id int PRIMARY KEY, k int NOT NULL); ALTER TABLE t REPLICA IDENTITY FULL",
    )
    .await;
    let capture = world.run();
    world.source_db.exec("INSERT INTO t VALUES (1, 10)").await;
    world.wait_told(1).await;
    world.source_db.exec("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (k)").await;
    world.source_db.exec("INSERT INTO t VALUES (2, 20)").await;
    world.wait_told(2).await;
    assert_eq!(world.told("row_key").await, ["[1]", "[20]"]);
    capture.stop().await;
}
