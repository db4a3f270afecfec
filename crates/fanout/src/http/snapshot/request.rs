//! The query string of `GET /v1/snapshot`.

use axum::http::Uri;
use waldelta_wal::Code;

use crate::http::changes::request as part;
use crate::http::problem::Problem;
use crate::http::query;
use crate::rules::Grant;
use crate::subscription::{Pattern, Selection, Subscription};

/// Reads the query; what is not known is refused, so that a misspelt filter does not give everything.
pub(super) fn parse(uri: &Uri, grant: &Grant) -> Result<Selection, Problem> {
    let (mut table, mut filter, mut columns, mut big_numbers) = (None, None, None, None);
    for (name, value) in query::pairs(uri, &[])? {
        match name.as_str() {
            "table" => table = Some(part::table(&value)?),
            "where" => filter = Some(part::filter(&value)?),
            "columns" => columns = Some(part::columns(&value)?),
            "big_numbers" => big_numbers = Some(part::big_numbers(&value)?),
            _ => return Err(invalid("unknown parameter; there are table, where, columns and big_numbers")),
        }
    }
    let Some(table) = table else { return Err(invalid("`table` is missing: schema.table, schema.* or *")) };
    if (filter.is_some() || columns.is_some()) && !matches!(table, Pattern::Table(_)) {
        return Err(invalid("`where` and `columns` need a table that is named, as schema.table"));
    }
    let big_numbers = big_numbers.unwrap_or_default();
    let one = Subscription { columns, filter, big_numbers, ..Subscription::new("0", table) };
    Ok(Selection::new(vec![one], grant.clone()))
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::bad_request(Code::RequestInvalid, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::Numbers;

    fn read(query: &str) -> Result<Selection, Problem> {
        parse(&format!("/v1/snapshot?{query}").parse().unwrap(), &Grant::everything())
    }

    #[test]
    fn reads_what_is_documented() {
        let selection = read("table=t&where=id%20%3D%201&columns=a,b&big_numbers=string").unwrap();
        let [one] = selection.subscriptions() else { panic!("{selection:?}") };
        assert_eq!(one.table.to_string(), "public.t");
        assert_eq!(one.filter, Some("id = 1".parse().unwrap()));
        assert_eq!(one.columns, Some(["a".to_owned(), "b".to_owned()].into()));
        assert_eq!(one.big_numbers, Numbers::String);
        let quoted = read("table=t&columns=%5B%22a,b%22%5D").unwrap();
        assert_eq!(quoted.subscriptions()[0].columns, Some(["a,b".to_owned()].into()));
        assert!(read("table=public.*").unwrap().matches(&"public.x".parse().unwrap()));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for (query, code) in [
            ("", Code::RequestInvalid),
            ("table=a%20b", Code::RequestInvalid),
            ("table=t&table=u", Code::RequestInvalid),
            ("table=t&limit=5", Code::RequestInvalid),
            ("table=t&where=id%20%3D", Code::FilterInvalid),
            ("table=*&where=id%20%3D%201", Code::RequestInvalid),
            ("table=public.*&columns=a", Code::RequestInvalid),
            ("table=t&columns=", Code::RequestInvalid),
            ("table=t&columns=%5B", Code::RequestInvalid),
            ("table=t&big_numbers=x", Code::RequestInvalid),
        ] {
            assert_eq!(read(query).err().map(|problem| problem.code), Some(code), "{query}");
        }
    }
}
