//! Who sets up, and for whom: the plan as the asking role can carry it out, or as an administrator has to.
//!
//! What is planned is decided in `build`; here, which part of it is for whom.

use std::fmt;
use std::str::FromStr;

use tokio_postgres::Client;
use waldelta_wal::{TableName, quote_ident};

use super::build::{Triggers, compose, remark_on_provider};
use super::plan::{Plan, Wish};
use super::provider::{Provider, administrator};
use super::role;
use crate::ask::{Answer, ask_one};
use crate::{Error, Source};

/// The runtime role of an administrator who names none.
const ROLE: &str = "waldelta";

/// How much of the set-up the asking role does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything, as a superuser or what the provider has instead.
    Dev,
    /// All but the event triggers, as the owner of the tables.
    Managed,
    /// Nothing: it is a script for an administrator.
    Manual,
}

/// There is no such mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the mode must be dev, managed or manual")]
pub struct ParseModeError;

impl Mode {
    /// Every mode.
    pub const ALL: [Mode; 3] = [Mode::Dev, Mode::Managed, Mode::Manual];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Dev => "dev",
            Mode::Managed => "managed",
            Mode::Manual => "manual",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mode {
    type Err = ParseModeError;

    fn from_str(name: &str) -> Result<Self, ParseModeError> {
        Mode::ALL.into_iter().find(|mode| mode.name() == name).ok_or(ParseModeError)
    }
}

/// In which way to set up.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// `None`: by what the asking role may do.
    pub mode: Option<Mode>,
    /// `None`: found out, where it shows.
    pub provider: Option<Provider>,
    /// The role that capture runs as; `None`: the one that asks, unless it is a superuser who wants a script.
    pub role: Option<String>,
    /// Whether history is kept in the captured database.
    pub history_is_here: bool,
}

/// A plan, and for whom it is.
#[derive(Clone, Debug)]
pub struct Prospect {
    /// The plan. Without the slot where another role makes that.
    pub plan: Plan,
    /// Who is to carry it out.
    pub mode: Mode,
    /// The role that capture runs as.
    pub role: String,
    /// Whether that is another than the one that asked.
    pub is_for_another: bool,
}

/// Plans the set-up for the role that capture is to run as.
///
/// # Errors
/// As [`super::plan`].
pub async fn prospect(client: &Client, source: &Source, wish: &Wish, way: &Way) -> Result<Prospect, Error> {
    let provider = match way.provider {
        Some(provider) => Some(provider),
        None => Provider::detect(client).await?,
    };
    let (prepared, mut plan) = compose(client, source, wish, provider, Triggers::Always).await?;
    let rights = rights(client, source, &plan.tables).await?;
    let mode = way.mode.unwrap_or_else(|| rights.mode(prepared.may_have_event_triggers));
    let with_triggers = match mode {
        Mode::Dev => prepared.may_have_event_triggers,
        Mode::Managed => false,
        Mode::Manual => true,
    };
    if !with_triggers {
        (_, plan) = compose(client, source, wish, provider, Triggers::Never).await?;
    }
    let role = match &way.role {
        Some(role) => role.clone(),
        None if mode == Mode::Manual && rights.is_superuser => ROLE.to_owned(),
        None => rights.role.clone(),
    };
    let is_for_another = role != rights.role;
    if is_for_another || mode == Mode::Manual {
        plan = plan.without_slot();
        role::add(client, &role, way.history_is_here, provider, &mut plan).await?;
        let remarks = remarks(source, &role, &rights, mode, provider);
        plan.remarks.splice(0..0, remarks);
    }
    if let Some(provider) = provider {
        remark_on_provider(provider, &mut plan);
    }
    Ok(Prospect { plan, mode, role, is_for_another })
}

/// Who has to do what, before anything else is read.
fn remarks(
    source: &Source,
    role: &str,
    rights: &Rights,
    mode: Mode,
    provider: Option<Provider>,
) -> Vec<String> {
    let (database, role) = (quote_ident(source.target.database()), quote_ident(role));
    let mut remarks = Vec::new();
    if mode == Mode::Manual {
        let owners = match rights.owners.is_empty() {
            true => String::new(),
            false => format!(
                "; the publication has to be made by a superuser, or by a role that is {} and may CREATE in the database",
                rights.owners.join(" and ")
            ),
        };
        remarks.push(format!("to be run in database {database} by {}{owners}", administrator(provider)));
    }
    remarks.push(format!(
        "what remains is done as {role}: `waldelta init --apply` makes the slot and begins history, then `waldelta run`"
    ));
    // Elsewhere nobody has that file.
    if provider.is_none() {
        remarks.push(format!(
            "who may replicate reads every row of the database, and can copy the whole server: let pg_hba.conf admit {role} to {database} only, and not to `replication`"
        ));
    }
    remarks
}

/// What the asking role may do.
struct Rights {
    role: String,
    is_superuser: bool,
    may_publish: bool,
    may_make_own: bool,
    /// To whom the tables belong that are captured.
    owners: Vec<String>,
}

impl Rights {
    fn mode(&self, may_have_event_triggers: bool) -> Mode {
        match (self.is_superuser, self.may_publish && self.may_make_own) {
            (true, _) => Mode::Dev,
            (false, true) if may_have_event_triggers => Mode::Dev,
            (false, true) => Mode::Managed,
            (false, false) => Mode::Manual,
        }
    }
}

async fn rights(client: &Client, source: &Source, tables: &[TableName]) -> Result<Rights, Error> {
    let sql = include_str!("../../../../sql/source/rights.sql");
    let (schemas, names): (Vec<&str>, Vec<&str>) =
        tables.iter().map(|table| (table.schema.as_str(), table.name.as_str())).unzip();
    let row: Answer =
        ask_one(client, "ask what the role may set up", sql, &[&source.publication, &schemas, &names])
            .await?;
    Ok(Rights {
        role: row.read("role")?,
        is_superuser: row.read("is_superuser")?,
        may_publish: row.read("may_publish")?,
        may_make_own: row.read("may_make_own")?,
        owners: row.read("owners")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for mode in Mode::ALL {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert_eq!("root".parse::<Mode>(), Err(ParseModeError));
    }
}
