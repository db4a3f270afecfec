//! A token taken apart (RFC 7515, section 3.1): nothing in here is verified yet.

use jsonwebtoken::{Algorithm, Header, dangerous};
use serde_json::{Map, Value};

use crate::Refusal;

/// Bytes of a token at most.
pub(crate) const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// What a token consists of. The header's algorithm and key are only what has to be among those that are configured.
pub(super) struct Parts<'a> {
    pub algorithm: Algorithm,
    pub kid: Option<String>,
    pub claims: Map<String, Value>,
    /// What was signed, as it came.
    pub message: &'a str,
    pub signature: &'a str,
}

impl<'a> Parts<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// When it is no token in the compact form, or its header asks for something that is not done: a key that it brings along
    /// or points to, an extension that must be understood, encryption, another use.
    pub(super) fn read(token: &'a str) -> Result<Self, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::Invalid);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Refusal::Invalid)?;
        let unverified = dangerous::insecure_decode::<Map<String, Value>>(token);
        let unverified = unverified.map_err(|_| Refusal::Invalid)?;
        let header = unverified.header;
        if signature.is_empty() || demands_more(&header) || !is_of_this_use(header.typ.as_deref()) {
            return Err(Refusal::Invalid);
        }
        Ok(Parts { algorithm: header.alg, kid: header.kid, claims: unverified.claims, message, signature })
    }
}

/// A thumbprint (`x5t`) only names a key; those of some issuers always have one.
fn demands_more(header: &Header) -> bool {
    header.jwk.is_some()
        || header.jku.is_some()
        || header.x5u.is_some()
        || header.x5c.is_some()
        || header.crit.is_some()
        || header.enc.is_some()
        || header.zip.is_some()
}

/// An issuer signs other things than tokens for access: they say so (RFC 8725, section 3.11; RFC 9068, section 2.1).
fn is_of_this_use(typ: Option<&str>) -> bool {
    const PREFIX: &str = "application/";
    let Some(typ) = typ else { return true };
    let short = match typ.get(..PREFIX.len()) {
        Some(prefix) if prefix.eq_ignore_ascii_case(PREFIX) => &typ[PREFIX.len()..],
        _ => typ,
    };
    short.eq_ignore_ascii_case("JWT") || short.eq_ignore_ascii_case("at+jwt")
}
