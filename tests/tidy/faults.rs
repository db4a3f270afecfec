//! Holds `docs/reference/faults.md` to its form, and to the tests that it names: every id once and in order, every test there.
//!
//! It reads text, not Rust: a test is a function behind a test attribute. It does not judge whether a test shows what its
//! row says; whoever fills the row does.

use std::collections::HashSet;
use std::path::Path;

use crate::{files_below, read, root};

const PAGE: &str = "docs/reference/faults.md";

/// The tables of the page in order: section, what its ids begin with, how many there are.
const TABLES: &[(&str, &str, u32)] = &[
    ("V", "V", 33),
    ("invariants", "I", 28),
    ("A", "A", 33),
    ("B", "B", 19),
    ("C", "C", 15),
    ("D", "D", 28),
    ("E", "E", 16),
    ("F", "F", 12),
    ("G", "G", 13),
    ("H", "H", 21),
    ("I", "I-", 20),
    ("J", "J", 25),
];

/// The section whose rows may name any file of code beside tests: facts are relied on, not kept.
const SECTION_OF_FACTS: &str = "V";

/// The section whose rows may also name what the torture rig checks, and where its files are.
const SECTION_OF_THE_RIG: (&str, &str) = ("invariants", "crates/torture/src/");

/// Sections in which nothing is open any more: a `—` there is an error. A section is added when its last row is filled, and
/// never taken out.
const COMPLETE: &[&str] = &["A", "B", "C", "D", "E", "F", "G", "J"];

const OPEN: &str = "—";
const REASONS: [&str; 2] = ["refused:", "not captured:"];

#[test]
fn the_page_of_faults_is_whole_and_names_tests_that_exist() {
    let mut tests = Vec::new();
    for folder in ["crates", "tests"] {
        for path in files_below(folder, ".rs") {
            tests.extend(tests_of(path.strip_prefix(root()).expect("a file of ours"), &read(&path)));
        }
    }
    let known: HashSet<&str> = TABLES.iter().map(|(section, _, _)| *section).collect();
    assert!(COMPLETE.iter().all(|section| known.contains(section)), "{COMPLETE:?} names no section");
    let mistakes =
        mistakes(&read(&root().join(PAGE)), TABLES, COMPLETE, &tests, &|file| root().join(file).is_file());
    assert!(mistakes.is_empty(), "{PAGE}\n{}", mistakes.join("\n"));
}

/// A test: the words that may stand before its name, which are the folders and the file that it is in, and its name.
#[derive(Debug, PartialEq)]
struct Test {
    place: Vec<String>,
    name: String,
}

/// A row of a table of the page.
struct Row<'a> {
    line: usize,
    cells: Vec<&'a str>,
}

/// Everything that is wrong with the page, each with its line and id.
fn mistakes(
    page: &str,
    wanted: &[(&str, &str, u32)],
    complete: &[&str],
    tests: &[Test],
    is_file: &dyn Fn(&str) -> bool,
) -> Vec<String> {
    let tables = tables(page);
    if tables.len() != wanted.len() {
        return vec![format!("{} tables, and not {}", tables.len(), wanted.len())];
    }
    let mut mistakes = Vec::new();
    for ((section, prefix, count), rows) in wanted.iter().zip(&tables) {
        let ids: Vec<String> = (1..=*count).map(|number| format!("{prefix}{number}")).collect();
        mistakes.extend(wrong_order(rows, &ids).map(|wrong| format!("section {section}: {wrong}")));
        for Row { line, cells } in rows {
            let mut add = |what: &str| mistakes.push(format!("line {line}, {}: {what}", cells[0]));
            let [_, happens, does, shown] = cells[..] else {
                add("a row has four cells");
                continue;
            };
            if happens.is_empty() || does.is_empty() {
                add("a cell is empty");
            }
            for part in shown.split(';').map(str::trim) {
                for what in wrong_names(part, tests, &|file| may_stand(section, file) && is_file(file)) {
                    add(&what);
                }
                if part.starts_with(OPEN) && complete.contains(section) {
                    add(&format!("something is open, and section {section} is complete"));
                }
            }
        }
    }
    mistakes
}

/// The tables of a page, without their two lines of heading.
fn tables(page: &str) -> Vec<Vec<Row<'_>>> {
    let mut tables: Vec<Vec<Row<'_>>> = Vec::new();
    let mut inside = false;
    for (line, text) in (1..).zip(page.lines()) {
        let row = text.strip_prefix('|').map(|text| text.strip_suffix('|').unwrap_or(text));
        if let Some(row) = row {
            if !inside {
                tables.push(Vec::new());
            }
            let cells = row.split('|').map(str::trim).collect();
            tables.last_mut().expect("one was begun").push(Row { line, cells });
        }
        inside = row.is_some();
    }
    for table in &mut tables {
        table.drain(..2.min(table.len()));
    }
    tables
}

/// The first place where a table has not the ids that it should have.
fn wrong_order(rows: &[Row<'_>], ids: &[String]) -> Option<String> {
    for (row, id) in rows.iter().zip(ids) {
        if row.cells[0] != id {
            return Some(format!("line {} has {} where {id} should be", row.line, row.cells[0]));
        }
    }
    match (rows.get(ids.len()), ids.get(rows.len())) {
        (Some(row), _) => Some(format!("line {} has {}, one too many", row.line, row.cells[0])),
        (None, Some(id)) => Some(format!("{id} is missing")),
        (None, None) => None,
    }
}

/// Whether a row of this section may name this file.
fn may_stand(section: &str, file: &str) -> bool {
    let (of_the_rig, folder) = SECTION_OF_THE_RIG;
    section == SECTION_OF_FACTS || section == of_the_rig && file.starts_with(folder)
}

/// What is wrong with one part of the last cell: tests, a reason, or what is open.
fn wrong_names(part: &str, tests: &[Test], may_name: &dyn Fn(&str) -> bool) -> Vec<String> {
    if part.starts_with(OPEN) {
        return Vec::new();
    }
    if let Some(reason) = REASONS.iter().find_map(|reason| part.strip_prefix(reason)) {
        return if reason.trim().is_empty() { vec!["a reason is missing".to_owned()] } else { Vec::new() };
    }
    let wrong = |name: &str| {
        let Some(name) = name.strip_prefix('`').and_then(|name| name.strip_suffix('`')) else {
            return Some(format!("{name:?} is no test in backticks, nor {OPEN}, nor one of {REASONS:?}"));
        };
        if name.contains('/') {
            return (!may_name(name)).then(|| format!("{name} is not a file that may be named here"));
        }
        match tests.iter().filter(|test| is_meant(test, name)).count() {
            0 => Some(format!("there is no test {name}")),
            1 => None,
            count => Some(format!("{count} tests are called {name}: put the file before the name")),
        }
    };
    part.split(',').map(str::trim).filter_map(wrong).collect()
}

/// Whether `crate::file::name` means this test: the words before the name are of its place, in order.
fn is_meant(test: &Test, cited: &str) -> bool {
    let (words, name) = cited.rsplit_once("::").unwrap_or(("", cited));
    let mut place = test.place.iter();
    name == test.name && words.split_terminator("::").all(|word| place.any(|part| part == word))
}

/// The tests in a source file: `#[test]` or `#[tokio::test…]`, perhaps other attributes and comments, then a function.
/// What a `proptest!` holds looks the same.
fn tests_of(path: &Path, source: &str) -> Vec<Test> {
    let path = path.with_extension("");
    let place: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let mut found = Vec::new();
    let (mut marked, mut open_brackets) = (false, 0);
    for line in source.lines().map(str::trim) {
        if open_brackets > 0 || line.starts_with("#[") {
            marked |=
                open_brackets == 0 && (line.starts_with("#[test]") || line.starts_with("#[tokio::test"));
            // Of an attribute over several lines, and of what may stand behind one, the brackets tell the end.
            open_brackets += line.matches('[').count();
            open_brackets = open_brackets.saturating_sub(line.matches(']').count());
        } else if !line.is_empty() && !line.starts_with("//") {
            found.extend(function(line).filter(|_| marked).map(|name| Test { place: place.clone(), name }));
            marked = false;
        }
    }
    found
}

/// The name of the function that a line begins.
fn function(line: &str) -> Option<String> {
    let line = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
    let end = line.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    Some(line[..end].to_owned())
}

const SOURCE: &str = "
    fn helper() {}
    #[test]
    fn plain() { helper(); }
    #[tokio::test(flavor = \"multi_thread\")]
    #[expect(
        clippy::unwrap_used,
        reason = \"a test\"
    )]
    /// A comment.
    async fn asynchronous() {}
    // #[test]
    fn commented() {}
    #[cfg(test)]
    fn only_built_for_tests() {}
    proptest! {
        #[test]
        fn at_random(n in 0..3) {}
    }
    #[test]
    const NOT_A_FUNCTION: u32 = 1;
    fn after_it() {}
";

#[test]
fn a_test_is_a_function_behind_a_test_attribute() {
    let tests = tests_of(Path::new("crates/wal/src/row.rs"), SOURCE);
    let names: Vec<&str> = tests.iter().map(|test| test.name.as_str()).collect();
    assert_eq!(names, ["plain", "asynchronous", "at_random"]);
    assert_eq!(tests[0].place, ["crates", "wal", "src", "row"]);
    for (cited, meant) in [
        ("plain", true),
        ("wal::plain", true),
        ("wal::row::plain", true),
        ("row::wal::plain", false),
        ("history::plain", false),
        ("wal::plai", false),
    ] {
        assert_eq!(is_meant(&tests[0], cited), meant, "{cited}");
    }
}

#[test]
fn each_mistake_in_the_page_is_told_with_its_line_and_id() {
    let mut tests = tests_of(Path::new("crates/wal/src/row.rs"), SOURCE);
    tests.extend(tests_of(Path::new("crates/history/src/feed.rs"), "#[test]\nfn plain() {}"));
    let check = |facts: &[&str], rows: &[&str], complete: &[&str]| {
        let heading = "|id|what|does|shown|\n|---|---|---|---|\n";
        let page = format!("# Page\n\n{heading}{}\n\n{heading}{}\n", facts.join("\n"), rows.join("\n"));
        let wanted = [("V", "V", 1), ("D", "D", 2)];
        mistakes(&page, &wanted, complete, &tests, &|file| file == "src/there.rs").join("; ")
    };
    let (fact, first, second) =
        ("| V1 | x | y | `src/there.rs` |", "| D1 | x | y | `wal::plain` |", "| D2 | x | y | — |");
    assert_eq!(check(&[fact], &[first, second], &[]), "");
    assert_eq!(
        check(&[fact], &[first, "| D2 | x | y | `asynchronous`, `at_random`; refused: why; — more |"], &[]),
        ""
    );
    for (rows, complete, mistake) in [
        ([first, second], &["D"][..], "line 10, D2: something is open, and section D is complete"),
        ([first, "| D2 | x | y | `wal::plain`; — a part |"], &["D"], "line 10, D2: something is open, and"),
        ([second, first], &[], "section D: line 9 has D2 where D1 should be"),
        ([first, first], &[], "section D: line 10 has D1 where D2 should be"),
        ([first, ""], &[], "section D: D2 is missing"),
        ([first, "| D2 | x | y | — |\n| D3 | x | y | — |"], &[], "section D: line 11 has D3, one too many"),
        ([first, "| D2 | x | y |"], &[], "line 10, D2: a row has four cells"),
        ([first, "| D2 | x | | — |"], &[], "line 10, D2: a cell is empty"),
        ([first, "| D2 | x | y | |"], &[], "line 10, D2: \"\" is no test in backticks"),
        ([first, "| D2 | x | y | plain |"], &[], "line 10, D2: \"plain\" is no test in backticks"),
        ([first, "| D2 | x | y | refused: |"], &[], "line 10, D2: a reason is missing"),
        ([first, "| D2 | x | y | `helper` |"], &[], "line 10, D2: there is no test helper"),
        ([first, "| D2 | x | y | `wal::commented` |"], &[], "line 10, D2: there is no test wal::commented"),
        ([first, "| D2 | x | y | `plain` |"], &[], "line 10, D2: 2 tests are called plain: put the file"),
        (
            [first, "| D2 | x | y | `src/there.rs` |"],
            &[],
            "line 10, D2: src/there.rs is not a file that may be named",
        ),
    ] {
        let found = check(&[fact], &rows, complete);
        assert!(found.starts_with(mistake) && !found.contains("; "), "{found}\ninstead of\n{mistake}");
    }
    assert!(
        check(&["| V1 | x | y | `src/gone.rs` |"], &[first, second], &[])
            .contains("V1: src/gone.rs is not a file")
    );
    assert_eq!(check(&[], &[], &[]), "section V: V1 is missing; section D: D1 is missing");
}
