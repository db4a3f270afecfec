//! A database that takes no more: nothing is half stored, the writer is closed, and the next one goes on.

use waldelta_history::{Error, History};
use waldelta_testkit::TestDatabase;

use crate::support::*;

/// What a server says when its disk is full: `ENOSPC` is SQLSTATE 53100. The server is told to say it; that it does by itself is
/// not shown here.
const FULL: &str = "CREATE FUNCTION disk_is_full() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = '53100'; END$$";

#[tokio::test]
async fn a_full_disk_passes_and_leaves_nothing_half_stored() {
    let database = TestDatabase::create("history_full").await;
    let history = begun(&database).await;
    database.exec(FULL).await;
    database
        .exec(
            "CREATE FUNCTION no_new_files() RETURNS event_trigger LANGUAGE plpgsql AS
            $$BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = '53100'; END$$",
        )
        .await;
    let mut lsn = START;
    for (full, free) in [
        // While a partition is made, while rows come, with the progress row, and when all is committed.
        (
            "CREATE EVENT TRIGGER is_full ON ddl_command_start WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION no_new_files()",
            "DROP EVENT TRIGGER is_full",
        ),
        (
            "CREATE TRIGGER is_full BEFORE INSERT ON waldelta.change_history FOR EACH ROW EXECUTE FUNCTION disk_is_full()",
            "DROP TRIGGER is_full ON waldelta.change_history",
        ),
        (
            "CREATE TRIGGER is_full BEFORE UPDATE ON waldelta.captures FOR EACH ROW
                WHEN (OLD.durable_end <> NEW.durable_end) EXECUTE FUNCTION disk_is_full()",
            "DROP TRIGGER is_full ON waldelta.captures",
        ),
        (
            "CREATE CONSTRAINT TRIGGER is_full AFTER UPDATE ON waldelta.captures DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW WHEN (OLD.durable_end <> NEW.durable_end) EXECUTE FUNCTION disk_is_full()",
            "DROP TRIGGER is_full ON waldelta.captures",
        ),
    ] {
        let stored = commit_lsns(&history).await;
        let before = stored_end(&history).await;
        let mut writer = history.writer("test").await.unwrap();
        database.exec(full).await;
        let orders = writer.number(table(1, "orders")).table;
        let rows = |lsn| vec![transaction(lsn, vec![insert(&orders, 0, lsn), insert(&orders, 1, lsn)])];
        let refused = writer.append(rows(lsn)).await.unwrap_err();
        assert!(refused.is_retryable(), "{full}: {refused:?}");
        assert_eq!(refused.code(), waldelta_wal::Code::HistoryWriteFailed, "{refused:?}");
        assert!(matches!(writer.append(rows(lsn)).await, Err(Error::WriterClosed)), "{full}");
        assert_eq!((stored_end(&history).await, commit_lsns(&history).await), (before, stored), "{full}");
        drop(writer);
        database.exec(free).await;
        // By itself, as soon as there is space.
        let mut writer = history.writer("test").await.unwrap();
        let orders = writer.number(table(1, "orders")).table;
        writer.append(vec![transaction(lsn, vec![insert(&orders, 0, lsn)])]).await.unwrap();
        writer.release().await.unwrap();
        lsn += 10;
    }
    assert_eq!(commit_lsns(&history).await, [START, START + 10, START + 20, START + 30]);
}

#[tokio::test]
async fn a_commit_is_flushed_whatever_the_database_says() {
    let database = TestDatabase::create("history_flush").await;
    database.exec(&format!("ALTER DATABASE {} SET synchronous_commit = off", database.name())).await;
    let (history, mut writer) = written(&database).await;
    // As a session of this database is that does not ask for more.
    assert_eq!(
        database.client().await.query_one("SHOW synchronous_commit", &[]).await.unwrap().get::<_, &str>(0),
        "off"
    );
    database
        .exec(
            "CREATE TABLE seen (setting text);
            CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS
            $$BEGIN INSERT INTO public.seen VALUES (current_setting('synchronous_commit')); RETURN NEW; END$$;
            CREATE TRIGGER look BEFORE UPDATE ON waldelta.captures FOR EACH ROW EXECUTE FUNCTION look()",
        )
        .await;
    let orders = writer.number(table(1, "orders")).table;
    writer.append(vec![transaction(START, vec![insert(&orders, 0, 1)])]).await.unwrap();
    writer.advance(end(START + 50)).await.unwrap();
    assert_eq!(database.query_text("SELECT string_agg(setting, ' ') FROM seen").await, "on on");
    drop(history);
}

#[tokio::test]
async fn changes_beyond_the_durable_end_stop_the_writer_for_good() {
    let database = TestDatabase::create("history_beyond").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    writer.append(vec![transaction(START, vec![insert(&orders, 0, 1)])]).await.unwrap();
    drop(writer);
    database.exec(&format!("UPDATE waldelta.captures SET durable_end = '0/{START:X}'")).await;
    // Without a new shape and with one: the row is refused in another place then.
    for other in [1, 2] {
        let history = History::open(&config(&database)).await.unwrap();
        let mut writer = history.take_over("test").await.unwrap();
        let shape = writer.number(table(other, "orders")).table;
        let refused = writer.append(vec![transaction(START, vec![insert(&shape, 0, 1)])]).await.unwrap_err();
        assert!(matches!(refused, Error::Corrupt { .. }) && !refused.is_retryable(), "{refused:?}");
    }
    drop(history);
}
