//! Holds the rules that a machine can hold: which crate may know which, what the pure core may touch, how files look,
//! what comes from elsewhere, that generated pages are what the code says, and that the page of faults names tests that exist,
//! and that planted bugs can still be planted.

mod arrows;
mod dependencies;
mod faults;
mod files;
mod planted;
mod references;

use std::path::{Path, PathBuf};

/// The top of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies below the root").to_owned()
}

/// Files below a folder of the repository with this ending, build output left out.
fn files_below(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        {
            let path = entry.expect("a folder entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // Cargo marks its output so; a folder of sources may well be called target.
            let is_output = path.join("CACHEDIR.TAG").exists() || name == "node_modules";
            if path.is_dir() && !name.starts_with('.') && !is_output {
                folders.push(path);
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no {ending} below {folder}: the check would hold nothing");
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
