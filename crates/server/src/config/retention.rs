//! `history.retain`: how much of history is kept.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use waldelta_history::Retention;

/// As it is written: `"off"`, `"30d"`, `"200GB"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retain(pub Retention);

impl Serialize for Retain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Retain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Retain).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::HistoryConfig;
    use super::*;

    #[test]
    fn is_off_unless_it_is_said_and_nonsense_is_refused() {
        assert_eq!(HistoryConfig::default().retain, Retain(Retention::Off));
        let config: HistoryConfig = toml::from_str("retain = \"90m\"").unwrap();
        assert_eq!(config.retain, Retain(Retention::Age(Duration::from_secs(5400))));
        assert!(toml::to_string(&config).unwrap().contains("retain = \"90m\""));
        let error = toml::from_str::<HistoryConfig>("retain = \"30 days\"").unwrap_err();
        assert!(error.message().contains("such as \"30d\""), "{error}");
        assert!(toml::from_str::<HistoryConfig>("retain = 30").is_err());
    }
}
