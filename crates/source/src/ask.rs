//! Questions to the source whose errors say what was asked.

use std::str::FromStr;

use tokio_postgres::types::{FromSql, ToSql};
use tokio_postgres::{Client, Row};

use crate::Error;

/// A row of an answer.
pub(crate) struct Answer {
    row: Row,
    what: &'static str,
}

/// Asks; `what` says it as verb and object.
pub(crate) async fn ask(
    client: &Client,
    what: &'static str,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Answer>, Error> {
    let rows = client.query(sql, parameters).await.map_err(|source| Error::Query { what, source })?;
    Ok(rows.into_iter().map(|row| Answer { row, what }).collect())
}

/// Asks a question that has one row as its answer.
pub(crate) async fn ask_one(
    client: &Client,
    what: &'static str,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Answer, Error> {
    let row = client.query_one(sql, parameters).await.map_err(|source| Error::Query { what, source })?;
    Ok(Answer { row, what })
}

impl Answer {
    /// A column of the answer.
    pub(crate) fn read<'a, T: FromSql<'a>>(&'a self, column: &str) -> Result<T, Error> {
        self.row.try_get(column).map_err(|source| Error::Query { what: self.what, source })
    }

    /// A column that has the text of something.
    pub(crate) fn parse<T: FromStr>(&self, column: &'static str) -> Result<T, Error> {
        let text: &str = self.read(column)?;
        text.parse().map_err(|_| Error::Unreadable { what: self.what, column })
    }

    /// A column that has the text of something, or is null.
    pub(crate) fn parse_nullable<T: FromStr>(&self, column: &'static str) -> Result<Option<T>, Error> {
        let text: Option<&str> = self.read(column)?;
        text.map(|text| text.parse().map_err(|_| Error::Unreadable { what: self.what, column })).transpose()
    }
}

/// A string as SQL has it; `standard_conforming_strings` is on.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
