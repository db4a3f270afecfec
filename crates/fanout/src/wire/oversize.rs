//! Values too large for a frame: replaced by `{"$too_large":{"bytes":…,"sha256":…}}`, so that one huge value never stops
//! the stream or fills the memory of every session. Its whole value stays in history.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::json;

/// An image up to this size is sent as it is.
const IMAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// In a larger image, values above this size are replaced.
const VALUE_BYTES_MAX: usize = 256 * 1024;

/// The image as it is sent.
pub(crate) fn bounded(image: &Bytes) -> Bytes {
    if image.len() <= IMAGE_BYTES_MAX { image.clone() } else { replaced(image, VALUE_BYTES_MAX).into() }
}

fn replaced(image: &[u8], value_bytes_max: usize) -> Vec<u8> {
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
        json::write_text(
            &mut out,
            format_args!("{{\"$too_large\":{{\"bytes\":{},\"sha256\":\"", value.len()),
        );
        for byte in Sha256::digest(value) {
            json::write_text(&mut out, format_args!("{byte:02x}"));
        }
        out.extend_from_slice(b"\"}}");
    }
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_only_what_is_too_large() {
        let image = r#"{"id": 1, "body": "abcdefgh", "note": null}"#;
        assert_eq!(
            String::from_utf8(replaced(image.as_bytes(), 8)).unwrap(),
            // printf '"abcdefgh"' | sha256sum
            r#"{"id":1,"body":{"$too_large":{"bytes":10,"sha256":"SHA"}},"note":null}"#
                .replace("SHA", "a25c00aa0e627fd76143597c5a42ac1ea91e52bc41a91c2edb6ecc96216fb7c2")
        );
    }

    #[test]
    fn leaves_an_ordinary_image_alone() {
        let image = Bytes::from_static(br#"{"id": 1}"#);
        assert_eq!(bounded(&image), image);
    }
}
