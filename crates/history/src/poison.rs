//! A value that the database refuses: which change it belongs to.
//!
//! COPY says the row of its input. Which change that was is known from what was sent; nothing is sent twice to find out.

use bytes::Bytes;
use waldelta_wal::{Change, Position, TransactionHead};

use crate::Error;
use crate::sequence::Run;

/// What a COPY sent, to find the change that the database refuses.
#[derive(Clone, Copy)]
pub(crate) struct Blame<'a> {
    pub(crate) run: &'a Run,
    /// Rows that the COPY had sent before this run.
    pub(crate) rows_before: u64,
}

impl Blame<'_> {
    /// The change that this answer speaks of, as an error; `None` when the answer does not tell.
    pub(crate) fn poison(&self, source: &tokio_postgres::Error) -> Option<Error> {
        let refused = source.as_db_error()?;
        let row = row_of_context(refused.where_()?)?;
        let head = self.run.pieces.first()?.head;
        let mut changes =
            self.run.pieces.iter().flat_map(|piece| piece.changes.iter().map(move |c| (&piece.head, c)));
        let (head, change) = match row.checked_sub(self.rows_before) {
            Some(at) => changes.nth(usize::try_from(at).ok()?).map(|(head, c)| (*head, Some(c)))?,
            // Sent by an earlier call, which a large transaction began: its rows are counted as its changes are.
            None => (head, None),
        };
        let seq = change.map_or(u32::try_from(row).ok()?, |change| change.seq);
        Some(poison(head, seq, change, refused.code().code(), refused.message()))
    }
}

/// A value that the format of COPY has no room for.
pub(crate) fn too_large(head: &TransactionHead, change: &Change) -> Error {
    poison(*head, change.seq, Some(change), "54000", "a value is larger than 1 GiB")
}

fn poison(head: TransactionHead, seq: u32, change: Option<&Change>, sqlstate: &str, reason: &str) -> Error {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    Error::Poison {
        position: Position { epoch: head.epoch, commit_lsn: head.commit_lsn, index: seq },
        table: change.and_then(|change| change.table.as_ref()).map(|table| table.name.to_string()),
        row_key: change.and_then(|change| change.row_key.as_ref()).map(text),
        sqlstate: sqlstate.to_owned(),
        reason: reason.to_owned(),
    }
}

/// The row, from 0, that an error's context speaks of: `COPY change_history_e1_0000000000000000, line 3, column data`.
/// The words depend on the server's language; the first number after the table's name does not.
fn row_of_context(context: &str) -> Option<u64> {
    let after_name = context.lines().find_map(|line| Some(line.split_once("change_history")?.1))?;
    let after_name = after_name.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let digits = after_name.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse::<u64>().ok()?.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_is_found_in_any_language() {
        for (context, row) in [
            ("COPY change_history_e1_0000000400000000, line 3, column data", Some(2)),
            (
                "JSON data, line 1: ...\nCOPY change_history_e1_0000000400000000, line 12, column old_data",
                Some(11),
            ),
            ("COPY change_history_e1_00000004000000a0, Zeile 1, Spalte data", Some(0)),
            ("COPY change_history_e1_0000000400000000\u{ff0c}\u{7b2c} 7 \u{884c}", Some(6)),
            ("SQL statement", None),
        ] {
            assert_eq!(row_of_context(context), row, "{context}");
        }
    }
}
