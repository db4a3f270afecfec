//! Who somebody is.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value};

use crate::KeyMark;

/// Who somebody is, as a token says. Its `Debug` has no claims.
#[derive(Clone)]
pub struct Identity {
    /// Whose token it is: `sub`, or the subject that a static token was made for.
    pub subject: Arc<str>,
    /// Where the token comes from.
    pub origin: Origin,
    /// All claims; of a static token those that it was made with. `sub` is among them.
    pub claims: Arc<Map<String, Value>>,
    /// Client ids that may be used.
    pub client_ids: ClientIds,
    /// Whether it is one of an operator, who may see the service's own state.
    pub is_admin: bool,
    /// When it ends by itself; of a JWT with the leeway for clocks that differ.
    pub expires_at: Option<SystemTime>,
}

/// Where a token comes from: what a revocation names it by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A static token, by its id.
    Static(Arc<str>),
    /// A JSON web token: its issuer, its `jti` if it has one, when it was issued, in seconds since 1970, and what it is signed with.
    Jwt {
        /// `iss`
        issuer: Arc<str>,
        /// `jti`
        id: Option<Arc<str>>,
        /// `iat`
        issued_at: Option<u64>,
        /// The public key that it is signed with.
        key: Option<KeyMark>,
    },
}

/// Client ids that a token may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientIds {
    /// Any: a client is known by its subject and its id, so that those of others are others.
    Any,
    /// These, each an id or, where it ends with `*`, the beginning of one.
    Only(Arc<[String]>),
}

impl Identity {
    /// Who signs for the subject: `iss`, and nothing of a static token, which no issuer is called.
    pub fn issuer(&self) -> &str {
        match &self.origin {
            Origin::Static(_) => "",
            Origin::Jwt { issuer, .. } => issuer,
        }
    }

    /// Who it is among the subjects of all issuers, as one text that no other has: two issuers may call two people the same.
    pub fn person(&self) -> String {
        let issuer = self.issuer();
        format!("{}:{issuer}{}", issuer.len(), self.subject)
    }

    /// Whether both are tokens of one person.
    pub fn is_same_person(&self, other: &Identity) -> bool {
        (self.issuer(), &self.subject) == (other.issuer(), &other.subject)
    }
}

impl ClientIds {
    /// Whether a client id is one of them.
    pub fn has(&self, client_id: &str) -> bool {
        match self {
            ClientIds::Any => true,
            ClientIds::Only(patterns) => patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => client_id.starts_with(prefix),
                None => pattern == client_id,
            }),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("subject", &self.subject)
            .field("origin", &self.origin)
            .field("is_admin", &self.is_admin)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(issuer: Option<&str>, subject: &str) -> Identity {
        let origin = match issuer {
            None => Origin::Static("id".into()),
            Some(issuer) => Origin::Jwt { issuer: issuer.into(), id: None, issued_at: None, key: None },
        };
        Identity {
            subject: subject.into(),
            origin,
            claims: Arc::default(),
            client_ids: ClientIds::Any,
            is_admin: false,
            expires_at: None,
        }
    }

    #[test]
    fn subjects_of_two_issuers_are_two_people() {
        let people = [
            identity(None, "ada"),
            identity(Some("https://a"), "ada"),
            identity(Some("https://b"), "ada"),
            identity(Some("https://aada"), ""),
            identity(None, "9:https://aada"),
            identity(Some("https://a"), "bob"),
        ];
        for (n, one) in people.iter().enumerate() {
            for (m, other) in people.iter().enumerate() {
                assert_eq!(one.person() == other.person(), n == m, "{one:?} {other:?}");
                assert_eq!(one.is_same_person(other), n == m, "{one:?} {other:?}");
            }
        }
        let another = Identity { origin: Origin::Static("another".into()), ..identity(None, "ada") };
        assert!(another.is_same_person(&people[0]), "another token of the same");
    }
}
