//! Which parts run in a process of which role, and how they are wired.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio_util::sync::CancellationToken;
use waldelta_fanout::Fanout;
use waldelta_history::History;
use waldelta_source::Source;

use super::{Opening, Service, capturing, following, serving, upkeep};
use crate::config::Config;
use crate::http::{self, Operations};
use crate::status::{Observer, Watched};

impl Service {
    /// Starts all parts of this process, on the listener that was served while history was opened.
    pub(crate) fn start(
        config: Config,
        source: Source,
        history: History,
        opening: Opening,
    ) -> anyhow::Result<Self> {
        let Opening { mut supervisor, listener, stop, opened, .. } = opening;
        let recorder = PrometheusBuilder::new().install_recorder().context("install the metrics recorder")?;
        let role = config.server.role;
        let observer = Arc::new(Observer {
            role,
            history: history.clone(),
            capture: role.captures().then(|| Arc::new(waldelta_capture::Status::new())),
            writer: (!role.captures()).then(|| Arc::new(Watched::new())),
            fanout: role.serves().then(|| Fanout::new(config.fanout(), history.clone(), source.clone())),
            unfollowed_max: following::UNFOLLOWED_MAX,
        });
        // Whoever ends everything ends this too.
        let leaving = stop.child_token();
        let operations =
            Operations { observer: observer.clone(), metrics: recorder.clone(), leaving: leaving.clone() };
        let app = match &observer.fanout {
            Some(fanout) => fanout.router_with(http::router(operations)),
            None => waldelta_fanout::guarded(&config.fanout(), http::router(operations)),
        };

        let stall_timeout = config.fanout().write_timeout;
        supervisor.spawn("listener", serving::serve(listener, app, stop.clone(), stall_timeout));
        opened.cancel();
        supervisor.spawn("indexes", build_indexes(history.clone(), stop.clone()));
        supervisor.spawn("metrics", upkeep(recorder, stop.clone()));
        if let Some(fanout) = observer.fanout.clone() {
            for part in fanout.parts(leaving.clone()) {
                supervisor.spawn(part.name, serving::run_part(part));
            }
            supervisor.spawn("head", serving::watch_head(history.clone(), stop.clone()));
        }
        if let Some(capture) = observer.capture.clone() {
            supervisor.spawn("states", capturing::tell_states(capture.clone(), stop.clone()));
            supervisor.spawn("follow", capturing::follow(history.clone(), capture.clone(), stop.clone()));
            let config = config.capture(source);
            supervisor
                .spawn("capture", capturing::run_capture(config, history.clone(), capture, stop.clone()));
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

/// By every role: whoever is there first. It ends when all are there, mostly at once.
async fn build_indexes(history: History, stop: CancellationToken) -> anyhow::Result<()> {
    history.build_indexes(stop).await;
    Ok(())
}
