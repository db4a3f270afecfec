//! A part of a table: which of its rows a client follows and which of their columns, by a filter in its subscription or by a rule of
//! the service. And what it is to be told of a change then, as docs/protocol.md has it, from the rows that history folds to.
//!
//! Whether a row passes is said by a function of the test, which shares nothing with the service's filters. It answers `None` where a
//! column that it needs is not known, as SQL's three truth values do.

use super::note::{Change, Op};
use super::rows::{Row, Rows};

/// A part of a table.
#[derive(Clone, Debug)]
pub struct Filter {
    /// The condition as a subscription has it; `None`: the service narrows the table by itself, or only the columns are fewer.
    pub condition: Option<String>,
    /// Whether a row passes; what is not known is `None`.
    pub passes: fn(&Seen<'_>) -> Option<bool>,
    /// The columns beside the key that are told; empty: all.
    pub columns: Vec<String>,
    /// Whether the subscription asks for these columns; else it is told no others anyway.
    pub asks_for_columns: bool,
    /// Columns of the key.
    pub key: Vec<String>,
    /// Whether the source sends whole rows as they were before (REPLICA IDENTITY FULL); else it sends their keys.
    pub has_old_rows: bool,
}

/// What is known of a row.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    row: &'a Row,
}

impl<'a> Seen<'a> {
    /// A column's value as canonical JSON (see [`canonical`](crate::canonical)); `None` where it is not known.
    pub fn column(&self, name: &str) -> Option<&'a str> {
        self.row.column(name)
    }

    /// The same as a number; `None` also where it is none.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.column(name)?.parse().ok()
    }
}

impl Filter {
    /// What a client is told of some changes of its table that are one at the source: a change, or the two halves of a key change.
    /// `rows` are those before it.
    pub(super) fn told(&self, changes: &[Change], rows: &Rows) -> Vec<Change> {
        match changes {
            [gone, come] => self.told_move(gone, come, rows),
            [change] => self.told_one(change, rows).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    fn told_one(&self, change: &Change, rows: &Rows) -> Option<Change> {
        let op = match (change.op, self.before(change, rows), self.after(change)) {
            (Op::Truncate | Op::Message, ..) => change.op,
            (Op::Insert, _, Some(false)) | (Op::Delete, Some(false), _) => return None,
            (Op::Insert, ..) => Op::Insert,
            (Op::Delete, ..) => Op::Delete,
            (Op::Update, Some(false), Some(false)) => return None,
            (Op::Update, _, Some(false)) => Op::Delete,
            (Op::Update, Some(false), Some(true)) => Op::Insert,
            (Op::Update, ..) => Op::Update,
        };
        Some(self.narrowed(change, op))
    }

    /// A key change: a delete and an insert, of which either may be left out.
    fn told_move(&self, gone: &Change, come: &Change, rows: &Rows) -> Vec<Change> {
        let gone_told = self.narrowed(gone, Op::Delete);
        let come_told = self.narrowed(come, Op::Insert);
        match (self.before(gone, rows), self.after(come)) {
            (Some(false), Some(false)) => Vec::new(),
            (_, Some(false)) => vec![gone_told],
            // The row before was none of the client's.
            (Some(false), _) => vec![Change { moved_from: None, ..come_told }],
            _ => vec![gone_told, come_told],
        }
    }

    fn before(&self, change: &Change, rows: &Rows) -> Option<bool> {
        let key = change.key.as_deref()?;
        if self.has_old_rows {
            return (self.passes)(&Seen { row: rows.row(&change.table, key)? });
        }
        (self.passes)(&Seen { row: &Row::parse(key).ok()? })
    }

    fn after(&self, change: &Change) -> Option<bool> {
        (self.passes)(&Seen { row: change.data.as_ref()? })
    }

    fn narrowed(&self, change: &Change, op: Op) -> Change {
        let data = change.data.as_ref().filter(|_| op != Op::Delete);
        let mut unchanged = if op == Op::Delete { Vec::new() } else { change.unchanged.clone() };
        unchanged.retain(|column| self.tells(column));
        let data = data.map(|row| row.only(|column| self.tells(column)));
        Change { op, data, unchanged, ..change.clone() }
    }

    fn tells(&self, column: &str) -> bool {
        let among = |names: &[String]| names.iter().any(|name| name == column);
        self.columns.is_empty() || among(&self.columns) || among(&self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "public.t";

    fn filter(has_old_rows: bool) -> Filter {
        Filter {
            condition: Some("n > 5".to_owned()),
            passes: |row| row.column("n").map(|_| row.number("n").is_some_and(|n| n > 5.0)),
            columns: vec!["v".to_owned()],
            asks_for_columns: true,
            key: vec!["id".to_owned()],
            has_old_rows,
        }
    }

    fn change(op: Op, n: Option<u32>) -> Change {
        let data = n.map(|n| Row::parse(&format!(r#"{{"id":1,"n":{n},"v":"x"}}"#)).unwrap());
        let (key, unchanged) = (Some(r#"{"id":1}"#.to_owned()), vec!["v".to_owned(), "w".to_owned()]);
        Change { seq: 0, op, table: TABLE.to_owned(), key, moved_from: None, data, unchanged }
    }

    /// What is told of a change of the row which had this `n` before.
    fn told(has_old_rows: bool, before: u32, change: &Change) -> Option<Op> {
        let mut rows = Rows::default();
        rows.apply(&[self::change(Op::Insert, Some(before))]);
        let told = filter(has_old_rows).told(std::slice::from_ref(change), &rows);
        for told in &told {
            assert_eq!(told.unchanged.len(), usize::from(told.op != Op::Delete), "of what is told");
            assert!(told.data.as_ref().is_none_or(|row| row.column("n").is_none()));
        }
        told.first().map(|told| told.op)
    }

    #[test]
    fn with_whole_old_rows_they_come_and_go_as_they_pass() {
        for (before, after, wanted) in
            [(9, 9, Some(Op::Update)), (9, 1, Some(Op::Delete)), (1, 9, Some(Op::Insert)), (1, 1, None)]
        {
            assert_eq!(told(true, before, &change(Op::Update, Some(after))), wanted, "{before} {after}");
        }
        assert_eq!(told(true, 9, &change(Op::Delete, None)), Some(Op::Delete));
        assert_eq!(told(true, 1, &change(Op::Delete, None)), None);
        assert_eq!(told(true, 1, &change(Op::Truncate, None)), Some(Op::Truncate));
    }

    #[test]
    fn without_them_it_is_told_so_that_no_row_stays() {
        for (after, wanted) in [(9, Op::Update), (1, Op::Delete)] {
            assert_eq!(told(false, 1, &change(Op::Update, Some(after))), Some(wanted));
        }
        assert_eq!(told(false, 1, &change(Op::Delete, None)), Some(Op::Delete));
        assert_eq!(told(false, 1, &change(Op::Insert, Some(1))), None);
    }

    #[test]
    fn a_key_change_may_be_one_half_of_it() {
        let mut rows = Rows::default();
        rows.apply(&[change(Op::Insert, Some(9))]);
        let gone = change(Op::Delete, None);
        let come = |n| Change {
            key: Some(r#"{"id":2}"#.to_owned()),
            moved_from: gone.key.clone(),
            ..change(Op::Insert, Some(n))
        };
        let ops = |filter: Filter, n: u32, rows: &Rows| -> Vec<(Op, bool)> {
            let told = filter.told(&[gone.clone(), come(n)], rows);
            told.iter().map(|told| (told.op, told.moved_from.is_some())).collect()
        };
        assert_eq!(ops(filter(true), 9, &rows), [(Op::Delete, false), (Op::Insert, true)]);
        assert_eq!(ops(filter(true), 1, &rows), [(Op::Delete, false)]);
        assert_eq!(ops(filter(false), 9, &rows), [(Op::Delete, false), (Op::Insert, true)]);
        rows.apply(&[change(Op::Update, Some(1))]);
        assert_eq!(ops(filter(true), 9, &rows), [(Op::Insert, false)]);
        assert!(ops(filter(true), 1, &rows).is_empty());
    }
}
