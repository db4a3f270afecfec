//! Many clients: what an idle one costs in memory, how many changes a core delivers, how long a change takes to arrive, and what
//! distinct row filters cost.
//!
//! The clients are a process of their own. Service, clients and both databases share the machine: times are those of a machine
//! that has all of it to do; memory and processor time are the service's alone.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_postgres::Client;

use crate::clusters::Clusters;
use crate::process;
use crate::report::line;
use crate::service::Service;
use crate::swarm::now_us;

const DATABASE: &str = "load";
/// An answer of the clients may take this long: thousands connect, or catch up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// What is allocated while clients connect is given back, and heartbeats have come, before memory is read.
const SETTLE: Duration = Duration::from_secs(3);
const QUIET: &str = r#"{"id":"s","table":"public.quiet"}"#;
const BUSY: &str = r#"{"id":"s","table":"public.busy"}"#;
const FILTERED: &str = r#"{"id":"s","table":"public.busy","where":"scope = {n}"}"#;

/// How much of it
#[derive(Debug, Args)]
pub(crate) struct LoadOptions {
    /// Clients whose table nobody writes
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub idle: u64,
    /// Clients that get every change
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pub active: u64,
    /// Idle clients that began with a snapshot
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pub hydrated: u64,
    /// Transactions that each active client gets, of 1 and of 10 changes
    #[arg(long, default_value_t = 300, value_name = "N")]
    pub transactions: u64,
    /// Commits whose latency is measured, at 50 a second
    #[arg(long, default_value_t = 150, value_name = "N")]
    pub commits: u64,
    /// Numbers of clients at which it is measured
    #[arg(long, default_values_t = [1, 100, 1_000], value_delimiter = ',', value_name = "N")]
    pub latency_clients: Vec<u64>,
    /// Numbers of distinct filters, each of one client
    #[arg(long, default_values_t = [10, 100, 1_000, 10_000], value_delimiter = ',', value_name = "N")]
    pub scopes: Vec<u64>,
    /// Transactions of one change that are routed over the filters
    #[arg(long, default_value_t = 2_000, value_name = "N")]
    pub routed: u64,
}

/// Measures and prints.
pub(crate) async fn measure(options: &LoadOptions, binary: &Path, clusters: &Clusters) -> anyhow::Result<()> {
    clusters.create_source(DATABASE).await?;
    let source = clusters.source(DATABASE).await?;
    source
        .batch_execute(
            "CREATE TABLE quiet (id int PRIMARY KEY, note text NOT NULL);
             INSERT INTO quiet SELECT n, repeat('x', 100) FROM generate_series(1, 5000) n;
             CREATE TABLE busy (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, scope int NOT NULL, note text NOT NULL)",
        )
        .await?;
    clusters.initialise(binary, DATABASE, "load_untouched").await?;
    clusters.create_history("load_history").await?;
    let most = options.scopes.iter().chain(&options.latency_clients).max().copied().unwrap_or(0);
    let sessions = options.idle + options.active.max(most) + options.hydrated + 100;
    let config = std::env::temp_dir().join(format!("waldelta-load-{}.toml", std::process::id()));
    std::fs::write(&config, format!("[server]\nsessions_max = {sessions}\n"))?;
    let service = Service::start_with(
        binary,
        &clusters.source_url(DATABASE),
        &clusters.history_url("load_history"),
        "load_untouched",
        &["--config".as_ref(), config.as_os_str()],
    )
    .await?;
    let ready = service.ready().await;
    std::fs::remove_file(&config)?;
    ready?;
    let mut load = Load { options, source, pid: service.pid()?, swarm: Swarm::start(service.address())? };
    load.memory().await?;
    load.throughput().await?;
    load.latency().await?;
    load.filters().await?;
    load.swarm.end().await?;
    service.stop().await
}

struct Load<'a> {
    options: &'a LoadOptions,
    source: Client,
    pid: u32,
    swarm: Swarm,
}

impl Load<'_> {
    async fn memory(&mut self) -> anyhow::Result<()> {
        line("\nmemory of the service for each idle client");
        let (idle, hydrated) = (self.options.idle, self.options.hydrated);
        for (name, count, snapshot) in [("idle", idle, false), ("hydrated", hydrated, true)] {
            let before = process::rss_bytes(self.pid)?;
            let began = Instant::now();
            self.swarm.open(name, count, snapshot, QUIET).await?;
            let took = began.elapsed();
            tokio::time::sleep(SETTLE).await;
            let grown = process::rss_bytes(self.pid)?.saturating_sub(before);
            let what = if snapshot { "after a snapshot" } else { "without a snapshot" };
            line(&format!(
                "  {count:>6} {what:<20} {:>8.1} KiB each   all live after {:.1} s",
                grown as f64 / 1024.0 / count.max(1) as f64,
                took.as_secs_f64()
            ));
            if snapshot {
                self.swarm.close(name).await?;
            }
        }
        // What heartbeats cost while nothing happens.
        const WATCHED: Duration = Duration::from_secs(5);
        let before = process::cpu_seconds(self.pid)?;
        tokio::time::sleep(WATCHED).await;
        let share = (process::cpu_seconds(self.pid)? - before) / WATCHED.as_secs_f64() * 100.0;
        line(&format!("  {idle:>6} idle clients take {share:.1} % of a core"));
        Ok(())
    }

    async fn throughput(&mut self) -> anyhow::Result<()> {
        let (active, transactions) = (self.options.active, self.options.transactions);
        self.swarm.open("active", active, false, BUSY).await?;
        line(&format!(
            "\ndelivery to {active} clients that all follow the same, {} idle beside them",
            self.options.idle
        ));
        for rows in [1, 10] {
            let (counted, cpu, began) =
                (self.swarm.counted().await?, process::cpu_seconds(self.pid)?, Instant::now());
            let insert = format!(
                "INSERT INTO busy (scope, note) SELECT 0, repeat('y', 100) FROM generate_series(1, {rows})"
            );
            for _ in 0..transactions {
                self.source.batch_execute(&insert).await?;
            }
            self.swarm.wait(counted.transactions + transactions * active).await?;
            let (took, cpu) = (began.elapsed().as_secs_f64(), process::cpu_seconds(self.pid)? - cpu);
            let now = self.swarm.counted().await?;
            let delivered = ((now.transactions - counted.transactions) * rows) as f64;
            line(&format!(
                "  {rows:>2} changes a transaction     {:>9.0} changes/s   {:>9.0} changes/s for each core of the service   {:>6.1} MB/s",
                delivered / took,
                delivered / cpu.max(0.01),
                (now.bytes - counted.bytes) as f64 / 1e6 / took
            ));
        }
        self.swarm.close("active").await
    }

    async fn latency(&mut self) -> anyhow::Result<()> {
        line(&format!("\ncommit acknowledged to received, {} commits at 50 a second", self.options.commits));
        let statement = self.source.prepare("INSERT INTO busy (scope, note) VALUES (0, $1)").await?;
        for clients in &self.options.latency_clients {
            self.swarm.open("timed", *clients, false, BUSY).await?;
            let before = self.swarm.counted().await?;
            self.swarm.ask("time on").await?;
            let mut pace = tokio::time::interval(Duration::from_millis(20));
            let mut committed = String::new();
            for mark in 0..self.options.commits {
                pace.tick().await;
                self.source.execute(&statement, &[&format!("mark:{mark:08};")]).await?;
                committed.push_str(&format!(" {}", now_us()));
            }
            self.swarm.wait(before.transactions + self.options.commits * clients).await?;
            let answer = self.swarm.ask(&format!("latency{committed}")).await?;
            let numbers: Vec<f64> = answer.split(' ').filter_map(|number| number.parse().ok()).collect();
            let [p50, p99, _] = numbers[..] else { anyhow::bail!("{answer}") };
            line(&format!("  {clients:>6} clients   p50 {p50:>7.2} ms   p99 {p99:>7.2} ms"));
            self.swarm.ask("time off").await?;
            self.swarm.close("timed").await?;
        }
        Ok(())
    }

    async fn filters(&mut self) -> anyhow::Result<()> {
        let routed = self.options.routed;
        self.swarm.close("idle").await?;
        line(&format!("\n{routed} changes, each for one of so many clients with `scope = N`"));
        for scopes in &self.options.scopes {
            let began = Instant::now();
            self.swarm.open("filtered", *scopes, false, FILTERED).await?;
            let opened = began.elapsed().as_secs_f64();
            let (counted, cpu, began) =
                (self.swarm.counted().await?, process::cpu_seconds(self.pid)?, Instant::now());
            let statement = self.source.prepare("INSERT INTO busy (scope, note) VALUES ($1, 'z')").await?;
            for number in 0..routed {
                // Far from each other, so that none is favoured.
                let scope = i32::try_from(number.wrapping_mul(7_919) % scopes)?;
                self.source.execute(&statement, &[&scope]).await?;
            }
            self.swarm.wait(counted.transactions + routed).await?;
            let (took, cpu) = (began.elapsed().as_secs_f64(), process::cpu_seconds(self.pid)? - cpu);
            line(&format!(
                "  {scopes:>6} filters   {:>7.0} µs of the service for each change   {:>6.0} changes/s   all live after {opened:.1} s",
                cpu * 1e6 / routed as f64,
                routed as f64 / took
            ));
            self.swarm.close("filtered").await?;
        }
        let lost = self.swarm.counted().await?.lost;
        if lost > 0 {
            line(&format!("\n{lost} connections ended before they were to: see the service's log"));
        }
        Ok(())
    }
}

/// The process of the clients.
pub(crate) struct Swarm {
    child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

/// What the clients have received since they began.
pub(crate) struct Counted {
    pub transactions: u64,
    pub bytes: u64,
    pub lost: u64,
}

impl Swarm {
    pub(crate) fn start(address: SocketAddr) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["clients", &address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start the clients")?;
        let commands = child.stdin.take().context("its input")?;
        let answers = BufReader::new(child.stdout.take().context("its output")?).lines();
        Ok(Swarm { child, commands, answers })
    }

    async fn ask(&mut self, command: &str) -> anyhow::Result<String> {
        self.commands.write_all(format!("{command}\n").as_bytes()).await?;
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.answers.next_line()).await;
        let verb = command.split(' ').next().unwrap_or_default();
        answer
            .with_context(|| format!("{verb}: no answer"))??
            .with_context(|| format!("{verb}: the clients have ended"))
    }

    pub(crate) async fn open(
        &mut self,
        name: &str,
        count: u64,
        snapshot: bool,
        subscription: &str,
    ) -> anyhow::Result<()> {
        self.ask(&format!("open {name} {count} {snapshot} {subscription}")).await.map(drop)
    }

    async fn close(&mut self, name: &str) -> anyhow::Result<()> {
        self.ask(&format!("close {name}")).await.map(drop)
    }

    async fn wait(&mut self, transactions: u64) -> anyhow::Result<()> {
        self.ask(&format!("wait {transactions}")).await.map(drop)
    }

    pub(crate) async fn counted(&mut self) -> anyhow::Result<Counted> {
        let answer = self.ask("counted").await?;
        let numbers: Vec<u64> = answer.split(' ').filter_map(|number| number.parse().ok()).collect();
        let [transactions, bytes, lost] = numbers[..] else { anyhow::bail!("{answer}") };
        Ok(Counted { transactions, bytes, lost })
    }

    pub(crate) async fn end(self) -> anyhow::Result<()> {
        let Swarm { mut child, commands, .. } = self;
        drop(commands);
        child.wait().await.map(drop).context("wait for the clients")
    }
}
