//! The query string of `GET /v1/changes`.

use std::time::Duration;

use axum::extract::Query;
use axum::http::Uri;
use waldelta_wal::Code;

use crate::http::problem::Problem;
use crate::subscription::{Pattern, Selection, Subscription};
use crate::wire::client::After;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 10_000;
const WAIT_MAX: Duration = Duration::from_secs(60);
const TABLES_MAX: usize = 100;

/// What is asked for.
pub(super) struct Request {
    pub after: Option<After>,
    pub limit: usize,
    pub selection: Selection,
    pub wait: Duration,
    pub client_id: String,
}

/// Reads the query; what is not known is refused, so that a misspelt filter does not give everything.
pub(super) fn parse(uri: &Uri) -> Result<Request, Problem> {
    let mut request = Request {
        after: None,
        limit: LIMIT_DEFAULT,
        selection: Selection::default(),
        wait: Duration::ZERO,
        client_id: String::new(),
    };
    let mut tables = Vec::new();
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| Problem::bad_request(Code::RequestInvalid, "the query string cannot be read"))?;
    for (name, value) in pairs {
        match name.as_str() {
            "after" => {
                let after = value.parse::<After>();
                request.after =
                    Some(after.map_err(|refusal| Problem::bad_request(refusal.code, refusal.message))?);
            }
            "limit" => request.limit = limit(&value)?,
            "table" if tables.len() < TABLES_MAX => tables.push(table(&value, tables.len())?),
            "table" => return Err(invalid("`table` comes too often")),
            "wait" => request.wait = wait(&value)?,
            "client_id" => request.client_id = value,
            "since" | "where" => {
                let detail = format!("`{name}` is not supported by this version; leave it out");
                return Err(Problem::bad_request(Code::NotSupportedYet, detail));
            }
            _ => return Err(invalid("unknown parameter; there are after, limit, table, wait and client_id")),
        }
    }
    if tables.is_empty() {
        tables.push(Subscription { id: "0".into(), table: Pattern::All, old: true });
    }
    request.selection = Selection::new(tables);
    Ok(request)
}

fn table(value: &str, index: usize) -> Result<Subscription, Problem> {
    let table = value.parse().map_err(|error| invalid(format!("`table`: {error}, schema.* or *")))?;
    Ok(Subscription { id: index.to_string(), table, old: true })
}

fn limit(value: &str) -> Result<usize, Problem> {
    match value.parse() {
        Ok(limit @ 1..=LIMIT_MAX) => Ok(limit),
        _ => Err(invalid(format!("`limit` must be a number from 1 to {LIMIT_MAX}"))),
    }
}

/// `20s`, `500ms`, or a number of seconds.
fn wait(value: &str) -> Result<Duration, Problem> {
    let (digits, unit): (&str, fn(u64) -> Duration) =
        match (value.strip_suffix("ms"), value.strip_suffix('s')) {
            (Some(digits), _) => (digits, Duration::from_millis),
            (None, Some(digits)) => (digits, Duration::from_secs),
            (None, None) => (value, Duration::from_secs),
        };
    match digits.parse().map(unit) {
        Ok(wait) if wait <= WAIT_MAX => Ok(wait),
        _ => Err(invalid(format!(
            "`wait` must be a time such as 20s or 500ms, at most {}s",
            WAIT_MAX.as_secs()
        ))),
    }
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::bad_request(Code::RequestInvalid, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Request, Problem> {
        parse(&format!("/v1/changes?{query}").parse().unwrap())
    }

    #[test]
    fn reads_what_is_documented() {
        let request =
            read("after=0%2F16B3748&limit=5&table=public.*&table=other.t&wait=1500ms&client_id=web-7")
                .unwrap();
        assert_eq!(request.after, Some(After::Lsn("0/16B3748".parse().unwrap())));
        assert_eq!((request.limit, request.wait), (5, Duration::from_millis(1_500)));
        assert_eq!((request.selection.subscriptions().len(), request.client_id.as_str()), (2, "web-7"));
        assert_eq!(read("wait=20").unwrap().wait, read("wait=20s").unwrap().wait);
        assert!(read("").unwrap().selection.matches(&"any.table".parse().unwrap()));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for (query, code) in [
            ("after=x", Code::CursorInvalid),
            ("limit=0", Code::RequestInvalid),
            ("limit=10001", Code::RequestInvalid),
            ("wait=61s", Code::RequestInvalid),
            ("wait=-1s", Code::RequestInvalid),
            ("wait=99999999999999999999", Code::RequestInvalid),
            ("table=a%20b", Code::RequestInvalid),
            ("tabel=t", Code::RequestInvalid),
            ("where=a", Code::NotSupportedYet),
            ("since=now", Code::NotSupportedYet),
        ] {
            assert_eq!(read(query).err().map(|problem| problem.code), Some(code), "{query}");
        }
    }
}
