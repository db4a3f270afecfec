//! Which parts run in a process of which role, and how they are wired.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use waldelta_fanout::Fanout;
use waldelta_history::History;
use waldelta_source::Source;

use super::{Service, capturing, following, serving, upkeep};
use crate::config::Config;
use crate::http::{self, Operations};
use crate::status::{Observer, Watched};
use crate::supervise::Supervisor;

impl Service {
    /// Starts all parts of this process on a bound listener.
    pub(crate) fn start(
        config: Config,
        source: Source,
        history: History,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let recorder = PrometheusBuilder::new().install_recorder().context("install the metrics recorder")?;
        let role = config.server.role;
        let observer = Arc::new(Observer {
            role,
            history: history.clone(),
            capture: role.captures().then(|| Arc::new(waldelta_capture::Status::new())),
            writer: (!role.captures()).then(|| Arc::new(Watched::new())),
            fanout: role.serves().then(|| Fanout::new(config.fanout(), history.clone(), source.clone())),
        });
        // Whoever ends everything ends this too.
        let leaving = stop.child_token();
        let operations =
            Operations { observer: observer.clone(), metrics: recorder.clone(), leaving: leaving.clone() };
        let app = match &observer.fanout {
            Some(fanout) => fanout.router_with(http::router(operations)),
            None => waldelta_fanout::guarded(&config.fanout(), http::router(operations)),
        };

        let mut supervisor = Supervisor::new(stop.clone());
        supervisor.spawn("listener", serving::serve(listener, app, stop.clone()));
        supervisor.spawn("metrics", upkeep(recorder, stop.clone()));
        if let Some(fanout) = observer.fanout.clone() {
            supervisor.spawn("fanout", serving::run_fanout(fanout, leaving.clone()));
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
