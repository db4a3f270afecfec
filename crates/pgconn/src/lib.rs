//! Reaching a PostgreSQL: connection strings, passwords, TLS.
//!
//! The source, the history database and the replication connection are reached the same way, so the way stands here
//! once. This crate knows nothing of what is said over a connection.

mod words;

mod settings;

mod address;
mod client_certificate;
mod demands;
mod passfile;

mod target;

mod tls;

mod connect;
mod error;

pub use address::Address;
pub use client_certificate::{CertificateFault, ClientCertificate};
pub use connect::ConnectionGuard;
pub use demands::SslMode;
pub use error::Error;
pub use settings::Environment;
pub use target::Target;

/// Settings that fix the text form of values, whatever the database or role says: for every connection that reads rows.
pub const PINNED_SETTINGS: &[(&str, &str)] = &[
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("client_encoding", "UTF8"),
];
