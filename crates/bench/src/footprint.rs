//! B12: bytes that a change takes in history and in the WAL of its database, against a plain table of the same data.

use crate::Bench;
use crate::backlog::{Backlog, KINDS, Kind};
use crate::drain::{SLOT, drain, drain_into};
use crate::report::{Contest, Goal, Sample};
use crate::turns;

const OURS: &str = "footprint_ours";
const PLAIN: &str = "footprint_plain";
/// Heap and index of a change; 0.45 MB for a thousand.
const BYTES_MAX: f64 = 450.0;
const WAL_RATIO_MAX: f64 = 1.1;
const PLAIN_TABLE: &str = "CREATE TABLE plain (lsn pg_lsn, seq int, op text NOT NULL, table_name text NOT NULL, \
     data json, old json, PRIMARY KEY (lsn, seq))";
/// What is `json` there comes as text: in binary, `jsonb` has a version in front.
const CHANGES: &str = "SELECT lsn, seq, operation, table_name, data::text, old_data::text \
     FROM waldelta.change_history WHERE operation IN ('insert', 'update', 'delete') ORDER BY lsn, seq";
/// All of a database's tables but those of the system, with their indexes.
const SIZE: &str = "SELECT coalesce(sum(pg_table_size(oid) + pg_indexes_size(oid)), 0)::float8 FROM pg_class
                    WHERE relkind = 'r' AND (relnamespace = 'public'::regnamespace OR relname LIKE 'change_history%')";

/// Measures and prints.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    for kind in KINDS {
        let backlog = Backlog::write(&bench.binary, &bench.clusters, kind, bench.scale).await?;
        bytes(bench, kind, &backlog).await?;
        backlog.drop(&bench.clusters).await?;
    }
    Ok(())
}

/// One pair: they are counts, the same each time.
async fn bytes(bench: &Bench, kind: Kind, backlog: &Backlog) -> anyhow::Result<()> {
    let contest = |what: &str, against: &str, most| {
        let of = format!("{}, {what}", kind.name());
        Contest::new("B12", of, "bytes a change", against, most)
    };
    let plain = "a plain table with one key";
    let mut kept = contest("heap and indexes", plain, None);
    let mut wal = contest("WAL", plain, Some(Goal::AtMost(WAL_RATIO_MAX)));
    let (clusters, changes) = (&bench.clusters, backlog.changes as f64);
    // What the plain one copies.
    let model = "footprint_model";
    drain(&bench.binary, clusters, backlog, model).await?;
    let file = std::env::temp_dir().join(format!("waldelta-bench-{}.plain", std::process::id()));
    let export = format!("\\copy ({CHANGES}) TO '{}' BINARY", file.display());
    clusters.psql(model, &export).await?;
    clusters.drop_history(model).await?;
    let import = format!("\\copy plain FROM '{}' BINARY", file.display());
    turns::take_all(
        1,
        [&mut kept, &mut wal],
        async |_| {
            clusters.create_history(PLAIN).await?;
            clusters.history(PLAIN).await?.batch_execute(PLAIN_TABLE).await?;
            let before = place(bench).await?;
            clusters.psql(PLAIN, &import).await?;
            written(bench, PLAIN, &before, changes).await
        },
        async |_| {
            clusters.create_history(OURS).await?;
            clusters.copy_slot(&backlog.database, &backlog.slot, SLOT).await?;
            let before = place(bench).await?;
            drain_into(&bench.binary, clusters, backlog, OURS).await?;
            written(bench, OURS, &before, changes).await
        },
    )
    .await?;
    std::fs::remove_file(&file)?;
    // With the old row there is twice as much to keep.
    let mut allowed =
        contest("heap and indexes", "what is allowed", (kind != Kind::Updates).then_some(Goal::AtMost(1.0)));
    allowed.ours.clone_from(&kept.ours);
    allowed.reference = kept.ours.iter().map(|sample| Sample { value: BYTES_MAX, ..*sample }).collect();
    allowed.was_quiet = kept.was_quiet;
    [kept, allowed, wal].into_iter().for_each(|contest| bench.show(contest));
    Ok(())
}

/// Where the WAL of history's cluster is; nothing of before is written again behind it.
async fn place(bench: &Bench) -> anyhow::Result<String> {
    let history = bench.clusters.history("postgres").await?;
    history.batch_execute("CHECKPOINT").await?;
    Ok(history.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await?.get(0))
}

/// Bytes for each change: of all tables and indexes, and of the WAL from a place on. The database goes.
async fn written(bench: &Bench, database: &str, from: &str, changes: f64) -> anyhow::Result<[f64; 2]> {
    let history = bench.clusters.history(database).await?;
    let wal = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1::text::pg_lsn)::float8";
    let wal: f64 = history.query_one(wal, &[&from]).await?.get(0);
    let size: f64 = history.query_one(SIZE, &[]).await?.get(0);
    drop(history);
    bench.clusters.drop_history(database).await?;
    Ok([size / changes, wal / changes])
}
