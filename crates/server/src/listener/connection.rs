//! One connection: the handshake, where there is one, and HTTP/1.1 over it, until it ends or becomes a WebSocket.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::Response;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1::Builder;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use waldelta_wal::{Code, chain_text};

use super::Serving;
use super::body::{BODY_BYTES_MAX, Bounded};
use super::certificates::Certificates;
use super::gate::Place;
use super::stream::{Bytes, Stream};
use crate::http::problem;

/// Headers of a request at most, and the bytes of its head.
const HEADERS_MAX: usize = 100;
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// What is read ahead, and what is written at once.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// First byte of a handshake (RFC 8446, section 5.1: a record of the type `handshake`).
const HANDSHAKE: u8 = 22;
const SPEAK_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\
    content-length: 55\r\n\r\nThis port speaks TLS: begin the URL with https or wss.\n";
/// Who is sent away has this long to stop talking, and says this much at most.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);
const LAST_WORDS_BYTES_MAX: u64 = 64 * 1024;

/// Serves a connection to its end. When `stop` comes, the answer that is under way is the last; who has not asked for anything yet
/// is not waited for.
pub(super) async fn serve(
    stream: TcpStream,
    from: IpAddr,
    place: Place,
    serving: Arc<Serving>,
    app: Router,
    stop: CancellationToken,
) {
    let opened = stop.run_until_cancelled(open(stream, &place, &serving));
    let Some(Some(bytes)) = opened.await else { return };
    let encrypted = matches!(bytes, Bytes::Right(_));
    let asked = AtomicBool::new(false);
    let app = TowerToHyperService::new(app);
    let service = service_fn(|request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        let (mut parts, body) = request.into_parts();
        let peer = serving.proxies.peer(from, encrypted, &parts.headers);
        parts.extensions.insert(peer);
        let too_large = body.size_hint().lower() > BODY_BYTES_MAX;
        let request = Request::from_parts(parts, Bounded::new(body, serving.patience.body));
        let answer = (!too_large).then(|| app.call(request));
        async move {
            match answer {
                Some(answer) => answer.await,
                None => Ok(body_too_large()),
            }
        }
    });
    let io = TokioIo::new(Stream::new(bytes, place));
    let http = http1(match serving.proxies.trust(from) {
        true => serving.patience.head_of_proxy,
        false => serving.patience.head,
    });
    let mut connection = pin!(http.serve_connection(io, service).with_upgrades());
    let ended = match stop.run_until_cancelled(connection.as_mut()).await {
        Some(ended) => ended,
        None if !asked.load(Ordering::Relaxed) => return,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%from, error = chain_text(&error), "a connection ended");
    }
}

fn http1(head_timeout: Duration) -> Builder {
    let mut http = Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX);
    http
}

fn body_too_large() -> Response {
    let detail = format!("a body may have {BODY_BYTES_MAX} bytes at most");
    let mut answer = problem(StatusCode::PAYLOAD_TOO_LARGE, Code::RequestInvalid, &detail);
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// What the connection's bytes are read from; `None` where it is of no use.
async fn open(stream: TcpStream, place: &Place, serving: &Serving) -> Option<Bytes> {
    let Some(certificates) = &serving.certificates else { return Some(Bytes::Left(stream)) };
    let patience = serving.patience.handshake;
    let begun = tokio::time::timeout(patience, first_byte(&stream)).await.ok()?;
    match begun? {
        HANDSHAKE => {}
        letter if letter.is_ascii_alphabetic() => {
            // The place is kept meanwhile: it is a connection like others.
            let _ = tokio::time::timeout(LAST_WORDS_TIMEOUT, send_away(stream)).await;
            return None;
        }
        _ => return None,
    }
    // Nobody waits here for those who say nothing, nor for those of another address: how many there are in all is the gate's to bound.
    let own = place.handshakes();
    let _turn = match &own {
        Some(own) => Some(tokio::time::timeout(patience, own.acquire()).await.ok()?.ok()?),
        None => None,
    };
    match tokio::time::timeout(patience, handshake(stream, certificates)).await {
        Ok(Ok(encrypted)) => Some(Bytes::Right(Box::new(encrypted))),
        Ok(Err(error)) => {
            tracing::debug!(error = chain_text(&error), "handshake");
            None
        }
        Err(_) => None,
    }
}

/// Without taking it; `None` when the other side has gone.
async fn first_byte(stream: &TcpStream) -> Option<u8> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) => Some(first[0]),
        _ => None,
    }
}

async fn handshake(stream: TcpStream, certificates: &Certificates) -> std::io::Result<TlsStream<TcpStream>> {
    TlsAcceptor::from(certificates.current()).accept(stream).await
}

/// Tells who speaks plain HTTP what is spoken here. It is read to its end: closing before that would take the answer back.
async fn send_away(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(SPEAK_TLS).await?;
    stream.shutdown().await?;
    let mut nowhere = tokio::io::sink();
    tokio::io::copy(&mut stream.take(LAST_WORDS_BYTES_MAX), &mut nowhere).await?;
    Ok(())
}
