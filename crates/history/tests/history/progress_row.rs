//! The rows that every append, or every few seconds, updates stay as small as they are.

use std::time::Duration;

use waldelta_testkit::{TestCluster, TestDatabase, wait_until};

use crate::support::*;

const PATIENCE: Duration = Duration::from_secs(60);
const APPENDS: u64 = 2_000;
/// A page or two for one row, and as much for its index.
const BYTES_MAX: i64 = 2 * 8192;

#[tokio::test]
async fn it_is_updated_in_place_by_every_append() {
    // What anybody in a cluster may still see cannot be reused: nobody else is in this one.
    let cluster = TestCluster::own(&[("autovacuum", "off")]).await;
    let database = TestDatabase::create_on(&cluster, "progress_row").await;
    let (_history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    for at in 0..APPENDS {
        // By turns with rows and, as for a keepalive, without.
        if at % 2 == 0 {
            writer.append(vec![transaction(START + 2 * at, vec![insert(&orders, 0, at)])]).await.unwrap();
        } else {
            writer.advance(end(START + 2 * at + 1)).await.unwrap();
        }
    }
    // What a backend has counted is told at the latest when it ends.
    writer.release().await.unwrap();
    let counted = "SELECT n_tup_upd, n_tup_hot_upd, pg_relation_size(relid), pg_indexes_size(relid)
        FROM pg_stat_user_tables WHERE relid = 'waldelta.captures'::regclass";
    let client = database.client().await;
    let counts = async || {
        let row = client.query_one(counted, &[]).await.unwrap();
        [0, 1, 2, 3].map(|at| row.get::<_, i64>(at))
    };
    let updates = i64::try_from(APPENDS).unwrap();
    wait_until("the updates are counted", PATIENCE, async || counts().await[0] >= updates).await;
    let [updated, in_place, bytes, index_bytes] = counts().await;
    assert!(in_place * 100 > updated * 99, "{in_place} of {updated} updates were in place");
    assert!(bytes <= BYTES_MAX && index_bytes <= BYTES_MAX, "{bytes} and {index_bytes} bytes");
}

/// Of all tables whose rows are updated again and again: none has an index on what an update changes.
#[tokio::test]
async fn nothing_that_changes_again_and_again_is_indexed() {
    let database = TestDatabase::create("progress_indexes").await;
    let _history = begun(&database).await;
    let indexed = "SELECT string_agg(attrelid::regclass || '.' || attname, ' ' ORDER BY 1)
        FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
        WHERE indrelid IN ('waldelta.captures'::regclass, 'waldelta.leases'::regclass, 'waldelta.clients'::regclass)";
    let indexed = database.query_text(indexed).await;
    assert_eq!(
        indexed.split(' ').collect::<std::collections::BTreeSet<_>>(),
        ["waldelta.captures.id", "waldelta.clients.client_id", "waldelta.leases.capture_id"].into()
    );
    let room = "SELECT string_agg(relname::text, ' ' ORDER BY relname) FROM pg_class
        WHERE relnamespace = 'waldelta'::regnamespace AND 'fillfactor=50' = ANY (reloptions)";
    assert_eq!(database.query_text(room).await, "captures clients leases");
}
