//! The loop that accepts. Nothing in it waits for a client: what a connection does is a task of its own, which ends with the loop's.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use waldelta_wal::chain_text;

use super::gate::Full;
use super::{Listener, Serving, connection};

/// Whoever was accepted before others took over gets its answer within this.
const LINGER: Duration = Duration::from_secs(2);
const NO_PLACE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const TOO_MANY: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

impl Listener {
    /// Serves until `stop`; then accepts nobody, and lets the answers end that are under way. WebSockets are not waited for.
    pub(crate) async fn serve(self, app: Router, stop: CancellationToken) -> anyhow::Result<()> {
        let mut connections = JoinSet::new();
        self.accept(&app, &stop, &stop, &mut connections).await;
        // Who comes from now on is told at once that nobody is here.
        drop(self);
        while let Some(ended) = connections.join_next().await {
            tell(ended);
        }
        Ok(())
    }

    /// Serves until others do who share the socket. Connections that are there are served on for a moment: nobody who was
    /// accepted goes without an answer.
    pub(crate) async fn serve_until(
        self,
        app: Router,
        taken_over: CancellationToken,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut connections = JoinSet::new();
        let ends = stop.child_token();
        let accepting = async {
            self.accept(&app, &taken_over, &ends, &mut connections).await;
            drop(self);
            let answered = async { while connections.join_next().await.is_some() {} };
            // The rest ends here.
            let _ = tokio::time::timeout(LINGER, answered).await;
        };
        tokio::select! {
            () = accepting => {}
            () = stop.cancelled() => {}
        }
        Ok(())
    }

    async fn accept(
        &self,
        app: &Router,
        until: &CancellationToken,
        stop: &CancellationToken,
        connections: &mut JoinSet<()>,
    ) {
        loop {
            tokio::select! {
                biased;
                () = until.cancelled() => return,
                Some(ended) = connections.join_next() => tell(ended),
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, from)) => self.begin(stream, from.ip(), app, stop, connections),
                    Err(error) => self.not_accepted(&error, until).await,
                },
            }
        }
    }

    fn begin(
        &self,
        stream: TcpStream,
        from: IpAddr,
        app: &Router,
        stop: &CancellationToken,
        connections: &mut JoinSet<()>,
    ) {
        let is_proxy = self.serving.proxies.trust(from);
        match self.serving.gate.enter(from, is_proxy) {
            Ok(place) => {
                prepare(&stream, &self.serving);
                let serving = self.serving.clone();
                connections.spawn(connection::serve(stream, from, place, serving, app.clone(), stop.clone()));
            }
            Err(full) => {
                tracing::debug!(%from, ?full, "a connection too many");
                // As far as it fits into a new socket's buffer, which it does. Behind TLS it would be noise.
                if self.serving.certificates.is_none() {
                    let _ = stream.try_write(match full {
                        Full::All => NO_PLACE,
                        Full::Address => TOO_MANY,
                    });
                }
            }
        }
    }

    /// One connection that broke is none of ours. Without files or memory the next try would fail as this one: it waits.
    async fn not_accepted(&self, error: &std::io::Error, until: &CancellationToken) {
        let of_the_connection =
            [ErrorKind::ConnectionRefused, ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset];
        if of_the_connection.contains(&error.kind()) {
            return;
        }
        let pause = self.serving.patience.exhausted;
        tracing::warn!(%error, "no connection can be accepted; trying again in {} ms", pause.as_millis());
        self.serving.gate.not_accepted();
        until.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
}

/// What a socket needs of the kernel.
fn prepare(stream: &TcpStream, serving: &Arc<Serving>) {
    waldelta_fanout::prepare(stream);
    if let Err(error) = cut_off_when_stalled(stream, serving.patience.stalled) {
        tracing::debug!(%error, "TCP_USER_TIMEOUT");
    }
}

/// TCP_USER_TIMEOUT: Linux counts the time in which the client's window is closed, too.
#[cfg(target_os = "linux")]
fn cut_off_when_stalled(stream: &TcpStream, timeout: Duration) -> std::io::Result<()> {
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(timeout))
}

/// Elsewhere a client that does not read keeps its connection, and a bounded part of an answer.
#[cfg(not(target_os = "linux"))]
fn cut_off_when_stalled(_: &TcpStream, _: Duration) -> std::io::Result<()> {
    Ok(())
}

/// A connection that falls over takes nobody with it.
fn tell(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(error = chain_text(&error), "serve a connection");
    }
}
