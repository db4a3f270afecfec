//! A table whose readers begin anew: what history has of it up to here does not add up to its rows.
//!
//! It comes as a transactional logical message, so that it has a place in the WAL like everything else: whoever reads past
//! that place drops the table's rows and reads it afresh.

use serde::{Deserialize, Serialize};

use crate::jsonb;
use crate::row::ValuePolicy;
use crate::table::TableName;
use crate::transaction::{Change, Operation};

/// Prefix of the logical message by which tables are reset. Content: `{"tables":[{"oid":16400,"name":"public.t","reason":"…"}]}`.
pub const RESET_PREFIX: &str = "waldelta.reset";

/// More tables than this in one message are nobody's.
const TABLES_MAX: usize = 10_000;
/// A name, quoted, of 63 characters a part has less.
const NAME_BYTES_MAX: usize = 2_048;
/// Reasons are words.
const REASON_BYTES_MAX: usize = 256;

/// A table that is reset. As JSON it is the `data` of a change of [`Operation::Reset`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// Object id of the table.
    #[serde(rename = "oid")]
    pub table_oid: u32,
    /// Its name, as SQL would write it.
    #[serde(rename = "name")]
    pub table: String,
    /// Why: the reason of the gap that it ends.
    pub reason: String,
}

#[derive(Serialize, Deserialize)]
struct Told {
    tables: Vec<Reset>,
}

impl Reset {
    /// What a change of [`Operation::Reset`] says; `None` for any other.
    pub fn of(change: &Change) -> Option<Self> {
        let data = change.data.as_ref().filter(|_| change.operation == Operation::Reset)?;
        serde_json::from_slice(data).ok()
    }

    /// The table's name.
    pub fn table_name(&self) -> Option<TableName> {
        self.table.parse().ok()
    }

    /// Content of the message that resets these tables.
    pub fn message(tables: &[Reset]) -> String {
        serde_json::to_string(&Told { tables: tables.to_vec() }).unwrap_or_default()
    }

    /// Reads the content of such a message. `None` where it is something else, or holds what history cannot store: anybody
    /// may emit a message with our prefix, and nobody may stop capture by it.
    pub(crate) fn read(content: &[u8], policy: ValuePolicy) -> Option<Vec<Self>> {
        // Serde would read an array as the fields in their order.
        let is_object = content.trim_ascii_start().starts_with(b"{");
        if !is_object || !jsonb::can_hold(content, policy.ascii_escapes_only) {
            return None;
        }
        let told: Told = serde_json::from_slice(content).ok()?;
        (told.tables.len() <= TABLES_MAX && told.tables.iter().all(Reset::is_sound)).then_some(told.tables)
    }

    fn is_sound(&self) -> bool {
        self.table_oid != 0
            && self.table.len() <= NAME_BYTES_MAX
            && self.reason.len() <= REASON_BYTES_MAX
            && self.table_name().is_some()
    }

    /// Appends the `data` of a change of [`Operation::Reset`].
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        // Writing into memory cannot fail, and there is nothing in it that JSON could not say.
        serde_json::to_writer(out, self).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::row::Oversize;

    const POLICY: ValuePolicy = ValuePolicy { oversize: Oversize::Poison, ascii_escapes_only: false };

    fn read(content: &str) -> Option<Vec<Reset>> {
        Reset::read(content.as_bytes(), POLICY)
    }

    #[test]
    fn what_is_written_is_read_and_nonsense_is_nothing() {
        let reset = |oid, name: &str| Reset { table_oid: oid, table: name.into(), reason: "added".into() };
        let tables = vec![reset(7, "public.t"), reset(8, r#"a."b.c""#)];
        assert_eq!(read(&Reset::message(&tables)), Some(tables));
        assert_eq!(read(r#" {"tables":[]}"#), Some(Vec::new()));
        let of_one = |oid: &str, name: &str, reason: &str| {
            format!(r#"{{"tables":[{{"oid":{oid},"name":"{name}","reason":"{reason}"}}]}}"#)
        };
        assert!(read(&of_one("7", "t", "")).is_some());
        let many = vec![r#"{"oid":7,"name":"t","reason":""}"#; TABLES_MAX + 1].join(",");
        for content in [
            "",
            "[]",
            "[[]]",
            "null",
            r#"{"tables":1}"#,
            r#"{"tables":[[7,"t","x"],8]}"#,
            &of_one("7", "", "x"),
            &of_one("7", "a.b.c", "x"),
            &of_one("0", "t", "x"),
            &of_one("-7", "t", "x"),
            &of_one("4294967296", "t", "x"),
            &of_one("7", "t", r"\u0000"),
            &of_one("7", "t", r"\ud800"),
            &of_one("7", "t", &"x".repeat(REASON_BYTES_MAX + 1)),
            &of_one("7", &"t".repeat(NAME_BYTES_MAX + 1), "x"),
            &format!(r#"{{"tables":[{many}]}}"#),
        ] {
            assert_eq!(read(content), None, "{content:.200}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_as_jsonb_takes_it(
            oid: u32,
            name in r#"[a-z"\\.\x00 é]{0,8}"#,
            reason in ".{0,8}",
            bytes: Vec<u8>,
            cut in 0usize..200,
        ) {
            let message = Reset::message(&[Reset { table_oid: oid, table: name, reason }]);
            let cut = message.as_bytes().get(..cut).unwrap_or(message.as_bytes());
            for content in [message.as_bytes(), &bytes, cut, &[cut, &bytes].concat()] {
                for reset in Reset::read(content, POLICY).unwrap_or_default() {
                    let mut out = Vec::new();
                    reset.write(&mut out);
                    prop_assert!(jsonb::can_hold(&out, true));
                    prop_assert_eq!(serde_json::from_slice::<Reset>(&out).unwrap(), reset);
                }
            }
        }
    }
}
