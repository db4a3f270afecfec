//! A configuration as it is shown: every setting by its name, and nothing that may be secret.

use toml::{Table, Value};

use super::Config;

/// One setting.
pub(crate) struct Setting {
    /// Such as `server.listen`.
    pub name: String,
    /// What may have a secret in it is shown without.
    pub value: Value,
    pub is_default: bool,
}

/// Every setting, by section.
pub(crate) fn settings(config: &Config) -> Vec<Setting> {
    let (Ok(ours), Ok(defaults)) = (Table::try_from(config), Table::try_from(Config::default())) else {
        return Vec::new();
    };
    let mut settings = Vec::new();
    flatten("", &ours, Some(&defaults), &mut settings);
    // Those of a section stand together, as in a file.
    settings.sort_by_cached_key(|setting| setting.section().to_owned());
    settings
}

impl Setting {
    /// Such as `server`; empty: of none.
    pub(crate) fn section(&self) -> &str {
        self.name.rsplit_once('.').map_or("", |(section, _)| section)
    }
}

fn flatten(prefix: &str, ours: &Table, defaults: Option<&Table>, settings: &mut Vec<Setting>) {
    for (key, value) in ours {
        let name = format!("{prefix}{key}");
        let default = defaults.and_then(|defaults| defaults.get(key));
        match value {
            Value::Table(table) if !table.is_empty() => {
                flatten(&format!("{name}."), table, default.and_then(Value::as_table), settings);
            }
            value => {
                let is_default = default == Some(value);
                settings.push(Setting { name, value: without_secrets(key, value), is_default });
            }
        }
    }
}

fn without_secrets(key: &str, value: &Value) -> Value {
    match value {
        Value::String(url) if key.ends_with("url") && !url.is_empty() => masked(url).into(),
        Value::Array(values) => {
            Value::Array(values.iter().map(|value| without_secrets(key, value)).collect())
        }
        Value::Table(table) => {
            let shown = |(key, value): (&String, &Value)| (key.clone(), without_secrets(key, value));
            Value::Table(table.iter().map(shown).collect())
        }
        value => value.clone(),
    }
}

/// Where a URL leads to, without who, how, and whatever else is in it.
fn masked(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    let host = place.split('/').next().unwrap_or_default();
    if scheme.is_empty() { "…".to_owned() } else { format!("{scheme}://{host}/…") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_what_may_be_secret_wherever_they_are() {
        for (url, shown) in [
            (
                "postgresql://me:secret@db.example.com:5433/app?sslmode=require",
                "postgresql://db.example.com:5433/…",
            ),
            ("postgresql://me:se@cret@db/app", "postgresql://db/…"),
            ("https://hooks.example.com/T0/secret", "https://hooks.example.com/…"),
            ("host=db password=secret", "…"),
        ] {
            assert_eq!(masked(url), shown);
        }
        let text = "[[auth.issuers]]\nissuer = 'i'\njwks_url = 'https://me:secret@id.example.com/k'";
        let config: Config = toml::from_str(text).unwrap();
        let issuers = settings(&config).into_iter().find(|setting| setting.name == "auth.issuers").unwrap();
        assert!(!issuers.is_default);
        let shown = issuers.value.to_string();
        assert!(shown.contains("https://id.example.com/…") && !shown.contains("secret"), "{shown}");
    }
}
