//! Who is let in (`[auth]`): static tokens, and issuers of JSON web tokens. Keys and secrets are in files, never in the
//! configuration itself. What an algorithm or a key is good for is not known here.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use waldelta_access::{Issuer, Keys, LEEWAY_MAX};

use super::policy::Scalar;
use super::{Config, invalid};
use crate::failure::chain_text;

/// Bytes of a file with a key at most.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Who is let in. With static tokens or an issuer a token is needed; without both, nobody can have one.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuthConfig {
    /// Whether tokens that `waldelta token create` made are taken.
    pub static_tokens: bool,
    /// The clock of an issuer may differ by so much.
    pub leeway_ms: u64,
    /// Claims that make a JSON web token one of an operator: each must be equal, or in the list that the token has.
    pub admin_claims: BTreeMap<String, Scalar>,
    /// Who may sign JSON web tokens.
    pub issuers: Vec<IssuerConfig>,
}

/// One who may sign JSON web tokens. One of the three last is where its keys are.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct IssuerConfig {
    /// `iss` of its tokens.
    pub issuer: String,
    /// Of which `aud` has to have one.
    pub audiences: Vec<String>,
    /// Algorithms that are taken, all of one family.
    pub algorithms: Vec<String>,
    /// Whether the set of keys may be behind plain HTTP, or at an address that is not public.
    pub allow_private: bool,
    /// Where its set of public keys is.
    pub jwks_url: Option<String>,
    /// File with its public key in PEM.
    pub public_key_file: Option<String>,
    /// File with the secret that it shares.
    pub secret_file: Option<String>,
}

impl Default for AuthConfig {
    fn default() -> Self {
        AuthConfig {
            static_tokens: false,
            leeway_ms: 5_000,
            admin_claims: BTreeMap::new(),
            issuers: Vec::new(),
        }
    }
}

impl AuthConfig {
    /// With an issuer that has everything that one can have: what is not in it is no setting.
    pub(super) fn complete() -> Self {
        let some = || Some(String::new());
        let issuer = IssuerConfig {
            jwks_url: some(),
            public_key_file: some(),
            secret_file: some(),
            ..IssuerConfig::default()
        };
        AuthConfig { issuers: vec![issuer], ..AuthConfig::default() }
    }

    /// Whether a token is needed.
    pub(super) fn is_required(&self) -> bool {
        self.static_tokens || !self.issuers.is_empty()
    }

    /// Files are named as seen from the folder of the configuration file.
    pub(super) fn relative_to(&mut self, folder: &Path) {
        let files =
            self.issuers.iter_mut().flat_map(|issuer| [&mut issuer.public_key_file, &mut issuer.secret_file]);
        for file in files.flatten().filter(|file| !file.is_empty()) {
            *file = folder.join(&file).to_string_lossy().into_owned();
        }
    }

    /// The first setting that makes no sense, and why. No file is read for that.
    pub(super) fn nonsense(&self) -> Option<String> {
        let leeway_ms_max = LEEWAY_MAX.as_millis();
        if u128::from(self.leeway_ms) > leeway_ms_max {
            return Some(format!(
                "auth.leeway_ms must be at most {leeway_ms_max}, and is {}: it is in milliseconds, and for so long an expired \
                 token is taken",
                self.leeway_ms
            ));
        }
        let mut issuers = self.issuers.iter().enumerate();
        issuers.find_map(|(at, issuer)| Some(format!("{}: {}", named(at, issuer), issuer.nonsense()?)))
    }
}

impl IssuerConfig {
    fn nonsense(&self) -> Option<&'static str> {
        let sources = [&self.jwks_url, &self.public_key_file, &self.secret_file];
        if sources.into_iter().flatten().count() != 1 {
            return Some("it needs exactly one of jwks_url, public_key_file and secret_file");
        }
        (self.allow_private && self.jwks_url.is_none()).then_some("allow_private is about jwks_url alone")
    }

    /// What its signatures are checked with. Files are read anew each time.
    fn keys(&self) -> Result<Keys, String> {
        match (&self.jwks_url, &self.public_key_file, &self.secret_file) {
            (Some(url), None, None) => Ok(Keys::Jwks { url: url.clone(), allow_private: self.allow_private }),
            (None, Some(file), None) => {
                let pem = String::from_utf8(read_key_file(file)?);
                pem.map(Keys::Pem).map_err(|_| format!("{file} is not in PEM"))
            }
            (None, None, Some(file)) => {
                let mut secret = read_key_file(file)?;
                // Editors and `echo` put it there.
                for newline in [b'\n', b'\r'] {
                    secret.pop_if(|last| *last == newline);
                }
                Ok(Keys::Secret(secret))
            }
            _ => Err("it needs exactly one of jwks_url, public_key_file and secret_file".to_owned()),
        }
    }
}

impl Config {
    /// Whom the service lets in. It reads the files with keys: a running service that reads its configuration again gets them
    /// anew.
    pub(crate) fn access(&self) -> anyhow::Result<waldelta_access::Config> {
        let mut issuers = Vec::new();
        for (at, issuer) in self.auth.issuers.iter().enumerate() {
            let keys = issuer.keys().map_err(|why| invalid(format!("{}: {why}", named(at, issuer))))?;
            issuers.push(Issuer {
                issuer: issuer.issuer.clone(),
                audiences: issuer.audiences.clone(),
                algorithms: issuer.algorithms.clone(),
                keys,
            });
        }
        let access = waldelta_access::Config {
            required: self.auth.is_required(),
            static_tokens: self.auth.static_tokens,
            issuers,
            admin_claims: self
                .auth
                .admin_claims
                .iter()
                .map(|(name, value)| (name.clone(), value.json()))
                .collect(),
            leeway: Duration::from_millis(self.auth.leeway_ms),
        };
        access.check().map_err(|error| invalid(format!("auth.issuers: {}", chain_text(&error.into()))))?;
        Ok(access)
    }
}

fn named(at: usize, issuer: &IssuerConfig) -> String {
    format!("auth.issuers[{}] ({:?})", at + 1, issuer.issuer)
}

pub(super) fn read_key_file(file: &str) -> Result<Vec<u8>, String> {
    let opened = std::fs::File::open(file).map_err(|error| format!("read {file}: {error}"))?;
    let mut bytes = Vec::new();
    let read = opened.take(KEY_FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    match read.map_err(|error| format!("read {file}: {error}"))? {
        0 => Err(format!("{file} is empty")),
        length if length as u64 > KEY_FILE_BYTES_MAX => {
            Err(format!("{file} has more than {KEY_FILE_BYTES_MAX} bytes"))
        }
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests;
