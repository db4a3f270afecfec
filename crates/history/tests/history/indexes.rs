//! Partitions that are older than an index get it while everything else goes on, whatever happens on the way.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use waldelta_history::{Error, History, Reads, RowEntry};
use waldelta_testkit::{TestDatabase, wait_until};
use waldelta_wal::{Code, Position};

use crate::schema::of_the_first_version;
use crate::support::*;

const PATIENCE: Duration = Duration::from_secs(60);
/// The table and the row of the first version's history.
const TABLE: u32 = 7;
/// Another partition, as that version made it before its first row.
const NEXT_PARTITION: &str = "CREATE TABLE waldelta.change_history_e1_0000000000010000
        (LIKE waldelta.change_history INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE);
    ALTER TABLE waldelta.change_history ATTACH PARTITION waldelta.change_history_e1_0000000000010000
        FOR VALUES FROM (1, '0/10000') TO (1, '0/20000')";
/// What partitions lack of the parent's indexes, and what is there and not whole, the parent's own included.
const WRONG: &str = "SELECT string_agg(wrong, ', ' ORDER BY wrong) FROM (
        SELECT format('%s lacks %s', partition.relname, parent.indexrelid::regclass) AS wrong
        FROM pg_inherits JOIN pg_class AS partition ON partition.oid = inhrelid
        JOIN pg_index AS parent ON parent.indrelid = inhparent
        WHERE inhparent = 'waldelta.change_history'::regclass AND NOT EXISTS (
            SELECT FROM pg_inherits AS attached JOIN pg_index AS child ON child.indexrelid = attached.inhrelid
            WHERE attached.inhparent = parent.indexrelid AND child.indrelid = partition.oid)
        UNION ALL
        SELECT indexrelid::regclass || ' is not valid' FROM pg_index JOIN pg_class ON oid = indrelid
        WHERE relnamespace = 'waldelta'::regnamespace AND NOT (indisvalid AND indisready)
    ) AS all_wrong";
const BUILDERS: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'waldelta-history-indexes'";

/// A history of the first version with two partitions, opened by this one.
async fn upgraded(database: &TestDatabase) -> History {
    of_the_first_version(database).await;
    database.exec(NEXT_PARTITION).await;
    History::open(&config(database)).await.unwrap()
}

/// Where the row of the first version changed.
async fn versions(history: &History) -> Result<Vec<u64>, Error> {
    let (rows, mut reads) = (history.rows(TABLE).await?, Reads { queries: 10, bytes: 1 << 20 });
    let page = rows.versions("[1]", None, history.feed().head().cursor(), 10, &mut reads).await?;
    let changes = page.entries.iter().filter(|entry| matches!(entry, RowEntry::Change(_)));
    Ok(changes.map(|change| change.position().commit_lsn.0).collect())
}

/// What would read whole partitions is not asked.
async fn is_refused(history: &History) {
    let head = history.feed().head().cursor();
    let error = history.position_before_time(0, Position::before(EPOCH, end(START)), head).await.unwrap_err();
    assert!(matches!(error, Error::IndexesMissing { missing: 1.. }) && error.is_retryable(), "{error:?}");
    assert_eq!(versions(history).await.unwrap_err().code(), Code::IndexesMissing);
}

async fn is_whole(database: &TestDatabase, history: &History) {
    assert_eq!(database.query(WRONG).await, [[None]]);
    assert_eq!(versions(history).await.unwrap(), [START + 10]);
    let head = history.feed().head().cursor();
    let found = history.position_before_time(0, Position::before(EPOCH, end(START)), head).await.unwrap();
    assert_eq!(found, whole(START + 9));
}

/// Somebody whose snapshot keeps every build from its end.
async fn old_snapshot(database: &TestDatabase) -> Client {
    let client = database.client().await;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM waldelta.captures";
    client.batch_execute(begin).await.unwrap();
    client
}

/// Builds what is missing while something else happens, and waits for both.
async fn build_while(history: &History, other: impl Future<Output = ()>) {
    let building = tokio::time::timeout(PATIENCE, history.build_indexes(CancellationToken::new()));
    let (built, ()) = tokio::join!(building, other);
    built.unwrap();
}

async fn phase(database: &TestDatabase, index: &str, phase: &str) {
    let building = format!(
        "SELECT count(*) FROM pg_stat_progress_create_index
         WHERE index_relid = to_regclass('waldelta.change_history_e1_0000000000000000_{index}_idx') AND phase LIKE '{phase}%'"
    );
    wait_until(&format!("{index} is {phase}"), PATIENCE, async || {
        database.query_text(&building).await == "1"
    })
    .await;
}

#[tokio::test]
async fn appends_and_reads_go_on_while_an_index_is_built() {
    let database = TestDatabase::create("history_indexes").await;
    let history = upgraded(&database).await;
    is_refused(&history).await;
    let mut writer = history.writer("test").await.unwrap();
    let orders = writer.number(table(TABLE, "orders")).table;
    let one = |lsn| transaction(lsn, vec![insert(&orders, 0, lsn)]);
    let blocker = old_snapshot(&database).await;
    let appending = async {
        phase(&database, "moved", "waiting for old snapshots").await;
        // Into the partition whose index is being built, the next one, and one that is made now.
        let lsns = [START + 20, START + 21, PARTITION_BYTES, 5 * PARTITION_BYTES];
        writer.append(lsns.map(one).into()).await.unwrap();
        assert_eq!(commit_lsns(&history).await.len(), 5);
        is_refused(&history).await;
        let of_the_new = "SELECT count(*) FROM pg_index WHERE indisvalid
            AND indrelid = to_regclass('waldelta.change_history_e1_0000000000050000')";
        assert_eq!(database.query_text(of_the_new).await, "6", "a partition comes with its indexes");
        blocker.batch_execute("COMMIT").await.unwrap();
    };
    build_while(&history, appending).await;
    is_whole(&database, &history).await;
    writer.append(vec![one(6 * PARTITION_BYTES)]).await.unwrap();
    assert_eq!(database.query(WRONG).await, [[None]]);
    // Nothing is left to do.
    history.build_indexes(CancellationToken::new()).await;
}

#[tokio::test]
async fn a_large_transaction_goes_on_and_is_waited_for() {
    let database = TestDatabase::create("history_indexes_large").await;
    let history = upgraded(&database).await;
    let mut writer = history.writer("test").await.unwrap();
    let orders = writer.number(table(TABLE, "orders")).table;
    let blocker = old_snapshot(&database).await;
    let appending = async {
        phase(&database, "moved", "waiting for old snapshots").await;
        // As many as make the server begin: from here on its COPY has the index open.
        let first = (0..200).map(|seq| insert(&orders, seq, 1_000 + u64::from(seq))).collect();
        writer.append(vec![piece(START + 20, first, None)]).await.unwrap();
        let open = "SELECT count(*) FROM pg_locks WHERE mode = 'RowExclusiveLock' AND granted
            AND relation = 'waldelta.change_history_e1_0000000000000000_moved_idx'::regclass";
        wait_until("it has it open", PATIENCE, async || database.query_text(open).await == "1").await;
        blocker.batch_execute("COMMIT").await.unwrap();
        // The one is built and cannot be attached, the next one waits for the same COPY: nobody waits for either.
        phase(&database, "table", "waiting for writers").await;
        let wrong = database.query_text(WRONG).await;
        assert!(wrong.contains("e1_0000000000000000 lacks waldelta.change_history_moved_idx"), "{wrong}");
        assert_eq!(commit_lsns(&history).await, [START + 10]);
        writer.append(vec![piece(START + 20, vec![insert(&orders, 200, 21)], None)]).await.unwrap();
        let last = piece(START + 20, vec![insert(&orders, 201, 22)], Some(START + 21));
        writer.append(vec![last]).await.unwrap();
        assert_eq!(commit_lsns(&history).await, [START + 10, START + 20]);
    };
    build_while(&history, appending).await;
    is_whole(&database, &history).await;
}

#[tokio::test]
async fn a_build_that_was_cut_off_is_taken_up() {
    let database = TestDatabase::create("history_indexes_cut").await;
    let history = upgraded(&database).await;
    let blocker = old_snapshot(&database).await;
    let stop = CancellationToken::new();
    let cutting = async {
        phase(&database, "moved", "waiting for old snapshots").await;
        stop.cancel();
    };
    tokio::join!(history.build_indexes(stop.clone()), cutting);
    // As after a crash, where the server did not notice.
    let cut = BUILDERS.replace("count(*)", "count(pg_terminate_backend(pid))");
    database.query_text(&cut).await;
    wait_until("it is cut off", PATIENCE, async || database.query_text(BUILDERS).await == "0").await;
    blocker.batch_execute("COMMIT").await.unwrap();
    let left = "SELECT indisvalid FROM pg_index
        WHERE indexrelid = 'waldelta.change_history_e1_0000000000000000_moved_idx'::regclass";
    assert_eq!(database.query_text(left).await, "f");
    is_refused(&history).await;
    let next = History::open(&config(&database)).await.unwrap();
    tokio::time::timeout(PATIENCE, next.build_indexes(CancellationToken::new())).await.unwrap();
    is_whole(&database, &next).await;
    is_whole(&database, &history).await;
}

#[tokio::test]
async fn one_process_builds_at_a_time() {
    let database = TestDatabase::create("history_indexes_one").await;
    let history = upgraded(&database).await;
    let blocker = old_snapshot(&database).await;
    let another = async {
        phase(&database, "moved", "waiting for old snapshots").await;
        // It would drop what the other is building, and wait for that.
        let second = History::open(&config(&database)).await.unwrap();
        let looks = second.build_indexes(CancellationToken::new());
        assert!(
            tokio::time::timeout(Duration::from_millis(300), looks).await.is_err(),
            "nothing is whole yet"
        );
        wait_until("only one builds", Duration::from_secs(3), async || {
            database.query_text(BUILDERS).await == "1"
        })
        .await;
        blocker.batch_execute("COMMIT").await.unwrap();
    };
    build_while(&history, another).await;
    is_whole(&database, &history).await;
}
