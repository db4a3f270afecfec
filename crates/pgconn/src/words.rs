//! A connection string, taken apart into keywords and values: as a URL or as `key=value` words.
//!
//! Form only, by PostgreSQL's documentation, "Connection Strings". What the keywords mean, and which are known, is decided
//! by [`Target`](crate::Target). No message repeats a value: it could be the password.

use crate::error::Error;

/// Keywords with their values, in the order of the string.
pub(crate) type Words = Vec<(String, String)>;

const URL_SCHEMES: [&str; 2] = ["postgresql://", "postgres://"];

/// Takes a connection string apart.
pub(crate) fn take_apart(text: &str) -> Result<Words, Error> {
    let text = text.trim();
    match URL_SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme)) {
        Some(rest) => from_url(rest),
        None if text.contains("://") => {
            Err(Error::invalid("the scheme of the URL has to be postgresql:// or postgres://"))
        }
        None => from_pairs(text),
    }
}

/// `user:password@host:port/database?key=value&…`, each part percent-encoded, all of them optional.
fn from_url(rest: &str) -> Result<Words, Error> {
    let mut words = Words::new();
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (authority, database) =
        rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
    // A password may hold a bare @: the last one ends it.
    let (login, place) =
        authority.rsplit_once('@').map_or((None, authority), |(login, place)| (Some(login), place));
    if let Some(login) = login {
        let (user, password) = login.split_once(':').map_or((login, None), |(user, pass)| (user, Some(pass)));
        push_decoded(&mut words, "user", user, "the user")?;
        if let Some(password) = password {
            push_decoded(&mut words, "password", password, "the password")?;
        }
    }
    let (host, port) = split_place(place)?;
    push_decoded(&mut words, "host", host, "the host")?;
    push_decoded(&mut words, "port", port, "the port")?;
    push_decoded(&mut words, "dbname", database, "the database name")?;
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| Error::invalid("a parameter behind the question mark has no = with a value"))?;
        let key = decode(key, "the name of a parameter")?;
        let value = decode(value, "the value of a parameter")?;
        words.push((key, value));
    }
    Ok(words)
}

/// Host and port of `host`, `host:port`, `[2001:db8::1]` or `[2001:db8::1]:port`.
fn split_place(place: &str) -> Result<(&str, &str), Error> {
    if let Some(rest) = place.strip_prefix('[') {
        let (host, rest) =
            rest.split_once(']').ok_or_else(|| Error::invalid("the host begins with [ and has no ]"))?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, port)),
            None if rest.is_empty() => Ok((host, "")),
            None => Err(Error::invalid("behind the ] of the host comes something other than a port")),
        };
    }
    Ok(place.split_once(':').unwrap_or((place, "")))
}

fn push_decoded(words: &mut Words, key: &str, value: &str, part: &str) -> Result<(), Error> {
    if !value.is_empty() {
        words.push((key.to_owned(), decode(value, part)?));
    }
    Ok(())
}

/// Resolves `%xx`.
fn decode(text: &str, part: &str) -> Result<String, Error> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |index: usize| rest.get(index).and_then(|b| char::from(*b).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err(Error::invalid(format!(
                "{part} has a % without two hexadecimal digits behind it (write %25)"
            )));
        };
        bytes.extend(u8::try_from(high * 16 + low));
        rest = &rest[2..];
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(Error::invalid(format!("{part} is not text in UTF-8"))),
    }
}

/// `key=value key='value with spaces'`, with backslash before what is meant literally.
fn from_pairs(text: &str) -> Result<Words, Error> {
    let mut words = Words::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(words);
        }
        let mut key = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && !c.is_whitespace()) {
            key.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if key.is_empty() || chars.next() != Some('=') {
            return Err(Error::invalid(
                "expected postgresql://user@host:port/database, or words such as host=… user=… dbname=…",
            ));
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next() {
                Some('\'') if quoted => break,
                Some('\\') => value.extend(chars.next()),
                Some(c) if !quoted && c.is_whitespace() => break,
                Some(c) => value.push(c),
                None if quoted => {
                    return Err(Error::invalid(format!("the value of {key} has no closing quote")));
                }
                None => break,
            }
        }
        words.push((key, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> String {
        let words = take_apart(text).unwrap();
        words.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn reads_urls() {
        for (url, expected) in [
            ("postgresql://", ""),
            ("postgres:///app", "dbname=app"),
            ("postgres://h/app", "host=h|dbname=app"),
            ("postgres://u:p%40ss%3A@h:5433/my%20db", "user=u|password=p@ss:|host=h|port=5433|dbname=my db"),
            ("postgres://u:p@ss@h", "user=u|password=p@ss|host=h"),
            ("postgres://u@[::1]:6/d", "user=u|host=::1|port=6|dbname=d"),
            ("postgres://%2Fvar%2Frun/d", "host=/var/run|dbname=d"),
            (
                "postgres:///d?host=/tmp&sslmode=require&options=-c%20a%3Db&",
                "dbname=d|host=/tmp|sslmode=require|options=-c a=b",
            ),
            ("postgres://h?user=u", "host=h|user=u"),
        ] {
            assert_eq!(words(url), expected, "{url}");
        }
    }

    #[test]
    fn reads_words() {
        for (text, expected) in [
            ("", ""),
            ("host=h  user = u dbname='my db'", "host=h|user=u|dbname=my db"),
            (r"password='it\'s \\' user=a\ b", r"password=it's \|user=a b"),
            ("password='' user=u", "password=|user=u"),
            ("host= user=u", "host=user=u"),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
    }

    #[test]
    fn a_bad_string_is_an_error_that_keeps_the_password_to_itself() {
        for text in [
            "mysql://u:secret@h/d",
            "postgres://u:secret%zz@h/d",
            "postgres://u:secret%ff@h/d",
            "postgres://u:secret@[::1/d",
            "postgres://u:secret@[::1]x/d",
            "postgres://u:secret@h/d?sslmode",
            "secret",
            "password='secret",
            "=secret",
        ] {
            let error = take_apart(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
    }
}
