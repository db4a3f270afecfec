//! The model of the console: rows of the status model, and what can be told to the parts.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use metrics_exporter_prometheus::PrometheusHandle;
use waldelta_console::{Command, Model, Refusal, Table, Value};

use super::tables::{self, SHOWS, Shows, TABLES};
use crate::human::size;
use crate::service::Pauses;
use crate::status::Observer;

/// How long a reload is waited for.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// What the console shows.
pub(crate) struct Shown {
    pub observer: Arc<Observer>,
    pub metrics: PrometheusHandle,
    pub pauses: Pauses,
}

impl Shown {
    fn stats(&self) -> Vec<Vec<Value>> {
        self.observer.record();
        tables::stats(&self.metrics.render())
    }

    fn scopes(&self) -> Vec<Vec<Value>> {
        let scopes = self.observer.fanout.as_ref().map(waldelta_fanout::Fanout::scopes).unwrap_or_default();
        let row = |scope: waldelta_fanout::ScopeReading| {
            let (sessions, bytes) = (scope.sessions as u64, scope.held_bytes as u64);
            vec![scope.follows.into(), sessions.into(), bytes.into(), size(bytes).into()]
        };
        scopes.into_iter().map(row).collect()
    }

    fn of_capture(&self, done: &str) -> Result<String, Refusal> {
        match self.observer.capture.is_some() {
            true => Ok(done.to_owned()),
            false => Err(Refusal::new("55000", "this process does not capture: ask one that does")),
        }
    }
}

impl Model for Shown {
    fn version(&self) -> String {
        format!("Waldelta {}", env!("CARGO_PKG_VERSION"))
    }

    #[expect(clippy::disallowed_methods, reason = "now() is for people")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn tables(&self) -> &'static [Table] {
        &TABLES
    }

    async fn rows(&self, table: &'static Table) -> Result<Vec<Vec<Value>>, Refusal> {
        let place = TABLES.iter().position(|one| one.name == table.name);
        let Some(shows) = place.and_then(|place| SHOWS.get(place)) else { return Ok(Vec::new()) };
        Ok(match shows {
            Shows::Version => tables::version(&self.observer.read()),
            Shows::State => tables::state(&self.observer.read()),
            Shows::Slots => tables::slots(&self.observer.read()),
            Shows::Lag => tables::lag(&self.observer.read()),
            Shows::Tables => tables::tables(&self.observer.read_in_full()),
            Shows::Clients => tables::clients(&self.observer.read_in_full()),
            Shows::Scopes => self.scopes(),
            Shows::Stats => self.stats(),
            Shows::Checks => tables::checks(&self.observer.read()),
            Shows::Errors => tables::errors(),
            Shows::Config => tables::config(&self.observer.config.in_force()),
            Shows::Mem => tables::mem(&self.stats()),
        })
    }

    async fn act(&self, command: Command, user: &str) -> Result<String, Refusal> {
        match command {
            Command::Pause => {
                let done = self.of_capture("capture is paused; the slot keeps WAL until RESUME")?;
                self.pauses.pause(user);
                Ok(done)
            }
            Command::Resume => {
                let done = self.of_capture("capture goes on")?;
                match self.pauses.resume() {
                    true => Ok(done),
                    false => Err(Refusal::new("55000", "capture is not paused")),
                }
            }
            Command::Reload => match self.observer.config.ask(RELOAD_TIMEOUT).await {
                None => Err(Refusal::new("55000", "this process does not read its configuration again")),
                Some(Ok(())) => Ok("the configuration was read again, and is in force".to_owned()),
                Some(Err((code, message))) => Err(Refusal::new("F0000", format!("{code}: {message}"))
                    .hint("What was in force before still is.")),
            },
            Command::Kill(session) => {
                let fanout = self.observer.fanout.as_ref();
                match fanout.is_some_and(|fanout| fanout.dismiss(&session)) {
                    true => Ok(format!("{session} is let go")),
                    false => {
                        Err(Refusal::new("42704", format!("there is no session {session:?} on this process"))
                            .hint("SHOW CLIENTS lists them."))
                    }
                }
            }
        }
    }
}
