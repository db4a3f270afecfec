//! An independent witness of what committed: a replication slot of its own, which PostgreSQL itself decodes, compared
//! with what history holds at any moment, also between two lives of the service.

use std::collections::BTreeMap;

use tokio_postgres::Client;
use waldelta_testkit::{TestDatabase, connect};
use waldelta_wal::Lsn;

/// Per transaction with changes of captured tables: xid, where its commit record begins and ends, number of rows. The
/// bytes are the protocol's: `C` flags(1) commit(8) end(8) …, and `I`, `U`, `D` with the table's object id (4).
const WITNESSED_SQL: &str = "
    SELECT xid::text,
           max(encode(substr(data, 3, 8), 'hex')) FILTER (WHERE get_byte(data, 0) = 67),
           max(encode(substr(data, 11, 8), 'hex')) FILTER (WHERE get_byte(data, 0) = 67),
           count(*) FILTER (WHERE get_byte(data, 0) IN (73, 85, 68) AND encode(substr(data, 2, 4), 'hex')
               <> lpad(to_hex('waldelta.canary'::regclass::oid::bigint), 8, '0')) AS changes
    FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL, 'proto_version', '1', 'publication_names', 'waldelta')
    GROUP BY xid ORDER BY 2";

/// D and what is stored, in one statement: of one moment.
const STORED_SQL: &str = "
    SELECT 'D', durable_end::text, 0::bigint FROM waldelta.captures
    UNION ALL
    SELECT transaction_id::text, lsn::text, count(*) FROM waldelta.change_history
    WHERE operation IN ('insert', 'update', 'delete') GROUP BY transaction_id, lsn";

/// Transactions whose changes are not numbered from 0 without gap.
const GAPS_SQL: &str = "
    SELECT epoch::text, lsn::text FROM waldelta.change_history GROUP BY epoch, lsn
    HAVING min(seq) <> 0 OR max(seq) <> count(*) - 1 OR count(DISTINCT seq) <> count(*)";

const IDS_SQL: &str = "SELECT (count(*) - count(DISTINCT id))::text FROM waldelta.change_history";

/// A transaction that the witness saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessed {
    pub xid: String,
    pub commit: Lsn,
    pub end: Lsn,
    pub rows: i64,
}

/// The witness of one source. Its slot goes with the source's database.
pub struct Oracle {
    source_url: String,
    history_url: String,
    slot: String,
    service_slot: String,
}

impl Oracle {
    /// Watches from now on: begun before the first change, it sees everything that history has to have. The publication
    /// has to be there.
    pub async fn begin(source: &TestDatabase, history: &TestDatabase) -> Self {
        let slot = source.slot("witness");
        source
            .query_text(&format!("SELECT lsn FROM pg_create_logical_replication_slot('{slot}', 'pgoutput')"))
            .await;
        let (source_url, history_url) = (source.url().to_owned(), history.url().to_owned());
        Oracle { source_url, history_url, slot, service_slot: source.slot("slot") }
    }

    /// Every transaction with changes that has committed so far, in the order of their commits.
    pub async fn witnessed(&self) -> Vec<Witnessed> {
        let client = connect(&self.source_url).await;
        let rows = client.query(WITNESSED_SQL, &[&self.slot]).await.unwrap();
        let lsn = |hex: &str| Lsn(u64::from_str_radix(hex, 16).unwrap());
        let read = |row: &tokio_postgres::Row| Witnessed {
            xid: row.get(0),
            commit: lsn(row.get(1)),
            end: lsn(row.get(2)),
            rows: row.get(3),
        };
        rows.iter().map(read).filter(|transaction| transaction.rows > 0).collect()
    }

    /// D as history has it now.
    pub async fn durable_end(&self) -> Lsn {
        let client = connect(&self.history_url).await;
        text(&client, "SELECT durable_end::text FROM waldelta.captures").await.parse().unwrap()
    }

    /// Checks that history holds exactly the transactions that ended at or below D, each with all of its rows and once,
    /// numbered without gaps, and that the slot was told nothing that is not durable. True at every moment.
    pub async fn check(&self, when: &str) {
        let (source, history) = (connect(&self.source_url).await, connect(&self.history_url).await);
        // The slot first: what it was told by then must be durable by now.
        let slot = &self.service_slot;
        let confirmed =
            format!("SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = '{slot}'");
        let confirmed: Lsn = text(&source, &confirmed).await.parse().unwrap();
        let (durable, stored) = stored(&history).await;
        assert!(confirmed <= durable, "{when}: the slot was told {confirmed}, history has {durable}");

        let witnessed = self.witnessed().await;
        let due = witnessed.iter().filter(|transaction| transaction.end <= durable);
        let due: BTreeMap<Lsn, (String, i64)> = due.map(|t| (t.commit, (t.xid.clone(), t.rows))).collect();
        for (commit, transaction) in &due {
            assert_eq!(
                Some(transaction),
                stored.get(commit),
                "{when}: (xid, rows) of {commit}, with D at {durable}"
            );
        }
        for (commit, transaction) in &stored {
            assert_eq!(
                due.get(commit),
                Some(transaction),
                "{when}: (xid, rows) of {commit}, with D at {durable}"
            );
        }
        let gaps = history.query(GAPS_SQL, &[]).await.unwrap();
        let gaps: Vec<(String, String)> = gaps.iter().map(|row| (row.get(0), row.get(1))).collect();
        assert_eq!(
            gaps,
            [],
            "{when}: (epoch, lsn) of transactions that are not numbered from 0 without gaps"
        );
        assert_eq!(text(&history, IDS_SQL).await, "0", "{when}: changes that share their id with another");
    }

    /// Checks that history has everything. For a source at rest.
    pub async fn check_all(&self) {
        self.check("at rest").await;
        let (_, stored) = stored(&connect(&self.history_url).await).await;
        assert_eq!(stored.len(), self.witnessed().await.len(), "transactions");
    }
}

/// D, and by commit LSN what is stored: xid and number of rows.
async fn stored(history: &Client) -> (Lsn, BTreeMap<Lsn, (String, i64)>) {
    let mut durable = None;
    let mut stored = BTreeMap::new();
    for row in history.query(STORED_SQL, &[]).await.unwrap() {
        let (xid, lsn, rows): (String, String, i64) = (row.get(0), row.get(1), row.get(2));
        let lsn: Lsn = lsn.parse().unwrap();
        if xid == "D" {
            durable = Some(lsn);
        } else {
            let before = stored.insert(lsn, (xid, rows));
            assert_eq!(before, None, "two transactions at {lsn}");
        }
    }
    (durable.unwrap(), stored)
}

async fn text(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}
