//! Slow, hostile and many connections, on real sockets. Each test could wait for ever: that it ends in time is what it checks.

mod bounds;
mod encrypted;
mod hostile;
mod proxied;
mod stopping;

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use waldelta_fanout::Peer;

use super::*;

/// How long something may take that should take milliseconds.
const DEADLINE: Duration = Duration::from_secs(60);
/// What a test waits for to happen.
const SHORT: Duration = Duration::from_millis(200);
/// What it does not wait for.
const LONG: Duration = Duration::from_secs(3600);

/// Everybody has all the time there is.
const FOR_EVER: Patience = Patience {
    head: LONG,
    head_of_proxy: LONG,
    body: LONG,
    handshake: LONG,
    stalled: LONG,
    exhausted: SHORT,
};
const MANY: Bounds = Bounds { all: 1_000, per_address: 1_000 };

/// A listener that is served, until it is dropped.
struct World {
    address: SocketAddr,
    serving: Arc<Serving>,
    stop: CancellationToken,
    asked: Arc<Asked>,
    tasks: JoinSet<anyhow::Result<()>>,
}

/// What the routes below were asked.
struct Asked {
    requests: AtomicUsize,
    /// Answers of `/held` wait for one of these.
    released: Semaphore,
}

impl World {
    fn new(patience: Patience) -> Self {
        Self::with(patience, MANY, &[], None)
    }

    fn with(
        patience: Patience,
        bounds: Bounds,
        proxies: &[&str],
        certificates: Option<Arc<Certificates>>,
    ) -> Self {
        let proxies = Proxies::new(proxies.iter().map(|network| network.parse().unwrap()).collect());
        let serving = Serving::new(Gate::new("test", bounds), certificates, proxies, patience);
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), false, serving.clone()).unwrap();
        let asked = Arc::new(Asked { requests: AtomicUsize::new(0), released: Semaphore::new(0) });
        let address = listener.address().unwrap();
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(listener.serve(routes(asked.clone()), stop.clone()));
        World { address, serving, stop, asked, tasks }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// The whole answer to what is sent, until the other side closes.
    async fn tell(&self, text: &str) -> String {
        let mut socket = self.connect().await;
        // It may be cut off on the way.
        let _ = socket.write_all(text.as_bytes()).await;
        until_closed(&mut socket).await
    }

    async fn is_served(&self) -> bool {
        self.tell("GET /peer HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 200 ")
    }

    fn requests(&self) -> usize {
        self.asked.requests.load(Ordering::Relaxed)
    }

    /// Until everything that was under way has ended.
    async fn stopped(&mut self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(DEADLINE, self.tasks.join_next()).await;
        ended.expect("it stops").unwrap().unwrap().unwrap();
    }
}

/// Everything that comes until the other side closes; a reset is an end too.
async fn until_closed(socket: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    let reading = async {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = socket.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..count]);
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.expect("the other side closes");
    String::from_utf8(answer).unwrap()
}

/// Writes a byte now and then until that fails, and gives back what came meanwhile.
async fn trickle(mut socket: impl AsyncRead + AsyncWrite + Unpin, byte: u8) -> String {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while tokio::time::Instant::now() < deadline {
        if socket.write_all(&[byte]).await.is_err() {
            return String::from_utf8(answer).unwrap();
        }
        match tokio::time::timeout(SHORT / 10, socket.read(&mut buffer)).await {
            Err(_) => {}
            Ok(Ok(count @ 1..)) => answer.extend_from_slice(&buffer[..count]),
            Ok(_) => return String::from_utf8(answer).unwrap(),
        }
    }
    panic!("it goes on for ever");
}

/// Reads up to and including this text.
async fn read_until(socket: &mut (impl AsyncRead + Unpin), text: &str) -> String {
    let mut answer = String::new();
    let reading = async {
        let mut buffer = [0];
        while !answer.ends_with(text) {
            assert_eq!(socket.read(&mut buffer).await.unwrap(), 1, "closed after {answer}");
            answer.push(char::from(buffer[0]));
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.unwrap_or_else(|_| panic!("{text} never comes"));
    answer
}

fn routes(asked: Arc<Asked>) -> Router {
    Router::new()
        .route("/peer", get(peer))
        .route("/said/{what}", get(async |axum::extract::Path(what): axum::extract::Path<String>| what))
        .route("/body", post(async |body: Bytes| format!("{} bytes", body.len())))
        .route("/held", get(held))
        .route("/echo", get(echo))
        .layer(axum::middleware::map_request_with_state(asked.clone(), count))
        .with_state(asked)
}

async fn count(State(asked): State<Arc<Asked>>, request: Request) -> Request {
    asked.requests.fetch_add(1, Ordering::Relaxed);
    request
}

async fn peer(request: Request) -> String {
    let Peer { address, secure } = Peer::of(request.extensions()).unwrap();
    format!("{address} {secure}")
}

/// An answer that is under way until it is released.
async fn held(State(asked): State<Arc<Asked>>) -> Response {
    let rest = async move {
        asked.released.acquire().await.unwrap().forget();
        Ok::<_, std::convert::Infallible>("the end")
    };
    let begun = std::future::ready(Ok("begun, "));
    let pieces = [futures_util::future::Either::Left(begun), futures_util::future::Either::Right(rest)];
    let pieces = futures_util::stream::iter(pieces);
    axum::body::Body::from_stream(futures_util::StreamExt::then(pieces, |piece| piece)).into_response()
}

/// What a WebSocket is to the listener: bytes that go both ways after an upgrade.
#[expect(clippy::disallowed_methods, reason = "a session is a task of its own that no listener waits for")]
async fn echo(mut request: Request) -> Response {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let (mut reads, mut writes) = tokio::io::split(hyper_util::rt::TokioIo::new(upgrade.await.unwrap()));
        let _ = tokio::io::copy(&mut reads, &mut writes).await;
    });
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, "echo")];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// A connection over which everything comes back.
async fn echoing<S: AsyncRead + AsyncWrite + Unpin>(mut socket: S) -> S {
    let request = b"GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    socket.write_all(request).await.unwrap();
    let answer = read_until(&mut socket, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    socket
}

async fn echoes(socket: &mut (impl AsyncRead + AsyncWrite + Unpin), text: &str) {
    socket.write_all(text.as_bytes()).await.unwrap();
    socket.flush().await.unwrap();
    assert_eq!(read_until(socket, text).await, text);
}
