//! That the bugs which are planted to try the torture rig can still be planted: each patch says what it breaks, and finds the text that
//! it replaces. Whether the rig notices them is tried by `scripts/planted`, which takes long.

use std::path::Path;

use crate::{files_below, read, root};

const FOLDER: &str = "crates/torture/planted";

/// One place of a patch: the file, the text that is there, and the text that takes its place.
struct Hunk {
    file: String,
    old: String,
    new: String,
}

#[test]
fn every_planted_bug_says_what_it_breaks_and_still_fits() {
    for path in files_below(FOLDER, ".patch") {
        let (name, text) = (path.display(), read(&path));
        let (words, _) = text.split_once("\n--- a/").unwrap_or_else(|| panic!("{name}: it patches nothing"));
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("To be noticed by "), "{name} does not say what has to notice it");
        for Hunk { file, old, new } in hunks(&text) {
            let source = read(&root().join(&file));
            // `scripts/planted` lets it be at another line, and nothing else differ.
            let places = source.match_indices(&old).count();
            assert_eq!(places, 1, "{name} does not fit {file} any more: places with\n{old}");
            assert_ne!(old, new, "{name} changes nothing");
        }
    }
}

#[test]
fn the_page_names_every_planted_bug() {
    let page = read(&root().join("docs/reliability.md"));
    for path in files_below(FOLDER, ".patch") {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        assert!(page.contains(&format!("| {name} |")), "docs/reliability.md has no line for {name}");
    }
}

fn hunks(text: &str) -> Vec<Hunk> {
    let mut hunks: Vec<Hunk> = Vec::new();
    let (mut file, mut inside) = (String::new(), false);
    for line in text.lines() {
        if let Some(path) = line.strip_prefix("+++ b/") {
            (file, inside) = (path.to_owned(), false);
        } else if line.starts_with("--- a/") {
            inside = false;
        } else if line.starts_with("@@ ") {
            hunks.push(Hunk { file: file.clone(), old: String::new(), new: String::new() });
            inside = true;
        } else if inside && let Some(hunk) = hunks.last_mut() {
            let (kind, rest) = line.split_at_checked(1).unwrap_or((" ", ""));
            for side in [("-", &mut hunk.old), ("+", &mut hunk.new)] {
                if kind == " " || kind == side.0 {
                    side.1.push_str(rest);
                    side.1.push('\n');
                }
            }
        }
    }
    assert!(hunks.iter().all(|hunk| Path::new(&hunk.file).extension().is_some()), "a hunk without a file");
    hunks
}
