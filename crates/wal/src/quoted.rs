//! What stands between double quotes in the text of arrays, composites and hstores.

use std::borrow::Cow;

/// Reads up to the closing quote; the opening one was taken. Returns what was quoted, without its escapes, and what follows
/// the closing quote; `None` where it is not closed.
///
/// A backslash escapes the byte after it. With `doubled`, as in composites, two quotes in a row are one that is meant.
pub(crate) fn read(text: &[u8], doubled: bool) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let mut unescaped = Vec::new();
    let mut rest = text;
    loop {
        let at = memchr::memchr2(b'"', b'\\', rest)?;
        let (plain, after) = (&rest[..at], &rest[at + 1..]);
        let escaped = match (rest[at], after.first()) {
            (b'"', Some(b'"')) if doubled => b'"',
            (b'"', _) if unescaped.is_empty() => {
                return Some((Cow::Borrowed(&text[..text.len() - after.len() - 1]), after));
            }
            (b'"', _) => {
                unescaped.extend_from_slice(plain);
                return Some((Cow::Owned(unescaped), after));
            }
            (_, Some(escaped)) => *escaped,
            (_, None) => return None,
        };
        unescaped.extend_from_slice(plain);
        unescaped.push(escaped);
        rest = &after[1..];
    }
}

#[cfg(test)]
mod tests {
    fn read(text: &str, doubled: bool) -> Option<(String, &str)> {
        let (quoted, rest) = super::read(text.as_bytes(), doubled)?;
        Some((String::from_utf8(quoted.into_owned()).unwrap(), std::str::from_utf8(rest).unwrap()))
    }

    #[test]
    fn escapes_are_taken_away() {
        for (text, doubled, quoted, rest) in [
            ("\"", true, "", ""),
            ("a,b\",c", true, "a,b", ",c"),
            (r#"a\\b\"c",d"#, false, r#"a\b"c"#, ",d"),
            (r#"a""b\\c""",x"#, true, r#"a"b\c""#, ",x"),
            (r#"a""b"#, false, "a", "\"b"),
        ] {
            assert_eq!(read(text, doubled), Some((quoted.to_owned(), rest)), "{text}");
        }
        for text in ["", "a", "a\\", "a\\\"", "\\"] {
            assert_eq!(read(text, false), None, "{text}");
        }
    }
}
