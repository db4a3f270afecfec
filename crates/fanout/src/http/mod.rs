//! The client side over HTTP: `/v1/stream` (WebSocket), `/v1/changes` (pages, event streams, lines), `/v1/ack`, `/v1/rows` (one row
//! over time), `/v1/snapshot`, `/v1/values` (what is too large for a frame), `/v1/dictionaries` (what packed frames are unpacked with),
//! and `/v1/tickets` (for who cannot set headers).

mod ack;
mod asker;
mod bearer;
mod changes;
mod cors;
mod dictionary;
mod elements;
mod etag;
mod gate;
mod guard;
mod lens;
mod place;
mod problem;
mod query;
mod rows;
mod snapshot;
mod stream;
mod term;
mod tickets;
mod time;
mod upgrade;
pub(crate) mod values;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};

use waldelta_access::Access;

use self::gate::{Gate, Needs};
use crate::describe;
use crate::inner::Inner;
use crate::limits::Quotas;
use crate::policy::LivePolicy;
use crate::wire::packed::DICTIONARY_PATH;

/// Routes of the client side and `others`; each is behind the check of Host and Origin, and behind the gate: what of the others
/// it does not know as open is for operators.
pub(crate) fn router(inner: Arc<Inner>, others: Router) -> Router {
    let policy = inner.policy.subscribe();
    let others = behind(gate(&inner, Needs::Operator), others);
    let clients = behind(gate(&inner, Needs::Anybody), routes()).with_state(inner);
    behind_guard(policy, clients.merge(others))
}

/// The stream alone, to be put behind the check of another listener. Who follows it there is a client as elsewhere.
pub(crate) fn stream(inner: Arc<Inner>) -> Router {
    behind(gate(&inner, Needs::Anybody), stream_route()).with_state(inner)
}

fn gate(inner: &Arc<Inner>, needs: Needs) -> Gate {
    Gate {
        access: inner.access.clone(),
        policy: inner.policy.subscribe(),
        quotas: inner.quotas.clone(),
        inner: Some(inner.clone()),
        needs,
    }
}

fn stream_route() -> Router<Arc<Inner>> {
    Router::new().route("/v1/stream", get(stream::stream))
}

/// The routes of the client side. What each is asked and answers is said in [`crate::describe`].
pub(crate) fn routes() -> Router<Arc<Inner>> {
    let resources = Router::new()
        .route("/v1/changes", get(changes::changes))
        .route("/v1/ack", post(ack::ack).layer(DefaultBodyLimit::max(ack::BODY_BYTES_MAX)))
        .route(tickets::PATH, post(tickets::issue).layer(DefaultBodyLimit::max(tickets::BODY_BYTES_MAX)))
        .route("/v1/rows/{table}/{key}", get(rows::row))
        .route("/v1/rows/{table}/{key}/history", get(rows::history))
        .route("/v1/snapshot", get(snapshot::snapshot))
        .route("/v1/values/{cursor}/{image}/{column}", get(values::value))
        .route(DICTIONARY_PATH, get(dictionary::dictionary))
        .route("/openapi.json", get(describe::openapi))
        .route("/asyncapi.json", get(describe::asyncapi))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .route_layer(from_fn(cors::share));
    resources.merge(stream_route())
}

/// Routes behind the check of Host and Origin, for a listener that serves no clients.
pub fn guarded(policy: &LivePolicy, routes: Router) -> Router {
    behind_guard(policy.0.subscribe(), routes)
}

/// Routes that are for operators alone, but for those that tell nothing: for a process that serves no clients. Where nobody has
/// to authenticate they are open.
pub fn operators_only(policy: &LivePolicy, access: Access, routes: Router) -> Router {
    let policy = policy.0.subscribe();
    let quotas = Quotas::new(policy.clone());
    behind(Gate { access, policy, quotas, inner: None, needs: Needs::Operator }, routes)
}

fn behind<S: Clone + Send + Sync + 'static>(gate: Gate, routes: Router<S>) -> Router<S> {
    // Whoever may not pass is not told which methods there are.
    let routes = routes.method_not_allowed_fallback(problem::method_not_allowed);
    // A router without routes has nothing to stand before.
    match routes.has_routes() {
        true => routes.route_layer(from_fn_with_state(gate, gate::admit)),
        false => routes,
    }
}

/// What is no route, or has no such method, is answered as routes answer.
fn behind_guard(policy: guard::Policies, routes: Router) -> Router {
    let routes = routes.method_not_allowed_fallback(problem::method_not_allowed);
    routes.route_layer(from_fn_with_state(policy, guard::check)).fallback(problem::no_resource)
}
