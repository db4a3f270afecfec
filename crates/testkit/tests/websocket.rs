//! The client against a scripted server on a real socket.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use waldelta_testkit::{ConnectOptions, Frame, Replica, WsClient};

const PATIENCE: Duration = Duration::from_secs(60);

/// Accepts one connection, with the subprotocol that was offered.
async fn accept(listener: &TcpListener) -> WebSocketStream<TcpStream> {
    let (stream, _) = listener.accept().await.unwrap();
    #[expect(clippy::result_large_err, reason = "the library's signature")]
    let agree = |request: &Request, mut response: Response| {
        if let Some(offered) = request.headers().get("sec-websocket-protocol") {
            response.headers_mut().insert("sec-websocket-protocol", offered.clone());
        }
        Ok(response)
    };
    tokio_tungstenite::accept_hdr_async(stream, agree).await.unwrap()
}

/// A client and what it is connected to.
async fn connected() -> (WsClient, WebSocketStream<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/v1/stream", listener.local_addr().unwrap());
    tokio::join!(WsClient::connect(&url), accept(&listener))
}

fn cursor(lsn: u64) -> String {
    format!("00000001-{lsn:016x}-ffffffff")
}

async fn say(server: &mut WebSocketStream<TcpStream>, frames: &[Value]) {
    for frame in frames {
        server.send(Message::text(frame.to_string())).await.unwrap();
    }
}

fn snapshot() -> Vec<Value> {
    vec![
        json!({"type": "schema", "table": "t", "version": 1,
               "columns": [{"name": "id", "type": "int4", "nullable": false, "key": true}]}),
        json!({"type": "snapshot_begin", "cursor": cursor(9), "tables": [{"table": "t", "rows_estimate": 1}]}),
        json!({"type": "rows", "table": "t", "rows": [{"id": 1}]}),
        json!({"type": "snapshot_end", "cursor": cursor(9), "consistent_at": cursor(9),
               "tables": [{"table": "t", "rows": 1, "checksum": "x"}]}),
    ]
}

#[tokio::test]
async fn says_hello_follows_and_sees_the_close() {
    let (mut client, mut server) = connected().await;
    let mut replica = Replica::new();
    client.send(&replica.hello("c1", &[json!({"id": "s1", "table": "t"})])).await;
    let hello: Value =
        serde_json::from_str(server.next().await.unwrap().unwrap().to_text().unwrap()).unwrap();
    assert_eq!(
        hello,
        json!({"type": "hello", "client_id": "c1", "subscriptions": [{"id": "s1", "table": "t"}]})
    );
    say(&mut server, &snapshot()).await;
    server.send(Message::Ping("are you there".into())).await.unwrap();
    say(&mut server, &[json!({"type": "live", "cursor": cursor(9)})]).await;
    client.follow(&mut replica, "the copy is live", PATIENCE, Replica::is_live).await;
    assert_eq!(replica.rows("t"), [r#"{"id":1}"#]);

    let close = CloseFrame { code: 4409.into(), reason: "replaced".into() };
    server.close(Some(close)).await.unwrap();
    assert_eq!(client.closed(PATIENCE).await, (4409, "replaced".to_owned()));
}

#[tokio::test]
async fn reads_frames_one_by_one_with_deadlines() {
    let (mut client, mut server) = connected().await;
    assert_eq!(client.frame_within(Duration::from_millis(20)).await, None);
    say(&mut server, &[json!({"type": "a"}), json!({"type": "b"}), json!({"type": "c"})]).await;
    assert_eq!(client.next_frame(PATIENCE).await, Frame::Text(r#"{"type":"a"}"#.into()));
    assert_eq!(client.next_of_type("c", PATIENCE).await, json!({"type": "c"}));
    drop(server);
    assert!(matches!(client.next_frame(PATIENCE).await, Frame::Closed { code: 1006, .. }));
}

#[tokio::test]
#[should_panic(expected = "the protocol is broken: gap")]
async fn a_broken_protocol_ends_the_test() {
    let (mut client, mut server) = connected().await;
    say(&mut server, &snapshot()).await;
    let gap = json!({"type": "tx", "cursor": cursor(0x20), "prev": cursor(0x10), "lsn": "0/20", "xid": 1, "ts": "x",
                     "own": false, "last": true, "changes": []});
    say(&mut server, &[gap]).await;
    client
        .follow(&mut Replica::new(), "a transaction", PATIENCE, |replica| replica.transactions() == 1)
        .await;
}

#[tokio::test]
#[should_panic(expected = "in vain until pigs fly")]
async fn waiting_for_ever_ends_the_test_with_what_it_waited_for() {
    let (mut client, _server) = connected().await;
    client.follow(&mut Replica::new(), "pigs fly", Duration::from_millis(20), |_| false).await;
}

#[tokio::test]
async fn an_answer_that_is_no_upgrade_is_given_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/v1/stream", listener.local_addr().unwrap());
    let refuse = async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    };
    let options = ConnectOptions {
        subprotocol: Some("other".into()),
        headers: vec![("Origin".into(), "https://evil.example".into())],
        receive_buffer_bytes: Some(4096),
    };
    let (result, request) = tokio::join!(WsClient::try_connect(&url, &options), refuse);
    assert!(matches!(result, Err(Error::Http(answer)) if answer.status() == 403));
    assert!(
        request.contains("Sec-WebSocket-Protocol: other") && request.contains("Origin: https://evil.example"),
        "{request}"
    );
}
