//! The client side over HTTP: `/v1/stream` (WebSocket), `/v1/changes` (pages, event streams, lines), `/v1/ack`, `/v1/rows` (one row
//! over time), `/v1/snapshot`, and `/v1/values` (what is too large for a frame).

mod ack;
mod changes;
mod cors;
mod elements;
mod etag;
mod guard;
mod place;
mod problem;
mod rows;
mod snapshot;
mod stream;
mod time;
mod upgrade;
pub(crate) mod values;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};

use crate::config::Config;
use crate::describe;
use crate::inner::Inner;

/// Routes of the client side and `others`; each is behind the check of Host and Origin.
pub(crate) fn router(inner: Arc<Inner>, others: Router) -> Router {
    let config = inner.config.clone();
    guarded(&config, routes().with_state(inner).merge(others))
}

/// The routes of the client side. What each is asked and answers is said in [`crate::describe`].
pub(crate) fn routes() -> Router<Arc<Inner>> {
    let resources = Router::new()
        .route("/v1/changes", get(changes::changes))
        .route("/v1/ack", post(ack::ack).layer(DefaultBodyLimit::max(ack::BODY_BYTES_MAX)))
        .route("/v1/rows/{table}/{key}", get(rows::row))
        .route("/v1/rows/{table}/{key}/history", get(rows::history))
        .route("/v1/snapshot", get(snapshot::snapshot))
        .route("/v1/values/{cursor}/{image}/{column}", get(values::value))
        .route("/openapi.json", get(describe::openapi))
        .route("/asyncapi.json", get(describe::asyncapi))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .route_layer(from_fn(cors::share));
    let stream = Router::new().route("/v1/stream", get(stream::stream));
    resources.merge(stream)
}

/// Routes behind the check of Host and Origin, for a listener that serves no clients.
pub fn guarded(config: &Config, routes: Router) -> Router {
    let config = Arc::new(config.clone());
    routes.route_layer(from_fn_with_state(config, guard::check))
}
