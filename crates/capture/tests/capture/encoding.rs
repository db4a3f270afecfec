//! A source without an encoding: its text is any bytes.

use waldelta_testkit::TestCluster;

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_text_arrive_flagged_and_nothing_stops() {
    let cluster = TestCluster::own(&[]).await;
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text, at timestamptz)";
    let world = World::bare_encoded(&cluster, "ascii", "SQL_ASCII", table).await;
    // The settings of the database say otherwise, and must not matter.
    let settings = format!(
        "ALTER DATABASE {0} SET DateStyle = 'German'; ALTER DATABASE {0} SET TimeZone = 'Asia/Tokyo'",
        world.source_db.name()
    );
    world.source_db.exec(&settings).await;
    world.publish().await;
    world.begin().await;
    let capture = world.run();
    world.source_db.exec(r"INSERT INTO t VALUES (1, 'plain', '2024-01-02 00:00:00+00')").await;
    world.source_db.exec(r"INSERT INTO t VALUES (2, E'caf\xe9', NULL)").await;
    world.source_db.exec(r"INSERT INTO t VALUES (3, E'caf\xc3\xa9', NULL)").await;
    world.source_db.exec(r"UPDATE t SET v = E'\xff' WHERE id = 1").await;
    world.wait_told(4).await;
    assert_eq!(
        world.told("row_key || ' ' || data || coalesce(' ' || metadata::text, '')").await,
        [
            r#"[1] {"v": "plain", "at": "2024-01-02T00:00:00+00:00", "id": 1}"#,
            r#"[2] {"v": "\\x636166e9", "at": null, "id": 2} {"flagged": ["v"]}"#,
            "[3] {\"v\": \"caf\u{e9}\", \"at\": null, \"id\": 3}",
            r#"[1] {"v": "\\xff", "at": "2024-01-02T00:00:00+00:00", "id": 1} {"flagged": ["v"]}"#,
        ]
    );
    capture.stop().await;
}
