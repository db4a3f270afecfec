//! The tasks of a process that serves clients: the listener, the fan-out, and the watch for a history that goes back.

use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use waldelta_fanout::Part;
use waldelta_history::History;
use waldelta_wal::Code;

use crate::failure::Failure;

/// A part that failed for a passing reason is started again after this long.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// Serves the listener. A client that takes nothing in for `stall_timeout` while something is on its way to it is cut off by the
/// system, whatever it asked for: an answer that waits for its client cannot notice that by itself. It is the time after which a
/// session is let go: less would cut off sessions that are still borne with.
pub(super) async fn serve(
    listener: TcpListener,
    app: axum::Router,
    stop: CancellationToken,
    stall_timeout: Duration,
) -> anyhow::Result<()> {
    let listener = axum::serve::ListenerExt::tap_io(listener, move |stream| {
        waldelta_fanout::prepare(stream);
        if let Err(error) = cut_off_when_stalled(stream, stall_timeout) {
            tracing::debug!(%error, "TCP_USER_TIMEOUT");
        }
    });
    axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await.context("serve")
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

/// Runs a part of the fan-out, which ends when it is asked to: whoever is out of reach meanwhile is tried again inside.
pub(super) async fn run_part(part: Part) -> anyhow::Result<()> {
    part.run.await;
    Ok(())
}

/// Ends the service when history goes back, because it was restored from a backup or dropped and begun anew. Sessions and
/// what is kept ready for them have positions that history may never come to, or come to with other changes; a service that
/// is started again admits clients by what history has, and tells them where they must begin anew.
pub(super) async fn watch_head(history: History, stop: CancellationToken) -> anyhow::Result<()> {
    let mut heads = history.feed().watch();
    let mut highest = *heads.borrow_and_update();
    while let Some(Ok(())) = stop.run_until_cancelled(heads.changed()).await {
        let head = *heads.borrow_and_update();
        if head >= highest {
            highest = head;
            continue;
        }
        // In the moment in which this instance becomes the writer, the feed may be filled from an older look once.
        let stored = loop {
            match history.captured().await {
                Ok(captured) => break captured.map(|(_, stored)| stored),
                Err(error) => tracing::debug!(%error, "read the head of history"),
            }
            if stop.run_until_cancelled(tokio::time::sleep(RESTART_DELAY)).await.is_none() {
                return Ok(());
            }
        };
        if stored.is_none_or(|stored| stored < highest) {
            let message = format!("history went back from {} to {}", highest.cursor(), head.cursor());
            return Err(Failure::error(Code::HistoryWentBack, message));
        }
    }
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;
    use axum::routing::get;
    use tokio::io::AsyncWriteExt;
    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn a_client_that_does_not_read_is_cut_off() {
        let begun = Arc::new(watch::Sender::new(false));
        let endless = |begun: Arc<watch::Sender<bool>>| async move {
            let pieces = std::iter::repeat_with(move || {
                begun.send_replace(true);
                Ok::<_, std::io::Error>(vec![b'x'; 1 << 16])
            });
            Body::from_stream(futures_util::stream::iter(pieces))
        };
        let handler = begun.clone();
        let app = axum::Router::new().route("/", get(move || endless(handler.clone())));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = serve(listener, app, stop.clone(), Duration::from_millis(300));
        let client = async {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
            begun.subscribe().wait_for(|begun| *begun).await.unwrap();
            // A stop waits for every answer: this one ends although the client keeps its connection.
            stop.cancel();
            tokio::time::sleep(Duration::from_secs(20)).await;
            drop(socket);
        };
        tokio::select! {
            served = serving => served.unwrap(),
            () = client => panic!("the answer waits for its client"),
        }
    }
}
