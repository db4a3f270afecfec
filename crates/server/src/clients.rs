//! `GET /v1/clients`: the clients that history knows, whether they are connected to this process, to another one or to none.
//! Those that were away for long are forgotten (`server.forget_clients_after_days`).
//!
//! It is for people. Where those are that are connected here, the sessions in `/v1/status` say.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use waldelta_wal::chain_text;

use crate::http::{Operations, no_clients, problem};

/// Clients of one answer at most, and where nobody says how many.
const LIMIT_MAX: u32 = 1_000;
const LIMIT_DEFAULT: u32 = 100;

/// The answer as `waldelta status` reads it: those that were here last, newest first.
#[derive(Debug, Deserialize)]
pub(crate) struct Clients {
    pub clients: Vec<Client>,
}

/// What is shown of one.
#[derive(Debug, Deserialize)]
pub(crate) struct Client {
    pub client_id: String,
    /// To the process that answers.
    pub connected: bool,
    pub acked: Option<String>,
    pub seen_at: String,
    pub user_agent: Option<String>,
}

/// What may be asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    limit: Option<u32>,
}

pub(crate) async fn clients(
    State(operations): State<Operations>,
    Query(Asked { limit }): Query<Asked>,
) -> Response {
    let Some(fanout) = &operations.observer.fanout else {
        return no_clients();
    };
    match fanout.clients(limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX)).await {
        Ok(clients) => Json(serde_json::json!({"clients": clients})).into_response(),
        // The log has the words of the database.
        Err(error) => {
            let code = error.code();
            tracing::warn!(
                code = code.as_str(),
                error = chain_text(&error),
                "the clients could not be listed"
            );
            problem(StatusCode::SERVICE_UNAVAILABLE, code, "history does not answer")
        }
    }
}
