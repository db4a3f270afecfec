//! What a session has done for it while it goes on: each ends as an event.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use waldelta_access::Refusal;
use waldelta_wal::{Code, Position, chain_text};

use super::Actor;
use crate::audit::Who;
use crate::error::Error;
use crate::session::hydrate::{self, Failure, Order, Step};
use crate::session::socket::Socket;
use crate::session::state::{Admitted, Event, session_name};
use crate::wire::client::{After, Token};

/// Steps of a snapshot that are read ahead of the socket.
const STEPS_AHEAD: usize = 1;
/// A token that is not verified within this time is not for now.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(10);

impl<S: Socket> Actor<S> {
    pub(super) fn authenticate(&mut self, Token(token): Token) {
        let inner = self.inner.clone();
        self.operations.push(Box::pin(async move {
            let verified = tokio::time::timeout(VERIFY_TIMEOUT, inner.access.verify(&token)).await;
            let identity = verified.unwrap_or(Err(Refusal::Unavailable));
            Event::Authenticated(identity.map(|identity| {
                let grant = inner.grant(Some(&identity));
                Admitted { identity, grant }
            }))
        }));
    }

    pub(super) fn list_tables(&mut self) {
        let inner = self.inner.clone();
        self.operations.push(Box::pin(async move {
            Event::Tables(inner.captured.tables(&*inner.log, &*inner.origin).await)
        }));
    }

    pub(super) fn resolve(&mut self, after: Option<After>) {
        let inner = self.inner.clone();
        let (identity, client_id) =
            (self.session.identity().cloned(), self.session.client().map(|it| it.id.clone()));
        let (address, name) = (self.listed.address(), session_name(self.seat.number));
        self.operations.push(Box::pin(async move {
            let who = Who { identity: identity.as_deref(), client_id: client_id.as_deref(), address };
            if let Err(code) = inner.audit.began(who, &name, "websocket").await {
                return Event::Resolved(Err(code));
            }
            let resolved = async {
                let cursor = match after {
                    None => None,
                    Some(After::Cursor(cursor)) => Some(Some(cursor)),
                    Some(After::Lsn(lsn)) => Some(inner.log.cursor_of_lsn(lsn).await?),
                };
                Ok::<_, Error>((inner.admission.extent_of_session(cursor.flatten()).await?, cursor))
            };
            let resolved = resolved.await;
            Event::Resolved(resolved.map_err(|error| failed("find where a session begins", &error)))
        }));
    }

    pub(super) fn ask_frontier(&mut self) {
        let Some(frontier) = self.session.client().map(|client| client.frontier.clone()) else { return };
        let (inner, numbered) = (self.inner.clone(), self.numbered.take());
        self.operations.push(Box::pin(async move {
            frontier.store(inner.frontier.ask().await, Ordering::Release);
            // Whoever has seen it live and connects elsewhere is newer there.
            if let Some(numbered) = numbered {
                let _ = numbered.await;
            }
            Event::FrontierKnown
        }));
    }

    pub(super) fn hydrate(&mut self, order: Order) {
        let Ok(permit) = self.inner.hydrations.clone().try_acquire_owned() else {
            let code = Code::SnapshotsBusy;
            let failure = Failure::ForNow { code, message: code.explanation().title.to_owned() };
            self.operations.push(Box::pin(std::future::ready(Event::Hydration(Step::Failed(failure)))));
            return;
        };
        let (sender, steps) = mpsc::channel(STEPS_AHEAD);
        // A snapshot that still runs finds nobody listening and ends.
        self.steps = Some(steps);
        let (inner, subprotocol) = (self.inner.clone(), self.subprotocol);
        self.operations.push(Box::pin(async move {
            hydrate::run(order, subprotocol, &inner, sender).await;
            drop(permit);
            Event::Woken
        }));
    }

    pub(super) fn record(&mut self, cursor: Position) {
        let Some(key) = self.session.client().map(|client| client.key.clone()) else { return };
        let inner = self.inner.clone();
        self.operations.push(Box::pin(async move {
            Event::Recorded(inner.clients.record(key, cursor).await.map(|()| cursor))
        }));
    }
}

/// Logs a failure where it is handled, and gives the code that the client is told.
pub(super) fn failed(what: &'static str, error: &Error) -> Code {
    let code = error.code();
    tracing::warn!(code = code.as_str(), error = chain_text(error), what, "a session could not be served");
    code
}
