//! What somebody may see of one change, where it is told by itself: as a version of a row, or for a value of it.
//!
//! It is decided as for the changes of the stream, by the same [`Route`]. A table whose rule does not fit it is not there.

use std::sync::Arc;

use waldelta_history::RowEntry;
use waldelta_wal::{Change, Operation, Table};

use crate::rules::Grant;
use crate::subscription::{Pattern, Route, Selection, Subscription, Telling};
use crate::wire::projection::Projection;

/// Through which somebody sees changes.
pub(super) struct Lens {
    /// `None`: they see everything.
    selection: Option<Selection>,
    /// Most changes have the shape of the one before.
    last: Option<(Arc<Table>, Option<Route>)>,
}

/// What they see of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    /// Whether they see the row as it was before the change.
    pub before: bool,
    /// And as it is after it.
    pub after: bool,
    /// Which of its columns; `None`: all.
    pub columns: Option<Projection>,
    /// Whether they are told who made it.
    pub author: bool,
}

impl Sight {
    const ALL: Sight = Sight { before: true, after: true, columns: None, author: true };
    const NOTHING: Sight = Sight { before: false, after: false, columns: None, author: false };

    /// Whether they see a column, by its name.
    pub(super) fn has(&self, column: &str) -> bool {
        self.columns.as_ref().is_none_or(|columns| columns.has(column))
    }
}

impl Lens {
    pub(super) fn new(grant: &Grant) -> Self {
        let everything = Subscription { old: true, ..Subscription::new("", Pattern::All) };
        let selection = (!grant.is_everything()).then(|| Selection::new(vec![everything], grant.clone()));
        Lens { selection, last: None }
    }

    /// Whether something may be hidden.
    pub(super) fn hides(&self) -> bool {
        self.selection.is_some()
    }

    /// What is seen of an entry of a row's history; of a gap, all.
    pub(super) fn look_at(&mut self, entry: Option<&RowEntry>) -> Sight {
        match entry {
            Some(RowEntry::Change(it)) => self.look(&it.change),
            Some(RowEntry::Gap { .. }) | None => Sight::ALL,
        }
    }

    /// What is seen of a change of a row, or of a message.
    pub(super) fn look(&mut self, change: &Change) -> Sight {
        let Some(selection) = &self.selection else { return Sight::ALL };
        let Some(table) = &change.table else {
            return if selection.wants(change) { Sight::ALL } else { Sight::NOTHING };
        };
        let known = self.last.take().filter(|(last, _)| Arc::ptr_eq(last, table));
        let route = match known {
            Some((_, route)) => route,
            None => selection.route(Some(table)).ok().flatten(),
        };
        let sight = route.as_ref().map_or(Sight::NOTHING, |route| seen(route, change));
        self.last = Some((table.clone(), route));
        sight
    }
}

fn seen(route: &Route, change: &Change) -> Sight {
    // What is told of no row is told to everybody who sees the table.
    let (before, after) = match change.operation {
        // Whose row was left out is not known: what is there instead does not have it.
        Operation::Skip if route.is_narrowed() && change.row_key.is_some() => (false, false),
        Operation::Truncate | Operation::Reset | Operation::Skip | Operation::Schema => (true, true),
        _ => match route.telling(change) {
            None => (false, false),
            Some(Telling::Insert(_)) => (false, true),
            Some(Telling::Delete { .. }) => (true, false),
            Some(Telling::Update(_) | Telling::Moved { .. }) => (true, true),
            Some(Telling::Truncate(_) | Telling::Message(_) | Telling::Shape) => (true, true),
        },
    };
    // Of what was left out that is who ordered it, and why.
    let author = change.operation != Operation::Skip;
    Sight { before, after, columns: route.projection().cloned(), author }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Rule, Rules};
    use crate::testing::{change, table};

    #[test]
    fn who_sees_everything_sees_every_change_of_a_row() {
        let mut lens = Lens::new(&Grant::everything());
        assert!(!lens.hides());
        for operation in [Operation::Insert, Operation::Update, Operation::Delete] {
            assert_eq!(lens.look(&change(0, operation, &Arc::new(table("t")), 1)), Sight::ALL);
        }
    }

    #[test]
    fn what_was_left_out_of_a_row_is_seen_where_all_rows_are_and_never_by_whom() {
        let t = Arc::new(table("t"));
        let rule = |filter: Option<&str>| Rule {
            table: "public.t".into(),
            filter: filter.map(str::to_owned),
            ..Rule::default()
        };
        let of_a_row = change(0, Operation::Skip, &t, 1);
        let of_all = Change { row_key: None, ..of_a_row.clone() };
        for (filter, sees) in [(None, true), (Some("id = 1"), false)] {
            let mut lens = Lens::new(&Rules::parse(&[rule(filter)]).unwrap().grant(None));
            let sight = lens.look(&of_a_row);
            assert_eq!((sight.before, sight.after, sight.author), (sees, sees, false), "{filter:?}");
            let sight = lens.look(&of_all);
            assert_eq!((sight.before, sight.after, sight.author), (true, true, false), "{filter:?}");
        }
    }
}
