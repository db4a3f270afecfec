//! A row put together from what history has of it, member by member, as JSON text; and what differs between two of them.
//!
//! Numbers stay as they were printed, in full precision. What is a column is what stands at the top level.

use bytes::Bytes;

use crate::http::lens::Sight;
use crate::wire::json::{self, write_string, write_text};

/// A row: the columns that are known, and the names of those that are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Image {
    /// Each name and value as JSON text.
    members: Vec<(Bytes, Bytes)>,
    missing: Vec<String>,
}

impl Image {
    /// The row that a change tells; of `unchanged` the source sent nothing.
    pub(super) fn new(data: &Bytes, unchanged: &[String]) -> Self {
        let part = |text: &[u8]| data.slice_ref(text);
        let members: Vec<_> = json::members(data).map(|(name, value)| (part(name), part(value))).collect();
        let mut image = Image { members, missing: unchanged.to_vec() };
        let known = std::mem::take(&mut image.missing);
        image.missing = known.into_iter().filter(|name| image.value(&quoted(name)).is_none()).collect();
        image
    }

    /// Columns whose values are not known.
    pub(super) fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Takes what is missing from an older state of the row, in which it was the same.
    pub(super) fn fill(&mut self, older: &Image) {
        let missing = std::mem::take(&mut self.missing);
        for name in missing {
            let quoted = quoted(&name);
            match older.value(&quoted) {
                Some(value) => self.members.push((quoted.into(), value.clone())),
                None => self.missing.push(name),
            }
        }
    }

    /// The columns that are seen.
    pub(super) fn seen(&self, sight: &Sight) -> Self {
        let mut image = self.clone();
        if sight.columns.is_none() {
            return image;
        }
        image.members.retain(|(name, _)| json::string(name).is_some_and(|name| sight.has(&name)));
        image.missing.retain(|name| sight.has(name));
        image
    }

    /// As a JSON object.
    pub(super) fn to_json(&self) -> Bytes {
        let length = self.members.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>();
        let mut out = Vec::with_capacity(length + 2);
        out.push(b'{');
        for (index, (name, value)) in self.members.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(name);
            out.push(b':');
            out.extend_from_slice(value);
        }
        out.push(b'}');
        out.into()
    }

    fn value(&self, name: &[u8]) -> Option<&Bytes> {
        self.members.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }
}

/// Writes the JSON Patch (RFC 6902) that makes `after` of `before`. Where there is no row, the document is null.
pub(super) fn write_patch(out: &mut Vec<u8>, before: Option<&Image>, after: Option<&Image>) {
    let mut operations = Operations { out, is_first: true };
    operations.out.push(b'[');
    match (before, after) {
        (None, None) => {}
        (Some(_), None) => operations.write("replace", None, Some(b"null")),
        (None, Some(after)) => operations.write("replace", None, Some(&after.to_json())),
        (Some(before), Some(after)) => {
            for (name, _) in before.members.iter().filter(|(name, _)| after.value(name).is_none()) {
                operations.write("remove", Some(name), None);
            }
            for (name, value) in &after.members {
                match before.value(name) {
                    None => operations.write("add", Some(name), Some(value)),
                    Some(old) if old != value => operations.write("replace", Some(name), Some(value)),
                    Some(_) => {}
                }
            }
        }
    }
    operations.out.push(b']');
}

struct Operations<'a> {
    out: &'a mut Vec<u8>,
    is_first: bool,
}

impl Operations<'_> {
    /// One operation on a column, or on the whole document.
    fn write(&mut self, op: &str, name: Option<&[u8]>, value: Option<&[u8]>) {
        if !self.is_first {
            self.out.push(b',');
        }
        self.is_first = false;
        write_text(self.out, format_args!("{{\"op\":\"{op}\",\"path\":"));
        let name = name.and_then(json::string);
        // RFC 6901, section 3.
        let path =
            name.map_or_else(String::new, |name| format!("/{}", name.replace('~', "~0").replace('/', "~1")));
        write_string(self.out, &path);
        if let Some(value) = value {
            self.out.extend_from_slice(b",\"value\":");
            self.out.extend_from_slice(value);
        }
        self.out.push(b'}');
    }
}

fn quoted(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 2);
    write_string(&mut out, name);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &'static str, unchanged: &[&str]) -> Image {
        let unchanged: Vec<String> = unchanged.iter().map(|name| (*name).to_owned()).collect();
        Image::new(&Bytes::from_static(text.as_bytes()), &unchanged)
    }

    fn patch(before: Option<&Image>, after: Option<&Image>) -> String {
        let mut out = Vec::new();
        write_patch(&mut out, before, after);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_was_not_sent_is_taken_from_before() {
        let mut new = image(r#"{"id": 1, "v": 2}"#, &["b\"ig", "lost", "v"]);
        assert_eq!(new.missing(), ["b\"ig", "lost"], "what is there is not missing");
        new.fill(&image(r#"{"b\"ig": {"a": [1, 2]}, "v": 1}"#, &[]));
        assert_eq!(new.to_json(), r#"{"id":1,"v":2,"b\"ig":{"a": [1, 2]}}"#);
        assert_eq!(new.missing(), ["lost"]);
    }

    #[test]
    fn a_patch_names_the_columns_that_differ() {
        let (a, b) = (
            image(r#"{"a/b~": 1.50, "same": "x", "gone": null}"#, &[]),
            image(r#"{"a/b~": 9007199254740993.1, "same": "x", "new\n": []}"#, &[]),
        );
        assert_eq!(
            patch(Some(&a), Some(&b)),
            r#"[{"op":"remove","path":"/gone"},{"op":"replace","path":"/a~1b~0","value":9007199254740993.1},{"op":"add","path":"/new\n","value":[]}]"#
        );
        assert_eq!(patch(Some(&a), Some(&a)), "[]");
        assert_eq!(
            patch(None, Some(&image(r#"{"a": 1}"#, &[]))),
            r#"[{"op":"replace","path":"","value":{"a":1}}]"#
        );
        assert_eq!(patch(Some(&a), None), r#"[{"op":"replace","path":"","value":null}]"#);
        assert_eq!(patch(None, None), "[]");
    }
}
