//! Logical messages: those by which a transaction names its author, and everybody else's, as a change's data.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::json;
use crate::transaction::Author;

/// Longest client id, in characters: as long as a client may call itself.
const CLIENT_ID_CHARS_MAX: usize = 128;

/// Reads the content of an author message. `None` where it is not `{"client_id":"…","metadata":…}` or holds what history
/// cannot store: anybody may emit a message with our prefix, and nobody may stop capture by it.
pub(crate) fn read_author(content: &[u8]) -> Option<Author> {
    if !json::jsonb_can_hold(content) {
        return None;
    }
    let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(content).ok()?;
    let client_id: String = serde_json::from_str(fields.get("client_id")?.get()).ok()?;
    let length = client_id.chars().count();
    if !(1..=CLIENT_ID_CHARS_MAX).contains(&length) {
        return None;
    }
    let metadata = fields.get("metadata").map(|raw| raw.get()).filter(|text| *text != "null");
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

/// Writes `{"prefix":…,"content":…}`. Content that is no text which jsonb holds is written in hexadecimal, as `\x…`.
pub(crate) fn write_message(prefix: &[u8], content: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"prefix\":");
    json::write_string(String::from_utf8_lossy(prefix).as_bytes(), out);
    out.extend_from_slice(b",\"content\":");
    if !content.contains(&0) && std::str::from_utf8(content).is_ok() {
        json::write_string(content, out);
    } else {
        out.extend_from_slice(b"\"\\\\x");
        for byte in content {
            json::write_hex_byte(*byte, out);
        }
        out.push(b'"');
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
