//! Text that nobody can guess, from the system's randomness.

use std::fmt::Write;

/// So many random bytes, as hex.
pub(crate) fn hex<const BYTES: usize>() -> Result<String, NoRandomness> {
    Ok(hex_of(&bytes::<BYTES>()?))
}

/// So many random bytes. The provider of TLS asks the system, as it does for its keys.
pub(crate) fn bytes<const BYTES: usize>() -> Result<[u8; BYTES], NoRandomness> {
    let mut bytes = [0; BYTES];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// Whether a text is so many bytes as [`hex`] writes them.
pub(crate) fn is_hex_of(text: &str, bytes: usize) -> bool {
    text.len() == 2 * bytes && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The system has none.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the system has no randomness")]
pub struct NoRandomness;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_random_has_its_length_and_never_comes_again() {
        let (one, other) = (hex::<32>().unwrap(), hex::<32>().unwrap());
        assert_ne!(one, other);
        assert!(is_hex_of(&one, 32) && is_hex_of(&other, 32));
        for nonsense in
            ["", "0", &one[1..], &one.replace(one.chars().next().unwrap(), "G"), &format!("{one}0")]
        {
            assert!(!is_hex_of(nonsense, 32), "{nonsense}");
        }
        assert_eq!(hex_of(&[0, 0x0f, 0xff]), "000fff");
    }
}
