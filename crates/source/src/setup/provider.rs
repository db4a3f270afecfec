//! Where PostgreSQL is run by somebody else: what is switched on there in another way than on a server of one's own.
//!
//! Only words for people; nothing is asked of a provider.

use std::fmt;
use std::str::FromStr;

use tokio_postgres::Client;
use waldelta_wal::quote_ident;

use crate::Error;
use crate::ask::{ask, literal};

/// Who runs the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Amazon RDS and Aurora.
    Rds,
    /// Google Cloud SQL.
    Cloudsql,
    /// Azure Database for PostgreSQL.
    Azure,
    /// Supabase.
    Supabase,
    /// Neon.
    Neon,
}

/// There is no such provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the provider must be rds, cloudsql, azure, supabase or neon")]
pub struct ParseProviderError;

impl Provider {
    /// Every provider.
    pub const ALL: [Provider; 5] =
        [Provider::Rds, Provider::Cloudsql, Provider::Azure, Provider::Supabase, Provider::Neon];

    /// Its short name.
    pub fn name(self) -> &'static str {
        match self {
            Provider::Rds => "rds",
            Provider::Cloudsql => "cloudsql",
            Provider::Azure => "azure",
            Provider::Supabase => "supabase",
            Provider::Neon => "neon",
        }
    }

    /// Its name for people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Provider::Rds => "Amazon RDS or Aurora",
            Provider::Cloudsql => "Google Cloud SQL",
            Provider::Azure => "Azure Database for PostgreSQL",
            Provider::Supabase => "Supabase",
            Provider::Neon => "Neon",
        }
    }

    /// The provider, where the server shows it: each has a role of its own.
    ///
    /// # Errors
    /// When the question fails.
    pub async fn detect(client: &Client) -> Result<Option<Self>, Error> {
        let sql = "SELECT rolname::text AS role FROM pg_roles WHERE rolname = ANY ($1)";
        let roles = Provider::ALL.map(Provider::role_of_its_own);
        let rows = ask(client, "look for a provider's role", sql, &[&&roles[..]]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let role: &str = row.read("role")?;
        Ok(Provider::ALL.into_iter().find(|provider| provider.role_of_its_own() == role))
    }

    fn role_of_its_own(self) -> &'static str {
        match self {
            Provider::Rds => "rds_superuser",
            Provider::Cloudsql => "cloudsqlsuperuser",
            Provider::Azure => "azure_pg_admin",
            Provider::Supabase => "supabase_admin",
            Provider::Neon => "neon_superuser",
        }
    }

    /// What is to be known before connecting.
    pub(super) fn remarks(self) -> Vec<&'static str> {
        match self {
            Provider::Rds => Vec::new(),
            Provider::Cloudsql => Vec::new(),
            Provider::Azure => {
                vec!["on Azure, connect to port 5432: 6432 is PgBouncer, which cannot replicate"]
            }
            Provider::Supabase => vec![
                "before PostgreSQL 17 nobody on Supabase can give REPLICATION to another role: there use the role postgres",
                "on Supabase, use the direct connection (db.<project>.supabase.co, port 5432): the pooler cannot replicate, neither in session nor in transaction mode",
            ],
            Provider::Neon => vec![
                "where Neon refuses to give REPLICATION by SQL, make the role in its console, and run the rest",
                "on Neon, use the host without -pooler: the pooled one cannot replicate",
                "Neon removes a slot that nobody has read for about 40 hours, and every slot of a branch that is restored",
            ],
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Provider {
    type Err = ParseProviderError;

    fn from_str(name: &str) -> Result<Self, ParseProviderError> {
        Provider::ALL.into_iter().find(|provider| provider.name() == name).ok_or(ParseProviderError)
    }
}

/// Who may do there what only a superuser may do elsewhere.
pub(crate) fn administrator(provider: Option<Provider>) -> &'static str {
    match provider {
        None => "a superuser",
        Some(Provider::Rds) => "a member of rds_superuser",
        Some(Provider::Cloudsql) => "a member of cloudsqlsuperuser",
        Some(Provider::Azure) => "a member of azure_pg_admin",
        Some(Provider::Supabase) => "the role postgres",
        Some(Provider::Neon) => "a member of neon_superuser",
    }
}

/// Whether `pg_settings` says by itself that only a restart is missing.
pub(crate) fn is_restartable(provider: Option<Provider>) -> bool {
    !matches!(provider, Some(Provider::Neon | Provider::Supabase))
}

/// How logical decoding is switched on.
pub(crate) fn logical_decoding(provider: Option<Provider>) -> &'static str {
    match provider {
        None => "ALTER SYSTEM SET wal_level = 'logical';\n-- then restart PostgreSQL",
        Some(Provider::Rds) => {
            "-- Amazon RDS, Aurora: set rds.logical_replication = 1 in the parameter group (of the cluster), then reboot"
        }
        Some(Provider::Cloudsql) => {
            "-- Cloud SQL: set the flag cloudsql.logical_decoding = on, which restarts the instance"
        }
        Some(Provider::Azure) => {
            "-- Azure: set the server parameter wal_level = logical and max_worker_processes to 16 or more, then restart the server"
        }
        Some(Provider::Supabase) => {
            "-- Supabase: wal_level is logical in every project; if it is not, ask its support"
        }
        Some(Provider::Neon) => {
            "-- Neon: enable Logical Replication in the project's settings; that restarts its computes and cannot be taken back"
        }
    }
}

/// How a setting of the server is changed that takes effect without a restart.
pub(crate) fn set(provider: Option<Provider>, name: &str, value: &str) -> String {
    match elsewhere(provider, name, value) {
        None => format!("ALTER SYSTEM SET {name} = {};\nSELECT pg_reload_conf();", literal(value)),
        Some(advice) => advice,
    }
}

/// The same for one that takes effect at the next start.
pub(crate) fn set_for_restart(provider: Option<Provider>, settings: &[(&str, &str)]) -> String {
    let lines = settings.iter().map(|(name, value)| {
        elsewhere(provider, name, value)
            .unwrap_or_else(|| format!("ALTER SYSTEM SET {name} = {};", literal(value)))
    });
    lines.chain(["-- then restart PostgreSQL".to_owned()]).collect::<Vec<_>>().join("\n")
}

/// Where nobody may ALTER SYSTEM.
fn elsewhere(provider: Option<Provider>, name: &str, value: &str) -> Option<String> {
    Some(match provider? {
        Provider::Rds => format!("-- Amazon RDS, Aurora: set {name} = {value} in the parameter group"),
        Provider::Cloudsql => format!("-- Cloud SQL: set the flag {name} = {value}"),
        Provider::Azure => format!("-- Azure: set the server parameter {name} = {value}"),
        Provider::Supabase => {
            format!("-- Supabase: supabase --experimental postgres-config update --config {name}={value}")
        }
        Provider::Neon => format!("-- Neon: ask its support to set {name} = {value}"),
    })
}

/// How a role that exists gets the right to replicate.
pub(crate) fn grant_replication(provider: Option<Provider>, role: &str) -> String {
    let role = quote_ident(role);
    match provider {
        Some(Provider::Rds) => format!("GRANT rds_replication TO {role}"),
        _ => format!("ALTER ROLE {role} REPLICATION"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for provider in Provider::ALL {
            assert_eq!(provider.to_string().parse(), Ok(provider));
        }
        assert_eq!("heroku".parse::<Provider>(), Err(ParseProviderError));
    }

    #[test]
    fn only_a_server_of_ones_own_is_altered_by_statements() {
        assert_eq!(set(None, "a", "1"), "ALTER SYSTEM SET a = '1';\nSELECT pg_reload_conf();");
        for provider in Provider::ALL.map(Some) {
            for text in [set(provider, "a", "1"), logical_decoding(provider).into()] {
                assert!(text.lines().all(|line| line.starts_with("-- ")), "{text}");
            }
        }
        assert_eq!(grant_replication(Some(Provider::Rds), "r o"), "GRANT rds_replication TO \"r o\"");
        assert_eq!(grant_replication(Some(Provider::Neon), "r"), "ALTER ROLE r REPLICATION");
    }
}
