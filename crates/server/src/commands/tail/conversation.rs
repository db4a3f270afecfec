//! What ends `waldelta tail`, and what it comes back after, against a socket that says what a service would not.

use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::*;
use crate::failure::code_of;

const PATIENCE: Duration = Duration::from_secs(60);

/// What is said on a connection after the hello.
enum Said {
    Frame(String),
    Close(u16, &'static str),
}

/// Says this on one connection after the other; the hellos that came.
async fn says(connections: Vec<Vec<Said>>) -> (String, impl Future<Output = Vec<Value>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let speak = async move {
        let mut hellos = Vec::new();
        for said in connections {
            let (stream, _) = listener.accept().await.unwrap();
            #[expect(clippy::result_large_err, reason = "the WebSocket library's type")]
            let agree = |_: &Request, mut response: Response| {
                response.headers_mut().insert("sec-websocket-protocol", "waldelta.v1.json".parse().unwrap());
                Ok(response)
            };
            let mut socket = tokio_tungstenite::accept_hdr_async(stream, agree).await.unwrap();
            let hello = socket.next().await.unwrap().unwrap();
            hellos.push(serde_json::from_str(hello.to_text().unwrap()).unwrap());
            for said in said {
                let message = match said {
                    Said::Frame(text) => Message::text(text),
                    Said::Close(code, reason) => Message::Close(Some(CloseFrame {
                        code: CloseCode::from(code),
                        reason: reason.into(),
                    })),
                };
                socket.send(message).await.unwrap();
            }
            // Until the other side has gone.
            while let Some(Ok(_)) = socket.next().await {}
        }
        hellos
    };
    (url, speak)
}

async fn ends(after: Option<&str>, connections: Vec<Vec<Said>>) -> (anyhow::Result<ExitCode>, Vec<Value>) {
    let (url, speak) = says(connections).await;
    let mut given = vec!["--url", &url, "--limit", "1"];
    given.extend(after.into_iter().flat_map(|after| ["--after", after]));
    let options = tests::options(&given);
    let both = async { tokio::join!(run(&options), speak) };
    tokio::time::timeout(PATIENCE, both).await.unwrap()
}

fn live() -> Said {
    Said::Frame(json!({"type": "live", "cursor": "c"}).to_string())
}

#[tokio::test]
async fn what_cannot_be_read_ends_it_with_a_code() {
    let unreadable = vec![live(), Said::Frame("{\"type\":".into())];
    let (ended, hellos) = ends(None, vec![unreadable]).await;
    let error = ended.unwrap_err();
    assert_eq!(code_of(&error), Some(Code::AnswerUnreadable), "{error:#}");
    assert_eq!(hellos.len(), 1, "it did not come back");
}

#[tokio::test]
async fn a_cursor_that_cannot_be_gone_on_from_ends_it_with_a_code() {
    // It takes a snapshot of the tables that are reset; where that is all of them, nothing leads on from the cursor.
    let refused = vec![Said::Close(4410, "{\"code\":\"WD-CURSOR-NOT-RESUMABLE\"}")];
    let reset = vec![Said::Frame(json!({"type": "reset", "reason": "epoch_changed"}).to_string())];
    let (ended, hellos) = ends(Some("c"), vec![refused, reset]).await;
    let error = ended.unwrap_err();
    assert_eq!(code_of(&error), Some(Code::CursorNotResumable), "{error:#}");
    assert_eq!((hellos.len(), &hellos[1]["snapshot"]), (2, &json!(true)));
}

#[tokio::test]
async fn it_comes_back_when_the_service_says_and_goes_on_from_its_cursor() {
    let stops = || vec![live(), Said::Close(1012, "{\"code\":\"WD-STOPPING\",\"retry_ms\":1}")];
    let too_many = vec![Said::Close(4429, "{\"code\":\"WD-TOO-MANY-SESSIONS\",\"retry_ms\":1}")];
    let tx = json!({"type": "tx", "cursor": "d", "last": true, "changes": []}).to_string();
    let (ended, hellos) = ends(None, vec![stops(), too_many, vec![Said::Frame(tx)]]).await;
    ended.unwrap();
    let cursors: Vec<_> = hellos.iter().map(|hello| hello["after"].clone()).collect();
    assert_eq!(cursors, [Value::Null, json!("c"), json!("c")]);
}
