//! Starting the replication with wal2json, and what a server says that does not have it or does not let it be used.

use waldelta_wal::{EndLsn, TableName, wal2json_options};

use super::commands::{identifier, literal};
use super::connection::{Connection, CopyBoth};
use super::error::Error;

/// SQLSTATE of an option that a version of wal2json does not know.
const INVALID_PARAMETER_VALUE: &str = "22023";

/// What wal2json is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The tables, by name.
    pub(crate) tables: Vec<TableName>,
    /// Which of insert, update, delete and truncate.
    pub(crate) actions: Vec<String>,
}

impl Connection {
    /// Begins to stream what the slot has for these tables, from transactions that commit at or after `from`.
    pub(crate) fn start_wal2json(
        mut self,
        slot: &str,
        asked: &Asked,
        from: EndLsn,
    ) -> Result<CopyBoth, Error> {
        let what = "start the replication";
        let mut begun = self.begin_copy(what, &command(slot, asked, from, true));
        // Versions before 2.6 cannot print numbers exactly, and nothing else tells the version.
        if matches!(&begun, Err(Error::Refused { source, .. }) if source.is(INVALID_PARAMETER_VALUE)) {
            begun = self.begin_copy(what, &command(slot, asked, from, false));
        }
        begun.map_err(Error::of_plugin)?;
        Ok(self.into_copy())
    }
}

fn command(slot: &str, asked: &Asked, from: EndLsn, exact_numbers: bool) -> String {
    let mut options = wal2json_options(&asked.tables, exact_numbers);
    for (name, value) in &mut options {
        if name == "actions" {
            *value = asked.actions.join(",");
        }
    }
    let options: Vec<_> =
        options.iter().map(|(name, value)| format!("{} {}", identifier(name), literal(value))).collect();
    format!("START_REPLICATION SLOT {} LOGICAL {from} ({})", identifier(slot), options.join(", "))
}

#[cfg(test)]
mod tests {
    use waldelta_wal::Lsn;

    use super::*;

    #[test]
    fn options_are_quoted_and_only_published_actions_are_asked_for() {
        let table = |name: &str| TableName { schema: "public".into(), name: name.into() };
        let asked = Asked {
            tables: vec![table("t"), table("it's")],
            actions: vec!["insert".into(), "truncate".into()],
        };
        let command = command("s", &asked, EndLsn(Lsn(0x16)), true);
        assert!(
            command.starts_with(r#"START_REPLICATION SLOT "s" LOGICAL 0/16 ("format-version" '2', "#),
            "{command}"
        );
        assert!(
            command.contains(r#""actions" 'insert,truncate', "add-tables" 'public.t,public.it\''s'"#),
            "{command}"
        );
        assert!(command.ends_with(r#""numeric-data-types-as-string" 'true')"#), "{command}");
    }
}
