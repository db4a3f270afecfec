//! Whom changes of state are told (`[notify]`).

use std::path::Path;

use axum::http::Uri;
use serde::{Deserialize, Serialize};

use super::auth::read_key_file;
use super::invalid;

/// Bytes of the name of a channel at most: of any name in PostgreSQL.
const CHANNEL_BYTES_MAX: usize = 63;

/// Where to a state that is entered or left is told.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NotifyConfig {
    /// Gets a POST of JSON for each; empty: nobody does.
    pub webhook_url: String,
    /// File with the token that is sent with it; empty: none is.
    pub webhook_token_file: String,
    /// Channel of NOTIFY in history's database; empty: none.
    pub channel: String,
    /// Lag beyond this is told; 0: it is not.
    pub lag_seconds_max: f64,
}

impl Default for NotifyConfig {
    fn default() -> Self {
        NotifyConfig {
            webhook_url: String::new(),
            webhook_token_file: String::new(),
            channel: "waldelta_states".into(),
            lag_seconds_max: 60.0,
        }
    }
}

impl NotifyConfig {
    pub(super) fn relative_to(&mut self, folder: &Path) {
        if !self.webhook_token_file.is_empty() {
            self.webhook_token_file = folder.join(&self.webhook_token_file).to_string_lossy().into_owned();
        }
    }

    /// The first setting that makes no sense, and why. No file is read for that, and the URL, which may have a secret in it, is not told.
    pub(super) fn nonsense(&self) -> Option<String> {
        let url = self.webhook_url.parse::<Uri>().ok();
        let scheme = url.as_ref().and_then(Uri::scheme_str);
        if !self.webhook_url.is_empty() && !matches!(scheme, Some("http" | "https")) {
            return Some("notify.webhook_url must be a URL that begins with https:// or http://".into());
        }
        if self.channel.len() > CHANNEL_BYTES_MAX {
            return Some(format!("notify.channel has more than {CHANNEL_BYTES_MAX} bytes"));
        }
        if !self.lag_seconds_max.is_finite() || self.lag_seconds_max < 0.0 {
            return Some("notify.lag_seconds_max must be a number of seconds, or 0".into());
        }
        None
    }

    /// The token that is sent to the webhook.
    pub(crate) fn token(&self) -> anyhow::Result<Option<String>> {
        if self.webhook_token_file.is_empty() {
            return Ok(None);
        }
        let bytes = read_key_file(&self.webhook_token_file)
            .map_err(|error| invalid(format!("notify.webhook_token_file: {error}")))?;
        let token = String::from_utf8(bytes).ok().map(|text| text.trim().to_owned());
        let is_token =
            |token: &String| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        match token.filter(is_token) {
            Some(token) => Ok(Some(token)),
            None => Err(invalid("notify.webhook_token_file has no token in it: visible ASCII characters")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonsense(text: &str) -> Option<String> {
        toml::from_str::<NotifyConfig>(text).unwrap().nonsense()
    }

    #[test]
    fn what_cannot_be_told_anybody_is_refused() {
        assert_eq!(nonsense(""), None);
        assert_eq!(nonsense("webhook_url = 'https://h:8080/x?y=z'\nlag_seconds_max = 0\nchannel = ''"), None);
        for (text, setting) in [
            ("webhook_url = 'ftp://h/secret'", "webhook_url"),
            ("webhook_url = 'no url'", "webhook_url"),
            ("lag_seconds_max = -1", "lag_seconds_max"),
            ("lag_seconds_max = nan", "lag_seconds_max"),
            (&format!("channel = '{}'", "x".repeat(64)), "channel"),
        ] {
            let told = nonsense(text).unwrap();
            assert!(told.contains(setting) && !told.contains("secret"), "{told}");
        }
    }
}
