//! What the server says in ErrorResponse and NoticeResponse messages.

use std::fmt;

/// An error or notice of the server. What to do about it is decided by SQLSTATE alone: texts differ between versions
/// and languages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    /// `ERROR`, `FATAL`, `PANIC`, `WARNING`, …, never translated.
    pub severity: String,
    /// Five characters (PostgreSQL documentation, "PostgreSQL Error Codes").
    pub sqlstate: String,
    /// What is the case, in the server's language.
    pub message: String,
    /// What the server recommends.
    pub hint: Option<String>,
}

impl ServerError {
    /// Reads the fields of an ErrorResponse or NoticeResponse. The detail is left out: it may hold values of rows.
    pub(crate) fn parse(mut body: &[u8]) -> Self {
        let mut error = ServerError::default();
        while let Some((&field, rest)) = body.split_first() {
            let Some(end) = rest.iter().position(|byte| *byte == 0) else { break };
            let text = String::from_utf8_lossy(&rest[..end]).into_owned();
            body = &rest[end + 1..];
            match field {
                b'V' => error.severity = text,
                b'S' if error.severity.is_empty() => error.severity = text,
                b'C' => error.sqlstate = text,
                b'M' => error.message = text,
                b'H' => error.hint = Some(text),
                _ => {}
            }
        }
        error
    }

    /// Whether the server fails at the data itself, so that it fails again at the next try: class 22 (data exception), 54
    /// (program limit exceeded), XX (internal error).
    pub(crate) fn is_of_the_data(&self) -> bool {
        matches!(self.sqlstate.get(..2), Some("22" | "54" | "XX"))
    }

    /// The message without what can be of a row. A data exception quotes the value: the part before it is left, or, where it
    /// is about encodings, whose names it quotes too, all but the bytes.
    pub(crate) fn words(&self) -> String {
        match self.sqlstate.as_str() {
            "22021" | "22P05" => {
                let word = |word| if str::starts_with(word, "0x") { "0x\u{2026}" } else { word };
                self.message.split(' ').map(word).collect::<Vec<_>>().join(" ")
            }
            data_exception if data_exception.starts_with("22") => {
                let end = self.message.find([':', '\u{ff1a}', '"', '\'']).unwrap_or(self.message.len());
                self.message[..end].trim_end().to_owned()
            }
            _ => self.message.clone(),
        }
    }

    /// Whether the SQLSTATE is this one.
    pub(crate) fn is(&self, sqlstate: &str) -> bool {
        self.sqlstate == sqlstate
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (SQLSTATE {})", self.severity, self.message, self.sqlstate)?;
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ServerError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_fields_that_matter_and_no_detail() {
        let body =
            b"SFEHLER\0VERROR\0C42704\0MPublikation fehlt\0Drow (1)\0HCREATE PUBLICATION\0Fx.c\0L1\0\0";
        let error = ServerError::parse(body);
        assert_eq!(error.to_string(), "ERROR: Publikation fehlt (SQLSTATE 42704); CREATE PUBLICATION");
        assert!(error.is("42704"));
    }

    #[test]
    fn a_data_exception_is_told_without_the_value() {
        let error = |sqlstate: &str, message: &str| ServerError {
            sqlstate: sqlstate.into(),
            message: message.into(),
            ..ServerError::default()
        };
        for (sqlstate, message, words) in [
            (
                "22021",
                "invalid byte sequence for encoding \"UTF8\": 0xff 0x20",
                "invalid byte sequence for encoding \"UTF8\": 0x\u{2026} 0x\u{2026}",
            ),
            ("22P02", "invalid input: secret", "invalid input"),
            ("22003", "value \"secret\" is out of range", "value"),
            (
                "XX000",
                "invalid memory alloc request size: 1073741824",
                "invalid memory alloc request size: 1073741824",
            ),
        ] {
            let error = error(sqlstate, message);
            assert!(error.is_of_the_data());
            assert_eq!(error.words(), words);
        }
        assert!(!error("57P01", "shutting down").is_of_the_data());
        assert!(!error("", "").is_of_the_data());
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for body in [&b""[..], b"\0", b"C", b"C1", b"M\xff\xfe\0", b"SX\0S"] {
            ServerError::parse(body);
        }
    }
}
