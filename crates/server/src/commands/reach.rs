//! Reaching a running service by its URL: `http` and `ws`, or `https` and `wss`, whose certificate is always verified.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

/// A connection to a service.
pub(super) type Connection = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// What a URL says of where the service is.
#[derive(Debug, PartialEq, Eq)]
struct Place<'a> {
    /// Host and port.
    authority: &'a str,
    host: &'a str,
    encrypted: bool,
}

/// Connects to the service at this URL, and says how it is called there. `ca_file`: who is trusted in place of those whom this machine
/// trusts.
pub(super) async fn connect<'a>(
    url: &'a str,
    ca_file: Option<&Path>,
) -> anyhow::Result<(Connection, &'a str)> {
    let Place { authority, host, encrypted } = place(url)?;
    let stream = TcpStream::connect(authority).await.context("connect")?;
    stream.set_nodelay(true).context("connect")?;
    if !encrypted {
        return Ok((Either::Left(stream), authority));
    }
    let name = ServerName::try_from(host.to_owned()).context("read the host's name")?;
    let connector = TlsConnector::from(Arc::new(trust(ca_file)?));
    let stream = connector.connect(name, stream).await.context("begin TLS")?;
    Ok((Either::Right(Box::new(stream)), authority))
}

fn trust(ca_file: Option<&Path>) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone());
    let config = config.with_safe_default_protocol_versions().context("choose what to speak")?;
    let mut config = match ca_file {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            let read = || format!("read {}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).with_context(read)? {
                roots.add(certificate.with_context(read)?).with_context(read)?;
            }
            anyhow::ensure!(!roots.is_empty(), "there is no certificate in {}", path.display());
            config.with_root_certificates(roots).with_no_client_auth()
        }
        None => {
            let verifier = rustls_platform_verifier::Verifier::new(provider);
            let verifier = verifier.context("find out whom this machine trusts")?;
            // It is the one that verifies as this machine does.
            config.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn place(url: &str) -> anyhow::Result<Place<'_>> {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let encrypted = match scheme {
        "http" | "ws" => false,
        "https" | "wss" => true,
        _ => anyhow::bail!("the URL must begin with http:// or https://"),
    };
    let authority = rest.split('/').next().unwrap_or(rest);
    let port = authority.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
    let (host, _) = port.context("the URL must name a port, such as http://127.0.0.1:7654")?;
    Ok(Place { authority, host: host.trim_start_matches('[').trim_end_matches(']'), encrypted })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_url_leads() {
        let there = |authority, host, encrypted| Place { authority, host, encrypted };
        for (url, leads) in [
            ("http://127.0.0.1:7654", there("127.0.0.1:7654", "127.0.0.1", false)),
            ("http://[::1]:1/x", there("[::1]:1", "::1", false)),
            ("ws://localhost:1/", there("localhost:1", "localhost", false)),
            (
                "https://changes.example.com:443/",
                there("changes.example.com:443", "changes.example.com", true),
            ),
            ("wss://[::1]:1", there("[::1]:1", "::1", true)),
        ] {
            assert_eq!(place(url).unwrap(), leads, "{url}");
        }
        for url in ["ftp://localhost:1", "localhost:1", "http://localhost", "http://[::1]", "https://", ""] {
            assert!(place(url).is_err(), "{url}");
        }
    }
}
