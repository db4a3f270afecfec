//! Frames from clients: read strictly where they are known, skipped where they are not.
//!
//! What the protocol describes and this version does not do is refused by name, never ignored. Whether a filter and a list of
//! columns fit their table is not known here.

use serde::Deserialize;
use waldelta_wal::{Code, Lsn, Position};

use crate::filter::{Filter, FilterError};
use crate::subscription::{Numbers, Pattern, Subscription};

/// Characters of a client id at most.
pub(crate) const CLIENT_ID_CHARS_MAX: usize = 128;
/// What [`is_client_id`] asks for.
pub(crate) const CLIENT_ID_FORM: &str = "1 to 128 characters, none of them a control character";
/// Bytes of a subscription id at most.
pub(crate) const SUBSCRIPTION_ID_BYTES_MAX: usize = 64;
/// Columns that a subscription names at most: no table has more.
const COLUMNS_MAX: usize = 1_600;

/// A frame from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClientFrame {
    Hello(Hello),
    Subscribe(Vec<Subscription>),
    Unsubscribe(Vec<String>),
    Ack(After),
    /// A fresh token.
    Auth(Token),
    Ping(Option<u64>),
    /// Of a type that this version does not know: skipped.
    Unknown,
}

/// The first frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub client_id: String,
    pub token: Option<Token>,
    pub after: Option<After>,
    /// What it was told of its permissions together with what it has.
    pub access: Option<String>,
    pub subscriptions: Vec<Subscription>,
    /// Whether own changes are delivered always.
    pub include_own: bool,
    /// Whether a snapshot is welcome; without, the stream begins at the head.
    pub snapshot: bool,
    /// The snapshot that broke off, and how far it came.
    pub snapshot_from: Option<SnapshotFrom>,
}

/// A token as it was sent. Its `Debug` has nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// The last frame of rows that a client has of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotFrom {
    /// As `snapshot_begin` named the snapshot.
    pub id: String,
    /// The frame's number.
    pub n: u64,
}

/// A place that a client names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// A cursor as it was sent.
    Cursor(Position),
    /// A bare LSN: everything committed strictly before it.
    Lsn(Lsn),
}

impl std::str::FromStr for After {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        if let Ok(position) = text.parse() {
            return Ok(After::Cursor(position));
        }
        text.parse().map(After::Lsn).map_err(|_| {
            Refusal::new(Code::CursorInvalid, "neither a cursor nor an LSN such as \"0/16B3748\"".to_owned())
        })
    }
}

/// Why a frame, or a subscription in it, is not accepted. It repeats nothing that the client sent but ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub code: Code,
    pub message: String,
    pub subscription: Option<String>,
}

impl Refusal {
    pub(crate) fn new(code: Code, message: String) -> Self {
        Refusal { code, message, subscription: None }
    }
}

/// Reads a frame. `subscriptions_max` bounds the subscriptions of one frame.
pub(crate) fn parse(text: &str, subscriptions_max: usize) -> Result<ClientFrame, Refusal> {
    let Type { kind } = read(text)?;
    Ok(match kind.as_ref() {
        "hello" => ClientFrame::Hello(hello(read(text)?, subscriptions_max)?),
        "subscribe" => {
            let RawSubscribe { subscriptions: raw } = read(text)?;
            ClientFrame::Subscribe(subscriptions(raw, subscriptions_max)?)
        }
        "unsubscribe" => {
            let RawUnsubscribe { ids } = read(text)?;
            ClientFrame::Unsubscribe(ids)
        }
        "ack" => {
            let RawAck { cursor } = read(text)?;
            ClientFrame::Ack(cursor.parse()?)
        }
        "ping" => {
            let RawPing { n } = read(text)?;
            ClientFrame::Ping(n)
        }
        "auth" => {
            let RawAuth { token } = read(text)?;
            ClientFrame::Auth(Token(token))
        }
        _ => ClientFrame::Unknown,
    })
}

/// Reads what is no JSON object of this form as a refusal.
fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Refusal> {
    serde_json::from_str(text).map_err(|error| {
        let why = without_value(&error);
        Refusal::new(
            Code::FrameInvalid,
            format!("the frame cannot be read at column {}: {why}", error.column()),
        )
    })
}

/// serde's message names fields and places; of a value that is not what was expected it says what came too, which may be a token.
pub(crate) fn without_value(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rsplit_once(", expected ") {
        Some((_, expected)) if error.is_data() => format!("expected {expected}"),
        _ => message,
    }
}

fn hello(raw: RawHello, subscriptions_max: usize) -> Result<Hello, Refusal> {
    if !is_client_id(&raw.client_id) {
        return Err(Refusal::new(Code::FrameInvalid, format!("client_id must have {CLIENT_ID_FORM}")));
    }
    Ok(Hello {
        client_id: raw.client_id,
        token: raw.token.map(Token),
        access: raw.access,
        after: raw.after.map(|text| text.parse()).transpose()?,
        subscriptions: subscriptions(raw.subscriptions, subscriptions_max)?,
        include_own: matches!(raw.own_changes, OwnChanges::Include),
        snapshot: raw.snapshot.unwrap_or(true),
        snapshot_from: raw.snapshot_from.map(|RawSnapshotFrom { id, n }| SnapshotFrom { id, n }),
    })
}

/// Whether a client may call itself so. With a NUL it could not be stored, nor could what is stored together with it; and operators
/// read it on terminals.
pub(crate) fn is_client_id(text: &str) -> bool {
    (1..=CLIENT_ID_CHARS_MAX).contains(&text.chars().count()) && !text.contains(char::is_control)
}

fn subscriptions(raw: Vec<RawSubscription>, max: usize) -> Result<Vec<Subscription>, Refusal> {
    if raw.len() > max {
        let message = format!("{} subscriptions, and {max} are allowed", raw.len());
        return Err(Refusal::new(Code::SubscriptionInvalid, message));
    }
    let mut accepted: Vec<Subscription> = Vec::with_capacity(raw.len());
    for raw in raw {
        let subscription = subscription(raw)?;
        if accepted.iter().any(|other| other.id == subscription.id) {
            return Err(invalid(&subscription.id, "its id is used twice"));
        }
        accepted.push(subscription);
    }
    Ok(accepted)
}

fn subscription(raw: RawSubscription) -> Result<Subscription, Refusal> {
    if raw.id.is_empty() || raw.id.len() > SUBSCRIPTION_ID_BYTES_MAX {
        let message = format!("a subscription's id must have 1 to {SUBSCRIPTION_ID_BYTES_MAX} bytes");
        return Err(Refusal::new(Code::SubscriptionInvalid, message));
    }
    let table = match raw.table.parse::<Pattern>() {
        Ok(table) => table,
        Err(error) => return Err(invalid(&raw.id, &format!("{error}, schema.* or *"))),
    };
    let of_one_table = [(raw.filter.is_some(), "where"), (raw.columns.is_some(), "columns")];
    if let (false, Some((_, option))) =
        (matches!(table, Pattern::Table(_)), of_one_table.iter().find(|(asked, _)| *asked))
    {
        return Err(invalid(&raw.id, &format!("`{option}` needs a table that is named, as schema.table")));
    }
    if raw.columns.as_ref().is_some_and(|columns| columns.is_empty() || columns.len() > COLUMNS_MAX) {
        return Err(invalid(&raw.id, &format!("`columns` must have 1 to {COLUMNS_MAX} names")));
    }
    let filter = match raw.filter.map(|text| text.parse::<Filter>()).transpose() {
        Ok(filter) => filter,
        Err(error) => return Err(filter_invalid(&raw.id, &error)),
    };
    let big_numbers = match raw.big_numbers {
        Some(BigNumbers::String) => Numbers::String,
        Some(BigNumbers::Number) | None => Numbers::Number,
    };
    let columns = raw.columns.map(|columns| columns.into_iter().collect());
    Ok(Subscription { id: raw.id, table, old: raw.old.unwrap_or(false), columns, filter, big_numbers })
}

/// The error repeats nothing of the filter but names of columns.
fn filter_invalid(id: &str, error: &FilterError) -> Refusal {
    Refusal {
        code: Code::FilterInvalid,
        message: format!("`where` cannot be read: {error}"),
        subscription: Some(id.to_owned()),
    }
}

fn invalid(id: &str, why: &str) -> Refusal {
    Refusal {
        code: Code::SubscriptionInvalid,
        message: format!("the subscription cannot be accepted: {why}"),
        subscription: Some(id.to_owned()),
    }
}

#[derive(Deserialize)]
struct Type<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
}

#[derive(Deserialize)]
struct RawHello {
    client_id: String,
    token: Option<String>,
    after: Option<String>,
    access: Option<String>,
    subscriptions: Vec<RawSubscription>,
    #[serde(default)]
    own_changes: OwnChanges,
    snapshot: Option<bool>,
    snapshot_from: Option<RawSnapshotFrom>,
}

#[derive(Deserialize)]
struct RawSnapshotFrom {
    id: String,
    n: u64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OwnChanges {
    #[default]
    Skip,
    Include,
}

#[derive(Deserialize)]
struct RawSubscription {
    id: String,
    table: String,
    old: Option<bool>,
    #[serde(rename = "where")]
    filter: Option<String>,
    columns: Option<Vec<String>>,
    big_numbers: Option<BigNumbers>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum BigNumbers {
    Number,
    String,
}

#[derive(Deserialize)]
struct RawSubscribe {
    subscriptions: Vec<RawSubscription>,
}

#[derive(Deserialize)]
struct RawUnsubscribe {
    ids: Vec<String>,
}

#[derive(Deserialize)]
struct RawAck {
    cursor: String,
}

#[derive(Deserialize)]
struct RawAuth {
    token: String,
}

#[derive(Deserialize)]
struct RawPing {
    n: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{filtered, subscription};
    use proptest::prelude::*;

    #[test]
    fn a_refusal_repeats_nothing_of_what_was_sent() {
        for (frame, expected) in [
            (r#""a.token""#, "expected struct Type at line 1 column 9"),
            (r#"{"type":"ping","n":"a.token"}"#, "expected u64 at line 1 column 28"),
            (r#"{"type":"ping","n":"a.token, expected by nobody"}"#, "expected u64 at line 1 column 48"),
            (r#"{"type":"auth","token":["a.token"]}"#, "expected a string at line 1 column 23"),
            (
                r#"{"type":"hello","client_id":"c","own_changes":"a.token","subscriptions":[]}"#,
                "expected `skip` or `include` at line 1 column 55",
            ),
            (r#"{"type":"auth"}"#, "missing field `token` at line 1 column 15"),
        ] {
            let refusal = parse(frame, 10).unwrap_err();
            let (_, why) = refusal.message.split_once(": ").unwrap();
            assert_eq!(why, expected, "{frame}");
        }
    }

    #[test]
    fn reads_every_frame() {
        let hello = parse(
            r#"{"type":"hello","client_id":"web-7","after":null,"future":[1],"snapshot":false,"own_changes":"include",
                "snapshot_from":{"id":"x","n":7},"token":"a.b","access":"0123456789abcdef","subscriptions":[{"id":"s1","table":"public.*","big_numbers":"number","old":false}]}"#,
            10,
        );
        let expected = Hello {
            client_id: "web-7".into(),
            token: Some(Token("a.b".into())),
            after: None,
            access: Some("0123456789abcdef".into()),
            subscriptions: vec![subscription("s1", "public.*")],
            include_own: true,
            snapshot: false,
            snapshot_from: Some(SnapshotFrom { id: "x".into(), n: 7 }),
        };
        assert_eq!(hello, Ok(ClientFrame::Hello(expected)));
        assert_eq!(
            parse(r#"{"type":"subscribe","subscriptions":[{"id":"s2","table":"t"}]}"#, 10),
            Ok(ClientFrame::Subscribe(vec![subscription("s2", "t")]))
        );
        assert_eq!(
            parse(r#"{"type":"unsubscribe","ids":["s2"]}"#, 10),
            Ok(ClientFrame::Unsubscribe(vec!["s2".into()]))
        );
        assert_eq!(
            parse(r#"{"cursor":"0/16B3748","type":"ack"}"#, 10),
            Ok(ClientFrame::Ack(After::Lsn("0/16B3748".parse().unwrap())))
        );
        assert_eq!(parse(r#"{"type":"ping","n":7}"#, 10), Ok(ClientFrame::Ping(Some(7))));
        let auth = parse(r#"{"type":"auth","token":"a.secret"}"#, 10);
        assert_eq!(auth, Ok(ClientFrame::Auth(Token("a.secret".into()))));
        assert!(!format!("{auth:?} {hello:?}").contains("secret"));
        assert_eq!(parse(r#"{"type":"of tomorrow","deep":{"a":[]}}"#, 10), Ok(ClientFrame::Unknown));
    }

    #[test]
    fn reads_what_of_a_table_is_asked_for() {
        let text = r#"{"type":"subscribe","subscriptions":[
            {"id":"a","table":"t","where":"v = 'x'","columns":["v","V","v"],"big_numbers":"string"},
            {"id":"b","table":"*","big_numbers":"string","where":null,"columns":null}]}"#;
        let big_numbers = Numbers::String;
        let columns = Some(["v".to_owned(), "V".to_owned()].into());
        let expected = vec![
            Subscription { columns, big_numbers, ..filtered("a", "t", "v = 'x'") },
            Subscription { big_numbers, ..subscription("b", "*") },
        ];
        assert_eq!(parse(text, 10), Ok(ClientFrame::Subscribe(expected)));
        let many = vec!["\"c\""; COLUMNS_MAX + 1].join(",");
        let many = format!(
            r#"{{"type":"subscribe","subscriptions":[{{"id":"a","table":"t","columns":[{many}]}}]}}"#
        );
        assert_eq!(parse(&many, 10).map_err(|refusal| refusal.code), Err(Code::SubscriptionInvalid));
    }

    #[test]
    fn a_client_id_has_no_control_characters() {
        for (id, is_one) in [
            ("web-7", true),
            ("größe 🦀", true),
            ("", false),
            ("a\0b", false),
            ("\u{1b}[2J", false),
            ("a\n", false),
            ("\u{9b}", false),
        ] {
            assert_eq!(is_client_id(id), is_one, "{id:?}");
        }
        assert!(is_client_id(&"é".repeat(CLIENT_ID_CHARS_MAX)));
        assert!(!is_client_id(&"é".repeat(CLIENT_ID_CHARS_MAX + 1)));
        let hello = r#"{"type":"hello","client_id":"a\u0000","subscriptions":[]}"#;
        assert_eq!(parse(hello, 1).map_err(|refusal| refusal.code), Err(Code::FrameInvalid));
    }

    #[test]
    fn refuses_by_name() {
        let subscription = |options: &str| {
            format!(
                r#"{{"type":"hello","client_id":"c","subscriptions":[{{"id":"s1","table":"t"{options}}}]}}"#
            )
        };
        for (text, code, subscription) in [
            ("".to_owned(), Code::FrameInvalid, None),
            ("[]".to_owned(), Code::FrameInvalid, None),
            (r#"{"kind":"hello"}"#.to_owned(), Code::FrameInvalid, None),
            (r#"{"type":"hello","subscriptions":[]}"#.to_owned(), Code::FrameInvalid, None),
            (r#"{"type":"hello","client_id":"","subscriptions":[]}"#.to_owned(), Code::FrameInvalid, None),
            (
                r#"{"type":"hello","client_id":"c","token":7,"subscriptions":[]}"#.to_owned(),
                Code::FrameInvalid,
                None,
            ),
            (
                r#"{"type":"hello","client_id":"c","after":"x","subscriptions":[]}"#.to_owned(),
                Code::CursorInvalid,
                None,
            ),
            (r#"{"type":"auth"}"#.to_owned(), Code::FrameInvalid, None),
            (r#"{"type":"ack","cursor":""}"#.to_owned(), Code::CursorInvalid, None),
            (subscription(r#","where":"a =""#), Code::FilterInvalid, Some("s1")),
            (subscription(r#","where":["a = 1"]"#), Code::FrameInvalid, None),
            (subscription(r#","columns":[]"#), Code::SubscriptionInvalid, Some("s1")),
            (subscription(r#","columns":"a""#), Code::FrameInvalid, None),
            (subscription(r#","big_numbers":"strings""#), Code::FrameInvalid, None),
            (
                subscription(r#"},{"id":"s2","table":"public.*","where":"a = 1""#),
                Code::SubscriptionInvalid,
                Some("s2"),
            ),
            (
                subscription(r#"},{"id":"s2","table":"*","columns":["a"]"#),
                Code::SubscriptionInvalid,
                Some("s2"),
            ),
            (subscription(r#"},{"id":"s1","table":"u""#), Code::SubscriptionInvalid, Some("s1")),
            (subscription(r#"},{"id":"s2","table":"a b""#), Code::SubscriptionInvalid, Some("s2")),
            (
                subscription(r#"},{"id":"s2","table":"u"},{"id":"s3","table":"u""#),
                Code::SubscriptionInvalid,
                None,
            ),
        ] {
            let refusal = parse(&text, 2).unwrap_err();
            assert_eq!((refusal.code, refusal.subscription.as_deref()), (code, subscription), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = parse(&text, 10);
        }
    }
}
