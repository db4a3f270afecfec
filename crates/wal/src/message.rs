//! Logical messages: those by which a transaction names its author, and everybody else's, as a change's data.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::oversize::{self, Size};
use crate::row::{Oversize, ValuePolicy};
use crate::transaction::Author;
use crate::{json, jsonb};

/// Longest client id, in characters: as long as a client may call itself.
const CLIENT_ID_CHARS_MAX: usize = 128;

/// Longest metadata, in bytes: what `waldelta.set_client` lets through. Every change of the author's carries it.
const METADATA_BYTES_MAX: usize = 65_536;
/// A prefix longer than this is no prefix.
const PREFIX_BYTES_MAX: usize = 65_536;

/// A message that jsonb cannot hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MessageTooLarge {
    /// Bytes of prefix and content.
    pub(crate) bytes: usize,
}

/// Reads the content of an author message. `None` where it is not `{"client_id":"…","metadata":…}` or holds what history
/// cannot store: anybody may emit a message with our prefix, and nobody may stop capture by it.
pub(crate) fn read_author(content: &[u8], policy: ValuePolicy) -> Option<Author> {
    if !jsonb::can_hold(content, policy.ascii_escapes_only) {
        return None;
    }
    let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(content).ok()?;
    let client_id: String = serde_json::from_str(fields.get("client_id")?.get()).ok()?;
    let length = client_id.chars().count();
    if !(1..=CLIENT_ID_CHARS_MAX).contains(&length) {
        return None;
    }
    let metadata = fields.get("metadata").map(|raw| raw.get()).filter(|text| *text != "null");
    if metadata.is_some_and(|text| text.len() > METADATA_BYTES_MAX) {
        return None;
    }
    let one_line = |text: &str| {
        let mut out = Vec::with_capacity(text.len());
        json::write_embedded(text.as_bytes(), &mut out);
        String::from_utf8(out).ok()
    };
    let metadata = match metadata {
        Some(text) => Some(one_line(text)?),
        None => None,
    };
    Some(Author { client_id, metadata })
}

/// Writes `{"prefix":…,"content":…}`, and returns which of the two was replaced because it is too large. Content that is no
/// text which jsonb holds is written in hexadecimal, as `\x…`.
pub(crate) fn write_message(
    prefix: &[u8],
    content: &[u8],
    policy: ValuePolicy,
    out: &mut Vec<u8>,
) -> Result<Vec<String>, MessageTooLarge> {
    let mut replaced = Vec::new();
    let mut too_large = |name: &str, text: &[u8], out: &mut Vec<u8>| match policy.oversize {
        Oversize::Poison => Err(MessageTooLarge { bytes: prefix.len() + content.len() }),
        Oversize::Reference => {
            oversize::write_reference(text, out);
            replaced.push(name.to_owned());
            Ok(())
        }
    };
    out.extend_from_slice(b"{\"prefix\":");
    if prefix.len() <= PREFIX_BYTES_MAX {
        json::write_string(String::from_utf8_lossy(prefix).as_bytes(), out);
    } else {
        too_large("prefix", prefix, out)?;
    }
    out.extend_from_slice(b",\"content\":");
    let start = out.len();
    write_content(content, out);
    if out.len() == start || !fits_beside_prefix(&out[start..], policy) {
        out.truncate(start);
        too_large("content", content, out)?;
    }
    out.push(b'}');
    Ok(replaced)
}

/// Writes nothing where it is too large anyway.
fn write_content(content: &[u8], out: &mut Vec<u8>) {
    if content.contains(&0) || std::str::from_utf8(content).is_err() {
        if content.len() < jsonb::STRING_BYTES_MAX / 2 {
            json::write_hex_string(content, out);
        }
    } else if jsonb::can_hold_string(content) {
        json::write_string(content, out);
    }
}

fn fits_beside_prefix(content: &[u8], policy: ValuePolicy) -> bool {
    if content.len() < oversize::LARGE_BYTES {
        return true;
    }
    let Size { json, jsonb } = Size::of(content, policy.ascii_escapes_only);
    // The prefix can take six times its length.
    let beside = 6 * PREFIX_BYTES_MAX + 100;
    Size { json: json + beside, jsonb: jsonb.saturating_add(beside) }.fits(Size::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: ValuePolicy = ValuePolicy { oversize: Oversize::Poison, ascii_escapes_only: false };

    fn read_author(content: &[u8]) -> Option<Author> {
        super::read_author(content, POLICY)
    }

    fn write_message(prefix: &[u8], content: &[u8], out: &mut Vec<u8>) {
        super::write_message(prefix, content, POLICY, out).unwrap();
    }

    #[test]
    fn reads_an_author() {
        let author =
            read_author(br#"{"client_id":"web-7","metadata":{"user": 12345678901234567890}}"#).unwrap();
        assert_eq!(author.client_id, "web-7");
        assert_eq!(author.metadata.as_deref(), Some(r#"{"user": 12345678901234567890}"#));
        assert_eq!(read_author(br#"{"client_id":"a","metadata":null}"#).unwrap().metadata, None);
        assert_eq!(read_author(br#"{"client_id":"a"}"#).unwrap().metadata, None);
        assert_eq!(
            read_author(b"{\"client_id\":\"a\",\"metadata\":[1,\n2]}").unwrap().metadata.unwrap(),
            "[1, 2]"
        );
    }

    #[test]
    fn what_is_no_author_is_none() {
        let long = format!(r#"{{"client_id":"{}"}}"#, "x".repeat(129));
        let large = format!(r#"{{"client_id":"a","metadata":"{}"}}"#, "x".repeat(65_535));
        for content in [
            "",
            "{}",
            "[]",
            "null",
            "\"web-7\"",
            r#"{"client_id":7}"#,
            r#"{"client_id":""}"#,
            r#"{"client_id":"a"}x"#,
            r#"{"client_id":"a\u0000"}"#,
            r#"{"client_id":"a","metadata":"\u0000"}"#,
            r#"{"client_id":"a","metadata":1e999999}"#,
            &long,
            &large,
        ] {
            assert_eq!(read_author(content.as_bytes()), None, "{content}");
        }
    }

    #[test]
    fn a_message_is_text_or_hexadecimal() {
        let mut out = Vec::new();
        write_message(b"app", b"say \"hi\"", &mut out);
        assert_eq!(out, br#"{"prefix":"app","content":"say \"hi\""}"#);
        for (content, expected) in [
            (&b"\xff\x00"[..], br#"{"prefix":"app","content":"\\xff00"}"#),
            (b"a\x00", br#"{"prefix":"app","content":"\\x6100"}"#),
        ] {
            out.clear();
            write_message(b"app", content, &mut out);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn escapes_that_history_does_not_take_make_no_author() {
        let content = br#"{"client_id":"a","metadata":{"name":"\u00e9"}}"#;
        assert!(read_author(content).is_some());
        assert_eq!(super::read_author(content, ValuePolicy { ascii_escapes_only: true, ..POLICY }), None);
    }

    #[test]
    fn what_is_too_large_is_an_error_or_a_reference() {
        let (prefix, content) = (vec![b'p'; PREFIX_BYTES_MAX + 1], vec![0; jsonb::STRING_BYTES_MAX / 2]);
        let bytes = prefix.len() + content.len();
        let mut out = Vec::new();
        assert_eq!(super::write_message(&prefix, &content, POLICY, &mut out), Err(MessageTooLarge { bytes }));
        out.clear();
        let policy = ValuePolicy { oversize: Oversize::Reference, ..POLICY };
        let replaced = super::write_message(&prefix, b"x", policy, &mut out).unwrap();
        assert_eq!(replaced, ["prefix"]);
        assert!(out.starts_with(br#"{"prefix":{"$too_large":{"bytes":65537,"#));
    }

    proptest! {
        #[test]
        fn any_message_is_json(prefix: Vec<u8>, content: Vec<u8>) {
            let mut out = Vec::new();
            write_message(&prefix, &content, &mut out);
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok());
            read_author(&content);
        }
    }
}
