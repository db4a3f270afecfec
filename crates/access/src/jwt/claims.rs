//! The claims of a token whose signature is right, made an identity, or refused.
//!
//! A claim of another type than it has to have is refused, not skipped: what cannot be compared would otherwise hold for ever.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::{Terms, Trusted};
use crate::{ClientIds, Identity, KeyMark, Origin, Refusal};

/// Bytes of a subject, and of a token's id, at most.
const NAME_BYTES_MAX: usize = 1_024;

/// The identity that the claims say, at the time `now`. `Expired` where time is all that is wrong with them.
pub(super) fn identity(
    claims: Map<String, Value>,
    trusted: &Trusted,
    key: Option<KeyMark>,
    terms: &Terms,
    now: SystemTime,
) -> Result<Identity, Refusal> {
    let subject = name(claims.get("sub"))?.ok_or_else(|| Refusal::invalid("it has no `sub`"))?;
    let id = name(claims.get("jti"))?;
    if !is_meant_for(claims.get("aud"), &trusted.audiences) {
        return Err(Refusal::invalid("its `aud` is none of its issuer's audiences"));
    }
    let client_ids = client_ids(claims.get("client_ids"))?;
    let expires_at = time(claims.get("exp"))?.ok_or_else(|| Refusal::invalid("it has no `exp`"))?;
    let issued_at = time(claims.get("iat"))?;
    // Neither used nor, where revocations compare when it was issued, issued in the future.
    for from in [time(claims.get("nbf"))?, issued_at].into_iter().flatten() {
        if from > now.checked_add(terms.leeway).ok_or(Refusal::Invalid)? {
            return Err(Refusal::invalid("its `nbf` or `iat` is in the future"));
        }
    }
    if now >= expires_at.checked_add(terms.leeway).ok_or(Refusal::Invalid)? {
        return Err(Refusal::Expired);
    }
    let issued_at = issued_at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    Ok(Identity {
        subject,
        origin: Origin::Jwt {
            issuer: trusted.issuer.clone(),
            id,
            issued_at: issued_at.map(|since| since.as_secs()),
            key,
        },
        client_ids,
        is_admin: is_admin(&claims, &terms.admin_claims),
        expires_at: Some(expires_at),
        claims: Arc::new(claims),
    })
}

/// A claim that is text, has some, and can be stored.
fn name(claim: Option<&Value>) -> Result<Option<Arc<str>>, Refusal> {
    match claim {
        None => Ok(None),
        Some(Value::String(name))
            if (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains(char::is_control) =>
        {
            Ok(Some(name.as_str().into()))
        }
        Some(_) => Err(Refusal::invalid("its `sub` or `jti` is no text that can be stored")),
    }
}

/// A claim that is a time: a number of seconds since 1970 (RFC 7519, section 2, "NumericDate"), not necessarily whole.
fn time(claim: Option<&Value>) -> Result<Option<SystemTime>, Refusal> {
    let Some(claim) = claim else { return Ok(None) };
    let since = match claim.as_u64() {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => claim.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
    };
    let time = since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
    time.map(Some).ok_or_else(|| Refusal::invalid("its `exp`, `nbf` or `iat` is no time"))
}

/// `aud`: one text, or a list of them (RFC 7519, section 4.1.3).
fn is_meant_for(claim: Option<&Value>, audiences: &[String]) -> bool {
    let is_one = |value: &Value| audiences.iter().any(|audience| Some(audience.as_str()) == value.as_str());
    match claim {
        Some(Value::Array(list)) => list.iter().all(Value::is_string) && list.iter().any(is_one),
        Some(value) => is_one(value),
        None => false,
    }
}

/// `client_ids`, a claim of our own: a list of texts. An empty one allows none.
fn client_ids(claim: Option<&Value>) -> Result<ClientIds, Refusal> {
    let list = match claim {
        None => return Ok(ClientIds::Any),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(Refusal::invalid("its `client_ids` is no list of texts")),
    };
    let texts: Option<Arc<[String]>> = list.iter().map(|id| id.as_str().map(str::to_owned)).collect();
    texts.map(ClientIds::Only).ok_or_else(|| Refusal::invalid("its `client_ids` is no list of texts"))
}

/// Whether each of the claims that make an operator is there: equal, or in the list that the token has for it.
fn is_admin(claims: &Map<String, Value>, wanted: &Map<String, Value>) -> bool {
    let matches = |(name, wanted): (&String, &Value)| match claims.get(name) {
        Some(Value::Array(list)) => list.contains(wanted),
        Some(value) => value == wanted,
        None => false,
    };
    !wanted.is_empty() && wanted.iter().all(matches)
}
