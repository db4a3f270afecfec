//! Which column of the table each column of a relation is. Pure.
//!
//! The stream names columns and does not number them, and a relation may be of a moment between what history knows and what the
//! catalog says by now: after the first step of a migration, say, and before the others. But the columns of a relation stand in the
//! order of their numbers, a number is never given again, and what is there both before and afterwards was there in between. So
//! the two lists are laid beside the relation's in the way that explains the most names. What can be laid in several ways that are
//! as good has no number: readers go by its name then. Where it may be a column that is there today, what readers have of that one is
//! in doubt.

use waldelta_wal::{Column, RelationColumn};

/// A column that is there before and afterwards is there in between: more than all names together.
const LASTING: u32 = 1 << 16;
/// A number that is not one of a column that was gone before: more than names.
const NOT_GONE: u32 = 64;
const SAME_NAME: u32 = 8;
/// Beside the same name.
const SAME_TYPE: u32 = 4;
/// Renamed twice: nothing but the type is left of it.
const TYPE_ALONE: u32 = 1;

/// What is known of a table's columns.
pub(crate) struct Known<'a> {
    /// As history has them.
    pub(crate) before: &'a [Column],
    /// As the catalog has them by now.
    pub(crate) today: &'a [Column],
    /// The highest number that a column has or had, by the catalog.
    pub(crate) last_number: i16,
}

/// A relation beside what is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Laid {
    /// The numbers of its columns, in their order; 0 where it is not known.
    pub(crate) numbers: Vec<i16>,
    /// Whether one whose number is not known may be one that is there by now.
    pub(crate) is_doubtful: bool,
}

impl Known<'_> {
    /// Lays a relation's columns beside what is known.
    pub(crate) fn lay(&self, relation: &[RelationColumn]) -> Laid {
        let highest = |columns: &[Column]| columns.iter().map(|column| column.number).max().unwrap_or(0);
        let last_before = highest(self.before);
        let named = last_before.max(highest(self.today));
        // Where the catalog does not know the table, or another one that has its object id, there may be columns beyond.
        let knows_all = !self.today.is_empty() && named <= self.last_number;
        let last = if knows_all { self.last_number } else { named };
        let beyond = if knows_all { 0 } else { relation.len() };
        let places = usize::try_from(last).unwrap_or(0) + beyond;
        if places < relation.len() {
            return Laid { numbers: vec![0; relation.len()], is_doubtful: false };
        }
        let (before, today) = (by_place(self.before, places), by_place(self.today, places));
        let worth = |column| {
            let at = |place: usize| {
                let is_known = before[place].or(today[place]).is_some();
                let is_gone = !is_known && i16::try_from(place).is_ok_and(|place| place < last_before);
                worth(column, before[place], today[place]) + if is_gone { 0 } else { NOT_GONE }
            };
            (0..places).map(at).collect()
        };
        let worth: Vec<Vec<u32>> = relation.iter().map(worth).collect();
        let (lowest, highest) = (lowest_best(&worth), highest_best(&worth));
        let number = |(lowest, highest): (&usize, &usize)| match i16::try_from(lowest + 1) {
            Ok(number) if lowest == highest && number <= last => number,
            _ => 0,
        };
        let numbers: Vec<i16> = lowest.iter().zip(&highest).map(number).collect();
        let is_left = |place: usize| today[place].is_some_and(|column| !numbers.contains(&column.number));
        let is_doubtful =
            (0..relation.len()).any(|at| numbers[at] == 0 && (lowest[at]..=highest[at]).any(is_left));
        Laid { numbers, is_doubtful }
    }
}

/// Columns by their numbers, the first of which is 1.
fn by_place(columns: &[Column], places: usize) -> Vec<Option<&Column>> {
    let mut all = vec![None; places];
    for column in columns {
        let place = usize::try_from(column.number).ok().and_then(|number| number.checked_sub(1));
        if let Some(at) = place.and_then(|place| all.get_mut(place)) {
            *at = Some(column);
        }
    }
    all
}

/// How much speaks for a column being the one that is this before and that by now.
fn worth(column: &RelationColumn, before: Option<&Column>, today: Option<&Column>) -> u32 {
    let has_type = |known: &Column| known.type_oid == column.type_oid;
    let name = |known: &Column| match known.name == column.name {
        true if has_type(known) => SAME_NAME + SAME_TYPE,
        true => SAME_NAME,
        false => 0,
    };
    match (before, today) {
        (Some(before), Some(today)) => {
            let names = name(before) + name(today);
            let is_of_type = names == 0 && (has_type(before) || has_type(today));
            LASTING + names + if is_of_type { TYPE_ALONE } else { 0 }
        }
        (before, today) => before.or(today).map_or(0, name),
    }
}

/// The places of columns, ever higher, that are worth the most together; of several such ways the lowest. `worth` is
/// by column and place, with no fewer places than columns.
fn lowest_best(worth: &[Vec<u32>]) -> Vec<usize> {
    let places = worth.first().map_or(0, Vec::len);
    // The best of the columns from this one on, in the places from this one on; `None`: there are too few.
    let mut best = vec![vec![None; places + 1]; worth.len() + 1];
    best[worth.len()] = vec![Some(0_u32); places + 1];
    let here = |best: &[Vec<Option<u32>>], column: usize, place: usize| {
        best[column + 1][place + 1].map(|rest| rest + worth[column][place])
    };
    for column in (0..worth.len()).rev() {
        for place in (0..places).rev() {
            best[column][place] = here(&best, column, place).max(best[column][place + 1]);
        }
    }
    let mut next = 0;
    let take = |column: usize| {
        while here(&best, column, next) != best[column][next] {
            next += 1;
        }
        next += 1;
        next - 1
    };
    (0..worth.len()).map(take).collect()
}

/// The same, and the highest: the lowest from the other end.
fn highest_best(worth: &[Vec<u32>]) -> Vec<usize> {
    let turned: Vec<Vec<u32>> = worth.iter().rev().map(|of| of.iter().rev().copied().collect()).collect();
    let places = worth.first().map_or(0, Vec::len);
    lowest_best(&turned).into_iter().rev().map(|place| places - 1 - place).collect()
}

#[cfg(test)]
mod tests {
    use waldelta_wal::Kind;

    use super::*;

    const INT: u32 = 23;
    const TEXT: u32 = 25;
    const VARCHAR: u32 = 1043;

    fn columns(all: &[(i16, &str, u32)]) -> Vec<Column> {
        let column = |(number, name, type_oid): &(i16, &str, u32)| Column {
            number: *number,
            name: (*name).into(),
            type_oid: *type_oid,
            type_modifier: -1,
            type_name: "type".into(),
            kind: Kind::TEXT,
            nullable: true,
            identity: false,
        };
        all.iter().map(column).collect()
    }

    type Of<'a> = &'a [(i16, &'a str, u32)];

    fn lay(before: Of<'_>, relation: &[(&str, u32)], today: Of<'_>, last_number: i16) -> Laid {
        let column = |(name, type_oid): &(&str, u32)| RelationColumn {
            identity: false,
            name: (*name).into(),
            type_oid: *type_oid,
            type_modifier: -1,
            type_name: None,
        };
        let relation: Vec<RelationColumn> = relation.iter().map(column).collect();
        Known { before: &columns(before), today: &columns(today), last_number }.lay(&relation)
    }

    /// The numbers of columns of which none is in doubt.
    fn numbers(before: Of<'_>, relation: &[(&str, u32)], today: Of<'_>, last_number: i16) -> Vec<i16> {
        let laid = lay(before, relation, today, last_number);
        assert!(!laid.is_doubtful, "{laid:?}");
        laid.numbers
    }

    /// Those of columns of which one is.
    fn in_doubt(before: Of<'_>, relation: &[(&str, u32)], today: Of<'_>, last_number: i16) -> Vec<i16> {
        let laid = lay(before, relation, today, last_number);
        assert!(laid.is_doubtful, "{laid:?}");
        laid.numbers
    }

    #[test]
    fn a_type_that_comes_and_goes_leaves_the_column_what_it_is() {
        let v = [(1, "id", INT), (2, "v", TEXT)];
        assert_eq!(numbers(&v, &[("id", INT), ("v", VARCHAR)], &v, 2), [1, 2]);
    }

    /// Added, filled, put in the place of another one: what is in it in between stays in it.
    #[test]
    fn a_column_that_takes_the_place_of_another_is_itself_before_that_too() {
        let (before, today) = ([(1, "id", INT), (2, "v", TEXT)], [(1, "id", INT), (3, "v", TEXT)]);
        assert_eq!(numbers(&before, &[("id", INT), ("v", TEXT), ("new_v", TEXT)], &today, 3), [1, 2, 3]);
        assert_eq!(in_doubt(&before, &[("id", INT), ("new_v", TEXT)], &today, 3), [1, 0], "2 or 3");
        assert_eq!(in_doubt(&before, &[("id", INT), ("v", INT)], &today, 3), [1, 0]);
        let is_int = [(1, "id", INT), (3, "v", INT)];
        assert_eq!(numbers(&before, &[("id", INT), ("v", INT)], &is_int, 3), [1, 3]);
        assert_eq!(numbers(&before, &[("id", INT), ("v", TEXT)], &is_int, 3), [1, 2]);
    }

    #[test]
    fn a_column_renamed_twice_is_the_same() {
        let (before, today) = ([(1, "id", INT), (2, "v", TEXT)], [(1, "id", INT), (2, "w", TEXT)]);
        assert_eq!(numbers(&before, &[("id", INT), ("between", TEXT)], &today, 2), [1, 2]);
        // Beside others that came and went.
        let relation = [("id", INT), ("between", TEXT), ("x", INT)];
        assert_eq!(numbers(&before, &relation, &today, 5), [1, 2, 0]);
        // What was gone before is no place for it.
        let (late, relation) = ([(1, "id", INT), (5, "v", TEXT)], [("id", INT), ("x", INT), ("v", TEXT)]);
        assert_eq!(numbers(&late, &relation, &[(1, "id", INT), (4, "y", INT), (5, "v", TEXT)], 5), [1, 4, 5]);
        // Two that have changed names.
        let before = [(1, "a", TEXT), (2, "b", TEXT), (3, "c", INT)];
        let today = [(1, "b", TEXT), (2, "a", TEXT), (3, "c", INT)];
        assert_eq!(numbers(&before, &[("x", TEXT), ("a", TEXT), ("c", INT)], &today, 3), [1, 2, 3]);
        assert_eq!(numbers(&before, &[("b", TEXT), ("a", TEXT), ("c", INT)], &today, 3), [1, 2, 3]);
    }

    #[test]
    fn columns_that_came_later_or_went_are_others() {
        let (before, today) = ([(1, "id", INT), (2, "v", TEXT)], [(1, "id", INT), (4, "x", TEXT)]);
        assert_eq!(numbers(&before, &[("id", INT)], &today, 4), [1]);
        assert_eq!(
            in_doubt(&before, &[("id", INT), ("v", TEXT), ("w", TEXT)], &today, 4),
            [1, 2, 0],
            "3 or 4"
        );
        assert_eq!(numbers(&before, &[("id", INT), ("x", TEXT)], &today, 4), [1, 4]);
        assert_eq!(in_doubt(&before, &[("id", INT), ("w", TEXT)], &today, 4), [1, 0], "2, 3 or 4");
        // Of a table that nobody knows any more there may be columns beyond.
        assert_eq!(numbers(&before, &[("id", INT), ("v", TEXT), ("w", TEXT)], &[], 0), [1, 2, 0]);
        assert_eq!(numbers(&[], &[("id", INT), ("v", TEXT)], &[], 0), [0, 0]);
        // Nothing speaks for any, and there is no other number.
        assert_eq!(numbers(&[], &[("a", INT), ("b", TEXT)], &columns_of(2), 2), [1, 2]);
    }

    fn columns_of(last: i16) -> Vec<(i16, &'static str, u32)> {
        (1..=last).map(|number| (number, "other", VARCHAR)).collect()
    }

    #[test]
    fn a_table_of_very_many_columns_is_laid_out_too() {
        let names: Vec<String> = (1..=1600).map(|number| format!("c{number}")).collect();
        let all: Vec<(i16, &str, u32)> = (1..).zip(&names).map(|(n, name)| (n, name.as_str(), INT)).collect();
        // Every other column is gone by now, and was already.
        let today: Vec<_> = all.iter().copied().skip(1).step_by(2).collect();
        let relation: Vec<_> = today.iter().map(|(_, name, type_oid)| (*name, *type_oid)).collect();
        let even: Vec<i16> = (1..=800).map(|half| 2 * half).collect();
        assert_eq!(numbers(&all[..1000], &relation, &today, 1600), even);
    }
}
