//! Something in the WAL that is left out because an operator said so: never silently, a change says what, by whom and why.

use serde::Serialize;

use crate::lsn::Lsn;

/// An order to leave out one change of a transaction, or all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// Commit LSN of the transaction.
    pub lsn: Lsn,
    /// The change's place in it, as history would count it; `None`: the whole transaction.
    pub seq: Option<u32>,
    /// Who said so.
    pub by: String,
    /// Why.
    pub why: String,
}

/// A longer key is shown by its beginning.
const KEY_CHARS_MAX: usize = 200;

#[derive(Serialize)]
struct Told<'a> {
    lsn: String,
    seq: Option<u32>,
    by: &'a str,
    why: &'a str,
}

impl Skip {
    /// The `data` of the change that stands in its place: `{"lsn":"0/16B3748","seq":3,"by":"…","why":"…"}`.
    pub fn to_json(&self) -> String {
        let told = Told { lsn: self.lsn.to_string(), seq: self.seq, by: &self.by, why: &self.why };
        serde_json::to_string(&told).unwrap_or_default()
    }

    /// The command that orders it, for people: without `seq` for the whole transaction.
    pub fn command(lsn: Lsn, seq: Option<u32>) -> String {
        let seq = seq.map(|seq| format!(" --seq {seq}")).unwrap_or_default();
        format!("waldelta skip --lsn {lsn}{seq} --why '…'")
    }

    /// Names a change that capture cannot pass, for people, with the command that leaves it out. The key is all that is told of
    /// the row: whoever decides has to know which one it is.
    pub fn place(lsn: Lsn, seq: u32, table: Option<&str>, row_key: Option<&str>) -> String {
        let of = table.map(|table| format!(", a row of {table}")).unwrap_or_default();
        let key = row_key.map(|key| match key.char_indices().nth(KEY_CHARS_MAX) {
            Some((end, _)) => format!(" with a key that begins with {}", &key[..end]),
            None => format!(" with the key {key}"),
        });
        let (key, command) = (key.unwrap_or_default(), Skip::command(lsn, Some(seq)));
        format!("change {seq} of transaction {lsn}{of}{key} (`{command}` leaves it out)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_with_the_command_that_leaves_it_out() {
        let place = |key: Option<&str>| Skip::place(Lsn(0x10), 3, Some("public.t"), key);
        let command = "(`waldelta skip --lsn 0/10 --seq 3 --why '…'` leaves it out)";
        assert_eq!(place(None), format!("change 3 of transaction 0/10, a row of public.t {command}"));
        assert_eq!(
            place(Some("[7]")),
            format!("change 3 of transaction 0/10, a row of public.t with the key [7] {command}")
        );
        assert!(place(Some(&"é".repeat(300))).contains(&format!("begins with {} (", "é".repeat(200))));
        assert_eq!(Skip::command(Lsn(0x10), None), "waldelta skip --lsn 0/10 --why '…'");
        assert!(Skip::place(Lsn(0x10), 3, None, None).starts_with("change 3 of transaction 0/10 (`"));
    }
}
