//! What keeps wal2json from telling all that is published. Each is found before anything is captured, since wal2json itself
//! leaves out without a word, or with one in the server's log.

use tokio_postgres::Client;
use waldelta_wal::{Code, TableName, quote_ident};

use crate::ask::ask_one;
use crate::catalog::{Listing, listing};
use crate::{Error, Plugin, Source};

/// Tables that a message names at most.
const TABLES_NAMED_MAX: usize = 10;

/// Something that is published, and that wal2json cannot tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It does not convert.
    #[error("wal2json sends text as it is stored, and the database's encoding is {encoding}, not UTF8")]
    Encoding {
        /// `server_encoding`.
        encoding: String,
    },
    /// It knows no publications.
    #[error("wal2json knows no row filters, and publication {publication} has some: {}", first(tables))]
    RowFilter {
        /// The publication.
        publication: String,
        /// The tables that have one.
        tables: Vec<TableName>,
    },
    /// It names partitions by their own names.
    #[error(
        "wal2json sends partitions under their own names, and publication {publication} has them as their root's"
    )]
    PartitionRoot {
        /// The publication.
        publication: String,
    },
    /// It drops their updates and deletes.
    #[error("wal2json drops updates and deletes of tables without replica identity: {}", first(tables))]
    NoIdentity {
        /// The publication.
        publication: String,
        /// The tables.
        tables: Vec<TableName>,
    },
}

impl Unfit {
    /// The stable code that it shows as.
    pub fn code(&self) -> Code {
        match self {
            Unfit::Encoding { .. } => Code::Wal2jsonEncoding,
            Unfit::RowFilter { .. } => Code::Wal2jsonRowFilter,
            Unfit::PartitionRoot { .. } => Code::Wal2jsonPartitionRoot,
            Unfit::NoIdentity { .. } => Code::Wal2jsonIdentity,
        }
    }

    /// The statements that mend it.
    pub fn fix(&self) -> String {
        let lines = |tables: &[TableName], line: &dyn Fn(&TableName) -> String| -> String {
            tables.iter().map(line).collect::<Vec<_>>().join("\n")
        };
        match self {
            Unfit::Encoding { .. } => self.code().explanation().fix.to_owned(),
            Unfit::RowFilter { publication, tables } => {
                let publication = quote_ident(publication);
                lines(tables, &|table| {
                    format!(
                        "ALTER PUBLICATION {publication} DROP TABLE {table};\nALTER PUBLICATION {publication} ADD TABLE {table};"
                    )
                })
            }
            Unfit::PartitionRoot { publication } => format!(
                "ALTER PUBLICATION {} SET (publish_via_partition_root = false);",
                quote_ident(publication)
            ),
            Unfit::NoIdentity { tables, .. } => {
                lines(tables, &|table| format!("ALTER TABLE {table} REPLICA IDENTITY FULL;"))
            }
        }
    }
}

/// Refuses what the source's plugin cannot tell; pgoutput tells all.
///
/// # Errors
/// [`Error::Unfit`]; or when a question fails.
pub async fn check_fitness(client: &Client, source: &Source) -> Result<(), Error> {
    if source.plugin == Plugin::Pgoutput {
        return Ok(());
    }
    let unfit = match encoding(client).await? {
        Some(unfit) => Some(unfit),
        None => of_publication(&listing(client, source).await?, source).into_iter().next(),
    };
    unfit.map_or(Ok(()), |unfit| Err(unfit.into()))
}

/// The encoding, if it is one that wal2json cannot send.
pub(crate) async fn encoding(client: &Client) -> Result<Option<Unfit>, Error> {
    let sql = "SELECT current_setting('server_encoding') AS encoding";
    let encoding: String = ask_one(client, "ask for the encoding", sql, &[]).await?.read("encoding")?;
    Ok((encoding != "UTF8").then_some(Unfit::Encoding { encoding }))
}

/// What the publication has that wal2json cannot tell.
pub(crate) fn of_publication(listing: &Listing, source: &Source) -> Vec<Unfit> {
    let publication = || source.publication.clone();
    let filtered: Vec<_> =
        listing.tables.iter().filter(|table| table.has_filter).map(|table| table.name.clone()).collect();
    let changes = listing.actions.iter().any(|action| action == "update" || action == "delete");
    // Roots have no rows of their own.
    let nameless: Vec<_> = listing
        .tables
        .iter()
        .filter(|table| changes && !listing.via_root && !table.is_identified)
        .map(|table| table.name.clone())
        .collect();
    let mut unfit = Vec::new();
    if !filtered.is_empty() {
        unfit.push(Unfit::RowFilter { publication: publication(), tables: filtered });
    }
    if listing.via_root {
        unfit.push(Unfit::PartitionRoot { publication: publication() });
    }
    if !nameless.is_empty() {
        unfit.push(Unfit::NoIdentity { publication: publication(), tables: nameless });
    }
    unfit
}

/// The first few of them.
fn first(tables: &[TableName]) -> String {
    let named: Vec<_> = tables.iter().take(TABLES_NAMED_MAX).map(ToString::to_string).collect();
    let mut text = named.join(", ");
    if let Some(more) = tables.len().checked_sub(TABLES_NAMED_MAX).filter(|more| *more > 0) {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        let table = |number: usize| TableName { schema: "public".into(), name: format!("t{number}") };
        let tables = |count: usize| (0..count).map(table).collect::<Vec<_>>();
        assert_eq!(first(&tables(2)), "public.t0, public.t1");
        assert!(first(&tables(10)).ends_with("public.t9"));
        assert!(first(&tables(12)).ends_with("public.t9 and 2 more"));
    }
}
