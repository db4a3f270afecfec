//! How files look.

use crate::{files_below, read, root};

const LINES_MAX: usize = 600;
/// One list, in which each entry is looked up by its name and none is read with another.
const LISTS: &[&str] = &["crates/wal/src/code.rs"];
/// A name that says nothing collects everything.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "types", "manager", "misc"];

#[test]
fn every_source_file_says_what_it_is_for() {
    for folder in ["crates", "tests"] {
        for path in files_below(folder, ".rs") {
            assert!(read(&path).starts_with("//!"), "{} does not begin with //!", path.display());
        }
    }
}

#[test]
fn files_stay_small_and_have_telling_names() {
    for folder in ["crates", "tests"] {
        for path in files_below(folder, ".rs") {
            let lines = read(&path).lines().count();
            let is_list = LISTS.iter().any(|list| path.ends_with(list));
            assert!(
                is_list || lines <= LINES_MAX,
                "{} has {lines} lines, more than {LINES_MAX}",
                path.display()
            );
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            assert!(!EMPTY_NAMES.contains(&stem.as_ref()), "{} has a name that says nothing", path.display());
        }
    }
}

#[test]
fn nothing_is_unfinished_or_left_out_of_the_suite() {
    for folder in ["crates", "tests"] {
        for path in files_below(folder, ".rs") {
            let text = read(&path);
            for (a, b) in [("todo", "!("), ("unimplemented", "!("), ("#[al", "low(")] {
                let word = format!("{a}{b}");
                assert!(!text.contains(&word), "{}: {word}", path.display());
            }
            // A test that the suite leaves out names the target that runs it.
            for reason in text.split(concat!("#[ig", "nore")).skip(1) {
                assert!(reason.starts_with(" = \"make "), "{}: a test that nothing runs", path.display());
            }
        }
    }
}

/// A line of log as JSON has of an error value only what that error says, and nothing of its causes.
#[test]
fn errors_are_logged_with_their_causes() {
    for path in files_below("crates", ".rs") {
        let cast = concat!("as &dyn std::", "error::Error");
        assert!(!read(&path).contains(cast), "{}: log chain_text of it", path.display());
    }
}

/// Links between our own pages lead somewhere.
#[test]
fn links_between_pages_lead_somewhere() {
    let mut pages = files_below("docs", ".md");
    pages.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|name| root().join(name)));
    for page in pages {
        for target in read(&page).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let path = page.parent().expect("a folder").join(file);
            assert!(path.exists(), "{} links to {target}, which is not there", page.display());
        }
    }
}
