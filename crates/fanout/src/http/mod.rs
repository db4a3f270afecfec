//! The client side over HTTP: `/v1/stream` (WebSocket), `/v1/changes` (JSON pages) and `/v1/values` (what is too large for
//! both).

mod changes;
mod guard;
mod problem;
mod stream;
pub(crate) mod values;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use crate::inner::Inner;

/// Routes of the client side and `others`; each is behind the check of Host and Origin.
pub(crate) fn router(inner: Arc<Inner>, others: Router) -> Router {
    Router::new()
        .route("/v1/stream", get(stream::stream))
        .route("/v1/changes", get(changes::changes))
        .route("/v1/values/{cursor}/{image}/{column}", get(values::value))
        .with_state(inner.clone())
        .merge(others)
        .route_layer(axum::middleware::from_fn_with_state(inner, guard::check))
}
