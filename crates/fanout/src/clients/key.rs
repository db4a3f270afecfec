//! What a client is known by among all of them: its id, and whose it is where clients authenticate.
//!
//! Two subjects may choose the same client id: they are two clients. The key is what history has in `client_id`. An author of
//! changes is named by the id alone, as `set_client` has it: that is not decided here.

use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use waldelta_access::Identity;

/// Bytes of a subject and its issuer, as they stand in a key, at most: the key is in an index, and in notifications. Of longer
/// ones the key has the digest.
const SUBJECT_BYTES_MAX: usize = 512;

/// The key of a client. It is the id alone where nobody authenticates, else a JSON array: `["subject","id"]` for the subject of a
/// static token, and `["issuer","subject","id"]` for one of an issuer, as two issuers may call two people the same; an id that
/// looks like an array is an array of itself then, so that no two clients have the same key.
pub(crate) fn key(identity: Option<&Identity>, client_id: &str) -> Arc<str> {
    key_of(identity.map(|identity| (identity.issuer(), &*identity.subject)), client_id)
}

/// The key of a client of a subject of an issuer, which is empty where it is that of a static token.
fn key_of(subject: Option<(&str, &str)>, client_id: &str) -> Arc<str> {
    let Some((issuer, subject)) = subject else {
        return match client_id.starts_with('[') {
            true => format!("[{}]", text(client_id)).into(),
            false => client_id.into(),
        };
    };
    let (subject, client_id) = (named(issuer, subject), text(client_id));
    match subject.len() <= SUBJECT_BYTES_MAX {
        true => format!("[{subject},{client_id}]").into(),
        false => format!("[{{\"sha256\":\"{}\"}},{client_id}]", digest(&subject)).into(),
    }
}

/// A subject and its issuer as they stand in a key.
fn named(issuer: &str, subject: &str) -> String {
    match issuer {
        "" => text(subject),
        issuer => format!("{},{}", text(issuer), text(subject)),
    }
}

fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Subject and id of the client that has this key. Of a long subject it is the digest.
pub(crate) fn client_of(key: &str) -> (Option<String>, String) {
    let known = match serde_json::from_str::<Vec<serde_json::Value>>(key).unwrap_or_default().as_slice() {
        [id] => id.as_str().map(|id| (None, id.to_owned())),
        [subject, id] | [_, subject, id] => {
            let subject = subject.as_str().or_else(|| subject.get("sha256")?.as_str());
            subject.zip(id.as_str()).map(|(subject, id)| (Some(subject.to_owned()), id.to_owned()))
        }
        _ => None,
    };
    known.unwrap_or_else(|| (None, key.to_owned()))
}

fn digest(subject: &str) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(subject.as_bytes()) {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_is_what_it_was_where_nobody_authenticates() {
        fn of(subject: &str) -> Option<(&str, &str)> {
            Some(("", subject))
        }
        assert_eq!(&*key_of(None, "web-7"), "web-7");
        assert_eq!(&*key_of(of("a"), "web-7"), r#"["a","web-7"]"#);
        assert_eq!(&*key_of(Some(("https://i", "a")), "web-7"), r#"["https://i","a","web-7"]"#);
        assert_eq!(&*key_of(None, r#"["a","web-7"]"#), r#"["[\"a\",\"web-7\"]"]"#);
        let long = "s".repeat(SUBJECT_BYTES_MAX);
        assert!(key_of(of(&long), "web-7").len() < 100);
        assert_ne!(key_of(of(&long), "web-7"), key_of(of(&format!("{long}s")), "web-7"));
        assert_ne!(key_of(of(&long), "web-7"), key_of(Some(("i", &long)), "web-7"));
        assert_eq!(client_of("[old"), (None, "[old".to_owned()), "one of before");
    }

    fn texts() -> impl Strategy<Value = String> {
        prop_oneof!["[\\[\\]\",a{}:\\\\ \u{0}]{0,8}", any::<String>(), "[a\"\u{0}]{500,520}"]
    }

    /// Issuer and subject, and the id.
    type Client = (Option<(String, String)>, String);

    fn subjects() -> impl Strategy<Value = Option<(String, String)>> {
        prop::option::of((prop_oneof![Just(String::new()), texts()], texts()))
    }

    proptest! {
        #[test]
        fn no_two_clients_have_the_same_key(clients in prop::collection::vec((subjects(), texts()), 2..20)) {
            let mut known: HashMap<Arc<str>, Client> = HashMap::new();
            for (subject, id) in clients {
                let whose = subject.as_ref().map(|(issuer, subject)| (&**issuer, &**subject));
                let key = key_of(whose, &id);
                if whose.is_none_or(|(issuer, subject)| named(issuer, subject).len() <= SUBJECT_BYTES_MAX) {
                    let named = subject.clone().map(|(_, subject)| subject);
                    prop_assert_eq!(client_of(&key), (named, id.clone()));
                }
                let client = (subject, id);
                let other = known.insert(key, client.clone());
                prop_assert!(other.is_none_or(|other| other == client));
            }
        }
    }
}
