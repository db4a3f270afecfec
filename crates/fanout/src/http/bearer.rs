//! What a request presents to say who asks: a token in `Authorization`, or a ticket in the URL.
//!
//! A token in a URL is refused, whoever's it is: URLs are written to logs, and a token lives long. A ticket is good for one
//! request, and is taken out of the URL here, so that nothing behind sees it.

use axum::extract::Query;
use axum::http::uri::{PathAndQuery, Uri};
use axum::http::{HeaderMap, header};
use waldelta_access::Refusal;
use waldelta_wal::Code;

use super::problem::Problem;

/// Names under which people put tokens into URLs.
const TOKENS: [&str; 4] = ["token", "access_token", "jwt", "authorization"];
const TICKET: &str = "ticket";

/// What was presented. It has no `Debug`: it is a secret.
#[derive(PartialEq, Eq)]
pub(super) enum Presented {
    Nothing,
    Token(String),
    Ticket(String),
}

/// Why what was presented is not even looked at.
pub(super) enum Unfit {
    /// The request cannot be served whoever asks.
    Request(Problem),
    /// It is no token.
    Refused(Refusal),
}

/// Reads what a request presents.
pub(super) fn presented(uri: &Uri, headers: &HeaderMap) -> Result<Presented, Unfit> {
    let invalid = |detail: &str| Unfit::Request(Problem::bad_request(Code::RequestInvalid, detail));
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| invalid("the query string cannot be read"))?;
    if pairs.iter().any(|(name, _)| TOKENS.iter().any(|token| name.eq_ignore_ascii_case(token))) {
        let code = Code::TokenInUrl;
        return Err(Unfit::Request(Problem::bad_request(code, code.explanation().title)));
    }
    let mut tickets = pairs.into_iter().filter(|(name, _)| name == TICKET).map(|(_, ticket)| ticket);
    let ticket = tickets.next();
    if tickets.next().is_some() {
        return Err(invalid("`ticket` comes more than once"));
    }
    match (bearer(headers).map_err(Unfit::Refused)?, ticket) {
        (Some(_), Some(_)) => Err(invalid("a request has a token or a ticket, not both")),
        (Some(token), None) => Ok(Presented::Token(token.to_owned())),
        (None, Some(ticket)) => Ok(Presented::Ticket(ticket)),
        (None, None) => Ok(Presented::Nothing),
    }
}

/// The token in `Authorization` (RFC 6750, section 2.1); `None` without one, also where the header is of another scheme.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).into_iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::Invalid);
    }
    let text = value.to_str().map_err(|_| Refusal::Invalid)?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        _ => Ok(None),
    }
}

/// The same URL without its ticket.
pub(super) fn without_ticket(uri: &Uri) -> Uri {
    let is_ticket = |part: &str| part.split('=').next() == Some(TICKET);
    let Some(query) = uri.query().filter(|query| query.split('&').any(is_ticket)) else { return uri.clone() };
    let rest: Vec<&str> = query.split('&').filter(|part| !is_ticket(part)).collect();
    let text = match rest.is_empty() {
        true => uri.path().to_owned(),
        false => format!("{}?{}", uri.path(), rest.join("&")),
    };
    let mut parts = uri.clone().into_parts();
    // What was a URL is one without a part of its query.
    parts.path_and_query = text.parse::<PathAndQuery>().ok();
    Uri::from_parts(parts).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn read(path: &str, authorization: &[&'static str]) -> Result<Presented, Code> {
        let mut headers = HeaderMap::new();
        for value in authorization {
            headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
        }
        presented(&path.parse().unwrap(), &headers).map_err(|unfit| match unfit {
            Unfit::Request(problem) => problem.code,
            Unfit::Refused(refusal) => refusal.code(),
        })
    }

    #[test]
    fn a_token_is_in_a_header_and_a_ticket_in_the_url() {
        let token = |token: &str| Ok(Presented::Token(token.to_owned()));
        let ticket = |ticket: &str| Ok(Presented::Ticket(ticket.to_owned()));
        for (path, authorization, expected) in [
            ("/v1/changes", &[][..], Ok(Presented::Nothing)),
            ("/v1/changes?after=0/1", &["Bearer a.b-c"][..], token("a.b-c")),
            ("/v1/changes", &["bEARER  x "][..], token("x")),
            ("/v1/changes", &["Bearer "][..], token("")),
            ("/v1/changes", &["Basic dTpw"][..], Ok(Presented::Nothing)),
            ("/v1/changes", &["Bearer a", "Bearer a"][..], Err(Code::TokenInvalid)),
            ("/v1/changes?table=t&ticket=a%2Bb", &[][..], ticket("a+b")),
            ("/v1/changes?ticket=", &[][..], ticket("")),
            ("/v1/changes?ticket=a&ticket=b", &[][..], Err(Code::RequestInvalid)),
            ("/v1/changes?ticket=a", &["Bearer b"][..], Err(Code::RequestInvalid)),
        ] {
            assert!(read(path, authorization) == expected, "{path} {authorization:?}");
        }
    }

    #[test]
    fn a_token_in_a_url_is_refused_however_its_name_is_written() {
        for query in [
            "token=a",
            "TOKEN=a",
            "%74oken=a",
            "access_token=a",
            "after=0/1&jwt=a",
            "Authorization=Bearer%20a",
            "token",
            "ticket=a&token=b",
        ] {
            let read = read(&format!("/v1/changes?{query}"), &["Bearer x"]);
            assert!(read == Err(Code::TokenInUrl), "{query}");
        }
        assert!(read("/v1/changes?tokens=a&where=token%3D1", &[]) == Ok(Presented::Nothing));
    }

    #[test]
    fn nothing_behind_sees_a_ticket() {
        for (path, rest) in [
            ("/a/b?ticket=x", "/a/b"),
            ("/a?after=0%2F1&ticket=x&table=a.b", "/a?after=0%2F1&table=a.b"),
            ("/a?tickets=x", "/a?tickets=x"),
            ("/a?ticket", "/a"),
            ("http://host:1/a?ticket=x&b=c", "http://host:1/a?b=c"),
        ] {
            assert_eq!(without_ticket(&path.parse().unwrap()), rest, "{path}");
        }
    }
}
