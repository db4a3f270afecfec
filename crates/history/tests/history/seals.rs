//! Seals: what was sealed is found as it is, whatever was altered since is found and named, and pruning is no alteration.

use std::time::Duration;

use bytes::Bytes;
use waldelta_history::{
    BaselineRow, Error, History, NewEpoch, Noted, Problem, Retention, SealName, Verification, Writer,
};
use waldelta_testkit::{Shutdown, TestCluster, TestDatabase};
use waldelta_wal::{Change, Epoch, Piece};

use crate::support::*;

/// So few that several seals are made of what a test writes.
const FEW: u64 = 4;

async fn seal(writer: &Writer) -> u64 {
    writer.sealer().with_changes_max(FEW).seal().await.unwrap()
}

async fn verify(history: &History) -> Verification {
    history.verify(None, None).await.unwrap()
}

/// What is wrong, by the numbers of the seals at which it was found.
fn problems(report: &Verification) -> Vec<(u64, Problem)> {
    report.findings.iter().map(|finding| (finding.seal, finding.problem.clone())).collect()
}

/// Everything that was sealed is as it was, and everything is sealed.
fn assert_good(report: &Verification, changes: u64) {
    assert_eq!(problems(report), [], "{report:?}");
    assert_eq!(report.epochs.iter().map(|epoch| epoch.good_changes).sum::<u64>(), changes, "{report:?}");
    assert!(report.epochs.iter().all(|epoch| epoch.good_seals == epoch.seals), "{report:?}");
    assert_eq!(report.unsealed.changes, 0, "{report:?}");
}

fn newest(report: &Verification) -> SealName {
    report.newest.as_ref().unwrap().parse().unwrap()
}

fn at(number: u64) -> u64 {
    START + 10 * number
}

/// Transactions of three changes each, the first as `range` numbers them.
fn transactions(writer: &mut Writer, range: std::ops::Range<u64>) -> Vec<Piece> {
    let (orders, epoch) = (writer.number(table(1, "orders")).table, writer.epoch());
    let changes = |number: u64| -> Vec<Change> {
        (0..3).map(|seq| insert(&orders, seq, number * 3 + u64::from(seq))).collect()
    };
    range.map(|number| in_epoch(epoch, transaction(at(number), changes(number)))).collect()
}

/// Ten transactions, thirty changes, sealed in eight stretches of four changes, the last of two.
async fn sealed(database: &TestDatabase) -> (History, Writer) {
    let (history, mut writer) = written(database).await;
    let pieces = transactions(&mut writer, 0..10);
    writer.append(pieces).await.unwrap();
    assert_eq!(seal(&writer).await, 8);
    (history, writer)
}

#[tokio::test]
async fn what_was_sealed_is_found_as_it_is_and_sealing_goes_on_after_a_restart() {
    let database = TestDatabase::create("seals").await;
    let (history, mut writer) = written(&database).await;
    assert_eq!(seal(&writer).await, 0);
    let report = verify(&history).await;
    assert_eq!((report.newest.as_ref(), report.epochs.len()), (None, 0), "{report:?}");
    let pieces = transactions(&mut writer, 0..10);
    writer.append(pieces).await.unwrap();
    assert_eq!(verify(&history).await.unsealed.changes, 30);
    assert_eq!((history.sealed(), seal(&writer).await), (None, 8));
    assert_good(&verify(&history).await, 30);
    // No setting of the database has a say in what a row is.
    for setting in [
        "timezone = 'Asia/Tokyo'",
        "datestyle = 'German'",
        "bytea_output = 'escape'",
        "extra_float_digits = 0",
    ] {
        database.exec(&format!("ALTER DATABASE {} SET {setting}", database.name())).await;
    }
    let first = newest(&verify(&history).await);
    let known = history.sealed().unwrap();
    assert_eq!((known.name, known.upto), (first, writer.head().cursor()));

    // Another process, another writer.
    writer.release().await.unwrap();
    drop(history);
    let history = History::open(&config(&database)).await.unwrap();
    let mut writer = history.writer("second").await.unwrap();
    let pieces = transactions(&mut writer, 10..11);
    writer.append(pieces).await.unwrap();
    let report = verify(&history).await;
    assert_eq!((problems(&report), report.unsealed.changes), (vec![], 3));
    assert_eq!((seal(&writer).await, seal(&writer).await), (1, 0), "an idle time makes none");
    writer.advance(end(at(1_000))).await.unwrap();
    assert_eq!(seal(&writer).await, 0);
    let report = history.verify(None, Some(first)).await.unwrap();
    assert_good(&report, 33);
    assert_eq!((report.noted, report.epochs[0].seals), (Some(Noted::Same), 9));
    let numbers = "SELECT string_agg(number || ':' || changes, ' ' ORDER BY number) FROM waldelta.seals";
    assert_eq!(database.query_text(numbers).await, "1:4 2:4 3:4 4:4 5:4 6:4 7:4 8:2 9:3");
    // Only what reaches beyond a place is read again.
    let report = history.verify(Some(whole(at(8))), None).await.unwrap();
    assert_eq!((report.epochs[0].good_seals, report.epochs[0].seals_before), (3, 6), "{report:?}");
}

#[tokio::test]
async fn whatever_is_altered_in_history_is_found_and_named() {
    let database = TestDatabase::create("seals_altered").await;
    let (history, _writer) = sealed(&database).await;
    database.exec("CREATE TABLE kept AS SELECT * FROM waldelta.change_history").await;
    let differ = |sealed, found| Problem::ChangesDiffer { sealed, found };
    // Changes are numbered from 0 over all transactions: four to a seal.
    let nth = |number: u64| format!("(lsn, seq) = ('0/0'::pg_lsn + {}, {})", at(number / 3), number % 3);
    let update =
        |set: &str, number| format!("UPDATE waldelta.change_history SET {set} WHERE {}", nth(number));
    let copy = |number: u64, lsn: u64, seq| {
        format!(
            "INSERT INTO waldelta.change_history (lsn, transaction_id, \"timestamp\", epoch, seq, table_oid, schema_version, id,
                 operation, table_name, row_key, data, old_data, metadata, client_id)
             SELECT '0/0'::pg_lsn + {lsn}, transaction_id, \"timestamp\", epoch, {seq}, table_oid, schema_version, id,
                 operation, table_name, row_key, data, old_data, metadata, client_id
             FROM waldelta.change_history WHERE {}",
            nth(number)
        )
    };
    let swapped = format!(
        "UPDATE waldelta.change_history AS one SET data = other.data, row_key = other.row_key, id = other.id
         FROM waldelta.change_history AS other
         WHERE one.lsn = other.lsn AND other.seq = 2 - one.seq AND one.lsn = '0/0'::pg_lsn + {} AND one.seq <> 1",
        at(4)
    );
    let cases = [
        (update("data = '{\"id\": 5, \"note\": \"other\"}'", 5), vec![(2, differ(4, 4))]),
        (update("data = NULL", 5), vec![(2, differ(4, 4))]),
        (update("old_data = 'null'", 5), vec![(2, differ(4, 4))]),
        (update("metadata = '{}'", 0), vec![(1, differ(4, 4))]),
        (update("client_id = ''", 0), vec![(1, differ(4, 4))]),
        (update("\"timestamp\" = \"timestamp\" + interval '1 microsecond'", 29), vec![(8, differ(2, 2))]),
        (update("\"timestamp\" = 'infinity'", 29), vec![(8, differ(2, 2))]),
        (update("transaction_id = NULL", 29), vec![(8, differ(2, 2))]),
        (update("id = '00000000-0000-0000-0000-000000000000'", 29), vec![(8, differ(2, 2))]),
        (update("operation = 'update'", 29), vec![(8, differ(2, 2))]),
        (update("table_name = NULL, table_oid = 2", 29), vec![(8, differ(2, 2))]),
        // What is moved from one column to the next.
        (update("row_key = NULL, client_id = row_key", 4), vec![(2, differ(4, 4))]),
        (format!("DELETE FROM waldelta.change_history WHERE {}", nth(9)), vec![(3, differ(4, 3))]),
        (copy(9, at(3) + 1, 0), vec![(4, differ(4, 5))]),
        (copy(0, at(9), 7), vec![(8, differ(2, 3))]),
        (swapped, vec![(4, differ(4, 4))]),
        (
            "DELETE FROM waldelta.change_history".to_owned(),
            (1..=8).map(|n| (n, differ(if n == 8 { 2 } else { 4 }, 0))).collect(),
        ),
    ];
    for (altered, found) in cases {
        database.exec(&altered).await;
        assert_eq!(problems(&verify(&history).await), found, "{altered}");
        let restored =
            "TRUNCATE waldelta.change_history; INSERT INTO waldelta.change_history SELECT * FROM kept";
        database.exec(restored).await;
        assert_good(&verify(&history).await, 30);
    }
    // The shapes of tables say what the changes mean.
    database.exec("UPDATE waldelta.table_schemas SET columns = columns - 1").await;
    assert_eq!(problems(&verify(&history).await), [(1, Problem::ShapesDiffer { sealed: 1, found: 1 })]);
    database.exec(&format!("DELETE FROM waldelta.change_history WHERE {}", nth(9))).await;
    let text = verify(&history).await.findings[1].to_string();
    assert!(text.starts_with("epoch 1, seal 3, from 00000001-"), "{text}");
    assert!(text.ends_with(": 1 of 4 changes are missing"), "{text}");
}

#[tokio::test]
async fn an_altered_or_removed_seal_is_found_and_named() {
    let database = TestDatabase::create("seals_seals").await;
    let (history, writer) = sealed(&database).await;
    let noted = newest(&verify(&history).await);
    database.exec("CREATE TABLE kept AS SELECT * FROM waldelta.seals").await;
    let missing = |missing| Problem::SealsMissing { missing };
    let cases = [
        ("UPDATE waldelta.seals SET changes_digest = sha256('') WHERE number = 3", vec![(3, Problem::SealAltered)]),
        ("UPDATE waldelta.seals SET changes = 5 WHERE number = 3", vec![(3, Problem::SealAltered)]),
        ("UPDATE waldelta.seals SET shapes = -1 WHERE number = 3", vec![(3, Problem::SealAltered)]),
        ("UPDATE waldelta.seals SET digest = sha256('') WHERE number = 3", vec![(3, Problem::SealAltered)]),
        ("UPDATE waldelta.seals SET digest = '' WHERE number = 8", vec![(8, Problem::SealAltered)]),
        ("UPDATE waldelta.seals SET sealed_at = 'infinity' WHERE number = 3", vec![(3, Problem::SealAltered)]),
        ("UPDATE waldelta.seals SET previous_digest = sha256('') WHERE number = 3", vec![(3, Problem::SealAltered), (3, Problem::NotChained)]),
        ("DELETE FROM waldelta.seals WHERE number = 3", vec![(4, missing(1)), (4, Problem::NotCovered)]),
        ("DELETE FROM waldelta.seals WHERE number IN (3, 4, 7)", vec![(5, missing(2)), (8, missing(1)), (5, Problem::NotCovered), (8, Problem::NotCovered)]),
        // Seals go with what was pruned, and nothing was.
        ("DELETE FROM waldelta.seals WHERE number < 3", vec![(3, missing(2)), (3, Problem::NotCovered)]),
        ("INSERT INTO waldelta.seals SELECT 7, number, from_lsn, from_seq, to_lsn, to_seq, changes, changes_digest, shapes, shapes_digest,
              previous_digest, digest, sealed_at FROM waldelta.seals WHERE number = 8", vec![(8, Problem::Misplaced)]),
    ];
    for (altered, found) in cases {
        database.exec(altered).await;
        let report = verify(&history).await;
        assert_eq!(problems(&report), found, "{altered}: {report:?}");
        database.exec("TRUNCATE waldelta.seals; INSERT INTO waldelta.seals SELECT * FROM kept").await;
        assert_good(&verify(&history).await, 30);
    }
    // Where the newest are gone, only who has noted one of them can tell.
    database.exec("DELETE FROM waldelta.seals WHERE number > 5").await;
    let report = history.verify(None, Some(noted)).await.unwrap();
    assert_eq!((problems(&report), report.noted), (vec![(8, Problem::NotAsNoted)], Some(Noted::Gone)));
    let report = verify(&history).await;
    assert_eq!((problems(&report), report.unsealed.changes), (vec![], 10));
    // So it is where what was altered is sealed anew, as if nothing had happened.
    let altered =
        format!("UPDATE waldelta.change_history SET data = NULL WHERE lsn = '0/0'::pg_lsn + {}", at(9));
    database.exec(&altered).await;
    assert_eq!(seal(&writer).await, 3);
    assert_good(&verify(&history).await, 30);
    let report = history.verify(None, Some(noted)).await.unwrap();
    assert_eq!(problems(&report), [(8, Problem::NotAsNoted)]);
    assert_ne!(newest(&report), noted);
    let early = kept_name(&database, 5).await;
    assert_eq!(history.verify(None, Some(early)).await.unwrap().noted, Some(Noted::Same));
}

/// The name that a seal had.
async fn kept_name(database: &TestDatabase, number: u64) -> SealName {
    let name = format!(
        "SELECT epoch || '.' || number || '.' || encode(digest, 'hex') FROM kept WHERE number = {number}"
    );
    database.query_text(&name).await.parse().unwrap()
}

#[tokio::test]
async fn what_was_pruned_is_no_alteration_and_its_seals_go_with_it() {
    let database = TestDatabase::create("seals_pruned").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    let one =
        |n: u64| transaction(n * PARTITION_BYTES / 2, (0..3).map(|seq| insert(&orders, seq, n)).collect());
    writer.append((1..=12).map(one).collect()).await.unwrap();
    assert_eq!(seal(&writer).await, 9);
    database.exec("CREATE TABLE kept AS SELECT * FROM waldelta.seals").await;
    let all = verify(&history).await;
    assert_good(&all, 36);
    let size = Retention::Size(history_bytes(&database).await / 2);
    let swept = writer.sweeper(all_shown()).sweep(size, true, Duration::ZERO).await.unwrap();
    assert!(swept.partitions >= 2, "{swept:?}");

    // Before the seals have gone, and after.
    let report = verify(&history).await;
    let pruned = report.epochs[0].pruned_seals;
    assert!(problems(&report).is_empty() && pruned >= 3 && report.pruned.is_some(), "{report:?}");
    assert_eq!(report.epochs[0].good_seals + pruned, 9);
    assert_eq!(seal(&writer).await, 0);
    let report = history.verify(None, Some(newest(&all))).await.unwrap();
    assert_eq!((problems(&report), report.noted), (vec![], Some(Noted::Same)), "{report:?}");
    assert!(report.epochs[0].seals < 9 && report.epochs[0].pruned_seals <= 1, "{report:?}");
    // The one before the first that is left is still known by its digest, those before that are not.
    let first: u64 = database.query_text("SELECT min(number) FROM waldelta.seals").await.parse().unwrap();
    let last_gone = kept_name(&database, first - 1).await;
    assert_eq!(history.verify(None, Some(last_gone)).await.unwrap().noted, Some(Noted::Same));
    let gone = kept_name(&database, 1).await;
    let report = history.verify(None, Some(gone)).await.unwrap();
    assert_eq!((problems(&report), report.noted), (vec![], Some(Noted::Pruned)));
    // But no seal more than that may be missing.
    database.exec(&format!("DELETE FROM waldelta.seals WHERE number <= {}", first + 1)).await;
    assert!(problems(&verify(&history).await).iter().any(|(seal, _)| *seal == first + 2));
    database.exec("TRUNCATE waldelta.seals; INSERT INTO waldelta.seals SELECT * FROM kept").await;

    // All but the newest partition, while sealing was behind: a hole, up to where was pruned.
    let more = (13..=18).map(one).collect();
    writer.append(more).await.unwrap();
    let swept = writer.sweeper(all_shown()).sweep(Retention::Size(1), true, Duration::ZERO).await.unwrap();
    assert!(swept.partitions >= 2, "{swept:?}");
    assert!(problems(&verify(&history).await).is_empty());
    assert_eq!(seal(&writer).await, 1);
    let report = verify(&history).await;
    assert!(problems(&report).is_empty() && report.epochs[0].good_seals == 1, "{report:?}");
    assert_eq!(database.query_text("SELECT string_agg(number::text, ' ') FROM waldelta.seals").await, "10");
    // And what is left of it is still watched over.
    database.exec("UPDATE waldelta.change_history SET data = NULL").await;
    assert!(matches!(problems(&verify(&history).await)[..], [(10, Problem::ChangesDiffer { .. })]));
}

async fn history_bytes(database: &TestDatabase) -> u64 {
    let bytes = "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'waldelta.change_history'::regclass";
    database.query_text(bytes).await.parse().unwrap()
}

#[tokio::test]
async fn rows_that_are_removed_one_by_one_are_no_alteration() {
    let database = TestDatabase::create("seals_thinned").await;
    let wide = waldelta_history::Config { partition_bytes: 16 << 30, ..config(&database) };
    let history = History::open(&wide).await.unwrap();
    history.begin(&captured(), end(START), "test").await.unwrap();
    let mut writer = history.writer("test").await.unwrap();
    let sweep = async |writer: &Writer, minutes: u64| {
        let hour = Retention::Age(Duration::from_secs(3600));
        writer.sweeper(all_shown()).sweep(hour, false, Duration::from_secs(minutes * 60)).await.unwrap()
    };
    let pieces = transactions(&mut writer, 0..5);
    writer.append(pieces).await.unwrap();
    sweep(&writer, 0).await;
    let pieces = transactions(&mut writer, 5..10);
    writer.append(pieces).await.unwrap();
    assert_eq!(seal(&writer).await, 8);
    // The fourth stretch ends behind the fifteen changes that go.
    let swept = sweep(&writer, 68).await;
    assert_eq!((swept.rows, swept.partitions), (15, 0), "{swept:?}");
    let report = verify(&history).await;
    assert_eq!(
        (problems(&report), report.epochs[0].pruned_seals, report.epochs[0].good_seals),
        (vec![], 4, 4)
    );
    seal(&writer).await;
    let report = verify(&history).await;
    assert_eq!((problems(&report), report.epochs[0].pruned_seals, report.epochs[0].seals), (vec![], 1, 5));
    // Where some of it is still there the moment says nothing: it may be gone the next.
    let rest = format!("DELETE FROM waldelta.change_history WHERE lsn >= '0/0'::pg_lsn + {}", at(9));
    database.exec(&rest).await;
    let [(7, _), (8, _)] = problems(&verify(&history).await)[..] else { panic!("it is not found") };
}

/// Pruned while a stretch was read that nobody has sealed: the next look begins behind that.
#[tokio::test]
async fn what_was_pruned_while_it_was_read_is_not_sealed() {
    let database = TestDatabase::create("seals_race").await;
    let (history, mut writer) = written(&database).await;
    let pieces = transactions(&mut writer, 0..2);
    writer.append(pieces).await.unwrap();
    let (sealer, holder) = (writer.sealer(), database.client().await);
    // Who reads the seals goes on, who stores one waits.
    holder.batch_execute("BEGIN; LOCK TABLE waldelta.seals IN EXCLUSIVE MODE").await.unwrap();
    let prune = async {
        let waits =
            "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'waldelta.seals'::regclass";
        let is_waiting = async || database.query_text(waits).await == "t";
        waldelta_testkit::wait_until("a seal is to be stored", Duration::from_secs(60), is_waiting).await;
        let pruned = format!(
            "UPDATE waldelta.captures SET pruned_epoch = 1, pruned_lsn = '0/0'::pg_lsn + {0};
             DELETE FROM waldelta.change_history WHERE lsn < '0/0'::pg_lsn + {0}",
            at(1)
        );
        holder.batch_execute(&format!("{pruned}; COMMIT")).await.unwrap();
    };
    let (made, ()) = tokio::join!(sealer.seal(), prune);
    assert_eq!(made.unwrap(), 0);
    assert_eq!(seal(&writer).await, 1);
    assert_good(&verify(&history).await, 3);
}

#[tokio::test]
async fn who_does_not_hold_the_lease_any_more_seals_nothing() {
    let database = TestDatabase::create("seals_fenced").await;
    let (history, mut writer) = written(&database).await;
    let pieces = transactions(&mut writer, 0..2);
    writer.append(pieces).await.unwrap();
    let old = writer.sealer();
    let elsewhere = History::open(&config(&database)).await.unwrap();
    let second = elsewhere.take_over("second").await.unwrap();
    let refused = old.seal().await;
    assert!(matches!(refused, Err(Error::Fenced { .. })), "{refused:?}");
    assert_eq!(database.query_text("SELECT count(*) FROM waldelta.seals").await, "0");
    assert_eq!(seal(&second).await, 2);
    assert_good(&verify(&history).await, 6);
    // Nor does it forget any.
    database.exec("UPDATE waldelta.captures SET pruned_epoch = 1, pruned_lsn = 'F/0'").await;
    let refused = old.seal().await;
    assert!(matches!(refused, Err(Error::Fenced { .. })), "{refused:?}");
    assert_eq!(database.query_text("SELECT count(*) FROM waldelta.seals").await, "2");
}

#[tokio::test]
async fn a_new_epoch_has_its_own_count_and_the_old_one_is_sealed_to_its_end() {
    let database = TestDatabase::create("seals_epochs").await;
    let (history, mut writer) = sealed(&database).await;
    let pieces = transactions(&mut writer, 10..12);
    writer.append(pieces).await.unwrap();
    let next = NewEpoch {
        captured: waldelta_history::Captured { timeline: 4, ..captured() },
        start: end(at(6)),
        fork: Some(waldelta_wal::Lsn(at(6))),
        reason: "the source was promoted".into(),
        continues: true,
        fingerprints: Vec::new(),
    };
    let began = writer.begin_epoch(next).await.unwrap();
    let report = verify(&history).await;
    assert_eq!((problems(&report), report.unsealed.changes), (vec![], 6), "{report:?}");
    let mut writer = history.writer("second").await.unwrap();
    let pieces = transactions(&mut writer, 6..8);
    writer.append(pieces).await.unwrap();
    seal(&writer).await;
    let report = verify(&history).await;
    assert_good(&report, 42);
    let ended: Vec<_> = report.epochs.iter().map(|epoch| (Epoch(epoch.epoch), epoch.has_ended)).collect();
    assert_eq!(ended, [(EPOCH, true), (began.epoch, false)]);
    let numbers = format!("SELECT min(number) FROM waldelta.seals WHERE epoch = {}", began.epoch.0);
    assert_eq!(database.query_text(&numbers).await, "1");

    // What did not survive in the source was sealed too, and nothing can be added behind it, nor before its beginning.
    database.exec("CREATE TABLE kept AS SELECT * FROM waldelta.change_history").await;
    for lsn in [at(11) + 1, START - 1] {
        let added = format!(
            "INSERT INTO waldelta.change_history SELECT ('0/0'::pg_lsn + {lsn}) AS lsn, transaction_id, \"timestamp\", epoch, seq, table_oid,
                 schema_version, id, operation, table_name, row_key, data, old_data, metadata, client_id
             FROM waldelta.change_history WHERE epoch = 1 AND lsn = '0/0'::pg_lsn + {START} AND seq = 0"
        );
        database.exec(&added).await;
        let found = problems(&verify(&history).await);
        assert!(matches!(found[..], [(_, Problem::ChangesDiffer { .. })]), "at {lsn}: {found:?}");
        database
            .exec("TRUNCATE waldelta.change_history; INSERT INTO waldelta.change_history SELECT * FROM kept")
            .await;
    }
    // The seals of an epoch cannot go as a whole either.
    database
        .exec(
            "CREATE TABLE seals AS SELECT * FROM waldelta.seals; DELETE FROM waldelta.seals WHERE epoch = 1",
        )
        .await;
    assert_eq!(problems(&verify(&history).await), [(1, Problem::NotChained)]);
}

#[tokio::test]
async fn rows_that_existed_before_are_sealed_whenever_they_are_written() {
    let database = TestDatabase::create("seals_baseline").await;
    let (history, mut writer) = sealed(&database).await;
    for (oid, name) in [(1, "orders"), (2, "lines")] {
        let table = writer.number(table(oid, name)).table;
        let mut baseline = writer.baseline(&table, 1_000_000).await.unwrap();
        let row = |id| BaselineRow {
            row_key: Some(Bytes::from(format!("[{id}]"))),
            data: Bytes::from(format!("{{\"id\": {id}}}")),
            flagged: Vec::new(),
        };
        baseline.rows((0..6).map(row).collect()).await.unwrap();
        baseline.commit().await.unwrap();
        let report = verify(&history).await;
        assert_eq!((problems(&report), report.unsealed.changes), (vec![], 6), "{name}");
        assert_eq!(seal(&writer).await, 2);
    }
    assert_good(&verify(&history).await, 42);
    let altered = format!(
        "UPDATE waldelta.change_history SET data = '{{}}' WHERE lsn = '0/0'::pg_lsn + {} AND seq = 7",
        START - 1
    );
    database.exec(&altered).await;
    assert_eq!(problems(&verify(&history).await), [(11, Problem::ChangesDiffer { sealed: 4, found: 4 })]);
}

#[tokio::test]
async fn what_the_disk_has_altered_is_found() {
    const WRITTEN: &[u8] = b"what was written";
    let cluster = TestCluster::own(&[]).await;
    let database = TestDatabase::create_on(&cluster, "seals_disk").await;
    let (history, mut writer) = sealed(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    let text = format!("{{\"id\": 1, \"note\": \"{}\"}}", String::from_utf8_lossy(WRITTEN));
    let change = Change { data: Some(Bytes::from(text)), ..insert(&orders, 0, 1) };
    writer.append(vec![transaction(at(20), vec![change])]).await.unwrap();
    assert_eq!(seal(&writer).await, 1);
    let path = "SELECT pg_relation_filepath(tableoid) FROM waldelta.change_history ORDER BY lsn DESC LIMIT 1";
    let path = cluster.data_dir().join(database.query_text(path).await);
    drop((history, writer));
    cluster.down(Shutdown::Fast).await;
    let mut bytes = std::fs::read(&path).unwrap();
    let place = bytes.windows(WRITTEN.len()).position(|bytes| bytes == WRITTEN).unwrap();
    bytes[place] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    cluster.up().await;
    let history = History::open(&config(&database)).await.unwrap();
    let found = problems(&verify(&history).await);
    // A server with checksums refuses the page, and with it all that stands there.
    let is_told = |problem: &(u64, Problem)| match problem {
        (_, Problem::Unreadable { sqlstate }) => sqlstate == "XX001",
        (seal, problem) => (*seal, problem) == (9, &Problem::ChangesDiffer { sealed: 1, found: 1 }),
    };
    assert!(!found.is_empty() && found.iter().all(is_told), "{found:?}");
}

/// A transaction of more changes than a seal has, and values that fill a page by themselves.
#[tokio::test]
async fn a_large_transaction_is_sealed_in_stretches() {
    let database = TestDatabase::create("seals_large").await;
    let (history, mut writer) = written(&database).await;
    let orders = writer.number(table(1, "orders")).table;
    let many = (0..12_000).map(|seq| insert(&orders, seq, 1)).collect();
    writer.append(vec![piece(START, many, None)]).await.unwrap();
    let text = |byte: u8| Bytes::from(format!("{{\"id\": 1, \"note\": \"{}\"}}", scrambled(byte)));
    let wide = (0..20)
        .map(|seq| Change { data: Some(text(seq as u8)), ..insert(&orders, 12_000 + seq, 1) })
        .collect();
    assert_eq!(writer.sealer().seal().await.unwrap(), 0, "nothing of it is durable");
    writer.append(vec![piece(START, wide, Some(START + 1))]).await.unwrap();
    assert_eq!(writer.sealer().seal().await.unwrap(), 2);
    assert_good(&verify(&history).await, 12_020);
    let changes = "SELECT string_agg(changes::text, ' ' ORDER BY number) FROM waldelta.seals";
    assert_eq!(database.query_text(changes).await, "10000 2020");
    database.exec("UPDATE waldelta.change_history SET data = data || '{\"id\": 2}' WHERE seq = 12019").await;
    assert_eq!(
        problems(&verify(&history).await),
        [(2, Problem::ChangesDiffer { sealed: 2_020, found: 2_020 })]
    );
}

/// A megabyte that no compression makes much smaller.
fn scrambled(seed: u8) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(u64::from(seed) + 1);
    let letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"[(state % 64) as usize])
    };
    std::iter::repeat_with(letter).take(1 << 20).collect()
}
