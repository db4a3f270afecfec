//! Which parts run in a process of which role, and how they are wired.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use waldelta_access::Access;
use waldelta_fanout::{Fanout, LivePolicy};
use waldelta_history::History;
use waldelta_source::Source;

use super::reloading::{Hangups, Reloading, Reloads};
use super::surfaces::{self, Surfaces};
use super::{Opening, Pauses, Service, capturing, following, serving, upkeep};
use crate::config::{Config, holder};
use crate::console::{Console, Shown};
use crate::http::Operations;
use crate::metrics;
use crate::notify;
use crate::status::{Observer, Recent, Watched};
use crate::systemd;

impl Service {
    /// Starts all parts of this process, on the listener that was served while history was opened.
    pub(crate) async fn start(
        config: Config,
        source: Source,
        history: History,
        opening: Opening,
        hangups: Option<Hangups>,
    ) -> anyhow::Result<Self> {
        let Opening { mut supervisor, listeners, stop, opened, .. } = opening;
        let recorder = metrics::install()?;
        let role = config.server.role;
        let access = Access::new(config.access()?, history.clone());
        if access.is_required() {
            // Nobody is served before it is known what was revoked. What fails is in the log, and is tried again.
            let _ = access.load().await;
        }
        let client_side = config.fanout()?;
        let observer = Arc::new(Observer {
            role,
            config: Arc::new(Reloads::new(config.clone())),
            history: history.clone(),
            capture: role.captures().then(|| Arc::new(waldelta_capture::Status::new())),
            writer: (!role.captures()).then(|| Arc::new(Watched::new())),
            fanout: role
                .serves()
                .then(|| Fanout::new(client_side, history.clone(), source.clone(), access.clone())),
            unfollowed_max: following::UNFOLLOWED_MAX,
            lag_seconds_max: config.notify.lag_seconds_max,
            recent: Recent::default(),
        });
        // Whoever ends everything ends this too.
        let leaving = stop.child_token();
        let operations =
            Operations { observer: observer.clone(), metrics: recorder.clone(), leaving: leaving.clone() };
        let policy = match &observer.fanout {
            Some(fanout) => fanout.policy(),
            None => LivePolicy::new(config.policy()?),
        };
        let Surfaces { clients, operators } =
            surfaces::of(&config, &listeners, &access, &policy, observer.fanout.as_ref(), &operations);

        let certificates = listeners.clients.certificates();
        let pauses = Pauses::new();
        let console = Console::bind(&config, certificates.clone()).await?;
        let console_users = console.as_ref().and_then(Console::users);
        if let Some(console) = console {
            tracing::info!(console = %console.address()?, "the console for psql is served");
            let shown =
                Shown { observer: observer.clone(), metrics: recorder.clone(), pauses: pauses.clone() };
            supervisor.spawn("console", console.serve(shown, stop.clone()));
        }
        supervisor.spawn("listener", listeners.clients.serve(clients, stop.clone()));
        if let (Some(listener), Some(routes)) = (listeners.operators, operators) {
            supervisor.spawn("operators", listener.serve(routes, stop.clone()));
        }
        let reloading = Reloading {
            config: config.clone(),
            source: source.clone(),
            history: history.clone(),
            policy,
            access: access.clone(),
            certificates,
            console_users,
            reloads: observer.config.clone(),
        };
        supervisor.spawn("config", reloading.run(hangups, stop.clone()));
        let telling =
            notify::run(config.notify.clone(), holder(), observer.clone(), history.clone(), stop.clone());
        supervisor.spawn("notify", telling);
        opened.cancel();
        supervisor.spawn("indexes", build_indexes(history.clone(), stop.clone()));
        supervisor.spawn("metrics", upkeep(recorder, observer.clone(), stop.clone()));
        // By every role: operators authenticate too.
        supervisor.spawn("access", run_access(access, stop.clone()));
        let watched = observer.clone();
        supervisor.spawn("systemd", systemd::run(move || watched.read().headline(), stop.clone()));
        if let Some(fanout) = observer.fanout.clone() {
            for part in fanout.parts(leaving.clone()) {
                supervisor.spawn(part.name, serving::run_part(part));
            }
            supervisor.spawn("head", serving::watch_head(history.clone(), stop.clone()));
        }
        if let Some(capture) = observer.capture.clone() {
            history.retain(config.history.retain.0);
            history.keep_sealed(config.history.seal);
            supervisor.spawn("states", capturing::tell_states(capture.clone(), stop.clone()));
            supervisor.spawn("follow", capturing::follow(history.clone(), capture.clone(), stop.clone()));
            let config = config.capture(source);
            supervisor.spawn(
                "capture",
                capturing::run_capture(config, history.clone(), capture, pauses, stop.clone()),
            );
        }
        if let Some(watched) = observer.writer.clone() {
            supervisor.spawn("follow", following::follow(history.clone(), stop.clone()));
            supervisor.spawn("writer", following::watch_writer(history, watched, stop.clone()));
        }
        Ok(Service {
            supervisor,
            leaving,
            stop,
            drain: Duration::from_millis(config.server.drain_ms),
            stop_timeout: Duration::from_millis(config.server.stop_timeout_ms),
            observer,
        })
    }
}

async fn run_access(access: Access, stop: CancellationToken) -> anyhow::Result<()> {
    access.run(stop).await;
    Ok(())
}

/// By every role: whoever is there first. It ends when all are there, mostly at once.
async fn build_indexes(history: History, stop: CancellationToken) -> anyhow::Result<()> {
    history.build_indexes(stop).await;
    Ok(())
}
