//! Holds the descriptions to the code and to the pages.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use waldelta_testkit::generated;
use waldelta_testkit::json_schema::{violations, violations_of};

use super::{asyncapi, from_client, from_service, openapi, printed, references, schema};
use crate::closing::Closing;
use crate::wire::client;

/// All schemas that there are.
pub(crate) fn everything() -> Value {
    let (mut all, other) = (asyncapi::document(), openapi::document());
    let other = other["components"]["schemas"].as_object().unwrap().clone();
    all["components"]["schemas"].as_object_mut().unwrap().extend(other);
    all
}

/// The name of the schema of a frame's type.
pub(crate) fn schema_of_frame(kind: &str) -> Option<&'static str> {
    let frames = from_client::frames().into_iter().chain(from_service::frames());
    frames.into_iter().find(|(known, ..)| *known == kind).map(|(_, name, _)| name)
}

/// The names of the schemas of all frames.
pub(crate) fn frame_schemas() -> Vec<&'static str> {
    from_client::frames().into_iter().chain(from_service::frames()).map(|(_, name, _)| name).collect()
}

/// Whether a schema is of a frame that clients send.
pub(crate) fn is_from_client(name: &str) -> bool {
    from_client::frames().iter().any(|(_, known, _)| *known == name)
}

#[test]
fn reference_of_what_is_asked_over_http_is_what_the_code_says() {
    generated("docs/openapi.json", &printed(&openapi::document()));
}

#[test]
fn reference_of_frames_is_what_the_code_says() {
    generated("docs/asyncapi.json", &printed(&asyncapi::document()));
}

#[test]
fn every_reference_leads_somewhere() {
    for document in [openapi::document(), asyncapi::document()] {
        let schemas = &document["components"]["schemas"];
        let wanted = references(&document);
        assert!(!wanted.is_empty());
        for name in wanted {
            assert!(schemas[&name].is_object(), "there is no schema {name}");
        }
        // Looked at with nothing in particular: it is made of known keywords only.
        for (_, schema) in schemas.as_object().unwrap() {
            violations(&document, schema, &Value::Null);
        }
    }
}

/// The close codes that are described.
pub(crate) fn close_codes() -> BTreeSet<u16> {
    asyncapi::CLOSINGS.iter().filter_map(|(closing, _)| closing.close_code()).collect()
}

/// The place in the list of a way to end. A new one has to be written down here, and so there.
fn place_of(closing: Closing) -> Option<usize> {
    Some(match closing {
        Closing::Gone => return None,
        Closing::Stopping => 0,
        Closing::TryLater(_) => 1,
        Closing::Refused(_) => 2,
        Closing::NotAllowed(_) => 3,
        Closing::Unauthorized(_) => 4,
        Closing::SubprotocolUnknown => 5,
        Closing::HelloMissing => 6,
        Closing::Replaced => 7,
        Closing::NotResumable => 8,
        Closing::FrameTooLarge => 9,
        Closing::TooSlow => 10,
        Closing::TooMany(_) => 11,
        Closing::Internal => 12,
    })
}

#[test]
fn every_way_in_which_a_session_ends_is_described() {
    assert_eq!((close_codes().len(), asyncapi::CLOSINGS.len()), (13, 13), "each code once");
    let document = asyncapi::document();
    for (index, (closing, about)) in asyncapi::CLOSINGS.iter().enumerate() {
        assert_eq!(place_of(*closing), Some(index), "{closing:?}");
        let reason: Value = serde_json::from_str(&closing.reason(1_000)).unwrap();
        assert_eq!(violations_of(&document, "CloseReason", &reason), [""; 0], "{reason}");
        assert_eq!(about.contains("come back"), closing.may_return(), "{closing:?}: {about}");
    }
    assert_eq!((place_of(Closing::Gone), Closing::Gone.close_code()), (None, None));
}

#[test]
fn every_code_is_described() {
    let document = openapi::document();
    let described = document["components"]["schemas"]["Code"]["x-codes"].as_object().unwrap();
    assert_eq!(described.len(), waldelta_wal::Code::ALL.len());
    for code in waldelta_wal::Code::ALL {
        let told = violations_of(&document, "Code", &code.as_str().into());
        assert_eq!(told, [""; 0]);
    }
}

/// The router prints its routes. Those that the server adds are held to this in the server.
#[test]
fn every_route_is_described() {
    let document = openapi::document();
    let described = document["paths"].as_object().unwrap();
    let routes = format!("{:?}", crate::http::routes());
    // Beside its own, the router prints those by which it refuses what it does not know.
    let is_own = |text: &&str| text.starts_with("/") && *text != "/" && !text.contains("__private");
    let paths: BTreeSet<&str> = routes.split('"').filter(is_own).collect();
    assert!(paths.contains("/v1/stream"), "routes are printed with their paths: {routes}");
    for path in &paths {
        assert!(described.contains_key(*path), "{path} is not described");
    }
    let of_the_server = [
        "/v1/status",
        "/v1/recent",
        "/v1/clients",
        "/v1/sessions/{session}/disconnect",
        "/livez",
        "/readyz",
        "/metrics",
    ];
    for path in described.keys() {
        assert!(paths.contains(&path[..]) || of_the_server.contains(&&path[..]), "there is no {path}");
    }
}

#[test]
fn every_parameter_of_a_path_is_described() {
    let document = openapi::document();
    let mut ids = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let wanted: Vec<&str> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        for operation in methods.as_object().unwrap().values() {
            let parameters = operation["parameters"].as_array().unwrap().iter();
            let named = parameters.filter(|parameter| parameter["in"] == "path");
            let named: Vec<&str> = named.map(|parameter| parameter["name"].as_str().unwrap()).collect();
            assert_eq!(named, wanted, "{path}");
            assert!(
                ids.insert(operation["operationId"].as_str().unwrap()),
                "{path}: an id that another one has"
            );
        }
    }
}

/// What a client may send by the description, the service reads; and each frame has a name that the service knows.
#[test]
fn what_a_client_may_send_is_read() {
    let document = asyncapi::document();
    let full = [
        json!({"type": "hello", "client_id": "c", "after": "0/16B3748", "own_changes": "include", "snapshot": true,
               "snapshot_from": {"id": "x", "n": 1}, "token": "a.b.c", "access": "0123456789abcdef",
               "subscriptions": [{"id": "s", "table": "public.t", "where": "id > 1", "columns": ["id"], "old": true,
                                  "big_numbers": "string"}]}),
        json!({"type": "hello", "client_id": "c", "after": null, "subscriptions": []}),
        json!({"type": "subscribe", "subscriptions": [{"id": "s", "table": "*"}]}),
        json!({"type": "unsubscribe", "ids": ["s"]}),
        json!({"type": "ack", "cursor": "00000001-00000000016b3748-ffffffff"}),
        json!({"type": "auth", "token": "a.b.c"}),
        json!({"type": "ping", "n": 1}),
        json!({"type": "ping"}),
    ];
    let mut seen = BTreeSet::new();
    for frame in &full {
        let kind = frame["type"].as_str().unwrap();
        let (_, name, _) = from_client::frames().into_iter().find(|(known, ..)| *known == kind).unwrap();
        assert_eq!(violations_of(&document, name, frame), [""; 0], "{frame}");
        let parsed = client::parse(&frame.to_string(), 10).unwrap();
        assert_ne!(parsed, client::ClientFrame::Unknown, "{frame}");
        seen.insert(kind);
    }
    assert_eq!(seen.len(), from_client::frames().len(), "each frame is tried");
    let schemas = &document["components"]["schemas"];
    let members = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(members(&full[0]), members(&schemas["Hello"]["properties"]), "all of it is tried");
    let subscription = &full[0]["subscriptions"][0];
    assert_eq!(members(subscription), members(&schemas["Subscription"]["properties"]));
    for wrong in [
        json!({"type": "hello", "subscriptions": []}),
        json!({"type": "hello", "client_id": "", "subscriptions": []}),
        json!({"type": "hello", "client_id": "c", "subscriptions": [{"id": "s"}]}),
        json!({"type": "hello", "client_id": "c", "subscriptions": [], "own_changes": "never"}),
    ] {
        assert_ne!(violations_of(&document, "Hello", &wrong), [""; 0], "{wrong}");
        assert!(client::parse(&wrong.to_string(), 10).is_err(), "{wrong}");
    }
}

/// A client skips what it does not know: no schema forbids another member, and neither does the service.
#[test]
fn what_is_not_known_is_skipped_on_both_sides() {
    let document = asyncapi::document();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert_ne!(schema["additionalProperties"], false, "{name}");
    }
    for frame in [
        r#"{"type":"hello","client_id":"c","of_tomorrow":{"a":[1]},"subscriptions":[{"id":"s","table":"t","new":1}]}"#,
        r#"{"of_tomorrow":[],"type":"subscribe","subscriptions":[]}"#,
        r#"{"type":"unsubscribe","ids":[],"why":"x"}"#,
        r#"{"type":"ack","cursor":"0/1","more":null}"#,
        r#"{"type":"ping","n":1,"m":2}"#,
    ] {
        let parsed = client::parse(frame, 10).unwrap();
        assert_ne!(parsed, client::ClientFrame::Unknown, "{frame}");
    }
    let unknown = client::parse(r#"{"type":"of_tomorrow","n":[]}"#, 10);
    assert_eq!(unknown, Ok(client::ClientFrame::Unknown));
}

#[test]
fn names_of_frames_and_schemas_are_distinct() {
    let frames: Vec<_> = from_client::frames().into_iter().chain(from_service::frames()).collect();
    let kinds: BTreeSet<_> = frames.iter().map(|(kind, ..)| kind).collect();
    let names: BTreeSet<_> = frames.iter().map(|(_, name, _)| name).collect();
    assert_eq!((kinds.len(), names.len()), (frames.len(), frames.len()));
    assert_eq!(schema::name_of("#/components/schemas/Hello"), Some("Hello"));
}
