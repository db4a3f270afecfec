//! The WebSocket protocol case by case (RFC 6455), byte by byte over a socket: what a client may send, what it may not, and what it
//! is told. Each case has a name, and a test tells all that are wrong.
//!
//! Where the RFC leaves a choice, or names a close code that an endpoint may send, what is expected here is what `docs/protocol.md`
//! says: 4400 for what breaks the protocol and 4413 for what is too large, as clients do one thing for each.

mod abuse;
mod closing;
mod control;
mod fragments;
mod framing;
mod handshake;
mod pieces;
mod utf8;

use std::fmt::Write;
use std::net::SocketAddr;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::raw::{CLOSE, CONTINUATION, FIN, MASKED, PING, PONG, Raw, TEXT};
use crate::support::{PATIENCE, World};

const BINARY: u8 = 0x2;
const WHOLE_TEXT: u8 = FIN | TEXT;
const LAST: u8 = FIN | CONTINUATION;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// A frame of our own protocol, and what is seen of its answer.
const ASKS: &str = r#"{"type":"ping","n":1}"#;
const ANSWERED: &str = "n=1";
/// Comes after a case, to see that the connection goes on.
const STILL: &str = r#"{"type":"ping","n":99}"#;
const GOES_ON: &str = "n=99";
const REFUSED: &str = "error WD-FRAME-INVALID, close 4400 WD-FRAME-INVALID, end";
const TOO_LARGE: &str = "error WD-FRAME-TOO-LARGE, close 4413 WD-FRAME-TOO-LARGE, end";

/// How a length is told.
#[derive(Clone, Copy)]
enum Form {
    Seven,
    Sixteen,
    SixtyFour,
}

impl Form {
    fn of(length: usize) -> Self {
        match length {
            0..126 => Form::Seven,
            126..65_536 => Form::Sixteen,
            _ => Form::SixtyFour,
        }
    }
}

/// The beginning of a frame: whatever length it says.
fn header(first: u8, masked: u8, form: Form, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match form {
        Form::Seven => bytes.push(masked | u8::try_from(length).unwrap()),
        Form::Sixteen => {
            bytes.push(masked | 126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        Form::SixtyFour => {
            bytes.push(masked | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes
}

/// A frame with a mask, its length told in this form.
fn frame_in(form: Form, first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, MASKED, form, payload.len() as u64);
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A frame as it should be.
fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame_in(Form::of(payload.as_ref().len()), first, payload.as_ref())
}

/// What a client sends after its `hello`, and what is then seen of the answers, in order.
struct Case {
    name: String,
    sends: Vec<u8>,
    sees: String,
}

fn case(name: impl Into<String>, sends: &[Vec<u8>], sees: impl Into<String>) -> Case {
    Case { name: name.into(), sends: sends.concat(), sees: sees.into() }
}

/// A case after which the connection goes on as before.
fn goes_on(name: impl Into<String>, sends: &[Vec<u8>], sees: &[&str]) -> Case {
    let sends = [sends.concat(), frame(WHOLE_TEXT, STILL)];
    case(name, &sends, [sees, &[GOES_ON]].concat().join(", "))
}

/// Runs all cases against one service, each on a connection of its own, and tells those that are wrong.
async fn check(hint: &str, cases: Vec<Case>) {
    let world = World::new(hint).await;
    let mut other = world.live("other").await;
    let address = world.address();
    let seen = join_all(cases.iter().enumerate().map(|(number, case)| run(address, number, &case.sends)));
    let mut wrong = String::new();
    for (case, seen) in cases.iter().zip(seen.await) {
        if seen != case.sees {
            writeln!(wrong, "{}:\n  seen     {seen}\n  expected {}", case.name, case.sees).unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    other.send(&json!({"type": "ping", "n": 1})).await;
    assert_eq!(other.next_of_type("pong", PATIENCE).await["n"], 1, "nobody else is hurt");
}

/// What a client sees that says hello and then sends this.
async fn run(address: SocketAddr, number: usize, bytes: &[u8]) -> String {
    let mut raw = arrived(address, &format!("c{number}")).await;
    // Who is refused may be so before it has sent everything.
    let sending = raw.stream.write_all(bytes).await;
    assert!(sending.is_ok(), "what a client still sends is read: {sending:?}");
    observed(&mut raw).await
}

/// A client that is live.
async fn arrived(address: SocketAddr, client_id: &str) -> Raw {
    let mut raw = Raw::connect(address, "").await.unwrap();
    let hello = json!({"type": "hello", "client_id": client_id, "snapshot": false,
                       "subscriptions": [{"id": "s1", "table": "public.t"}]});
    raw.stream.write_all(&frame(WHOLE_TEXT, hello.to_string())).await.unwrap();
    raw.next_of_type("live").await;
    raw
}

/// What comes, until the connection ends or is seen to go on. A close is answered.
async fn observed(raw: &mut Raw) -> String {
    let mut seen: Vec<String> = Vec::new();
    let watching = async {
        while let Some(what) = next(raw).await {
            let is_last = ["end", "reset", GOES_ON].contains(&what.as_str());
            seen.push(what);
            if is_last {
                return;
            }
        }
    };
    if tokio::time::timeout(PATIENCE, watching).await.is_err() {
        seen.push("nothing more".into());
    }
    seen.join(", ")
}

/// The next thing, in words.
async fn next(raw: &mut Raw) -> Option<String> {
    loop {
        let (first, payload) = match raw.read_frame().await {
            Ok(frame) => frame,
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Some("end".into()),
            Err(_) => return Some("reset".into()),
        };
        return Some(match first {
            WHOLE_TEXT => {
                let frame: Value = serde_json::from_slice(&payload).unwrap();
                match frame["type"].as_str() {
                    Some("pong") => format!("n={}", frame["n"]),
                    Some("error") => format!("error {}", frame["code"].as_str().unwrap_or_default()),
                    Some("heartbeat") => continue,
                    _ => format!("{}", frame["type"]),
                }
            }
            first if first == FIN | PING => continue,
            first if first == FIN | PONG => format!("pong {}", abbreviated(&payload)),
            first if first == FIN | CLOSE => {
                if is_ours(&payload) {
                    // It may be gone by then.
                    let _ = raw.stream.write_all(&frame(FIN | CLOSE, &payload[..2])).await;
                }
                closed(&payload)
            }
            first => format!("a frame of kind {first:#x}"),
        });
    }
}

/// What is no answer to the client's own close says why in JSON.
fn is_ours(payload: &[u8]) -> bool {
    payload.get(2..).is_some_and(|reason| reason.starts_with(b"{"))
}

fn closed(payload: &[u8]) -> String {
    let Some((code, reason)) = payload.split_at_checked(2) else { return "close".into() };
    let code = u16::from_be_bytes([code[0], code[1]]);
    let reason = std::str::from_utf8(reason).expect("a reason is UTF-8");
    match serde_json::from_str::<Value>(reason) {
        Ok(reason) => format!("close {code} {}", reason["code"].as_str().unwrap_or_default()),
        Err(_) => format!("close {code} {}", abbreviated(reason.as_bytes())).trim_end().to_owned(),
    }
}

/// What is long and the same all over is told by its length.
fn abbreviated(bytes: &[u8]) -> String {
    match bytes {
        [first, rest @ ..] if rest.len() > 20 && rest.iter().all(|byte| byte == first) => {
            format!("{}*{}", char::from(*first), bytes.len())
        }
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}
