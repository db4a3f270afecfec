//! TLS by the demands of `sslmode` (PostgreSQL documentation, "SSL Support in libpq").
//!
//! The crypto provider is named here, so that nothing depends on one that the process has installed.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::client_certificate::Credentials;
use crate::demands::SslMode;
use crate::error::Error;
use crate::target::Target;

impl Target {
    /// TLS settings that fulfil [`Self::ssl_mode`]; `None` for `disable`, and for a unix socket, where nobody speaks TLS.
    ///
    /// # Errors
    /// When the trusted certificates, or those of our own and their key, cannot be read or used.
    pub fn tls(&self) -> Result<Option<Arc<ClientConfig>>, Error> {
        if matches!(self.address(), crate::Address::Unix(_)) {
            return Ok(None);
        }
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match (self.ssl_mode(), self.root_certificates()) {
            (SslMode::Disable, _) => return Ok(None),
            (SslMode::Prefer | SslMode::Require, _) => {
                Arc::new(Verifier { trust: Trust::Anyone, provider: Arc::clone(&provider) })
            }
            (SslMode::VerifyCa, None) => {
                return Err(Error::invalid(
                    "sslmode=verify-ca needs sslrootcert: without a check of the name, any certificate that the system trusts would do",
                ));
            }
            (mode @ (SslMode::VerifyCa | SslMode::VerifyFull), Some(path)) => {
                let trust = Trust::Roots(Roots::read(path, mode == SslMode::VerifyFull)?);
                Arc::new(Verifier { trust, provider: Arc::clone(&provider) })
            }
            (SslMode::VerifyFull, None) => {
                let verifier = rustls_platform_verifier::Verifier::new(Arc::clone(&provider));
                Arc::new(verifier.map_err(|error| Error::TlsSetup(Box::new(error)))?)
            }
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::TlsSetup(Box::new(error)))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match self.client_certificate() {
            None => config.with_no_client_auth(),
            Some(ours) => {
                let Credentials { chain, key } = ours.read()?;
                config.with_client_auth_cert(chain, key).map_err(|error| ours.unusable(error))?
            }
        };
        Ok(Some(Arc::new(config)))
    }
}

/// Judges a server's certificate. Whoever is trusted, the server has to prove that it has the certificate's key.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Trust {
    Anyone,
    Roots(Roots),
}

#[derive(Debug)]
struct Roots {
    anchors: RootCertStore,
    /// The same certificates as they are. A server that presents one of them is trusted without a chain: the manual's
    /// own recipe makes a self-signed certificate that is its own authority, which no chain may end in.
    certificates: Vec<CertificateDer<'static>>,
    check_name: bool,
}

impl Roots {
    fn read(path: &Path, check_name: bool) -> Result<Self, Error> {
        let unreadable = |source| Error::RootCertificates { path: path.to_owned(), source };
        let certificates: Vec<CertificateDer<'static>> =
            CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(unreadable)?;
        if certificates.is_empty() {
            return Err(unreadable(pem::Error::NoItemsFound));
        }
        let mut anchors = RootCertStore::empty();
        anchors.add_parsable_certificates(certificates.iter().cloned());
        Ok(Roots { anchors, certificates, check_name })
    }

    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
        provider: &CryptoProvider,
    ) -> Result<(), rustls::Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        if !self.certificates.contains(certificate) {
            let algorithms = provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &self.anchors,
                intermediates,
                now,
                algorithms,
            )?;
        }
        if self.check_name { verify_server_name(&parsed, server_name) } else { Ok(()) }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Trust::Roots(roots) = &self.trust {
            roots.verify(end_entity, intermediates, server_name, now, &self.provider)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
