//! The text of tokens and tickets: what is one, and that nothing else is. Whether it is taken is not looked at here.

use proptest::prelude::*;

use super::*;
use crate::ticket;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_token_has_one_form() {
    let (id, secret) = (hex(&[0xab; ID_BYTES]), hex(&[0x01; SECRET_BYTES]));
    let good = format!("{PREFIX}{id}.{secret}");
    assert_eq!(parse(&good), Some((&*id, &*secret)));
    for bad in [
        String::new(),
        PREFIX.to_owned(),
        format!("{PREFIX}."),
        format!(" {good}"),
        format!("{good} "),
        format!("{good}\n"),
        format!("{good}\0"),
        format!("{good}."),
        format!("{good}0"),
        good.to_uppercase(),
        good.replacen(PREFIX, "wt_", 1),
        good.replacen('.', ":", 1),
        good.replacen('.', "..", 1),
        good.replacen("ab", "a\0", 1),
        good.replacen("ab", "é", 1),
        format!("{PREFIX}{id}{secret}"),
    ] {
        assert_eq!(parse(&bad), None, "{bad:?}");
    }
}

proptest! {
    #[test]
    fn what_is_made_is_read_and_nothing_near_it(
        id: [u8; ID_BYTES],
        secret: [u8; SECRET_BYTES],
        at: prop::sample::Index,
        other in "[^0-9a-f]|[0-9a-f]{2}|",
    ) {
        let (id, secret) = (hex(&id), hex(&secret));
        let token = format!("{PREFIX}{id}.{secret}");
        prop_assert_eq!(parse(&token), Some((&*id, &*secret)));
        let ticket = format!("wt_{secret}");
        prop_assert!(ticket::hash(&ticket).is_some());
        for (text, is_one) in [(token, &(|text: &str| parse(text).is_some()) as &dyn Fn(&str) -> bool), (ticket, &|text| ticket::hash(text).is_some())] {
            let at = at.index(text.len());
            prop_assume!(text[at..=at] != *other);
            let mut near = text;
            near.replace_range(at..=at, &other);
            prop_assert!(!is_one(&near), "{:?}", near);
        }
    }

    #[test]
    fn no_text_is_taken_for_one(text in "(wd_|wt_)?\\PC{0,100}", bytes: Vec<u8>) {
        for text in [text.into(), String::from_utf8_lossy(&bytes)] {
            prop_assert_eq!(parse(&text), None);
            prop_assert_eq!(ticket::hash(&text), None);
        }
    }
}
