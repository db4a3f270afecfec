//! The certificate that the listener shows, and what of TLS it speaks: 1.2 and 1.3, for HTTP/1.1. It asks clients for none: who
//! they are is said by their tokens.
//!
//! When the files are read again, connections that are open keep what they have, and none that comes later resumes what was
//! agreed on under the certificate before.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use waldelta_wal::Code;

use crate::failure::Failure;

/// A chain has some kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The certificate of a listener.
pub(crate) struct Certificates {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<ServerConfig>>,
}

impl Certificates {
    /// Reads the chain, the service's own certificate first, and its key: PKCS#8, SEC1 or PKCS#1, all in PEM.
    ///
    /// # Errors
    /// With the file that is at fault, and why.
    pub(crate) fn load(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let current = RwLock::new(read(certificate, key)?);
        Ok(Certificates { certificate: certificate.to_owned(), key: key.to_owned(), current })
    }

    /// Reads the files again, for connections from now on.
    ///
    /// # Errors
    /// As [`Certificates::load`]; then everything stays as it was.
    pub(crate) fn reload(&self) -> anyhow::Result<()> {
        let fresh = read(&self.certificate, &self.key)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// What connections that begin now are served with.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
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
