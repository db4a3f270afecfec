//! That no question to history is waited for without an end, and that a connection which gives no answer is not used again.

use std::time::Instant;

use sqlx::Row;
use sqlx::postgres::PgConnectOptions;
use waldelta_testkit::{Route, TestCluster, TestDatabase, wait_until};

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);
/// Takes a lock that somebody else has: no answer comes as long as that lasts.
const WAITS: &str = "SELECT pg_advisory_lock(1)";

/// A pool of one connection.
fn pool_of_one(url: &str, acquire: Duration, answer_within: Duration) -> Pool {
    let options: PgConnectOptions = url.parse().unwrap();
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(acquire);
    Pool { pool: giving_back_in_time(pool).connect_lazy_with(options), answer_within }
}

async fn one(pool: &Pool) -> Result<i32, Error> {
    sqlx::query("SELECT 1").fetch_one(pool).await?.try_get(0)
}

fn is_late(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == ErrorKind::TimedOut)
}

/// In each of the ways in which something is asked.
#[tokio::test]
async fn a_connection_that_does_not_answer_is_thrown_away() {
    let database = TestDatabase::create("answers_late").await;
    let holder = database.client().await;
    holder.query_one(WAITS, &[]).await.unwrap();
    let pool = pool_of_one(database.url(), PATIENCE, Duration::from_millis(300));
    let query = || sqlx::query(WAITS);
    assert!(is_late(&query().fetch_one(&pool).await.unwrap_err()));
    assert_eq!(one(&pool).await.unwrap(), 1, "the only connection is another one by now");
    assert!(is_late(&query().fetch_all(&pool).await.unwrap_err()));
    assert!(is_late(&query().execute(&pool).await.unwrap_err()));
    // What has begun to come counts no more than what has not.
    let halting = "SELECT 1 UNION ALL SELECT count(*)::int FROM (SELECT pg_advisory_lock(1)) AS halt";
    assert!(is_late(&sqlx::query(halting).fetch_all(&pool).await.unwrap_err()));
    assert_eq!(one(&pool).await.unwrap(), 1);
    let all = sqlx::query("SELECT generate_series(1, 1000)").fetch_all(&pool).await.unwrap();
    assert_eq!(all.len(), 1_000);
    // The lock is held until the end: the server ends them because nobody waits for an answer.
    let left = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    wait_until("their backends are gone", PATIENCE, async || database.query_text(left).await == "0").await;
}

/// A reader that went away leaves a question behind; the pool does not wait for its end.
#[tokio::test]
async fn a_connection_that_is_given_back_busy_is_not_waited_for() {
    let database = TestDatabase::create("answers_left").await;
    let holder = database.client().await;
    holder.query_one(WAITS, &[]).await.unwrap();
    let pool = pool_of_one(database.url(), PATIENCE, PATIENCE);
    let left = tokio::time::timeout(Duration::from_millis(300), sqlx::query(WAITS).execute(&pool)).await;
    assert!(left.is_err(), "it has to wait for the lock");
    assert_eq!(one(&pool).await.unwrap(), 1);
    let mut transaction = pool.begin().await.unwrap();
    let asked =
        tokio::time::timeout(Duration::from_millis(300), sqlx::query(WAITS).execute(&mut *transaction));
    assert!(asked.await.is_err());
    drop(transaction);
    assert_eq!(one(&pool).await.unwrap(), 1);
}

#[tokio::test]
async fn who_waits_for_a_connection_into_nowhere_is_answered_and_all_goes_on_afterwards() {
    let cluster = TestCluster::own(&[]).await;
    let route = Route::to(cluster.port());
    let database = TestDatabase::create_on(&cluster, "answers_held").await.through(&route);
    let pool = pool_of_one(database.url(), Duration::from_secs(1), Duration::from_secs(1));
    assert_eq!(one(&pool).await.unwrap(), 1);
    route.hold();
    let begun = Instant::now();
    // First over the connection that is there, then over new ones.
    for _ in 0..3 {
        let error = one(&pool).await.unwrap_err();
        assert!(matches!(error, Error::PoolTimedOut) || is_late(&error), "{error}");
    }
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    route.release();
    let until = Instant::now() + PATIENCE;
    while let Err(error) = one(&pool).await {
        assert!(Instant::now() < until, "{error}");
    }
}
