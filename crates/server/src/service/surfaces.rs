//! What is on which listener, and for whom. All of them go by one policy, which changes while they are served.
//!
//! What is for operators is on the clients' listener, or on one of its own. With authentication it needs the token of an operator,
//! but for a listener of its own that only this machine reaches. Whoever reaches a listener may ask whether the process lives and is
//! ready, so that what looks after it needs no token.

use axum::Router;
use waldelta_access::Access;
use waldelta_fanout::{Fanout, LivePolicy};

use crate::config::Config;
use crate::example;
use crate::http::{self, Operations};
use crate::listener::Listeners;

/// The routes of each listener.
pub(super) struct Surfaces {
    pub clients: Router,
    pub operators: Option<Router>,
}

/// The routes of a process. `fanout`: where clients are served.
pub(super) fn of(
    config: &Config,
    listeners: &Listeners,
    access: &Access,
    policy: &LivePolicy,
    fanout: Option<&Fanout>,
    operations: &Operations,
) -> Surfaces {
    let locked = |routes| waldelta_fanout::operators_only(policy, access.clone(), routes);
    let for_operators = || http::operators(operations.clone());
    let probes = |in_full| http::probes(operations.clone(), in_full);

    let own = listeners.operators.as_ref();
    let probes_of_clients = probes(!config.requires_authentication());
    let theirs = match own {
        Some(_) => probes_of_clients,
        None => probes_of_clients.merge(for_operators()),
    };
    let clients = match fanout {
        Some(fanout) => fanout.router_with(theirs.merge(example::router())),
        None => waldelta_fanout::guarded(policy, locked(theirs)),
    };
    let operators = own.map(|listener| {
        let is_local = listener.is_local();
        let routes = probes(is_local).merge(for_operators());
        let routes = if is_local { routes } else { locked(routes) };
        // What operators look at begins with the changes; all else of clients stays where they are.
        let stream = fanout.map(Fanout::stream).unwrap_or_default();
        waldelta_fanout::guarded(policy, routes.merge(stream))
    });
    Surfaces { clients, operators }
}
