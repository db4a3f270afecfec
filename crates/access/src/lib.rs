//! Who asks: static tokens, JSON web tokens and one-time tickets, turned into an [`Identity`].
//!
//! What an identity may see is not decided here: that is for the part that serves it. Nothing in here knows a client's
//! protocol, and no token, secret or claim is ever in a log, an error or a `Debug`.

mod access;
mod clock;
mod config;
mod hashing;
mod identity;
mod jwks;
mod jwt;
mod key_mark;
mod known;
mod random;
mod refusal;
mod static_token;
mod ticket;

#[cfg(test)]
mod signing;

pub use access::Access;
pub use config::{ALGORITHMS, Config, ConfigError, Fault, Issuer, Keys, LEEWAY_MAX, SECRET_BYTES_MIN};
pub use identity::{ClientIds, Identity, Origin};
pub use jwks::{KeysError, PlaceError, describe_metrics, published_keys};
pub use key_mark::KeyMark;
pub use refusal::Refusal;
pub use static_token::{MadeToken, MakeTokenError, NewToken, Secret};
pub use ticket::Ticket;
