//! From an HTTP request to the connection under it (RFC 6455, section 4.2): says what a request for a WebSocket lacks, and gives
//! the connection once the answer is sent. What goes over it is the session's: see `session/socket.rs`.

use std::future::Future;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use waldelta_wal::Code;

use super::elements;
use super::problem::{self, Problem};
use crate::wire::Subprotocol;

/// The only version of the protocol that there is.
const VERSION: HeaderValue = HeaderValue::from_static("13");

/// The bytes under a WebSocket.
pub(crate) type Connection = TokioIo<Upgraded>;

/// A request for a WebSocket.
pub(crate) struct Upgrade {
    key: HeaderValue,
    /// Names of what the client would speak over it.
    offered: Vec<String>,
    on_upgrade: OnUpgrade,
}

impl<S: Sync> FromRequestParts<S> for Upgrade {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        // Whoever may read a resource is answered to HEAD too, but this one is nothing to read.
        if parts.method != Method::GET {
            return Err(([(header::ALLOW, "GET")], problem::method_not_allowed().await).into_response());
        }
        let on_upgrade = parts.extensions.remove::<OnUpgrade>();
        let headers = &parts.headers;
        let asks = has_token(headers, header::CONNECTION, "upgrade")
            && has_token(headers, header::UPGRADE, "websocket")
            && parts.version == Version::HTTP_11;
        let (Some(on_upgrade), true) = (on_upgrade, asks) else {
            return Err(needed("this resource is a WebSocket: Connection: Upgrade, Upgrade: websocket"));
        };
        if only(headers, header::SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
            return Err(needed("the WebSocket's version must be 13"));
        }
        let refused = |detail: &str| Problem::bad_request(Code::RequestInvalid, detail).into_response();
        let Some(key) =
            only(headers, header::SEC_WEBSOCKET_KEY).filter(|key| is_key(key.as_bytes())).cloned()
        else {
            return Err(refused("there must be one Sec-WebSocket-Key: 16 bytes in base64"));
        };
        // Its bytes would be taken for the first frames.
        if has_body(headers) {
            return Err(refused("a request for a WebSocket has no body"));
        }
        let offered = elements::of(headers, header::SEC_WEBSOCKET_PROTOCOL).map(str::to_owned).collect();
        Ok(Upgrade { key, offered, on_upgrade })
    }
}

impl Upgrade {
    /// What is spoken of that which the client offers; where it offers nothing, the first form that there was.
    pub(crate) fn spoken(&self) -> Option<Subprotocol> {
        if self.offered.is_empty() {
            return Some(Subprotocol::default());
        }
        Subprotocol::ALL.into_iter().find(|subprotocol| self.offers(*subprotocol))
    }

    fn offers(&self, subprotocol: Subprotocol) -> bool {
        self.offered.iter().any(|offered| offered == subprotocol.name())
    }

    /// The answer, and the connection once that is sent; `None` when it broke before.
    pub(crate) fn accept(
        self,
        subprotocol: Subprotocol,
    ) -> (Response, impl Future<Output = Option<Connection>> + Send + 'static) {
        let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::try_from(derive_accept_key(self.key.as_bytes())) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        if self.offers(subprotocol) {
            let name = HeaderValue::from_static(subprotocol.name());
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, name);
        }
        let on_upgrade = self.on_upgrade;
        let connection = async move {
            match on_upgrade.await {
                Ok(upgraded) => Some(TokioIo::new(upgraded)),
                Err(error) => {
                    tracing::debug!(%error, "become a WebSocket");
                    None
                }
            }
        };
        (response, connection)
    }
}

/// The answer to a request that cannot become a WebSocket, with what it would have to say.
fn needed(detail: &str) -> Response {
    let mut response =
        Problem::new(StatusCode::UPGRADE_REQUIRED, Code::RequestInvalid, detail).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, VERSION);
    response
}

/// The value of a header that may come once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).into_iter();
    values.next().filter(|_| values.next().is_none())
}

/// 16 bytes in base64 (section 4.1): 22 digits, the last one with four bits that are 0, and the filling.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24
        && key.ends_with(b"==")
        && key[..22].iter().all(is_digit)
        && matches!(key[21], b'A' | b'Q' | b'g' | b'w')
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0")
}

fn has_token(headers: &HeaderMap, name: HeaderName, wanted: &str) -> bool {
    elements::of(headers, name).any(|element| element.eq_ignore_ascii_case(wanted))
}
