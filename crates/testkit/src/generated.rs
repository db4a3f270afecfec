//! Files of the repository that are made from the code: `make docs` writes them, and a test fails when one is stale.

use std::path::Path;

/// Compares a generated file, named as seen from the root of the repository, with what it should be; or writes it when
/// `WALDELTA_UPDATE_DOCS` is set.
#[expect(clippy::disallowed_methods, reason = "the only knob of these tests, set by `make docs`")]
pub fn generated(path: &str, wanted: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::var("WALDELTA_UPDATE_DOCS").is_ok() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, wanted).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == wanted, "{path} is stale: run `make docs`");
}
