//! One request for a set of keys.
//!
//! It follows no redirect and asks no proxy. The name is resolved here, each address is checked, and the connection goes to what
//! was checked: nobody can answer differently in between. What is read is bounded, and so is the time for all of it.

use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use super::address::is_public;
use super::place::Place;
use super::set::SetError;

/// For resolving, connecting, asking and reading together.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer at most.
pub(super) const BODY_BYTES_MAX: usize = 512 * 1024;
/// Bytes of the answer's head at most.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Addresses of a name that are tried, one after the other.
const ADDRESSES_MAX: usize = 4;

/// Why a set was not fetched. It has nothing of the answer but its status.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("resolve the name")]
    Resolve(#[source] std::io::Error),
    #[error("the name leads to no address")]
    NoAddress,
    #[error("the name leads to {0}, which is no public address; `allow_private` would allow it")]
    Private(IpAddr),
    #[error("connect")]
    Connect(#[source] std::io::Error),
    #[error("prepare TLS")]
    TlsSetup(#[source] rustls::Error),
    #[error("the host is no name for TLS")]
    ServerName,
    #[error("agree on TLS")]
    Handshake(#[source] std::io::Error),
    #[error("write a request")]
    Request(#[source] hyper::http::Error),
    #[error("ask")]
    Exchange(#[source] hyper::Error),
    #[error("the server answers with status {0}, and only 200 is taken; redirects are not followed")]
    Status(StatusCode),
    #[error("the answer has more than {BODY_BYTES_MAX} bytes")]
    TooLarge,
    #[error("it took too long")]
    Timeout,
    #[error("read the set")]
    Set(#[source] SetError),
}

/// What is behind a URL now, if it comes within this time. Without `tls`, the server must have a certificate that this machine trusts.
pub(super) async fn fetch(
    time: Duration,
    place: &Place,
    tls: Option<Arc<ClientConfig>>,
) -> Result<Vec<u8>, FetchError> {
    let all = async {
        let stream = connect(&resolve(place).await?).await?;
        if !place.is_encrypted() {
            return ask(place, stream).await;
        }
        let tls = tls.map_or_else(platform_tls, Ok)?;
        let name = ServerName::try_from(place.host().to_owned()).map_err(|_| FetchError::ServerName)?;
        let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(FetchError::Handshake)?;
        ask(place, stream).await
    };
    tokio::time::timeout(time, Box::pin(all)).await.map_err(|_| FetchError::Timeout)?
}

/// The addresses of the host; none of them, if one is not public and that is not allowed.
async fn resolve(place: &Place) -> Result<Vec<SocketAddr>, FetchError> {
    let addresses: Vec<SocketAddr> =
        lookup_host((place.host(), place.port())).await.map_err(FetchError::Resolve)?.collect();
    let private = addresses.iter().map(SocketAddr::ip).find(|address| !is_public(*address));
    match private {
        Some(address) if !place.allows_private() => Err(FetchError::Private(address)),
        _ => Ok(addresses),
    }
}

async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, FetchError> {
    let mut failed = FetchError::NoAddress;
    for address in addresses.iter().take(ADDRESSES_MAX) {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = FetchError::Connect(error),
        }
    }
    Err(failed)
}

fn platform_tls() -> Result<Arc<ClientConfig>, FetchError> {
    let provider = Arc::new(ring::default_provider());
    let verifier =
        rustls_platform_verifier::Verifier::new(Arc::clone(&provider)).map_err(FetchError::TlsSetup)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(FetchError::TlsSetup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Sends the request and reads the answer. The connection is driven meanwhile, and ends with it.
async fn ask(
    place: &Place,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin,
) -> Result<Vec<u8>, FetchError> {
    let request = Request::get(place.path())
        .header(header::HOST, place.authority())
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .header(header::USER_AGENT, concat!("waldelta/", env!("CARGO_PKG_VERSION")))
        .body(String::new())
        .map_err(FetchError::Request)?;
    let handshake = http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(FetchError::Exchange)?;
    let exchange = pin!(async move {
        let answer = sender.send_request(request).await.map_err(FetchError::Exchange)?;
        match answer.status() {
            StatusCode::OK => read(answer.into_body()).await,
            status => Err(FetchError::Status(status)),
        }
    });
    match select(exchange, pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        // All that there is of the answer was handed over.
        Either::Right((_, exchange)) => exchange.await,
    }
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, FetchError> {
    let mut all = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let data: Bytes = frame.map_err(FetchError::Exchange)?.into_data().unwrap_or_default();
        if all.len() + data.len() > BODY_BYTES_MAX {
            return Err(FetchError::TooLarge);
        }
        all.extend_from_slice(&data);
    }
    Ok(all)
}
