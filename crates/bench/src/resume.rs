//! B9: how fast a client gets what it missed, against a COPY of the same range of history by its position.

use std::time::{Duration, Instant};

use anyhow::Context;

use crate::Bench;
use crate::follower::Follower;
use crate::report::{Contest, Goal};
use crate::service::Service;
use crate::turns;

const DATABASE: &str = "resume";
const SLOT: &str = "resume_slot";
const HISTORY: &str = "resume_history";
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Rows of one transaction.
const ROWS: u64 = 100;
/// Changes that a client is behind, and whether how many are is a part of the full size.
const BEHIND: [(u64, bool); 3] = [(100, false), (100_000, false), (1_000_000, true)];

/// Measures how long clients take that are so many changes behind.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let (binary, clusters) = (&bench.binary, &bench.clusters);
    clusters.create_source(DATABASE).await?;
    let source = clusters.source(DATABASE).await?;
    source
        .batch_execute("CREATE TABLE missed (id bigint PRIMARY KEY, owner int NOT NULL, note text NOT NULL, at timestamptz)")
        .await?;
    clusters.initialise(binary, DATABASE, SLOT).await?;
    clusters.create_history(HISTORY).await?;
    let service =
        Service::start(binary, &clusters.source_url(DATABASE), &clusters.history_url(HISTORY), SLOT).await?;
    service.ready().await?;
    let scaled = |(changes, is_scaled): (u64, bool)| match is_scaled {
        true => (changes as f64 * bench.scale) as u64,
        false => changes,
    };
    let behind: Vec<u64> = BEHIND.map(scaled).into();
    source.batch_execute("SET synchronous_commit = off").await?;
    let most = behind.iter().copied().max().unwrap_or(0).max(ROWS);
    // And one before all of them, which the client has.
    let written = most + ROWS;
    for from in (0..written / ROWS).map(|number| number * ROWS) {
        let to = from + ROWS - 1;
        source
            .batch_execute(&format!(
                "INSERT INTO missed SELECT n, n % 1000, repeat('x', 60) || n, now() FROM generate_series({from}, {to}) n"
            ))
            .await?;
    }
    let history = clusters.history(HISTORY).await?;
    let stored = async || -> anyhow::Result<i64> {
        Ok(history.query_one("SELECT count(*) FROM waldelta.change_history", &[]).await?.get(0))
    };
    let until = Instant::now() + ANSWER_TIMEOUT;
    while stored().await? < i64::try_from(written)? {
        anyhow::ensure!(Instant::now() < until, "history does not get what was written");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Nothing of it comes from memory: as after a while, or a restart.
    service.stop().await?;
    for settle in ["VACUUM ANALYZE waldelta.change_history", "CHECKPOINT"] {
        history.batch_execute(settle).await?;
    }
    let service =
        Service::start(binary, &clusters.source_url(DATABASE), &clusters.history_url(HISTORY), SLOT).await?;
    service.ready().await?;
    for changes in behind {
        let offset = i64::try_from(changes / ROWS)?;
        let sql = "SELECT lsn::text, epoch FROM (SELECT DISTINCT epoch, lsn FROM waldelta.change_history) t
                   ORDER BY epoch DESC, lsn DESC OFFSET $1 LIMIT 1";
        let place = history.query_one(sql, &[&offset]).await?;
        let (lsn, epoch): (String, i32) = (place.get(0), place.get(1));
        let cursor = cursor(epoch.cast_unsigned(), &lsn)?;
        let copy = format!(
            "\\copy (SELECT lsn, seq, operation, row_key, data, old_data FROM waldelta.change_history
              WHERE epoch >= {epoch} AND (epoch, lsn) > ({epoch}, '{lsn}'::pg_lsn) ORDER BY epoch, lsn, seq) TO '/dev/null'"
        )
        .replace('\n', " ");
        let against = "psql COPY of the range, in order";
        let goal = (changes > ROWS).then_some(Goal::AtLeast(0.85));
        let mut contest = Contest::new("B9", format!("{changes} changes behind"), "changes/s", against, goal);
        turns::take(
            bench.pairs,
            &mut contest,
            async |_| {
                let began = Instant::now();
                clusters.psql(HISTORY, &copy).await?;
                Ok(changes as f64 / began.elapsed().as_secs_f64())
            },
            async |_| Ok(changes as f64 / resume(&service, "public.missed", &cursor, changes).await?),
        )
        .await?;
        bench.show(contest);
    }
    service.stop().await
}

/// Seconds from the hello until the client is live and has had so many changes.
pub(crate) async fn resume(
    service: &Service,
    table: &str,
    cursor: &str,
    changes: u64,
) -> anyhow::Result<f64> {
    let mut follower = Follower::connect(service).await?;
    let began = Instant::now();
    follower.hello(table, &format!(r#""snapshot":false,"after":"{cursor}""#)).await?;
    let mut had = 0;
    follower.until_live(|frame| had += frame.matches(r#""op":"insert""#).count() as u64).await?;
    anyhow::ensure!(had == changes, "{had} of {changes} changes came");
    Ok(began.elapsed().as_secs_f64())
}

/// The cursor behind the transaction that commits there.
pub(crate) fn cursor(epoch: u32, lsn: &str) -> anyhow::Result<String> {
    let (high, low) = lsn.split_once('/').context("a place in the WAL")?;
    let place = (u64::from_str_radix(high, 16)? << 32) | u64::from_str_radix(low, 16)?;
    Ok(format!("{epoch:08x}-{place:016x}-ffffffff"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_cursor_is_made_of_epoch_and_place() {
        assert_eq!(super::cursor(1, "A/16B3748").unwrap(), "00000001-0000000a016b3748-ffffffff");
        assert!(super::cursor(1, "7").is_err());
    }
}
