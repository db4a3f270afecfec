//! Static tokens: made once, shown once, kept as Argon2id.
//!
//! The text is `wd_<id>.<secret>`: the id is 64 random bits that name the token and are no secret, the secret is 256 random bits.
//! Whether a token is taken is decided in `access`.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value};
use waldelta_history::{History, NewStoredToken};
use waldelta_wal::Code;

use crate::hashing::{self, HashFailed, SALT_BYTES};
use crate::random::{self, NoRandomness};
use crate::{ClientIds, Identity, Origin, clock};

/// What the text of every static token begins with: secret scanners find it by that.
pub(crate) const PREFIX: &str = "wd_";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

const TEXT_CHARS_MAX: usize = 200;
const CLAIMS_BYTES_MAX: usize = 4096;
const CLIENT_IDS_MAX: usize = 100;
/// As the protocol bounds them.
const CLIENT_ID_CHARS_MAX: usize = 128;

/// What a static token is made with. Its `Debug` has no claims.
#[derive(Clone)]
pub struct NewToken {
    /// What people call it.
    pub name: String,
    /// Whose it is.
    pub subject: String,
    /// Claims for the rules, beside `sub`.
    pub claims: Map<String, Value>,
    /// Client ids that it may use; empty: any.
    pub client_ids: Vec<String>,
    /// Whether it is one of an operator.
    pub is_admin: bool,
    /// When it ends by itself.
    pub expires_at: Option<SystemTime>,
}

/// A token's text, `wd_id.secret`: shown once, to whoever made it. Its `Debug` does not show it.
pub struct Secret(pub String);

/// A token that was made.
#[derive(Debug)]
pub struct MadeToken {
    /// What names it from now on.
    pub id: String,
    /// What is presented.
    pub secret: Secret,
}

/// A token could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeTokenError {
    /// What it was to be made with does not do.
    #[error("{0}")]
    Unfit(&'static str),
    /// There is nothing to make it from.
    #[error("make a secret")]
    Random(#[from] NoRandomness),
    /// Its secret could not be hashed.
    #[error("hash the secret")]
    Hash(#[from] HashFailed),
    /// It could not be stored.
    #[error("store the token")]
    Store(#[from] waldelta_history::Error),
}

impl MakeTokenError {
    /// The stable code that it shows as.
    pub fn code(&self) -> Code {
        match self {
            MakeTokenError::Unfit(_) => Code::ConfigInvalid,
            MakeTokenError::Random(_) | MakeTokenError::Hash(_) => Code::Internal,
            MakeTokenError::Store(error) => error.code(),
        }
    }
}

impl NewToken {
    /// Makes the token and stores it. Only what is given back has its text.
    pub async fn make(&self, history: &History) -> Result<MadeToken, MakeTokenError> {
        self.check().map_err(MakeTokenError::Unfit)?;
        let (id, secret) = (random::hex::<ID_BYTES>()?, random::hex::<SECRET_BYTES>()?);
        let token = NewStoredToken {
            id: id.clone(),
            name: self.name.clone(),
            subject: self.subject.clone(),
            claims: self.claims.clone(),
            client_ids: self.client_ids.clone(),
            is_admin: self.is_admin,
            hash: hashing::hash(&secret, &random::bytes::<SALT_BYTES>()?)?,
            expires_at_us: self.expires_at.map(clock::micros),
        };
        history.store_token(&token).await?;
        Ok(MadeToken { secret: Secret(format!("{PREFIX}{id}.{secret}")), id })
    }

    fn check(&self) -> Result<(), &'static str> {
        let is_text = |text: &str, chars_max| {
            !text.trim().is_empty()
                && text.chars().count() <= chars_max
                && !text.chars().any(char::is_control)
        };
        let is_client_id = |id: &String| is_text(id, CLIENT_ID_CHARS_MAX);
        let checks = [
            (
                is_text(&self.name, TEXT_CHARS_MAX),
                "the name must have 1 to 200 characters, none of them a control character",
            ),
            (
                is_text(&self.subject, TEXT_CHARS_MAX),
                "the subject must have 1 to 200 characters, none of them a control character",
            ),
            (!self.claims.contains_key("sub"), "the claim sub is the subject: give it as that"),
            (
                Value::Object(self.claims.clone()).to_string().len() <= CLAIMS_BYTES_MAX,
                "the claims must not have more than 4096 bytes of JSON",
            ),
            (
                self.client_ids.len() <= CLIENT_IDS_MAX,
                "a token may name 100 client ids at most: end one with * for all that begin so",
            ),
            (
                self.client_ids.iter().all(is_client_id),
                "a client id must have 1 to 128 characters, none of them a control character",
            ),
        ];
        checks.into_iter().find(|(is_fit, _)| !is_fit).map_or(Ok(()), |(_, why)| Err(why))
    }
}

/// A token's id and secret; `None` where it has another form.
pub(crate) fn parse(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.strip_prefix(PREFIX)?.split_once('.')?;
    (random::is_hex_of(id, ID_BYTES) && random::is_hex_of(secret, SECRET_BYTES)).then_some((id, secret))
}

/// Who presents a stored token.
pub(crate) fn identity(id: &Arc<str>, token: NewStoredToken) -> Identity {
    let mut claims = token.claims;
    claims.insert("sub".into(), Value::String(token.subject.clone()));
    Identity {
        subject: token.subject.into(),
        origin: Origin::Static(Arc::clone(id)),
        claims: Arc::new(claims),
        client_ids: match token.client_ids.is_empty() {
            true => ClientIds::Any,
            false => ClientIds::Only(token.client_ids.into()),
        },
        is_admin: token.is_admin,
        expires_at: token.expires_at_us.map(clock::time),
    }
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken")
            .field("name", &self.name)
            .field("subject", &self.subject)
            .field("is_admin", &self.is_admin)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests;
