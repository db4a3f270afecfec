//! Where a transaction is cut that has more changes for a client than its page has room for.
//!
//! It counts what is told and makes nothing of it. What it counts is what the frames of a page and its resets then hold.

use std::sync::Arc;

use waldelta_wal::{Change, Table};

use crate::subscription::{Misfit, Route, Selection, is_change, reset_table};

/// How many of a transaction's changes go into a page that has room for `room` of those that are told, which is at least one:
/// up to the change that fills it. The rest may concern nobody, and is looked through with the next page.
pub(super) fn fitting(changes: &[Change], room: usize, selection: &Selection) -> Result<usize, Misfit> {
    if changes.len() <= room {
        return Ok(changes.len());
    }
    let mut counting = Counting { selection, last: None };
    let mut told = 0;
    for (index, change) in changes.iter().enumerate() {
        told += usize::from(counting.is_told(change)?);
        if told == room {
            return Ok(index + 1);
        }
    }
    Ok(changes.len())
}

struct Counting<'a> {
    selection: &'a Selection,
    /// Most changes have the shape of the one before.
    last: Option<(Option<&'a Arc<Table>>, Option<Route>)>,
}

impl<'a> Counting<'a> {
    fn is_told(&mut self, change: &'a Change) -> Result<bool, Misfit> {
        if reset_table(change).is_some() {
            return Ok(self.selection.wants(change));
        }
        if !is_change(change) {
            return Ok(false);
        }
        let table = change.table.as_ref();
        let same = self.last.take().filter(|(last, _)| last.map(Arc::as_ptr) == table.map(Arc::as_ptr));
        let route = match same {
            Some((_, route)) => route,
            None => self.selection.route(table.map(Arc::as_ref))?,
        };
        let is_told = route.as_ref().is_some_and(|route| route.telling(change).is_some());
        self.last = Some((table, route));
        Ok(is_told)
    }
}

#[cfg(test)]
mod tests {
    use waldelta_wal::{Operation, Position};

    use super::*;
    use crate::session::delivery::{Delivery, Recipient};
    use crate::testing::{change, filtered, head, message, reset_change, schema_change, subscription, table};

    /// Of `t` those with an odd id, and of `u` all.
    fn changes() -> Vec<Change> {
        let (t, u, v) = (Arc::new(table("t")), Arc::new(table("u")), Arc::new(table("v")));
        let mut changes = vec![
            change(0, Operation::Insert, &t, 1),
            change(0, Operation::Insert, &t, 2),
            change(0, Operation::Insert, &v, 3),
            change(0, Operation::Delete, &u, 4),
            message(0, "nobody's"),
            reset_change(0, "v"),
            reset_change(0, "u"),
            schema_change(0, &t),
            schema_change(0, &v),
            change(0, Operation::Insert, &t, 5),
            change(0, Operation::Insert, &u, 6),
            change(0, Operation::Insert, &v, 7),
        ];
        (0..).zip(&mut changes).for_each(|(seq, change)| change.seq = seq);
        changes
    }

    #[test]
    fn a_transaction_is_cut_at_the_change_that_fills_the_page() {
        let selection =
            crate::testing::everything(vec![filtered("t", "t", "id = 1 OR id = 5"), subscription("u", "u")]);
        let changes = changes();
        let told: Vec<usize> = [0, 3, 6, 7, 9, 10].to_vec();
        for room in 1..=changes.len() + 1 {
            let expected = told.get(room - 1).map_or(changes.len(), |index| index + 1);
            assert_eq!(fitting(&changes, room, &selection), Ok(expected), "{room}");
        }
        assert_eq!(fitting(&[], 1, &selection), Ok(0));
        let misfit = crate::testing::everything(vec![filtered("t", "t", "nothing = 1")]);
        assert!(fitting(&changes, 1, &misfit).is_err());
        let all = crate::testing::everything(vec![subscription("a", "*")]);
        assert_eq!(fitting(&changes, 5, &all), Ok(5), "a message too");
    }

    /// What is counted is what frames hold, with the resets that are told beside them.
    #[test]
    fn what_is_counted_is_what_is_told() {
        for selection in [
            vec![filtered("t", "t", "id > 1"), subscription("u", "u")],
            vec![subscription("a", "*")],
            vec![subscription("v", "v")],
            vec![subscription("w", "w")],
        ] {
            let selection = crate::testing::everything(selection);
            let changes = changes();
            for room in 1..changes.len() {
                let fits = fitting(&changes, room, &selection).unwrap();
                let taken = &changes[..fits];
                let to = Recipient {
                    client_id: "",
                    gets_own: true,
                    selection: &selection,
                    prev: Position::default(),
                };
                let frames = Delivery::without_shapes().frames(to, &head(7, 1), taken, false).unwrap();
                let wanted = taken.iter().filter(|change| selection.wants(change));
                let resets = wanted.filter(|change| reset_table(change).is_some()).count();
                let told = frames.changes + resets;
                assert!(told == room || told < room && fits == changes.len(), "{room}: {told} of {fits}");
            }
        }
    }
}
