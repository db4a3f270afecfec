//! The certificate that the listener shows, and what of TLS it speaks: 1.2 and 1.3, for HTTP/1.1. It asks clients for none: who
//! they are is said by their tokens.
//!
//! When other files are taken, or the same ones are read again, connections that are open keep what they have, and none that comes later resumes what was
//! agreed on under the certificate before.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore, ServerConfig};
use waldelta_wal::Code;

use crate::failure::Failure;

/// A chain has some kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The last second of the year 9999, which stands for no end (RFC 5280, section 4.1.2.5).
const LAST_SECOND: Duration = Duration::from_secs(253_402_300_799);

/// The certificate of a listener.
pub(crate) struct Certificates {
    current: RwLock<Arc<ServerConfig>>,
}

impl Certificates {
    /// Reads the chain, the service's own certificate first, and its key: PKCS#8, SEC1 or PKCS#1, all in PEM.
    ///
    /// # Errors
    /// With the file that is at fault, and why.
    pub(crate) fn load(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        Ok(Certificates { current: RwLock::new(read(certificate, key)?) })
    }

    /// Takes what others were loaded with, for connections from now on.
    pub(crate) fn take(&self, fresh: &Certificates) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh.current();
    }

    /// What connections that begin now are served with.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn read(certificate: &Path, key: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&contents(certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(certificate, not_pem(&error)))?;
    if chain.is_empty() {
        return Err(invalid(certificate, "there is no certificate in it"));
    }
    let private = PrivateKeyDer::from_pem_slice(&contents(key)?).map_err(|error| match error {
        pem::Error::NoItemsFound => invalid(key, "there is no private key in it, or only an encrypted one"),
        error => invalid(key, not_pem(&error)),
    })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(certificate, &error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                invalid(key, &format!("it is not the key of {}", certificate.display()))
            }
            rustls::Error::InvalidCertificate(_) => invalid(certificate, &error.to_string()),
            error => invalid(key, &error.to_string()),
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// When the first of a chain of certificates is over; `None`: none ever is.
///
/// # Errors
/// As [`Certificates::load`].
pub(crate) fn ends_at(certificate: &Path) -> anyhow::Result<Option<SystemTime>> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&contents(certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(certificate, not_pem(&error)))?;
    Ok(chain.iter().filter_map(end_of).min())
}

/// The library tells it to who asks at a time when it is over: that is the first thing that it looks at.
fn end_of(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let at_last = UnixTime::since_unix_epoch(LAST_SECOND);
    let (nobody, algorithms) =
        (RootCertStore::empty(), ring::default_provider().signature_verification_algorithms);
    match verify_server_cert_signed_by_trust_anchor(&parsed, &nobody, &[], at_last, algorithms.all) {
        Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(not_after.as_secs()))
        }
        _ => None,
    }
}

fn contents(path: &Path) -> anyhow::Result<Vec<u8>> {
    let unreadable = |error: std::io::Error| invalid(path, &error.to_string());
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(invalid(path, "it is too large for what it should be"));
    }
    Ok(bytes)
}

/// Without a word of the file: it may be the key.
fn not_pem(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "it breaks off: a line with END is missing",
        _ => "it is not in PEM",
    }
}

fn invalid(path: &Path, why: &str) -> anyhow::Error {
    Failure::error(Code::CertificateInvalid, format!("{}: {why}", path.display()))
}
