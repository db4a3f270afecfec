//! Rows that are larger than one jsonb: which of their values are stored as a reference in their place.

use sha2::{Digest, Sha256};

use crate::{json, jsonb};

/// Rows whose JSON is shorter need no arithmetic: nothing takes more than six times its JSON in jsonb (`1,` is the worst,
/// with 12 bytes for two).
pub(crate) const LARGE_BYTES: usize = 16 << 20;

/// What a value takes within the object of its row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Bytes as JSON.
    pub(crate) json: usize,
    /// Bytes as jsonb.
    pub(crate) jsonb: usize,
}

impl Size {
    pub(crate) fn of(json: &[u8], converted: bool) -> Self {
        Size { json: json.len(), jsonb: jsonb::size(json, converted) }
    }

    fn plus(self, other: Size) -> Self {
        Size { json: self.json.saturating_add(other.json), jsonb: self.jsonb.saturating_add(other.jsonb) }
    }

    /// What one row may take.
    pub(crate) const MAX: Self = Size { json: jsonb::JSON_BYTES_MAX, jsonb: jsonb::STRING_BYTES_MAX };

    pub(crate) fn fits(self, max: Size) -> bool {
        self.json <= max.json && self.jsonb <= max.jsonb
    }
}

/// Which values have to be replaced so that the row takes `max` at most: the largest, as few as needed. `fixed` is what the
/// row takes without its values.
pub(crate) fn too_large(sizes: &[Size], fixed: Size, max: Size) -> Vec<usize> {
    let mut left: Vec<Size> = sizes.to_vec();
    let reference = {
        let mut out = Vec::new();
        write_reference(&[], &mut out);
        // The length takes some digits more.
        Size::of(&out, false).plus(Size { json: 20, jsonb: 20 })
    };
    let mut replaced = Vec::new();
    loop {
        let total = left.iter().fold(fixed, |total, size| total.plus(*size));
        if total.fits(max) {
            break;
        }
        let weight = |size: &Size| if total.jsonb > max.jsonb { size.jsonb } else { size.json };
        let largest = (0..left.len())
            .filter(|index| !replaced.contains(index))
            .max_by_key(|index| weight(&left[*index]));
        let Some(largest) = largest else { break };
        left[largest] = reference;
        replaced.push(largest);
    }
    replaced
}

/// Writes what stands in the place of a value that is too large.
pub(crate) fn write_reference(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{{\"$too_large\":{{\"bytes\":{},\"sha256\":\"", text.len()).as_bytes());
    for byte in Sha256::digest(text) {
        json::write_hex_byte(byte, out);
    }
    out.extend_from_slice(b"\"}}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_replaced_and_no_more() {
        const MIB: usize = 1 << 20;
        let sizes = |mib: &[usize]| -> Vec<Size> {
            mib.iter().map(|mib| Size { json: mib * MIB, jsonb: mib * MIB }).collect()
        };
        let replaced = |mib: &[usize]| too_large(&sizes(mib), Size { json: 100, jsonb: 100 }, Size::MAX);
        assert_eq!(replaced(&[100, 100, 50]), Vec::<usize>::new());
        assert_eq!(replaced(&[100, 110, 50]), [1]);
        assert_eq!(replaced(&[200, 0, 190, 180]), [0, 2]);
        assert_eq!(replaced(&[256]), [0], "the row needs some bytes too");
        let escaped =
            [Size { json: 600 * MIB, jsonb: 100 * MIB }, Size { json: 400 * MIB, jsonb: 120 * MIB }];
        assert_eq!(too_large(&escaped, Size::default(), Size::MAX), [0], "the JSON is what is too long");
        let impossible = [Size { json: 1, jsonb: usize::MAX }, Size { json: 9, jsonb: 9 }];
        assert_eq!(too_large(&impossible, Size::default(), Size::MAX), [0]);
    }

    #[test]
    fn a_reference_has_length_and_checksum() {
        let mut out = Vec::new();
        write_reference(b"abc", &mut out);
        let expected = r#"{"$too_large":{"bytes":3,"sha256":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}}"#;
        assert_eq!(std::str::from_utf8(&out).unwrap(), expected);
    }
}
