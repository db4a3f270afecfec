//! What the client subscribes to, and what it then has of the source.

use super::model::text;
use crate::subscription::Subscription;
use crate::testing::{filtered, subscription};

/// What the client follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follows {
    Everything,
    /// `t`, and `u` beside it.
    Table,
    /// The rows of `t` with an even value, and those with a low id beside them.
    Rows,
    /// The key of `t`, and all of its columns beside it.
    Columns,
}

/// A filter of which the old image decides nothing where it is the key alone, and one that is always decided.
const EVEN: &str = "v LIKE '%0' OR v LIKE '%2' OR v LIKE '%4' OR v LIKE '%6' OR v LIKE '%8'";
const LOW: &str = "id < 2";

impl Follows {
    pub(super) fn first(self) -> Subscription {
        match self {
            Follows::Everything => subscription("s1", "*"),
            Follows::Table => subscription("s1", "t"),
            Follows::Rows => filtered("s1", "t", EVEN),
            Follows::Columns => {
                Subscription { columns: Some(["id".to_owned()].into()), ..subscription("s1", "t") }
            }
        }
    }

    /// The one that comes and goes.
    pub(super) fn second(self) -> Option<Subscription> {
        match self {
            Follows::Everything => None,
            Follows::Table => Some(subscription("s2", "u")),
            Follows::Rows => Some(filtered("s2", "t", LOW)),
            Follows::Columns => Some(subscription("s2", "t")),
        }
    }

    /// The client's row of what is one of the source, if it has it; `both`: by both subscriptions.
    pub(super) fn row(self, both: bool, table: usize, id: i64, value: u64) -> Option<String> {
        let whole = text(id, value);
        match (self, table) {
            (Follows::Everything, _) | (Follows::Table, 0) => Some(whole),
            (Follows::Table, _) => both.then_some(whole),
            (Follows::Rows, 0) => (value.is_multiple_of(2) || both && id < 2).then_some(whole),
            (Follows::Columns, 0) => Some(if both { whole } else { format!(r#"{{"id":{id}}}"#) }),
            (Follows::Rows | Follows::Columns, _) => None,
        }
    }
}
