//! What subscriptions cost in memory, about: while no change comes, and beside the frames that are kept ready.
//!
//! It estimates by what a client can make long: texts, lists of values and of columns. Each number is what the parts take, rounded
//! up; what allocators add is in it. It counts nothing by itself.

use std::fmt::{self, Write};

use waldelta_wal::Table;

use crate::filter::Filter;
use crate::rules::{Grant, Permit};
use crate::subscription::{Pattern, Selection, Subscription};

/// A subscription without what it names.
const SUBSCRIPTION_BYTES: usize = 512;
/// A scope without its subscriptions.
const SCOPE_BYTES: usize = 1024;
/// A name, beside its text.
const NAME_BYTES: usize = 64;

/// A filter as it was read; for each byte of its text, and for each value.
const PARSED: [usize; 3] = [256, 8, 64];
/// The same bound to a table, with its SQL.
const BOUND: [usize; 3] = [512, 8, 128];
/// What the index notes of it, under each of its values.
const NOTED: [usize; 3] = [512, 2, 512];

/// What a session keeps of its selection: the subscriptions as they were read, and bound to tables while it catches up, with what
/// may be seen of these. Its grant is counted apart, see [`of_grant`]: most sessions share theirs.
pub(crate) fn of_session(selection: &Selection) -> usize {
    let own: usize = selection.subscriptions().iter().map(|one| as_read(one) + bound(one)).sum();
    let permitted = of_named_tables(selection).map(|filter| Size::of(filter).times(BOUND));
    own + permitted.sum::<usize>()
}

/// What a grant keeps, for all who share it.
pub(crate) fn of_grant(grant: &Grant) -> usize {
    let permitted = grant
        .permits()
        .iter()
        .map(|permit| NAME_BYTES + permit.filter().map_or(0, |filter| Size::of(filter).times(PARSED)));
    permitted.sum()
}

/// What a scope keeps: the subscriptions, their filters in the index, and the grant.
pub(crate) fn of_scope(selection: &Selection) -> usize {
    let each = selection.subscriptions().iter();
    let own: usize = each.map(|one| as_read(one) + one.filter.as_ref().map_or(0, of_filter)).sum();
    // What may be seen of a table stands in the index beside each subscription of it.
    let permitted: usize = of_named_tables(selection).map(of_filter).sum();
    SCOPE_BYTES + own + of_grant(selection.grant()) + permitted
}

/// The filters of what may be seen of the tables that are named, once for each subscription.
fn of_named_tables(selection: &Selection) -> impl Iterator<Item = &Filter> {
    selection.subscriptions().iter().filter_map(|one| match &one.table {
        Pattern::Table(table) => selection.grant().permit(table).and_then(Permit::filter),
        Pattern::All | Pattern::Schema(_) => None,
    })
}

/// What the index keeps of a filter.
pub(crate) fn of_filter(filter: &Filter) -> usize {
    let size = Size::of(filter);
    size.times(BOUND) + size.times(NOTED)
}

/// How a table looks to the subscriptions that follow it; messages have no table.
pub(crate) fn of_route(selection: &Selection, table: Option<&Table>) -> usize {
    let follow = |one: &&Subscription| table.is_none_or(|table| one.table.matches(&table.name));
    let each = selection.subscriptions().iter().filter(follow);
    // Where all columns are told as they are, none is named.
    let (bytes, names_columns) = each.fold((NAME_BYTES, false), |(bytes, names), one| {
        (bytes + one.id.len() + NAME_BYTES + bound(one), names || one.columns.is_some())
    });
    let permit = table.and_then(|table| selection.grant().permit(&table.name));
    let names_columns = names_columns || permit.is_some_and(|permit| permit.columns.is_some());
    let permitted = permit.and_then(Permit::filter).map_or(0, |filter| Size::of(filter).times(BOUND));
    let columns = table.filter(|_| names_columns).map_or(0, |table| table.columns.len());
    bytes + permitted + columns * NAME_BYTES
}

/// Bytes of a filter's text.
pub(crate) fn text_bytes(filter: &Filter) -> usize {
    Size::of(filter).bytes
}

fn as_read(subscription: &Subscription) -> usize {
    let columns = subscription.columns.iter().flatten().map(|name| NAME_BYTES + name.len()).sum::<usize>();
    let filter = subscription.filter.as_ref().map_or(0, |filter| Size::of(filter).times(PARSED));
    let names = match &subscription.table {
        Pattern::All => 0,
        Pattern::Schema(schema) => schema.len(),
        Pattern::Table(table) => table.schema.len() + table.name.len(),
    };
    SUBSCRIPTION_BYTES + names + subscription.id.len() + columns + filter
}

fn bound(subscription: &Subscription) -> usize {
    subscription.filter.as_ref().map_or(0, |filter| Size::of(filter).times(BOUND))
}

/// How long a filter is.
#[derive(Default)]
struct Size {
    bytes: usize,
    /// Commas, of which a list has one for each of its values but one.
    commas: usize,
}

impl Size {
    fn of(filter: &Filter) -> Self {
        let mut size = Size::default();
        // Counting does not fail.
        let _ = write!(size, "{filter}");
        size
    }

    fn times(&self, [fixed, byte, value]: [usize; 3]) -> usize {
        fixed + self.bytes * byte + (1 + self.commas) * value
    }
}

impl Write for Size {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes += text.len();
        self.commas += text.bytes().filter(|byte| *byte == b',').count();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{filtered, subscription, table};

    fn selection(subscriptions: Vec<Subscription>) -> Selection {
        crate::testing::everything(subscriptions)
    }

    #[test]
    fn what_a_client_makes_long_costs_more() {
        let values: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
        let list = filtered("s", "t", &format!("id IN ({})", values.join(",")));
        let columns = Some((0..1_000).map(|n| format!("column_{n}")).collect());
        let [plain, filter, list, columns] = [
            subscription("s", "t"),
            filtered("s", "t", "id = 1"),
            list,
            Subscription { columns, ..subscription("s", "t") },
        ]
        .map(|one| selection(vec![one]));
        for of in [of_session, of_scope] {
            assert!(of(&plain) < 2 << 10, "{}", of(&plain));
            assert!((of(&plain)..5 << 10).contains(&of(&filter)), "{}", of(&filter));
            assert!(of(&columns) > 50 << 10, "{}", of(&columns));
        }
        // A value is 40 bytes parsed, and as much bound; in the index it is a key, and a list of filters.
        assert!(of_session(&list) > 150 << 10 && of_scope(&list) > 500 << 10);
        let t = table("t");
        let route = |selection| of_route(selection, Some(&t));
        assert!(route(&plain) < 512 && route(&list) > 100 << 10);
        assert_eq!(of_route(&list, Some(&table("u"))), NAME_BYTES, "it has nothing to do with the table");
    }

    /// So that what is kept of looks while a session catches up is bounded by what was counted.
    #[test]
    fn what_may_be_seen_of_a_table_costs_a_session_as_a_filter_of_its_own_does() {
        let values: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
        let long = format!("id IN ({})", values.join(","));
        let permitted =
            crate::testing::grant(&[crate::testing::rule("t", None, Some(&long))], serde_json::json!({}));
        let [plain, own] =
            [subscription("s", "t"), filtered("s", "t", &long)].map(|one| selection(vec![one]));
        let granted = plain.granted(permitted.clone());
        assert!(of_session(&granted) > of_session(&plain) + (100 << 10), "{}", of_session(&granted));
        assert!(of_session(&granted) < of_session(&own));
        assert!(of_route(&granted, Some(&table("t"))) <= of_session(&granted));
        let elsewhere = selection(vec![subscription("s", "u")]).granted(permitted.clone());
        assert_eq!(of_session(&elsewhere), of_session(&plain), "it is not of the rule's table");
        assert!(of_grant(&permitted) > 50 << 10 && of_grant(&Grant::everything()) == 0);
        assert!(
            of_scope(&elsewhere) >= of_scope(&selection(vec![subscription("s", "u")])) + of_grant(&permitted)
        );
    }
}
