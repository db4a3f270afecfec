//! One-time tickets: for a URL, which must have no token that lives long.
//!
//! A ticket's text is `wt_` and 256 random bits. History keeps its SHA-256, which needs no more: what is random cannot be guessed
//! from it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::random::{self, NoRandomness};
use crate::{ClientIds, Identity, KeyMark, Origin, clock};

const PREFIX: &str = "wt_";
const SECRET_BYTES: usize = 32;
/// So long a ticket can be used: enough for whoever gets it to connect.
pub(crate) const LIVES_FOR: Duration = Duration::from_secs(30);

/// A ticket that can be used once. Its `Debug` does not show it.
pub struct Ticket {
    /// Its text.
    pub text: String,
    /// So long it can be used.
    pub expires_in: Duration,
}

impl Ticket {
    pub(crate) fn new(expires_in: Duration) -> Result<Self, NoRandomness> {
        Ok(Ticket { text: format!("{PREFIX}{}", random::hex::<SECRET_BYTES>()?), expires_in })
    }
}

/// What a ticket is kept by; `None` where the text has another form.
pub(crate) fn hash(text: &str) -> Option<Vec<u8>> {
    let secret = text.strip_prefix(PREFIX)?;
    random::is_hex_of(secret, SECRET_BYTES).then(|| Sha256::digest(text.as_bytes()).to_vec())
}

/// Whose tickets are counted together: of one subject, of one who signs for it.
pub(crate) fn owner(identity: &Identity) -> Vec<u8> {
    let issuer = identity.issuer();
    let mut digest = Sha256::new();
    digest.update((issuer.len() as u64).to_be_bytes());
    digest.update(issuer.as_bytes());
    digest.update(identity.subject.as_bytes());
    digest.finalize().to_vec()
}

/// An identity as it is kept with a ticket.
#[derive(Deserialize, Serialize)]
struct Kept {
    subject: String,
    origin: KeptOrigin,
    claims: Map<String, Value>,
    client_ids: Option<Vec<String>>,
    is_admin: bool,
    expires_at_us: Option<i64>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum KeptOrigin {
    Static(String),
    Jwt { issuer: String, id: Option<String>, issued_at: Option<u64>, key: Option<KeyMark> },
}

/// An identity to keep with a ticket.
pub(crate) fn kept(identity: &Identity) -> Result<Vec<u8>, serde_json::Error> {
    let owned = |text: &Arc<str>| text.to_string();
    serde_json::to_vec(&Kept {
        subject: identity.subject.to_string(),
        origin: match &identity.origin {
            Origin::Static(id) => KeptOrigin::Static(id.to_string()),
            Origin::Jwt { issuer, id, issued_at, key } => KeptOrigin::Jwt {
                issuer: owned(issuer),
                id: id.as_ref().map(owned),
                issued_at: *issued_at,
                key: *key,
            },
        },
        claims: Map::clone(&identity.claims),
        client_ids: match &identity.client_ids {
            ClientIds::Any => None,
            ClientIds::Only(ids) => Some(ids.to_vec()),
        },
        is_admin: identity.is_admin,
        expires_at_us: identity.expires_at.map(clock::micros),
    })
}

/// The identity that was kept.
pub(crate) fn identity(kept: &[u8]) -> Result<Identity, serde_json::Error> {
    let kept: Kept = serde_json::from_slice(kept)?;
    Ok(Identity {
        subject: kept.subject.into(),
        origin: match kept.origin {
            KeptOrigin::Static(id) => Origin::Static(id.into()),
            KeptOrigin::Jwt { issuer, id, issued_at, key } => {
                Origin::Jwt { issuer: issuer.into(), id: id.map(Into::into), issued_at, key }
            }
        },
        claims: Arc::new(kept.claims),
        client_ids: kept.client_ids.map_or(ClientIds::Any, |ids| ClientIds::Only(ids.into())),
        is_admin: kept.is_admin,
        expires_at: kept.expires_at_us.map(clock::time),
    })
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}
