//! Who may ask for what: one look at every request, before the resource that it names.
//!
//! It is decided by the route that was found, never by the path's text. Whatever is not named here needs what its router needs,
//! so that a new route is closed until somebody opens it. Which rows and columns somebody sees is decided behind it.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use waldelta_access::{Access, Identity, Refusal};
use waldelta_wal::Code;

use super::asker::Asker;
use super::bearer::{self, Presented, Unfit};
use super::guard::Policies;
use super::problem::Problem;
use super::{cors, tickets};
use crate::inner::Inner;
use crate::limits::{Quotas, RetryAfter};
use crate::peer::Peer;
use crate::wire::packed::DICTIONARY_PATH;

/// Says who may pass.
#[derive(Clone)]
pub(super) struct Gate {
    pub access: Access,
    pub policy: Policies,
    pub quotas: Quotas,
    /// Where clients are served: whoever comes is told to the audit.
    pub inner: Option<Arc<Inner>>,
    pub needs: Needs,
}

/// What is needed to pass, where it is needed to authenticate at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Answers that hold no data: whether the service lives, what its resources look like, which words frames are made of, and pages
    /// without what they show.
    Nothing,
    /// A token or a ticket, or neither: the WebSocket's first frame may bring one.
    Later,
    /// A token or a ticket.
    Anybody,
    /// A token.
    Token,
    /// One of an operator.
    Operator,
}

impl Needs {
    /// What a route needs that is one of a router with these needs.
    fn of(self, route: &str, uri: &Uri) -> Self {
        let is_verbose =
            uri.query().is_some_and(|query| query.split('&').any(|part| part.starts_with("verbose")));
        match route {
            "/livez" | "/openapi.json" | "/asyncapi.json" | DICTIONARY_PATH => Needs::Nothing,
            // Files for browsers: what they show they ask for, with a token that whoever looks enters there.
            "/" => Needs::Nothing,
            _ if route.starts_with("/page/") || route.starts_with("/example/") => Needs::Nothing,
            "/readyz" if !is_verbose => Needs::Nothing,
            "/v1/stream" => Needs::Later,
            tickets::PATH => Needs::Token,
            _ => self,
        }
    }
}

/// Lets a request pass, with its [`Asker`], or answers it.
pub(super) async fn admit(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let (is_required, origin) = (gate.access.is_required(), request.headers().get(header::ORIGIN).cloned());
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    let needs = gate.needs.of(route, request.uri());
    // A browser that asks beforehand has no token with it; nothing but that is answered.
    let asks_beforehand =
        needs != Needs::Operator && cors::asks_beforehand(request.method(), request.headers());
    if needs == Needs::Nothing || asks_beforehand {
        return next.run(request).await;
    }
    let mut response = match gate.asker(&mut request, needs, is_required).await {
        Ok(asker) => {
            request.extensions_mut().insert(asker);
            next.run(request).await
        }
        Err(problem) => {
            let mut response = problem.into_response();
            cors::tell(origin, response.headers_mut());
            response
        }
    };
    if is_required {
        let headers = response.headers_mut();
        headers.append(header::VARY, HeaderValue::from_static("Authorization"));
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
    response
}

impl Gate {
    async fn asker(&self, request: &mut Request, needs: Needs, is_required: bool) -> Result<Asker, Problem> {
        let peer = Peer::of(request.extensions());
        let mut asker = Asker {
            identity: None,
            grant: self.policy.borrow().rules.grant(None),
            peer,
            refusal: None,
            is_somebody: is_required,
        };
        // Before anything is looked at: who guesses is slowed down too.
        let address = peer.map(|peer| peer.address);
        self.quotas.request(address, None).map_err(|after| self.refused(&asker, too_fast(after)))?;
        if !is_required {
            return Ok(asker);
        }
        let presented = match bearer::presented(request.uri(), request.headers()) {
            Ok(presented) => Ok(presented),
            Err(Unfit::Request(problem)) if problem.code == Code::TokenInUrl => {
                return Err(self.refused(&asker, problem));
            }
            Err(Unfit::Request(problem)) => return Err(problem),
            Err(Unfit::Refused(refusal)) => Err(refusal),
        };
        *request.uri_mut() = bearer::without_ticket(request.uri());
        let identified = match presented {
            Ok(presented) => self.identify(presented, needs).await,
            Err(refusal) => Err(refusal),
        };
        match identified {
            Ok(identity) => {
                asker.grant = self.policy.borrow().rules.grant(Some(&identity));
                let asked = self.quotas.request(None, Some(&identity));
                asker.identity = Some(identity);
                asked.map_err(|after| self.refused(&asker, too_fast(after)))?;
            }
            Err(Refusal::Missing) if needs == Needs::Later => {}
            // Told over it, and to the audit there.
            Err(refusal) if needs == Needs::Later => asker.refusal = Some(refusal),
            Err(refusal) => return Err(self.refused(&asker, Problem::of(refusal))),
        }
        let is_operator = asker.identity.as_ref().is_some_and(|identity| identity.is_admin);
        if needs == Needs::Operator && !is_operator {
            let code = Code::NotPermitted;
            let problem = Problem::new(StatusCode::FORBIDDEN, code, code.explanation().title);
            return Err(self.refused(&asker, problem));
        }
        if let Some(inner) = self.inner.as_ref().filter(|_| needs != Needs::Later) {
            inner.audit.asked(asker.who()).await.map_err(|code| {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, code.explanation().title)
            })?;
        }
        Ok(asker)
    }

    /// Somebody was turned away: the audit counts them.
    fn refused(&self, asker: &Asker, problem: Problem) -> Problem {
        tracing::debug!(code = problem.code.as_str(), "a request is not let in");
        if let Some(inner) = &self.inner {
            inner.audit.refused(asker.who(), problem.code);
        }
        problem
    }

    async fn identify(&self, presented: Presented, needs: Needs) -> Result<Arc<Identity>, Refusal> {
        match presented {
            Presented::Token(token) => self.access.verify(&token).await,
            // It is used up where it is good for nothing, too.
            Presented::Ticket(ticket) => match self.access.redeem(&ticket).await {
                Ok(_) if needs == Needs::Token => Err(Refusal::Missing),
                redeemed => redeemed,
            },
            Presented::Nothing => Err(Refusal::Missing),
        }
    }
}

fn too_fast(after: RetryAfter) -> Problem {
    let code = Code::TooManyRequests;
    Problem::new(StatusCode::TOO_MANY_REQUESTS, code, code.explanation().title).after(after.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_needs_what_its_router_needs() {
        for (route, uri, of_clients, of_operators) in [
            ("/livez", "/livez", Needs::Nothing, Needs::Nothing),
            ("/readyz", "/readyz", Needs::Nothing, Needs::Nothing),
            ("/", "/", Needs::Nothing, Needs::Nothing),
            ("/example/waldelta.js", "/example/waldelta.js", Needs::Nothing, Needs::Nothing),
            ("/v1/status", "/example/waldelta.js", Needs::Anybody, Needs::Operator),
            ("/readyz", "/readyz?a&verbose", Needs::Anybody, Needs::Operator),
            ("/readyz", "/readyz?verbose=1", Needs::Anybody, Needs::Operator),
            ("/v1/stream", "/v1/stream", Needs::Later, Needs::Later),
            ("/v1/tickets", "/v1/tickets", Needs::Token, Needs::Token),
            ("/v1/changes", "/v1/changes", Needs::Anybody, Needs::Operator),
            ("/v1/dictionaries/1", "/v1/dictionaries/1", Needs::Nothing, Needs::Nothing),
            ("/v1/of_tomorrow", "/livez", Needs::Anybody, Needs::Operator),
            ("", "/openapi.json", Needs::Anybody, Needs::Operator),
        ] {
            let uri = uri.parse().unwrap();
            assert_eq!(Needs::Anybody.of(route, &uri), of_clients, "{route} {uri}");
            assert_eq!(Needs::Operator.of(route, &uri), of_operators, "{route} {uri}");
        }
    }
}
