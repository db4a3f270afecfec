//! What is known of tokens and revocations, in memory: a picture of what history has, replaced as a whole.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use waldelta_history::{AccessList, Revocation, Revoked, StoredToken};

use crate::hashing::Proof;
use crate::static_token;
use crate::{Identity, clock};

/// Tokens and revocations, as history had them.
pub(crate) struct Known {
    pub(crate) revision: i64,
    tokens: HashMap<Arc<str>, Kept>,
    revocations: HashMap<String, OfIssuer>,
}

/// A static token.
pub(crate) struct Kept {
    pub(crate) identity: Arc<Identity>,
    pub(crate) is_revoked: bool,
    /// Outlives the picture while the token stays the same.
    pub(crate) proof: Arc<Proof>,
}

/// What was taken back of one issuer's tokens.
#[derive(Default)]
struct OfIssuer {
    ids: HashSet<String>,
    /// By subject: all that were issued up to then.
    subjects: HashMap<String, SystemTime>,
}

impl Known {
    /// What was learnt of secrets `before` is kept, where the token is the same.
    pub(crate) fn new(list: AccessList, before: Option<&Known>) -> Self {
        let mut revocations: HashMap<String, OfIssuer> = HashMap::new();
        for Revocation { issuer, revoked, revoked_at_us, .. } in list.revocations {
            let of_issuer = revocations.entry(issuer).or_default();
            match revoked {
                Revoked::Token(id) => {
                    of_issuer.ids.insert(id);
                }
                Revoked::Subject(subject) => {
                    of_issuer.subjects.insert(subject, clock::time(revoked_at_us));
                }
            }
        }
        let kept = |token: StoredToken| {
            let id: Arc<str> = token.made.id.as_str().into();
            let same = before.and_then(|before| before.token(&id));
            let proof = match same.filter(|same| same.proof.hash() == token.made.hash) {
                Some(same) => Arc::clone(&same.proof),
                None => Arc::new(Proof::new(token.made.hash.clone())),
            };
            let is_revoked = token.revoked_at_us.is_some();
            let identity = Arc::new(static_token::identity(&id, token.made));
            (id, Kept { identity, is_revoked, proof })
        };
        Known { revision: list.revision, tokens: list.tokens.into_iter().map(kept).collect(), revocations }
    }

    pub(crate) fn token(&self, id: &str) -> Option<&Kept> {
        self.tokens.get(id)
    }

    /// Whether a JSON web token was taken back: by its `jti`, or as one of a subject's that were issued up to then. One that does
    /// not say when it was issued may have been before. The issuer's clock may be ahead by the leeway.
    pub(crate) fn is_revoked(
        &self,
        issuer: &str,
        id: Option<&str>,
        subject: &str,
        issued_at: Option<u64>,
        leeway: Duration,
    ) -> bool {
        let Some(of_issuer) = self.revocations.get(issuer) else { return false };
        if id.is_some_and(|id| of_issuer.ids.contains(id)) {
            return true;
        }
        let Some(up_to) = of_issuer.subjects.get(subject) else { return false };
        let issued_at =
            issued_at.map(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
        match (issued_at, up_to.checked_add(leeway)) {
            (Some(Some(issued_at)), Some(up_to)) => issued_at <= up_to,
            // Never said, or said to be at the end of time.
            _ => true,
        }
    }
}
