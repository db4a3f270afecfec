//! Who may connect from a browser. Without it any web page could read the database through the browser of whoever runs the
//! service: WebSockets know no same-origin rule, and a host name of the page's own can be made to point here.
//!
//! It is no authentication: programs that are not browsers set these headers as they like.
//!
//! A request says once which host it means (RFC 9112, section 3.2): of two a proxy may have looked at the other one.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;
use waldelta_wal::Code;

use super::problem::Problem;
use crate::policy::Policy;

/// The policy of the moment.
pub(super) type Policies = watch::Receiver<Arc<Policy>>;

/// Lets a request pass whose Host and Origin are allowed.
pub(crate) async fn check(State(policy): State<Policies>, request: Request, next: Next) -> Response {
    let policy = policy.borrow().clone();
    let named = one_host(request.version(), request.headers());
    match named.and_then(|()| allowed(&policy, request.uri(), request.headers())) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn one_host(version: Version, headers: &HeaderMap) -> Result<(), Problem> {
    let detail = match headers.get_all(header::HOST).iter().count() {
        1 => return Ok(()),
        0 if version < Version::HTTP_11 => return Ok(()),
        0 => "the request does not say which host it means",
        _ => "the request names more than one host",
    };
    Err(Problem::bad_request(Code::RequestInvalid, detail))
}

fn allowed(policy: &Policy, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    // One in the request's first line counts more than the header.
    let hosts = [uri.authority().map(Authority::as_str), text(header::HOST)];
    if !hosts.into_iter().flatten().all(|host| host_is_allowed(policy, host)) {
        let detail = "the host name in the request is not one of this service";
        return Err(Problem::new(StatusCode::FORBIDDEN, Code::HostRefused, detail));
    }
    if let Some(origin) = text(header::ORIGIN)
        && !origin_is_allowed(policy, origin)
    {
        let detail = "the web page's origin is not allowed";
        return Err(Problem::new(StatusCode::FORBIDDEN, Code::OriginRefused, detail));
    }
    Ok(())
}

/// An address cannot be pointed elsewhere, and localhost is this machine.
fn host_is_allowed(policy: &Policy, host: &str) -> bool {
    let name = without_port(host);
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    is_local_name(name)
        || bare.parse::<IpAddr>().is_ok()
        || policy.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
}

fn origin_is_allowed(policy: &Policy, origin: &str) -> bool {
    let of_this_machine =
        ["http://", "https://"].iter().filter_map(|scheme| origin.strip_prefix(scheme)).any(|host| {
            let name = without_port(host);
            is_local_name(name) || matches!(name, "127.0.0.1" | "[::1]")
        });
    of_this_machine || policy.allowed_origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
}

fn is_local_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_and_listed_names_and_addresses_are_answered() {
        let policy = Policy { allowed_hosts: vec!["changes.example.com".into()], ..Policy::default() };
        for (host, allowed) in [
            ("localhost:4000", true),
            ("LOCALHOST", true),
            ("app.localhost:80", true),
            ("127.0.0.1:4000", true),
            ("192.168.1.5", true),
            ("[::1]:4000", true),
            ("[::1]", true),
            ("changes.example.com:443", true),
            ("evil.example.com:4000", false),
            ("localhost.evil.com", false),
            ("127.0.0.1.evil.com", false),
            ("", false),
        ] {
            assert_eq!(host_is_allowed(&policy, host), allowed, "{host}");
        }
    }

    #[test]
    fn a_request_says_once_which_host_it_means() {
        let code = |version, target: &str, hosts: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, host.parse().unwrap());
            }
            let policy = Policy::default();
            let told = one_host(version, &headers)
                .and_then(|()| allowed(&policy, &target.parse().unwrap(), &headers));
            told.err().map(|problem| problem.code)
        };
        const HERE: &str = "localhost:1";
        let (of_1_0, of_1_1) = (Version::HTTP_10, Version::HTTP_11);
        for (version, target, hosts, expected) in [
            (of_1_1, "/", &[HERE][..], None),
            (of_1_1, "/", &[][..], Some(Code::RequestInvalid)),
            (of_1_0, "/", &[][..], None),
            (of_1_0, "/", &[HERE, HERE][..], Some(Code::RequestInvalid)),
            (of_1_1, "/", &[HERE, "evil.example"][..], Some(Code::RequestInvalid)),
            (of_1_1, "http://localhost/", &[HERE][..], None),
            (of_1_1, "http://evil.example/", &[HERE][..], Some(Code::HostRefused)),
            (of_1_1, "http://localhost@evil.example/", &[HERE][..], Some(Code::HostRefused)),
            (of_1_1, "http://localhost/", &["evil.example"][..], Some(Code::HostRefused)),
            (of_1_0, "http://evil.example/", &[][..], Some(Code::HostRefused)),
        ] {
            assert_eq!(code(version, target, hosts), expected, "{version:?} {target} {hosts:?}");
        }
    }

    #[test]
    fn only_local_and_listed_origins_may_connect() {
        let policy = Policy { allowed_origins: vec!["https://app.example.com".into()], ..Policy::default() };
        for (origin, allowed) in [
            ("http://localhost:5173", true),
            ("http://127.0.0.1:4000", true),
            ("https://[::1]:4000", true),
            ("https://app.example.com", true),
            ("http://app.example.com", false),
            ("https://evil.example", false),
            ("http://localhost.evil.com", false),
            ("http://127.0.0.1.evil.com", false),
            ("http://192.168.1.5", false),
            ("null", false),
            ("file://localhost", false),
        ] {
            assert_eq!(origin_is_allowed(&policy, origin), allowed, "{origin}");
        }
    }
}
