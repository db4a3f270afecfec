//! B14: killed under load and started again: how long until what is committed then arrives; and whether history has
//! every change once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdout};
use tokio_postgres::Client;

use crate::Bench;
use crate::backlog::emit_end;
use crate::drain::{recvlogical_on, until_durable};
use crate::filling::{self, Filling};
use crate::follower::Follower;
use crate::fresh::Fresh;
use crate::marks::{self, take_marks};
use crate::report::{Contest, Goal};
use crate::turns;

const DATABASE: &str = "crash";
const THEIRS: &str = "crash_theirs";
/// Rows a second beside the marks.
const LOAD: f64 = 5_000.0;
/// Between two marks: no more exactly than this is known when it is live again.
const BETWEEN_MARKS: Duration = Duration::from_millis(5);
/// It is killed after so many marks.
const MARKS_BEFORE: usize = 300;
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(60);
/// Before the client tries again to connect.
const RETRY_DELAY: Duration = Duration::from_millis(2);

/// When each mark was committed.
type Committed = RefCell<HashMap<u32, Instant>>;

/// Measures and prints.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let clusters = &bench.clusters;
    clusters.create_source(DATABASE).await?;
    let source = clusters.source(DATABASE).await?;
    source.batch_execute(marks::CREATE_TABLE).await?;
    source.batch_execute(filling::CREATE_TABLE).await?;
    clusters.initialise(&bench.binary, DATABASE, "crash_untouched").await?;
    let against = "pg_recvlogical on its slot";
    let of = "killed under load, from its start until live again";
    let mut contest = Contest::new("B14", of, "ms", against, Some(Goal::AtMost(1.2)));
    turns::take(
        bench.pairs,
        &mut contest,
        async |_| theirs(bench, &source).await,
        async |_| ours(bench, &source).await,
    )
    .await?;
    bench.show(contest);
    Ok(())
}

async fn theirs(bench: &Bench, source: &Client) -> anyhow::Result<f64> {
    let clusters = &bench.clusters;
    source.batch_execute("TRUNCATE beats, filler").await?;
    clusters.create_slot(DATABASE, THEIRS).await?;
    let took = under_load(bench, source, async |committed| {
        let mut reader = Reader::start(bench)?;
        reader.until(|marks| marks.len() >= MARKS_BEFORE).await?;
        reader.child.kill().await?;
        clusters.until_inactive(DATABASE, THEIRS).await?;
        let began = Instant::now();
        let mut reader = Reader::start(bench)?;
        reader.until(|marks| has_newer(marks, committed, began)).await?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        reader.child.kill().await?;
        Ok(took)
    })
    .await?;
    clusters.drop_slot(DATABASE, THEIRS).await?;
    Ok(took)
}

async fn ours(bench: &Bench, source: &Client) -> anyhow::Result<f64> {
    source.batch_execute("TRUNCATE beats, filler").await?;
    let mut fresh = Fresh::start(bench, DATABASE).await?;
    let took = under_load(bench, source, async |committed| {
        let mut follower = Follower::of(&fresh.service, marks::TABLE).await?;
        let mut marks = HashMap::new();
        let mut cursor = String::new();
        while marks.len() < MARKS_BEFORE {
            cursor = take_frame(&mut follower, &mut marks).await?.unwrap_or(cursor);
        }
        fresh.crash().await?;
        let began = Instant::now();
        fresh.restart().await?;
        let mut follower = loop {
            match Follower::connect(&fresh.service).await {
                Ok(follower) => break follower,
                Err(_) if began.elapsed() < RECEIVE_TIMEOUT => tokio::time::sleep(RETRY_DELAY).await,
                Err(error) => return Err(error),
            }
        };
        follower.hello(marks::TABLE, &format!(r#""snapshot":false,"after":"{cursor}""#)).await?;
        let mut marks = HashMap::new();
        while !has_newer(&marks, committed, began) {
            take_frame(&mut follower, &mut marks).await?;
        }
        Ok(began.elapsed().as_secs_f64() * 1e3)
    })
    .await?;
    nothing_lost_or_doubled(bench, source, &fresh).await?;
    fresh.end().await?;
    Ok(took)
}

/// Does something while marks and rows are committed.
async fn under_load(
    bench: &Bench,
    source: &Client,
    work: impl AsyncFnOnce(&Committed) -> anyhow::Result<f64>,
) -> anyhow::Result<f64> {
    let filling = Filling::start(&bench.clusters, DATABASE, LOAD)?;
    let statement = source.prepare("INSERT INTO beats VALUES ($1, $2)").await?;
    let committed = Committed::default();
    let marking = async {
        let mut pace = tokio::time::interval(BETWEEN_MARKS);
        for number in 0_u32.. {
            pace.tick().await;
            source.execute(&statement, &[&number.cast_signed(), &format!("mark{number:08};")]).await?;
            committed.borrow_mut().insert(number, Instant::now());
        }
        anyhow::bail!("more marks than there are numbers")
    };
    let took = tokio::select! {
        took = work(&committed) => took,
        failed = marking => failed,
    };
    filling.end().await?;
    took
}

/// Whether a mark has come that was committed later.
fn has_newer(marks: &HashMap<u32, Instant>, committed: &Committed, than: Instant) -> bool {
    let committed = committed.borrow();
    marks.keys().any(|mark| committed.get(mark).is_some_and(|at| *at > than))
}

/// Notes the marks of the next frame; the cursor that the client keeps of it.
async fn take_frame(
    follower: &mut Follower,
    marks: &mut HashMap<u32, Instant>,
) -> anyhow::Result<Option<String>> {
    let frame = follower.frame().await?;
    take_marks(&mut frame.as_bytes().to_vec(), b"mark", Instant::now(), marks);
    let cursor = || Some(frame.split_once(r#""cursor":""#)?.1.split_once('"')?.0.to_owned());
    Ok(frame.starts_with(r#"{"type":"tx""#).then(cursor).flatten())
}

async fn nothing_lost_or_doubled(bench: &Bench, source: &Client, fresh: &Fresh<'_>) -> anyhow::Result<()> {
    let end = emit_end(source).await?;
    until_durable(&bench.clusters, fresh.history(), &end).await?;
    let wanted = "SELECT (SELECT count(*) FROM beats) + (SELECT count(*) FROM filler)";
    let wanted: i64 = source.query_one(wanted, &[]).await?.get(0);
    let held = "SELECT count(*), count(DISTINCT (table_oid, row_key)) FROM waldelta.change_history WHERE operation = 'insert'";
    let held = bench.clusters.history(fresh.history()).await?.query_one(held, &[]).await?;
    let (all, distinct): (i64, i64) = (held.get(0), held.get(1));
    anyhow::ensure!(
        (all, distinct) == (wanted, wanted),
        "history has {all} inserts, {distinct} of them distinct, of {wanted}: see {}",
        fresh.service.log.display()
    );
    Ok(())
}

/// `pg_recvlogical` that writes to a pipe.
struct Reader {
    child: Child,
    output: ChildStdout,
}

impl Reader {
    fn start(bench: &Bench) -> anyhow::Result<Self> {
        let mut child = recvlogical_on(&bench.clusters, DATABASE, THEIRS)
            .arg("--file=-")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start pg_recvlogical")?;
        let output = child.stdout.take().context("its output")?;
        Ok(Reader { child, output })
    }

    /// Reads until the marks are as they are wanted.
    async fn until(&mut self, done: impl Fn(&HashMap<u32, Instant>) -> bool) -> anyhow::Result<()> {
        let (mut marks, mut text, mut chunk) = (HashMap::new(), Vec::new(), vec![0; 1 << 16]);
        while !done(&marks) {
            let length = tokio::time::timeout(RECEIVE_TIMEOUT, self.output.read(&mut chunk)).await??;
            anyhow::ensure!(length > 0, "pg_recvlogical ended");
            text.extend_from_slice(&chunk[..length]);
            take_marks(&mut text, b"mark", Instant::now(), &mut marks);
        }
        Ok(())
    }
}
