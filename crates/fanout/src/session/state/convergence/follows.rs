//! What the client subscribes to, and what it then has of the source.

use super::model::text;
use crate::rules::Grant;
use crate::subscription::Subscription;
use crate::testing::{filtered, grant, rule, subscription};

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

/// What the client may see of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sees {
    Everything,
    /// `t` alone.
    T,
    /// `u` alone.
    U,
    /// The rows of `t` with a low id, and all of `u`.
    LowAndU,
    /// The keys of `t`.
    Keys,
    Nothing,
}

impl Sees {
    pub(super) const ALL: [Sees; 6] =
        [Sees::Everything, Sees::T, Sees::U, Sees::LowAndU, Sees::Keys, Sees::Nothing];

    pub(super) fn grant(self) -> Grant {
        let rules = match self {
            Sees::Everything => return Grant::everything(),
            Sees::T => vec![rule("t", None, None)],
            Sees::U => vec![rule("u", None, None)],
            Sees::LowAndU => vec![rule("t", None, Some(LOW)), rule("u", None, None)],
            Sees::Keys => vec![rule("t", Some(&["id"]), None)],
            Sees::Nothing => Vec::new(),
        };
        grant(&rules, serde_json::json!({}))
    }

    /// What is to be seen of a row that the client follows.
    fn of(self, table: usize, id: i64, row: String) -> Option<String> {
        match (self, table) {
            (Sees::Everything, _) | (Sees::T, 0) | (Sees::U | Sees::LowAndU, 1) => Some(row),
            (Sees::LowAndU, 0) => (id < 2).then_some(row),
            (Sees::Keys, 0) => Some(format!(r#"{{"id":{id}}}"#)),
            _ => None,
        }
    }
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
    pub(super) fn row(self, sees: Sees, both: bool, table: usize, id: i64, value: u64) -> Option<String> {
        sees.of(table, id, self.followed(both, table, id, value)?)
    }

    fn followed(self, both: bool, table: usize, id: i64, value: u64) -> Option<String> {
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
