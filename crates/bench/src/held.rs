//! A history that holds so many changes already, with a backlog of more: what appending to it and resuming from it cost.

use crate::Bench;
use crate::backlog::{Backlog, emit_end};
use crate::drain::{SLOT, drain_into, until_durable};
use crate::report::Spread;
use crate::resume::{cursor, resume};
use crate::service::Service;

/// Rows of one transaction, and changes that a client is behind.
const ROWS: u64 = 100;
const RESUMES: u32 = 11;
/// The history of one turn, a copy of the one that is kept.
const TURN: &str = "held_turn";

/// One of a size.
pub(crate) struct Held {
    /// What comes on top.
    backlog: Backlog,
    /// The history that is copied for each turn.
    history: String,
}

impl Held {
    /// Fills a history, and writes `added` changes that it does not have.
    pub(crate) async fn write(bench: &Bench, held: u64, added: u64) -> anyhow::Result<Self> {
        let (clusters, name) = (&bench.clusters, format!("held_{held}"));
        let create = async |source: &tokio_postgres::Client| {
            Ok(source
                .batch_execute("CREATE TABLE small (id bigserial PRIMARY KEY, owner int, note text)")
                .await?)
        };
        let work = async |source: &tokio_postgres::Client| insert(source, held).await;
        let mut backlog = Backlog::of(&bench.binary, clusters, &name, create, work).await?;
        // The service knows its history by the name of the slot, which therefore is the same here as in each turn.
        let history = format!("{name}_full");
        clusters.copy_slot(&name, &backlog.slot, SLOT).await?;
        clusters.create_history(&history).await?;
        let (source, url) = (clusters.source_url(&name), clusters.history_url(&history));
        let service = Service::start(&bench.binary, &source, &url, SLOT).await?;
        service.ready().await?;
        until_durable(clusters, &history, &backlog.end).await?;
        service.stop().await?;
        // It is the slot of those who go on from there.
        clusters.drop_slot(&name, &backlog.slot).await?;
        clusters.until_inactive(&name, SLOT).await?;
        clusters.copy_slot(&name, SLOT, &backlog.slot).await?;
        clusters.drop_slot(&name, SLOT).await?;
        let source = clusters.source(&name).await?;
        backlog.changes = insert(&source, added).await?;
        backlog.end = emit_end(&source).await?;
        let settled = clusters.history(&history).await?;
        for settle in ["VACUUM ANALYZE waldelta.change_history", "CHECKPOINT"] {
            settled.batch_execute(settle).await?;
        }
        Ok(Held { backlog, history })
    }

    /// Microseconds for each change that is added, and milliseconds of a client that has missed [`ROWS`] changes.
    pub(crate) async fn measure(&self, bench: &Bench) -> anyhow::Result<[f64; 2]> {
        let (binary, clusters, Held { backlog, history }) = (&bench.binary, &bench.clusters, self);
        let create = format!("CREATE DATABASE {TURN} TEMPLATE {history}");
        clusters.history("postgres").await?.batch_execute(&create).await?;
        clusters.history("postgres").await?.batch_execute("CHECKPOINT").await?;
        clusters.copy_slot(&backlog.database, &backlog.slot, SLOT).await?;
        let took = drain_into(binary, clusters, backlog, TURN).await?.seconds;
        // Another service, which has nothing of it in memory.
        clusters.copy_slot(&backlog.database, &backlog.slot, SLOT).await?;
        let (source, url) = (clusters.source_url(&backlog.database), clusters.history_url(TURN));
        let service = Service::start(binary, &source, &url, SLOT).await?;
        service.ready().await?;
        let sql = "SELECT lsn::text, epoch FROM (SELECT DISTINCT epoch, lsn FROM waldelta.change_history
                     WHERE operation = 'insert') t ORDER BY epoch DESC, lsn DESC OFFSET 1 LIMIT 1";
        let place = clusters.history(TURN).await?.query_one(sql, &[]).await?;
        let after = cursor(place.get::<_, i32>(1).cast_unsigned(), place.get(0))?;
        let mut resumes = Vec::new();
        for _ in 0..RESUMES {
            resumes.push(resume(&service, "public.small", &after, ROWS).await? * 1e3);
        }
        service.stop().await?;
        clusters.drop_slot(&backlog.database, SLOT).await?;
        clusters.drop_history(TURN).await?;
        Ok([took * 1e6 / backlog.changes as f64, Spread::of(resumes).median])
    }

    /// Drops all of it.
    pub(crate) async fn drop(self, bench: &Bench) -> anyhow::Result<()> {
        bench.clusters.drop_history(&self.history).await?;
        self.backlog.drop(&bench.clusters).await
    }
}

async fn insert(source: &tokio_postgres::Client, rows: u64) -> anyhow::Result<u64> {
    let transactions = rows / ROWS;
    let work = format!(
        "DO $$ BEGIN FOR transaction IN 1..{transactions} LOOP
           INSERT INTO small (owner, note) SELECT n, 'note ' || n FROM generate_series(1, {ROWS}) n;
           COMMIT;
         END LOOP; END $$"
    );
    source.batch_execute(&work).await?;
    Ok(transactions * ROWS)
}
