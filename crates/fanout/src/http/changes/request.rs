//! What `GET /v1/changes` is asked for: the query string, and the two headers that play a role.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::http::{HeaderMap, Uri, header};
use waldelta_wal::Code;

use crate::filter::Filter;
use crate::http::problem::Problem;
use crate::http::{elements, query, time};
use crate::rules::Grant;
use crate::subscription::{Numbers, Pattern, Selection, Subscription};
use crate::wire::client::{After, CLIENT_ID_FORM, is_client_id};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 10_000;
const WAIT_MAX: Duration = Duration::from_secs(60);
const TABLES_MAX: usize = 100;
/// Columns that are named at most: no table has more.
const COLUMNS_MAX: usize = 1_600;
const LAST_EVENT_ID: &str = "last-event-id";

/// What is asked for.
#[derive(Debug)]
pub(super) struct Request {
    pub form: Form,
    pub after: Option<After>,
    /// Instead of that: what committed at this time or later, in microseconds since 1970-01-01 UTC.
    pub since: Option<i64>,
    pub limit: usize,
    pub selection: Selection,
    pub wait: Duration,
    pub client_id: String,
}

/// In which form the answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One page as JSON.
    Page,
    /// `text/event-stream`: as long as the client listens.
    EventStream,
    /// `application/x-ndjson`: a frame a line, up to the head, or as long as `wait` says.
    Lines,
}

impl Form {
    /// What a client that follows so is noted to speak.
    pub(super) fn name(self) -> &'static str {
        match self {
            Form::Page => "http",
            Form::EventStream => "sse",
            Form::Lines => "ndjson",
        }
    }

    /// The first of the streams that the client accepts, else a page.
    fn of(headers: &HeaderMap) -> Self {
        let kinds = elements::of(headers, header::ACCEPT).filter_map(|one| one.split(';').next());
        let mut forms = kinds.filter_map(|kind| match kind.trim().to_ascii_lowercase().as_str() {
            "text/event-stream" => Some(Form::EventStream),
            "application/x-ndjson" => Some(Form::Lines),
            _ => None,
        });
        forms.next().unwrap_or(Form::Page)
    }
}

impl Request {
    /// Whether what it is answered with is the same for everybody at any time, if it ends below the head.
    pub(super) fn is_of_a_fixed_place(&self) -> bool {
        matches!(self.after, Some(After::Cursor(_))) && self.client_id.is_empty() && self.wait.is_zero()
    }
}

/// What of the query belongs to its tables.
#[derive(Default)]
struct Tables {
    patterns: Vec<Pattern>,
    columns: Option<BTreeSet<String>>,
    filter: Option<Filter>,
    big_numbers: Numbers,
}

/// Reads the query; what is not known is refused, so that a misspelt filter does not give everything.
pub(super) fn parse(uri: &Uri, headers: &HeaderMap, grant: &Grant) -> Result<Request, Problem> {
    let mut request = Request {
        form: Form::of(headers),
        after: None,
        since: None,
        limit: LIMIT_DEFAULT,
        selection: Selection::default(),
        wait: Duration::ZERO,
        client_id: String::new(),
    };
    let mut tables = Tables::default();
    for (name, value) in query::pairs(uri, &["table"])? {
        match name.as_str() {
            "after" => request.after = Some(after(&value)?),
            "since" => request.since = Some(since(&value)?),
            "limit" if request.form == Form::Page => request.limit = limit(&value)?,
            "limit" => return Err(invalid("`limit` is for pages: a stream is read as far as is wanted")),
            "table" if tables.patterns.len() < TABLES_MAX => tables.patterns.push(table(&value)?),
            "table" => return Err(invalid("`table` comes too often")),
            "where" => tables.filter = Some(filter(&value)?),
            "columns" => tables.columns = Some(columns(&value)?),
            "big_numbers" => tables.big_numbers = big_numbers(&value)?,
            "wait" if request.form != Form::EventStream => request.wait = wait(&value)?,
            "wait" => return Err(invalid("`wait` is for pages and lines: an event stream does not end")),
            "client_id" => request.client_id = client_id(value)?,
            _ => {
                return Err(invalid(
                    "unknown parameter; there are after, since, limit, table, where, columns, big_numbers, wait and client_id",
                ));
            }
        }
    }
    // Where a browser's event source was cut off, it asks for the same URL with this beside.
    let last = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty());
    if let Some(id) = last.filter(|_| request.form == Form::EventStream) {
        request.after = Some(after(id.to_str().unwrap_or_default())?);
        request.since = None;
    }
    if request.after.is_some() && request.since.is_some() {
        return Err(invalid("`after` and `since` both say where to begin: name one"));
    }
    request.selection = selection(tables, grant)?;
    Ok(request)
}

/// A subscription for each table, numbered from 0.
fn selection(mut tables: Tables, grant: &Grant) -> Result<Selection, Problem> {
    let of_one_table = [(tables.filter.is_some(), "where"), (tables.columns.is_some(), "columns")];
    if let Some((_, name)) = of_one_table.iter().find(|(asked, _)| *asked)
        && !matches!(tables.patterns[..], [Pattern::Table(_)])
    {
        return Err(invalid(format!("`{name}` needs one `table` that is named, as schema.table")));
    }
    if tables.patterns.is_empty() {
        tables.patterns.push(Pattern::All);
    }
    let Tables { patterns, columns, filter, big_numbers } = tables;
    let subscriptions = patterns.into_iter().enumerate().map(|(index, pattern)| Subscription {
        old: true,
        columns: columns.clone(),
        filter: filter.clone(),
        big_numbers,
        ..Subscription::new(index.to_string(), pattern)
    });
    Ok(Selection::new(subscriptions.collect(), grant.clone()))
}

fn after(value: &str) -> Result<After, Problem> {
    value
        .parse()
        .map_err(|refusal: crate::wire::client::Refusal| Problem::bad_request(refusal.code, refusal.message))
}

fn since(value: &str) -> Result<i64, Problem> {
    time::parse(value).ok_or_else(|| invalid("`since` must be a time such as 2026-11-03T12:00:00Z"))
}

pub(in crate::http) fn table(value: &str) -> Result<Pattern, Problem> {
    value.parse().map_err(|error| invalid(format!("`table`: {error}, schema.* or *")))
}

pub(in crate::http) fn filter(value: &str) -> Result<Filter, Problem> {
    // The error repeats nothing of the filter but names of columns.
    let unreadable =
        |error| Problem::bad_request(Code::FilterInvalid, format!("`where` cannot be read: {error}"));
    value.parse::<Filter>().map_err(unreadable)
}

/// Names separated by commas, or a JSON array of them where a name has a comma.
pub(in crate::http) fn columns(value: &str) -> Result<BTreeSet<String>, Problem> {
    let names: Vec<String> = match value.starts_with('[') {
        true => serde_json::from_str(value).map_err(|_| invalid("`columns` is no JSON array of names"))?,
        false => value.split(',').map(str::to_owned).collect(),
    };
    match names.len() <= COLUMNS_MAX && !names.is_empty() && !names.iter().any(String::is_empty) {
        true => Ok(names.into_iter().collect()),
        false => Err(invalid(format!("`columns` must be 1 to {COLUMNS_MAX} names, separated by commas"))),
    }
}

pub(in crate::http) fn big_numbers(value: &str) -> Result<Numbers, Problem> {
    match value {
        "number" => Ok(Numbers::Number),
        "string" => Ok(Numbers::String),
        _ => Err(invalid("`big_numbers` must be number or string")),
    }
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

fn client_id(value: String) -> Result<String, Problem> {
    match is_client_id(&value) {
        true => Ok(value),
        false => Err(invalid(format!("`client_id` must have {CLIENT_ID_FORM}"))),
    }
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::bad_request(Code::RequestInvalid, detail)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const CURSOR: &str = "00000001-00000000016b3748-ffffffff";

    fn read_as(accept: &'static str, query: &str) -> Result<Request, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        parse(&format!("/v1/changes?{query}").parse().unwrap(), &headers, &Grant::everything())
    }

    fn read(query: &str) -> Result<Request, Problem> {
        read_as("*/*", query)
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
        assert_eq!(read("since=1970-01-01T00:00:01Z").unwrap().since, Some(1_000_000));
    }

    #[test]
    fn of_one_table_rows_and_columns_can_be_chosen() {
        let request = read("table=public.t&columns=b,A&big_numbers=string").unwrap();
        let [subscription] = request.selection.subscriptions() else { panic!("one table") };
        assert_eq!(subscription.columns, Some(["A".to_owned(), "b".to_owned()].into()));
        assert_eq!((subscription.big_numbers, subscription.old), (Numbers::String, true));
        let request = read("table=t&columns=%5B%22a,b%22%5D").unwrap();
        assert_eq!(request.selection.subscriptions()[0].columns, Some(["a,b".to_owned()].into()));
        for query in
            ["columns=a", "table=public.*&columns=a", "table=t&table=u&columns=a", "table=t&columns="]
        {
            assert_eq!(read(query).unwrap_err().code, Code::RequestInvalid, "{query}");
        }
    }

    #[test]
    fn the_form_is_what_the_client_accepts() {
        for (accept, form) in [
            ("", Form::Page),
            ("*/*", Form::Page),
            ("application/json", Form::Page),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Form::Page),
            ("text/event-stream", Form::EventStream),
            ("Text/Event-Stream; charset=utf-8, */*", Form::EventStream),
            ("application/json;q=0.1, application/x-ndjson", Form::Lines),
        ] {
            assert_eq!(read_as(accept, "").unwrap().form, form, "{accept}");
        }
        for (accept, query) in [
            ("text/event-stream", "wait=1s"),
            ("text/event-stream", "limit=1"),
            ("application/x-ndjson", "limit=1"),
        ] {
            assert_eq!(read_as(accept, query).unwrap_err().code, Code::RequestInvalid, "{accept} {query}");
        }
    }

    #[test]
    fn the_last_event_id_is_where_an_event_stream_goes_on() {
        let mut headers = HeaderMap::new();
        headers.insert(LAST_EVENT_ID, HeaderValue::from_static(CURSOR));
        let uri = "/v1/changes?since=1970-01-01T00:00:01Z".parse().unwrap();
        assert_eq!(parse(&uri, &headers, &Grant::everything()).unwrap().after, None, "it is no event stream");
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        let request = parse(&uri, &headers, &Grant::everything()).unwrap();
        assert_eq!((request.after, request.since), (Some(CURSOR.parse().unwrap()), None));
        headers.insert(LAST_EVENT_ID, HeaderValue::from_static("x"));
        assert_eq!(parse(&uri, &headers, &Grant::everything()).unwrap_err().code, Code::CursorInvalid);
        headers.insert(LAST_EVENT_ID, HeaderValue::from_static(""));
        assert_eq!(
            parse(&uri, &headers, &Grant::everything()).unwrap().since,
            Some(1_000_000),
            "there was none yet"
        );
    }

    #[test]
    fn only_what_depends_on_nothing_else_may_be_kept() {
        let fixed = |query: &str| read(query).unwrap().is_of_a_fixed_place();
        assert!(fixed(&format!("after={CURSOR}&table=t")));
        for query in ["", "after=0/1", "since=1970-01-01T00:00:01Z"] {
            assert!(!fixed(query), "{query}");
        }
        assert!(!fixed(&format!("after={CURSOR}&wait=1s")) && !fixed(&format!("after={CURSOR}&client_id=c")));
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
            ("table=t&where=id%20%3D", Code::FilterInvalid),
            ("since=now", Code::RequestInvalid),
            ("since=1970-01-01T00:00:01Z&after=0/1", Code::RequestInvalid),
            ("client_id=", Code::RequestInvalid),
            ("big_numbers=x", Code::RequestInvalid),
        ] {
            assert_eq!(read(query).err().map(|problem| problem.code), Some(code), "{query}");
        }
    }
}
