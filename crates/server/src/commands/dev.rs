//! `waldelta dev`: everything at once, with nothing to configure: a private PostgreSQL, a demo table, capture, fan-out.

use std::process::ExitCode;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use waldelta_pglocal::{Cluster, Environment, Options, Storage, Wanted, cluster_major};
use waldelta_source::setup::{self, Wish};

use super::answer;
use crate::cli::DevOptions;
use crate::config::Config;
use crate::environment;
use crate::example;
use crate::failure::EXIT_CAPTURE_STOPPED;
use crate::listener::Listeners;
use crate::open_files::OpenFiles;
use crate::service::{Opening, Outcome, Service, StopSignals};

/// Name of the database that is captured.
const DATABASE: &str = "dev";
/// The demo table with a few rows; made once, kept as its user leaves it.
const DEMO_SQL: &str = include_str!("../../../../sql/source/demo.sql");

/// Runs until a signal comes, then stops everything.
pub(crate) async fn run(options: DevOptions) -> anyhow::Result<ExitCode> {
    let mut signals = StopSignals::listen()?;
    let mut config = Config::default();
    config.server.listen = options.listen;
    // There is no other process that clients could go to.
    config.server.drain_ms = 0;
    let files = OpenFiles::raise();
    files.tell(config.server.sessions_max);
    let listeners = Listeners::bind(&config, files)?;
    let page = format!("http://{}/", listeners.clients.address()?);
    let cluster =
        tokio::task::spawn_blocking(move || start_cluster(&options)).await.context("start PostgreSQL")??;
    for notice in cluster.notices() {
        tracing::info!(notice, "PostgreSQL");
    }
    tracing::info!(
        version = %cluster.binaries().version,
        port = cluster.port(),
        data = %cluster.data_dir().display(),
        "a private PostgreSQL is running"
    );
    let url = cluster.url(DATABASE);
    let outcome = match prepare(&cluster, &url, config, listeners, &mut signals).await {
        Ok(Some(service)) => serve(service, url, page, &mut signals).await,
        Ok(None) => Ok(Outcome::Stopped),
        Err(error) => Err(error),
    };
    tokio::task::spawn_blocking(move || cluster.stop()).await.context("stop PostgreSQL")??;
    tracing::info!("PostgreSQL has stopped");
    Ok(match outcome? {
        Outcome::Stopped => ExitCode::SUCCESS,
        Outcome::CaptureStopped => ExitCode::from(EXIT_CAPTURE_STOPPED),
    })
}

fn start_cluster(options: &DevOptions) -> anyhow::Result<Cluster> {
    let environment = Environment { path: environment::path(), home: environment::home() };
    let wanted = Wanted { bindir: options.pg_bindir.clone(), major: cluster_major(&options.data) };
    let folder = options.data.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| std::path::Path::new("."));
    let binaries = match waldelta_pglocal::find(&wanted, &environment) {
        Ok(binaries) => binaries,
        Err(waldelta_pglocal::Error::NotFound { .. }) if !options.offline => {
            tracing::info!("no PostgreSQL is installed; fetching one");
            waldelta_pglocal::fetch(&folder.join("postgresql")).context("fetch PostgreSQL")?
        }
        Err(error) => return Err(anyhow::Error::new(error).context("find PostgreSQL")),
    };
    let storage = match options.ephemeral {
        true => Storage::Ephemeral(std::env::temp_dir()),
        false => Storage::Kept(options.data.clone()),
    };
    let mut cluster = Options::new(binaries, storage);
    cluster.port = options.port;
    Cluster::start(cluster).context("start PostgreSQL")
}

/// Prepares the database and starts the service on it; `None` when a signal came first.
async fn prepare(
    cluster: &Cluster,
    url: &str,
    mut config: Config,
    listeners: Listeners,
    signals: &mut StopSignals,
) -> anyhow::Result<Option<Service>> {
    let preparing = async {
        create_database(cluster).await.context("create the database")?;
        url.clone_into(&mut config.source.url);
        let mut source = config.source()?;
        let client = source.connect().await.context("connect to PostgreSQL")?;
        client.batch_execute(DEMO_SQL).await.context("create the demo table")?;
        let plan = setup::plan(&client, &source, &Wish::default()).await.context("plan the set-up")?;
        for remark in &plan.remarks {
            tracing::info!("{remark}");
        }
        let left_out =
            setup::apply(&client, &source, &plan.without_slot()).await.context("set capture up")?;
        for remark in left_out {
            tracing::info!("{remark}");
        }
        let opening = Opening::begin(config.policy()?, listeners, CancellationToken::new())?;
        let history = opening.history(&config.history()?, &mut source).await?;
        if history.captured().await?.is_none() {
            waldelta_capture::setup::begin(&source, &history, true).await.context("begin history")?;
        }
        Service::start(config, source, history, opening, None).await
    };
    tokio::select! {
        service = preparing => Ok(Some(service?)),
        signal = signals.next() => {
            tracing::info!(signal, "stopped before capture began");
            Ok(None)
        }
    }
}

/// Tells how to try it as soon as it captures, and serves until a signal comes.
async fn serve(
    mut service: Service,
    url: String,
    page: String,
    signals: &mut StopSignals,
) -> anyhow::Result<Outcome> {
    service.when_capturing(move || {
        answer(format_args!("\nReady. Change a row, and see it arrive:\n"))?;
        answer(format_args!("  psql '{url}' -c 'UPDATE demo_todos SET done = NOT done WHERE id = 1'"))?;
        answer(format_args!("  {} tail --url {}", program(), page.trim_end_matches('/')))?;
        answer(format_args!("  {page}"))?;
        answer(format_args!(
            "  {}  (a client to copy: its rows stay in the browser)\n",
            example::address(&page)
        ))
    });
    service.wait(signals).await
}

/// How the user called this program, so that the line to copy works where they are.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "waldelta".to_owned())
}

async fn create_database(cluster: &Cluster) -> anyhow::Result<()> {
    let target =
        waldelta_pgconn::Target::parse(&cluster.url("postgres"), &waldelta_pgconn::Environment::default())?;
    let client = target.connect("waldelta", &[]).await?;
    let exists =
        client.query_opt("SELECT FROM pg_database WHERE datname = $1", &[&DATABASE]).await?.is_some();
    if !exists {
        client.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
    }
    Ok(())
}
