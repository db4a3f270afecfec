//! The encoding of history's database, and whether it can hold what the source's has.
//!
//! All connections speak UTF-8; the server converts. How values are written for an encoding that is not UTF-8 is not
//! decided here: see `ascii_escapes_only` of [`waldelta_wal::ValuePolicy`].

use crate::{Error, History};

impl History {
    /// `server_encoding` of history's database, such as `UTF8`.
    pub async fn encoding(&self) -> Result<String, Error> {
        sqlx::query_scalar("SELECT current_setting('server_encoding')")
            .fetch_one(self.pool())
            .await
            .map_err(|source| Error::Read { what: "the encoding of its database", source })
    }

    /// Whether every text of a source with this `server_encoding` can be stored. Gives history's own encoding.
    ///
    /// # Errors
    /// [`Error::Encoding`] when there are characters that history's database has no place for.
    pub async fn check_encoding(&self, captured: &str) -> Result<String, Error> {
        let history = self.encoding().await?;
        if holds(&history, captured) {
            Ok(history)
        } else {
            Err(Error::Encoding { history, captured: captured.to_owned() })
        }
    }
}

/// UTF8 has every character, and SQL_ASCII takes the bytes of UTF-8 as they are.
fn holds(history: &str, captured: &str) -> bool {
    matches!(history, "UTF8" | "SQL_ASCII") || history == captured
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoding_holds_itself_and_utf8_holds_all() {
        for (history, captured, expected) in [
            ("UTF8", "UTF8", true),
            ("UTF8", "LATIN1", true),
            ("UTF8", "SQL_ASCII", true),
            ("SQL_ASCII", "UTF8", true),
            ("LATIN1", "LATIN1", true),
            ("EUC_JP", "EUC_JP", true),
            ("LATIN1", "UTF8", false),
            ("LATIN1", "LATIN9", false),
            ("LATIN1", "SQL_ASCII", false),
        ] {
            assert_eq!(holds(history, captured), expected, "{captured} into {history}");
        }
    }
}
