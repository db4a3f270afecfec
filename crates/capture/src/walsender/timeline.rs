//! Where a timeline was left, as the history file of the one that is written now says (PostgreSQL documentation, "Timelines").
//! Pure.
//!
//! Each line that is no comment has an ancestor, oldest first: its number, where it was left, and a reason for people.

use waldelta_wal::Lsn;

/// Where the timeline `ours` was left by the one that this file belongs to; `None` when it is none of its ancestors, or the
/// line cannot be read.
pub(crate) fn fork_of(ours: u32, history_file: &str) -> Option<Lsn> {
    history_file
        .lines()
        .filter_map(ancestor)
        .find(|(timeline, _)| *timeline == ours)
        .map(|(_, left_at)| left_at)
}

fn ancestor(line: &str) -> Option<(u32, Lsn)> {
    let mut words = line.split_whitespace();
    let timeline = words.next().filter(|word| !word.starts_with('#'))?.parse().ok()?;
    Some((timeline, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "1\t0/3000148\tno recovery target specified\n\n# by hand\n2\tA/BC\tbefore 2025-01-01 00:00:00+00\n";

    #[test]
    fn each_ancestor_was_left_somewhere() {
        assert_eq!(fork_of(1, FILE), Some(Lsn(0x300_0148)));
        assert_eq!(fork_of(2, FILE), Some(Lsn(0xA_0000_00BC)));
        assert_eq!(fork_of(3, FILE), None, "the file's own timeline");
        assert_eq!(fork_of(7, FILE), None);
    }

    #[test]
    fn what_is_no_history_file_has_no_ancestors() {
        for file in ["", "1", "1 here", "# 1 0/1", "one 0/1", "-1 0/1", "\0\u{fffd}"] {
            assert_eq!(fork_of(1, file), None, "{file:?}");
        }
    }
}
