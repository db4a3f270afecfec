//! The keywords of connection strings, with the variables that stand in for them.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use crate::error::Error;
use crate::words;

/// Keywords with the variables that stand in for them.
const KEYWORDS: &[(&str, &str)] = &[
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("dbname", "PGDATABASE"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("options", "PGOPTIONS"),
    ("application_name", "PGAPPNAME"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("channel_binding", "PGCHANNELBINDING"),
];

/// Keywords that change nothing here: what they ask for is done anyway, or has no meaning without libpq.
const WITHOUT_EFFECT: &[&str] = &[
    "client_encoding",
    "fallback_application_name",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "sslcompression",
    "sslsni",
    "target_session_attrs",
];

/// What the process environment says about PostgreSQL connections (`PG*` variables, `~/.pgpass`).
///
/// It is read once, by the binary, and handed in.
#[derive(Clone, Default)]
pub struct Environment {
    /// Variables by name; only those that begin with `PG` are looked at.
    pub variables: HashMap<String, String>,
    /// Home folder, for `.pgpass` and what is in `.postgresql`.
    pub home: Option<PathBuf>,
}

/// What is asked for: the string's words first, then the environment's variables.
pub(crate) struct Settings {
    values: HashMap<&'static str, String>,
}

impl Settings {
    pub(crate) fn collect(text: &str, environment: &Environment) -> Result<Self, Error> {
        let mut values = HashMap::new();
        for (key, variable) in KEYWORDS {
            if let Some(value) = environment.variables.get(*variable).filter(|value| !value.is_empty()) {
                values.insert(*key, value.clone());
            }
        }
        let mut named = HashMap::new();
        for (key, value) in words::take_apart(text)? {
            if let Some((key, _)) = KEYWORDS.iter().find(|(known, _)| *known == key) {
                named.insert(*key, value);
            } else if !WITHOUT_EFFECT.contains(&key.as_str()) {
                return Err(Error::invalid(format!("the parameter {} is not supported", printable(&key))));
            }
        }
        // An address in the string is meant as a whole: PGHOSTADDR would lead the named host elsewhere.
        if named.contains_key("host") {
            values.remove("hostaddr");
        }
        values.extend(named);
        values.retain(|key, value| *key == "password" || !value.is_empty());
        Ok(Settings { values })
    }

    pub(crate) fn take(&mut self, key: &str) -> Option<String> {
        self.values.remove(key)
    }
}

/// A name that somebody wrote, for a message. Something long is no parameter's name and could be a misplaced password.
fn printable(key: &str) -> String {
    let plain = key.len() <= 40 && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if plain { key.to_owned() } else { "with an unreadable name".to_owned() }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // PGPASSWORD is among the values.
        let names: Vec<_> = self.variables.keys().filter(|name| name.starts_with("PG")).collect();
        f.debug_struct("Environment").field("variables", &names).field("home", &self.home).finish()
    }
}
