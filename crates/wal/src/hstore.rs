//! The text of the extension hstore's type as a JSON object of strings and nulls, as its own cast to json prints it.

use std::borrow::Cow;

use crate::kind::Scalar;
use crate::quoted;
use crate::value::{Refusal, Target};

const MALFORMED: Refusal = Refusal::Malformed { expected: "an hstore" };

/// Writes the JSON of `"a"=>"1", "b"=>NULL`. After an error, what was written is to be thrown away.
pub(crate) fn write(text: &[u8], target: &mut Target<'_>) -> Result<(), Refusal> {
    target.out.push(b'{');
    let mut rest = text;
    while !rest.is_empty() {
        target.check_end()?;
        let (key, after) = read_quoted(rest)?;
        Scalar::Text.write(&key, target)?;
        target.out.push(b':');
        let after = after.strip_prefix(b"=>").ok_or(MALFORMED)?;
        let after = match after.strip_prefix(b"NULL") {
            Some(after) => {
                target.out.extend_from_slice(b"null");
                after
            }
            None => {
                let (value, after) = read_quoted(after)?;
                Scalar::Text.write(&value, target)?;
                after
            }
        };
        rest = match after.strip_prefix(b", ") {
            Some([]) => return Err(MALFORMED),
            Some(more) => {
                target.out.push(b',');
                more
            }
            None if after.is_empty() => after,
            None => return Err(MALFORMED),
        };
    }
    target.out.push(b'}');
    Ok(())
}

fn read_quoted(text: &[u8]) -> Result<(Cow<'_, [u8]>, &[u8]), Refusal> {
    text.strip_prefix(b"\"").and_then(|inside| quoted::read(inside, false)).ok_or(MALFORMED)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(text: &str) -> Result<String, Refusal> {
        let mut out = Vec::new();
        write(text.as_bytes(), &mut Target::new(&mut out, false))?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn hstores_become_objects() {
        for (text, expected) in [
            ("", "{}"),
            (r#""a"=>"1", "b"=>NULL"#, r#"{"a":"1","b":null}"#),
            (r#"""=>"""#, r#"{"":""}"#),
            (r#""q\"\\, =>"=>"NULL", "é"=>"t""#, r#"{"q\"\\, =>":"NULL","é":"t"}"#),
        ] {
            assert_eq!(json(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_an_hstore() {
        for text in [
            "a",
            "\"a\"",
            "\"a\"=>",
            "\"a\"=>1",
            "\"a\"=>null",
            "\"a\"=>\"1",
            "\"a\"=>NULL,",
            "\"a\"=>NULL, ",
            "\"a\"=>NULLx",
            "\"a\" => NULL",
            "\"a\"=>NULL \"b\"=>NULL",
        ] {
            assert_eq!(json(text), Err(MALFORMED), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_json(text in "(\"[a\\\\\"é]{0,3}\"=>(NULL|\"[a\\\\\"]{0,3}\")(, )?){0,3}") {
            if let Ok(written) = json(&text) {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&written).is_ok(), "{}", written);
            }
        }
    }
}
