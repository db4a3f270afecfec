//! Opening history at the start, and what is answered meanwhile.
//!
//! The listeners are served from the beginning on. History's database may be out of reach, or its schema may take a while: who looks
//! whether the process lives must not take it for dead meanwhile and end it, again and again. All that is told then is that it
//! lives and what it waits for; everything else is to come back. The service takes the same sockets over, so that no connection is
//! lost in between.

use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio_util::sync::CancellationToken;
use waldelta_fanout::LivePolicy;
use waldelta_history::History;
use waldelta_source::Source;
use waldelta_wal::Code;

use crate::failure;
use crate::http::problem;
use crate::listener::Listeners;
use crate::supervise::Supervisor;
use crate::systemd;

/// While history cannot be reached at the start, it is tried again after this long.
const RETRY_DELAY: Duration = Duration::from_secs(2);
/// Who is sent away comes back after this long.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// A process whose history is not open yet. Dropping it ends what it serves.
pub(crate) struct Opening {
    pub(super) supervisor: Supervisor,
    pub(super) listeners: Listeners,
    pub(super) stop: CancellationToken,
    /// Cancelled: the service accepts from now on.
    pub(super) opened: CancellationToken,
    wait: Arc<Wait>,
}

impl Opening {
    /// Serves the listeners until the service does; `policy` says who may ask.
    pub(crate) fn begin(
        policy: waldelta_fanout::Policy,
        listeners: Listeners,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let policy = LivePolicy::new(policy);
        let (wait, opened) = (Arc::new(Wait::new()), CancellationToken::new());
        let mut supervisor = Supervisor::new(stop.clone());
        // What stands in the way names databases: not for everybody, where some are let in and some are not.
        let in_full = !listeners.has_auth;
        let operators =
            listeners.operators.as_ref().map(|listener| (listener, in_full || listener.is_local()));
        for (listener, in_full) in [Some((&listeners.clients, in_full)), operators].into_iter().flatten() {
            let app = router(&policy, Told { wait: wait.clone(), in_full });
            let serving = listener.share()?.serve_until(app, opened.clone(), stop.clone());
            supervisor.spawn("opening", serving);
        }
        let line = {
            let wait = wait.clone();
            move || wait.text()
        };
        supervisor.spawn("opening", systemd::run(line, opened.clone()));
        Ok(Opening { supervisor, listeners, stop, opened, wait })
    }

    /// Opens history, waiting for its database when it is only out of reach for now. What that can hold decides how values of
    /// the source are written.
    pub(crate) async fn history(
        &self,
        config: &waldelta_history::Config,
        source: &mut Source,
    ) -> anyhow::Result<History> {
        loop {
            match open(config, source, |until| self.wait.is_until(until)).await {
                Ok(history) => return Ok(history),
                Err(error) if error.is_retryable() && !self.stop.is_cancelled() => {
                    let code = error.code();
                    let error = anyhow::Error::new(error);
                    let text = failure::chain_text(&error);
                    tracing::warn!(error = text, "history is out of reach; trying again");
                    self.wait.failed(code, &text);
                    if self.stop.run_until_cancelled(tokio::time::sleep(RETRY_DELAY)).await.is_none() {
                        return Err(error.context("open history"));
                    }
                }
                Err(error) => return Err(anyhow::Error::new(error).context("open history")),
            }
        }
    }
}

/// Opens history once, for a command that serves nothing.
pub(crate) async fn try_open_history(
    config: &waldelta_history::Config,
    source: &mut Source,
) -> Result<History, waldelta_history::Error> {
    open(config, source, |_| {}).await
}

/// Opens history for a command that changes nothing of it.
pub(crate) async fn open_history_as_it_is(
    config: &waldelta_history::Config,
    source: &mut Source,
) -> Result<History, waldelta_history::Error> {
    let history = History::open_as_it_is(config).await?;
    source.values.ascii_escapes_only = history.encoding().await? != "UTF8";
    Ok(history)
}

async fn open(
    config: &waldelta_history::Config,
    source: &mut Source,
    tell: impl Fn(&'static str) + Send + Sync,
) -> Result<History, waldelta_history::Error> {
    let history = History::open_telling(config, tell).await?;
    source.values.ascii_escapes_only = history.encoding().await? != "UTF8";
    Ok(history)
}

/// What is waited for.
struct Wait(Mutex<Waiting>);

struct Waiting {
    until: &'static str,
    since: Instant,
    failure: Option<String>,
}

impl Wait {
    fn new() -> Self {
        Wait(Mutex::new(Waiting { until: "history is open", since: Instant::now(), failure: None }))
    }

    fn is_until(&self, until: &'static str) {
        let mut waiting = self.lock();
        if waiting.until != until {
            (waiting.until, waiting.since) = (until, Instant::now());
        }
    }

    fn failed(&self, code: Code, message: &str) {
        self.lock().failure = Some(format!("{}: {message}", code.as_str()));
    }

    /// One line.
    fn text(&self) -> String {
        let waiting = self.lock();
        let seconds = waiting.since.elapsed().as_secs();
        let mut text = format!("starting: waiting until {}, for {seconds} s", waiting.until);
        if let Some(failure) = &waiting.failure {
            // Writing into a string does not fail.
            let _ = write!(text, "; the last try failed: {failure}");
        }
        text
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Each change of it is one assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of it is told.
#[derive(Clone)]
struct Told {
    wait: Arc<Wait>,
    in_full: bool,
}

fn router(policy: &LivePolicy, told: Told) -> Router {
    let routes = Router::new().route("/livez", get(async || closing("ok\n"))).route("/readyz", get(readyz));
    waldelta_fanout::guarded(policy, routes.with_state(told)).fallback(async || come_back())
}

async fn readyz(State(told): State<Told>) -> Response {
    let text = match told.in_full {
        true => told.wait.text() + "\n",
        false => "starting\n".to_owned(),
    };
    closing((StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER)], text))
}

fn come_back() -> Response {
    let answer = problem(StatusCode::SERVICE_UNAVAILABLE, Code::Starting, Code::Starting.explanation().title);
    closing(([(header::RETRY_AFTER, RETRY_AFTER)], answer))
}

/// The next request of whoever asks goes to the service, if that is there by then.
fn closing(answer: impl IntoResponse) -> Response {
    ([(header::CONNECTION, HeaderValue::from_static("close"))], answer).into_response()
}

#[cfg(test)]
mod tests;
