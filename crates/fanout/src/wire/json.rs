//! JSON at the level of bytes: writing strings, and walking over the top level of values that are known to be JSON.
//!
//! Images of rows arrive as JSON text and leave as JSON text; nothing here builds a tree of values. On bytes that are not
//! JSON the walks end early, they never panic.

use std::borrow::Cow;
use std::io::Write;

/// Writes a string with its quotes, escaped as PostgreSQL escapes it.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut clean_from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escaped: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0x08 => b"\\b",
            0x0c => b"\\f",
            0..0x20 => b"",
            _ => continue,
        };
        out.extend_from_slice(&text.as_bytes()[clean_from..at]);
        clean_from = at + 1;
        match escaped {
            b"" => write_text(out, format_args!("\\u{byte:04x}")),
            escaped => out.extend_from_slice(escaped),
        }
    }
    out.extend_from_slice(&text.as_bytes()[clean_from..]);
    out.push(b'"');
}

/// Writes a member that lists names, where there are any.
pub(crate) fn write_names<'a>(out: &mut Vec<u8>, member: &str, names: impl Iterator<Item = &'a String>) {
    let mut is_open = false;
    for name in names {
        match is_open {
            true => out.push(b','),
            false => write_text(out, format_args!(",\"{member}\":[")),
        }
        is_open = true;
        write_string(out, name);
    }
    if is_open {
        out.push(b']');
    }
}

/// Writes anything that prints; writing into memory cannot fail.
pub(crate) fn write_text(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "writing into a vector does not fail");
}

/// The elements of an array, each as its JSON text.
pub(crate) fn elements(array: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut walk = Walk::inside(array, b'[');
    std::iter::from_fn(move || walk.value())
}

/// The members of an object: the name as JSON text with its quotes, and the value as JSON text.
pub(crate) fn members(object: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut walk = Walk::inside(object, b'{');
    std::iter::from_fn(move || Some((walk.value()?, walk.value()?)))
}

/// What a string's JSON text stands for; `None` where it is no string.
pub(crate) fn string(text: &[u8]) -> Option<Cow<'_, str>> {
    match text.contains(&b'\\') {
        true => serde_json::from_slice(text).ok().map(Cow::Owned),
        false => std::str::from_utf8(text.strip_prefix(b"\"")?.strip_suffix(b"\"")?).ok().map(Cow::Borrowed),
    }
}

struct Walk<'a> {
    rest: &'a [u8],
}

impl<'a> Walk<'a> {
    /// Begins after the opening bracket; an empty walk when there is none.
    fn inside(text: &'a [u8], open: u8) -> Self {
        Walk { rest: text.trim_ascii_start().strip_prefix(&[open]).unwrap_or_default() }
    }

    /// The next value, past commas, colons and blanks.
    fn value(&mut self) -> Option<&'a [u8]> {
        let from = self.rest.iter().position(|b| !matches!(b, b' ' | b'\n' | b'\r' | b'\t' | b',' | b':'))?;
        let text = &self.rest[from..];
        let end = match text[0] {
            b'"' => string_end(text)?,
            b'{' | b'[' => nested_end(text)?,
            b'}' | b']' => return None,
            _ => text
                .iter()
                .position(|b| matches!(b, b',' | b':' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t'))
                .unwrap_or(text.len()),
        };
        let (value, rest) = text.split_at(end);
        self.rest = rest;
        Some(value)
    }
}

/// Length of the string that `text` begins with, quotes included.
fn string_end(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        match text[at] {
            b'"' => return Some(at + 1),
            _ => at += 2,
        }
    }
}

/// Length of the object or array that `text` begins with.
fn nested_end(text: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0usize);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => at += string_end(&text[at..])? - 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn walks_compact_and_spaced_text() {
        let all: Vec<&str> = elements(br#"[1,"a,]\"b", {"x": [1, "}"]} ,null, -1.5e3]"#).map(text).collect();
        assert_eq!(all, ["1", r#""a,]\"b""#, r#"{"x": [1, "}"]}"#, "null", "-1.5e3"]);
        let all: Vec<_> =
            members(br#"{"id": 1, "a:b": {"c": "}"},"e":[]}"#).map(|(k, v)| (text(k), text(v))).collect();
        assert_eq!(all, [("\"id\"", "1"), ("\"a:b\"", r#"{"c": "}"}"#), ("\"e\"", "[]")]);
        assert_eq!(elements(b"[]").count() + members(b"{}").count() + elements(b"null").count(), 0);
    }

    proptest! {
        #[test]
        fn strings_are_json(value: String) {
            let mut out = Vec::new();
            write_string(&mut out, &value);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), value);
        }

        #[test]
        fn any_bytes_end_without_panic(bytes: Vec<u8>) {
            let _ = elements(&bytes).count() + members(&bytes).count();
        }

        #[test]
        fn members_are_what_serde_reads(
            object in prop::collection::btree_map(any::<String>(), (any::<i64>(), prop::collection::vec(any::<String>(), 0..3)), 0..5),
        ) {
            let json = serde_json::to_vec(&object).unwrap();
            let walked: std::collections::BTreeMap<String, (i64, Vec<String>)> = members(&json)
                .map(|(k, v)| (serde_json::from_slice(k).unwrap(), serde_json::from_slice(v).unwrap()))
                .collect();
            prop_assert_eq!(walked, object);
        }
    }
}
