//! This crate computes and never waits: its manifest names no runtime, socket or database, and its sources use none of the
//! standard library's.

use std::fs;
use std::path::Path;

const MAY_USE: &[&str] = &["bytes", "memchr", "serde", "serde_json", "sha2", "thiserror"];
const MUST_NOT_USE: &[&str] =
    &["std::net", "std::fs", "std::env", "std::time", "std::thread", "std::process", "async "];

#[test]
fn the_manifest_names_nothing_that_waits() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let (_, after) = manifest.split_once("\n[dependencies]\n").unwrap();
    let dependencies: Vec<&str> = after
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(dependencies, MAY_USE, "a new dependency must be as pure as these");
}

#[test]
fn the_sources_use_nothing_that_waits() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for source in fs::read_dir(folder).unwrap() {
            let path = source.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for word in MUST_NOT_USE {
                assert!(!text.contains(word), "{} uses {word}", path.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 10, "the sources were looked at");
}
