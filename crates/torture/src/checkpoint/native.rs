//! A copy that PostgreSQL itself keeps: a subscription of its own kind, in another database beside history. What it has is what the
//! source has, or one of the two is not what was committed.

use waldelta_testkit::fold::assert_same;
use waldelta_testkit::{TestCluster, TestDatabase, source_rows, wait_until};

use super::SETTLE_PATIENCE;
use crate::tables::{ALL, schema, source_of};

const PUBLICATION: &str = "torture_native";
/// Its shape changes, and a subscription follows no DDL.
const LEFT_OUT: &str = "public.grows";
/// So that it comes back soon: after a crash, and where nothing comes any more.
const SETTINGS: &str =
    "ALTER SYSTEM SET wal_retrieve_retry_interval = '500ms'; ALTER SYSTEM SET wal_receiver_timeout = '10s';
    ALTER SYSTEM SET wal_receiver_status_interval = '1s'; SELECT pg_reload_conf()";

/// The copy.
pub(crate) struct Native {
    database: TestDatabase,
    slot: String,
}

impl Native {
    /// Begins with tables that are empty. The copy goes with the cluster that it is in.
    pub(crate) async fn create(source: &TestDatabase, source_port: u16, beside: &TestCluster) -> Self {
        let database = TestDatabase::create_on(beside, "torture_n").await;
        let slot = source.slot("native");
        database.exec(&schema()).await;
        let tables: Vec<&str> = copied().collect();
        source
            .exec(&format!(
                "CREATE PUBLICATION {PUBLICATION} FOR TABLE {} WITH (publish_via_partition_root = true)",
                tables.join(", ")
            ))
            .await;
        for setting in SETTINGS.split(';') {
            database.exec(setting).await;
        }
        let from = format!("host=127.0.0.1 port={source_port} user=postgres dbname={}", source.name());
        database
            .exec(&format!(
                "CREATE SUBSCRIPTION torture CONNECTION '{from}' PUBLICATION {PUBLICATION}
                 WITH (copy_data = false, slot_name = '{slot}')"
            ))
            .await;
        Native { database, slot }
    }

    /// Waits until it has everything, and compares. The source is at rest.
    pub(super) async fn compare(&self, source: &TestDatabase) {
        let end = source.query_text("SELECT pg_current_wal_insert_lsn()").await;
        // What is reported is durable there, and so it is visible.
        let reported = format!(
            "SELECT confirmed_flush_lsn >= '{end}'::pg_lsn FROM pg_replication_slots WHERE slot_name = '{}'",
            self.slot
        );
        wait_until(
            &format!("the native subscription has everything up to {end}"),
            SETTLE_PATIENCE,
            async || source.query_text(&reported).await == "t",
        )
        .await;
        let (source, copy) = (source.client().await, self.database.client().await);
        for table in copied() {
            let rows = async |client| source_rows(client, source_of(table)).await;
            assert_same(&format!("the native copy's {table}"), &rows(&copy).await, &rows(&source).await);
        }
    }
}

fn copied() -> impl Iterator<Item = &'static str> {
    ALL.into_iter().filter(|table| *table != LEFT_OUT)
}
