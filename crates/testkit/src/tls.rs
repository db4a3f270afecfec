//! Certificates for `localhost` and 127.0.0.1, and a client that trusts whoever signed them. They protect nothing: the keys are here.

use std::io::{Error, Result};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A certificate and its key, in PEM.
#[derive(Clone, Copy, Debug)]
pub struct Certificate {
    /// The certificate.
    pub certificate: &'static str,
    /// Its key, as PKCS#8.
    pub key: &'static str,
}

/// Who signed all of them.
pub const AUTHORITY: &str = include_str!("tls/ca.crt");
/// One of this machine.
pub const FIRST: Certificate =
    Certificate { certificate: include_str!("tls/first.crt"), key: include_str!("tls/first.key") };
/// Another one of this machine.
pub const SECOND: Certificate =
    Certificate { certificate: include_str!("tls/second.crt"), key: include_str!("tls/second.key") };
/// One of `elsewhere.example`.
pub const ELSEWHERE: Certificate =
    Certificate { certificate: include_str!("tls/elsewhere.crt"), key: include_str!("tls/elsewhere.key") };

/// The file with [`AUTHORITY`].
pub fn authority_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/tls/ca.crt")
}

/// Whether a server showed this certificate.
pub fn shows(stream: &TlsStream<TcpStream>, certificate: &Certificate) -> bool {
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    shown == Some(&CertificateDer::from_pem_slice(certificate.certificate.as_bytes()).unwrap())
}

/// A client that trusts [`AUTHORITY`] alone and speaks these protocols over TLS. It resumes nothing.
pub fn client(versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(AUTHORITY.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_protocol_versions(versions).unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

/// Connects to `localhost`, and is content with no certificate but one for it.
pub async fn connect(port: u16) -> Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("localhost").map_err(Error::other)?;
    client(rustls::DEFAULT_VERSIONS, &["http/1.1"]).connect(name, stream).await
}
