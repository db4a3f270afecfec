//! The output plugins that are spoken: what turns WAL into what the walsender sends.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An output plugin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Plugin {
    /// The server's own: exact, and chosen unless something speaks against it.
    #[default]
    Pgoutput,
    /// wal2json, format version 2: lossy, for sources where pgoutput is not to be had.
    Wal2json,
}

/// There is no such plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the output plugin must be pgoutput or wal2json")]
pub struct ParsePluginError;

impl Plugin {
    /// Every plugin, the default first.
    pub const ALL: [Plugin; 2] = [Plugin::Pgoutput, Plugin::Wal2json];

    /// Its name, as CREATE_REPLICATION_SLOT has it.
    pub fn name(self) -> &'static str {
        match self {
            Plugin::Pgoutput => "pgoutput",
            Plugin::Wal2json => "wal2json",
        }
    }
}

impl fmt::Display for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Plugin {
    type Err = ParsePluginError;

    fn from_str(name: &str) -> Result<Self, ParsePluginError> {
        Plugin::ALL.into_iter().find(|plugin| plugin.name() == name).ok_or(ParsePluginError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for plugin in Plugin::ALL {
            assert_eq!(plugin.to_string().parse(), Ok(plugin));
        }
        assert_eq!("test_decoding".parse::<Plugin>(), Err(ParsePluginError));
        assert_eq!(Plugin::default().name(), "pgoutput");
    }
}
