//! AsyncAPI 3: `GET /v1/stream`, the frames both ways, and how a session ends.

use serde_json::{Map, Value, json};
use waldelta_wal::Code;

use super::schema::named;
use super::{from_client, from_service, schemas_of};
use crate::closing::Closing;
use crate::wire::Subprotocol;

/// How sessions end, and what that tells the client. The code of a variant that has several is one of them.
pub(super) const CLOSINGS: &[(Closing, &str)] = &[
    (Closing::Stopping, "The service stops or restarts: come back after `retry_ms`, and resume."),
    (Closing::TryLater(Code::SourceUnreachable), "Something is out of reach for now: come back, and resume."),
    (Closing::Refused(Code::FrameInvalid), "A frame that cannot be accepted: stop."),
    (Closing::NotAllowed(Code::TableNotCaptured), "Not allowed, or no such table, filter or column: stop."),
    (
        Closing::Unauthorized(Code::TokenExpired),
        "No token, or one that is not accepted or has ended: connect with another, and resume.",
    ),
    (Closing::SubprotocolUnknown, "None of the offered subprotocols is spoken: stop."),
    (Closing::HelloMissing, "No `hello` in time: come back later."),
    (Closing::Replaced, "A newer connection of the same client has come: stop."),
    (Closing::NotResumable, "The cursor cannot be resumed and no snapshot was wanted: begin with one."),
    (Closing::FrameTooLarge, "A frame that is too large: stop."),
    (Closing::TooSlow, "The client does not keep up: come back, and resume."),
    (Closing::TooMany(Code::TooManySessions), "Too many sessions, or too many frames: come back later."),
    (Closing::Internal, "A defect of the service: come back, and resume."),
];

pub(super) fn document() -> Value {
    let (sent, received) = (from_service::frames(), from_client::frames());
    let messages: Map<String, Value> = received
        .iter()
        .chain(&sent)
        .map(|(kind, name, _)| ((*kind).to_owned(), message(kind, name)))
        .collect();
    let in_channel: Map<String, Value> = messages
        .keys()
        .map(|kind| (kind.clone(), json!({"$ref": format!("#/components/messages/{kind}")})))
        .collect();
    let mut document = json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Waldelta",
            "version": "1",
            "description": "Every committed change of a PostgreSQL, to every client that follows its table. What frames mean, and what \
                            a client does with them, is in docs/protocol.md.",
        },
        "defaultContentType": "application/json",
        "servers": {"local": {"host": "127.0.0.1:7654", "protocol": "ws", "description": "As it listens by default."}},
        "channels": {"stream": {
            "address": "/v1/stream",
            "description": format!(
                "A WebSocket with the subprotocol `{}`, or none: text frames with one JSON object each. Frame types and members that \
                 are not known are skipped, on both sides. With `{}` some of the service's frames are binary: zstd frames (RFC 8878), \
                 one after the other, which unpack to the text of one frame.",
                Subprotocol::Json.name(),
                Subprotocol::Zstd.name()
            ),
            "messages": in_channel,
            "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
            "x-close-codes": CLOSINGS.iter().filter_map(closing).collect::<Vec<_>>(),
            "x-close-reason": named("CloseReason"),
        }},
        "operations": {
            "fromClient": operation("receive", &received),
            "fromService": operation("send", &sent),
        },
        "components": {"messages": messages},
    });
    document["components"]["schemas"] = schemas_of(&document);
    document
}

fn message(kind: &str, schema: &str) -> Value {
    json!({"name": kind, "title": kind, "payload": named(schema)})
}

fn operation(action: &str, frames: &[(&str, &str, Value)]) -> Value {
    let messages: Vec<Value> = frames
        .iter()
        .map(|(kind, ..)| json!({"$ref": format!("#/channels/stream/messages/{kind}")}))
        .collect();
    json!({"action": action, "channel": {"$ref": "#/channels/stream"}, "messages": messages})
}

fn closing((closing, about): &(Closing, &str)) -> Option<Value> {
    let code = closing.close_code()?;
    Some(json!({"code": code, "may_return": closing.may_return(), "description": about}))
}
