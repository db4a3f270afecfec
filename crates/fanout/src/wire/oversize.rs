//! Values too large for a frame: replaced by `{"$too_large":{"bytes":…,"sha256":…,"url":…}}`, so that one huge value never
//! stops the stream or fills the memory of every session. The whole value stays in history and is served from there.
//!
//! Bytes and digest are those of the text that history prints. The feed has the text of the WAL, which can differ in spaces
//! and the order of members: what is replaced here must have been read from history, see [`is_replaced`].

use std::fmt;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use waldelta_wal::Position;

use super::json;

/// An image up to this size is sent as it is.
const IMAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// In a larger image, values above this size are replaced.
const VALUE_BYTES_MAX: usize = 256 * 1024;

/// One of the two images of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Image {
    Data,
    Old,
}

impl Image {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Image::Data => "data",
            Image::Old => "old",
        }
    }

    /// The image of this name, if there is one.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Image::Data, Image::Old].into_iter().find(|image| image.as_str() == name)
    }
}

/// Whether values of this image may be replaced.
pub(crate) fn is_replaced(image: &Bytes) -> bool {
    image.len() > IMAGE_BYTES_MAX
}

/// The image as it is sent. `at` is where it can be found in history; a row of a snapshot is nowhere.
pub(crate) fn bounded(image: &Bytes, at: Option<(Position, Image)>) -> Bytes {
    if is_replaced(image) { replaced(image, at, VALUE_BYTES_MAX).into() } else { image.clone() }
}

fn replaced(image: &[u8], at: Option<(Position, Image)>, value_bytes_max: usize) -> Vec<u8> {
    let mut out = vec![b'{'];
    for (name, value) in json::members(image) {
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(name);
        out.push(b':');
        if value.len() <= value_bytes_max {
            out.extend_from_slice(value);
            continue;
        }
        let sha256 = Hex(&Sha256::digest(value));
        json::write_text(
            &mut out,
            format_args!("{{\"$too_large\":{{\"bytes\":{},\"sha256\":\"{sha256}\"", value.len()),
        );
        if let (Some((position, image)), Ok(column)) = (at, serde_json::from_slice::<String>(name)) {
            let (image, column) = (image.as_str(), Segment(&column));
            json::write_text(&mut out, format_args!(",\"url\":\"/v1/values/{position}/{image}/{column}\""));
        }
        out.extend_from_slice(b"}}");
    }
    out.push(b'}');
    out
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A segment of a URL's path, with everything escaped that may not stand in one (RFC 3986, section 2.3).
struct Segment<'a>(&'a str);

impl fmt::Display for Segment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.bytes().try_for_each(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                write!(f, "{}", char::from(byte))
            }
            _ => write!(f, "%{byte:02X}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::position;

    /// printf '"abcdefgh"' | sha256sum
    const SHA: &str = "a25c00aa0e627fd76143597c5a42ac1ea91e52bc41a91c2edb6ecc96216fb7c2";

    #[test]
    fn replaces_only_what_is_too_large() {
        let image = r#"{"id": 1, "a/b \"ü\"": "abcdefgh", "note": null}"#;
        let text = |at| String::from_utf8(replaced(image.as_bytes(), at, 8)).unwrap();
        assert_eq!(
            text(None),
            r#"{"id":1,"a/b \"ü\"":{"$too_large":{"bytes":10,"sha256":"SHA"}},"note":null}"#
                .replace("SHA", SHA)
        );
        let at = Position { index: 3, ..position(0x10) };
        assert_eq!(
            text(Some((at, Image::Old))),
            r#"{"id":1,"a/b \"ü\"":{"$too_large":{"bytes":10,"sha256":"SHA","url":"/v1/values/00000001-0000000000000010-00000003/old/a%2Fb%20%22%C3%BC%22"}},"note":null}"#
                .replace("SHA", SHA)
        );
    }

    #[test]
    fn leaves_an_ordinary_image_alone() {
        let image = Bytes::from_static(br#"{"id": 1}"#);
        assert_eq!(bounded(&image, None), image);
    }
}
