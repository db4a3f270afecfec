//! A query string, taken apart: as a form has it (WHATWG URL, section 5.1), and stricter.
//!
//! What stands for no text is refused: read with a replacement character, two different texts would be one. So is a name that comes
//! again, as whoever checks a request on its way may look at the other of the two. What the names mean is said by who asks.

use axum::http::Uri;
use waldelta_wal::Code;

use super::problem::Problem;

/// Names and values in order. Those in `repeated` may come as often as they like.
pub(super) fn pairs(uri: &Uri, repeated: &[&str]) -> Result<Vec<(String, String)>, Problem> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    let parts = uri.query().unwrap_or_default().split('&').filter(|part| !part.is_empty());
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
            return Err(invalid("the query string is not UTF-8"));
        };
        if !repeated.contains(&name.as_str()) && pairs.iter().any(|(other, _)| *other == name) {
            return Err(invalid("a parameter comes more than once"));
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

/// A percent sign that begins no escape is one that is meant.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = || Some(hex(*after.first()?)? << 4 | hex(*after.get(1)?)?);
        let (byte, taken) = match first {
            b'+' => (b' ', 0),
            b'%' => escaped().map_or((b'%', 0), |byte| (byte, 2)),
            other => (*other, 0),
        };
        bytes.push(byte);
        rest = &after[taken..];
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn invalid(detail: &str) -> Problem {
    Problem::bad_request(Code::RequestInvalid, detail)
}

#[cfg(test)]
mod tests {
    use axum::extract::Query;
    use proptest::prelude::*;

    use super::*;

    fn read(query: &str) -> Option<Vec<(String, String)>> {
        pairs(&format!("/v1/x?{query}").parse().unwrap(), &["table"]).ok()
    }

    #[test]
    fn what_is_no_text_or_comes_twice_is_refused() {
        for (query, expected) in [
            ("", Some(vec![])),
            ("&&", Some(vec![])),
            ("a", Some(vec![("a", "")])),
            ("=", Some(vec![("", "")])),
            ("a=b=c&d=%3D", Some(vec![("a", "b=c"), ("d", "=")])),
            ("a+b=c%2B%20d", Some(vec![("a b", "c+ d")])),
            ("a=%C3%BC&b=%f0%9f%a6%80", Some(vec![("a", "ü"), ("b", "🦀")])),
            ("a=100%&b=%zz&c=%4", Some(vec![("a", "100%"), ("b", "%zz"), ("c", "%4")])),
            ("table=t&table=u", Some(vec![("table", "t"), ("table", "u")])),
            ("a=%FF", None),
            ("a=%C3", None),
            ("a=%C3&b=%BC", None),
            ("%ED%A0%80=a", None),
            ("a=%C0%AF", None),
            ("a=1&a=1", None),
            ("a=1&%61=2", None),
            ("where=x&table=t&where=y", None),
        ] {
            let expected = expected.map(|pairs| {
                pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
            });
            assert_eq!(read(query), expected, "{query}");
        }
        assert_eq!(pairs(&"/v1/x".parse().unwrap(), &[]), Ok(Vec::new()));
    }

    proptest! {
        /// As the common reader of forms, but for what it cannot tell apart.
        #[test]
        fn what_is_read_is_what_a_form_says(query in "([a-c+%=&]|%[0-9A-Fa-f]{2}|%C3%BC){0,20}") {
            let uri: Uri = format!("/v1/x?{query}").parse().unwrap();
            if let Ok(read) = pairs(&uri, &["a", "b", "c"]) {
                let Query(form) = Query::<Vec<(String, String)>>::try_from_uri(&uri).unwrap();
                prop_assert_eq!(read, form);
            }
        }
    }
}
