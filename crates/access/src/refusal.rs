//! Why somebody is not let in.

use waldelta_wal::Code;

/// Why somebody is not let in. It says nothing of the token: the log and the client get the code and its explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No token where one is needed.
    #[error("no token was given")]
    Missing,
    /// It is no token that is taken here: unknown, forged, of another audience, in another form.
    #[error("the token is not accepted")]
    Invalid,
    /// It was one.
    #[error("the token has expired")]
    Expired,
    /// It was taken back.
    #[error("the token was revoked")]
    Revoked,
    /// As many tokens are being checked as may be at once.
    #[error("too many tokens are being checked")]
    Busy,
    /// What it is checked with cannot be had for now.
    #[error("the token cannot be checked for now")]
    Unavailable,
}

impl Refusal {
    /// An invalid token, and for whoever sets tokens up, in the log at `debug`, why: in words that have nothing of the token.
    pub(crate) fn invalid(why: &'static str) -> Self {
        tracing::debug!(why, "a token is not taken");
        Refusal::Invalid
    }

    /// The code that it shows as.
    pub fn code(self) -> Code {
        match self {
            Refusal::Missing => Code::TokenMissing,
            Refusal::Invalid => Code::TokenInvalid,
            Refusal::Expired => Code::TokenExpired,
            Refusal::Revoked => Code::TokenRevoked,
            Refusal::Busy => Code::TokensBusy,
            Refusal::Unavailable => Code::KeysUnavailable,
        }
    }

    /// Whether the same token may be taken a little later.
    pub fn is_retryable(self) -> bool {
        matches!(self, Refusal::Busy | Refusal::Unavailable)
    }
}
