//! The certificate with which a server is shown who we are: `sslcert` and `sslkey` (PostgreSQL documentation, "Client
//! Certificates").
//!
//! The files are read anew for each connection, so that a renewed certificate needs no restart. Where libpq goes on without a
//! certificate because a file is missing, this is an error: whoever names one wants it to be shown. Encrypted keys are refused,
//! because nobody is there to be asked for the passphrase.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::Error;

/// A chain has some kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Where they are looked for under the home folder when nobody names them.
const CERTIFICATE_DEFAULT: &str = ".postgresql/postgresql.crt";
const KEY_DEFAULT: &str = ".postgresql/postgresql.key";

/// The files of a certificate and of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    certificate: PathBuf,
    key: PathBuf,
}

/// What is wrong with one of the files. It has nothing of what is in it.
#[derive(Debug, thiserror::Error)]
pub enum CertificateFault {
    /// It is not there, or not to be read.
    #[error("it cannot be read")]
    Unreadable(#[source] io::Error),
    /// A folder or a device.
    #[error("it is not a plain file of at most {FILE_BYTES_MAX} bytes")]
    NotAFile,
    /// Others than its owner may use the key.
    #[error(
        "others may read it: run chmod 0600 if it is the user's own, or chmod 0640 if it is root's (it has {mode:04o})"
    )]
    TooOpen {
        /// The permissions that it has.
        mode: u32,
    },
    /// No certificate in PEM.
    #[error("there is no certificate in PEM in it")]
    NoCertificate,
    /// No private key in PEM.
    #[error("there is no private key in PEM in it: PKCS#8, PKCS#1 or SEC1")]
    NoKey,
    /// Encrypted in either of the two ways.
    #[error("the key is encrypted, and nobody can be asked for its passphrase: store it unencrypted")]
    Encrypted,
    /// Certificate and key are not of each other.
    #[error("it is not the key of the certificate")]
    OtherKey,
    /// They can be read, and not be used.
    #[error("it cannot be used")]
    Unusable(#[source] rustls::Error),
}

/// A certificate chain and its key.
pub(crate) struct Credentials {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl ClientCertificate {
    /// What was named, filled up with what is in the home folder. `None`: there is nothing to be shown.
    pub(crate) fn locate(
        certificate: Option<String>,
        key: Option<String>,
        home: Option<&Path>,
    ) -> Result<Option<Self>, Error> {
        let at_home = |name| home.map(|home: &Path| home.join(name)).filter(|path| path.is_file());
        let is_key_named = key.is_some();
        let certificate = certificate.map(PathBuf::from).or_else(|| at_home(CERTIFICATE_DEFAULT));
        let key = key.map(PathBuf::from).or_else(|| at_home(KEY_DEFAULT));
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(ClientCertificate { certificate, key })),
            (Some(_), None) => {
                Err(Error::invalid("there is a client certificate and no key: name it in sslkey"))
            }
            (None, Some(_)) if is_key_named => {
                Err(Error::invalid("there is a key and no client certificate: name it in sslcert"))
            }
            (None, _) => Ok(None),
        }
    }

    /// The file of the certificate, and of those between it and its authority.
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// The file of the key.
    pub fn key(&self) -> &Path {
        &self.key
    }

    /// Reads both.
    ///
    /// # Errors
    /// With the file that is at fault.
    pub(crate) fn read(&self) -> Result<Credentials, Error> {
        let chain = read_chain(&self.certificate).map_err(|fault| at(&self.certificate, fault))?;
        let key = read_key(&self.key).map_err(|fault| at(&self.key, fault))?;
        Ok(Credentials { chain, key })
    }

    /// Why TLS does not take what was read.
    pub(crate) fn unusable(&self, error: rustls::Error) -> Error {
        match error {
            rustls::Error::InconsistentKeys(_) => at(&self.key, CertificateFault::OtherKey),
            // It speaks of the certificate where it names one, and else of the key.
            error @ rustls::Error::InvalidCertificate(_) => {
                at(&self.certificate, CertificateFault::Unusable(error))
            }
            error => at(&self.key, CertificateFault::Unusable(error)),
        }
    }
}

fn at(path: &Path, fault: CertificateFault) -> Error {
    Error::ClientCertificate { path: path.to_owned(), fault }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateFault> {
    let (bytes, _) = contents(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    chain.ok().filter(|chain| !chain.is_empty()).ok_or(CertificateFault::NoCertificate)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateFault> {
    let (bytes, metadata) = contents(path)?;
    let mode = metadata.permissions().mode() & 0o777;
    if is_too_open(mode, metadata.uid()) {
        return Err(CertificateFault::TooOpen { mode });
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_: pem::Error| match is_encrypted(&bytes) {
        true => CertificateFault::Encrypted,
        false => CertificateFault::NoKey,
    })
}

/// As libpq has it of keys: nobody but the owner may read it; where that is root, a group of its own may, which nobody may write.
pub(crate) fn is_too_open(mode: u32, owner: u32) -> bool {
    let forbidden = if owner == 0 { 0o037 } else { 0o077 };
    mode & forbidden != 0
}

/// As PKCS#8 has it, or the older way in which a header of the PEM says so.
fn is_encrypted(pem: &[u8]) -> bool {
    let has = |words: &[u8]| pem.windows(words.len()).any(|window| window == words);
    has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED")
}

/// What is in a file, and what the file is that was read.
fn contents(path: &Path) -> Result<(Vec<u8>, Metadata), CertificateFault> {
    // Looked at before it is opened: opening a pipe would wait for somebody to write into it.
    if !std::fs::metadata(path).map_err(CertificateFault::Unreadable)?.is_file() {
        return Err(CertificateFault::NotAFile);
    }
    let file = File::open(path).map_err(CertificateFault::Unreadable)?;
    let metadata = file.metadata().map_err(CertificateFault::Unreadable)?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(CertificateFault::NotAFile);
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(CertificateFault::Unreadable)?;
    Ok((bytes, metadata))
}

#[cfg(test)]
mod tests;
