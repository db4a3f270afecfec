//! What comes from elsewhere: locked, of one registry, with checksums, none that is banned, none with a fault that is known, and
//! none that nothing uses.
//!
//! It reads `Cargo.lock`, the manifests and `deny.toml`, and asks nobody: advisories of today are `make deny`'s business. What
//! was found once must not come back, which is held here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use toml::{Table, Value};

use crate::{files_below, read, root};

/// Packages with the first version that is good, and why those before are not.
const FIXED_IN: &[(&str, [u64; 3], &str)] = &[
    ("bytes", [1, 11, 1], "RUSTSEC-2026-0007: a length that overflows"),
    ("curve25519-dalek", [4, 1, 3], "RUSTSEC-2024-0344: timing"),
    ("idna", [1, 0, 0], "RUSTSEC-2024-0421: two names that are taken for one"),
    ("jsonwebtoken", [10, 3, 0], "CVE-2026-25537: a claim of another type counts as none"),
    ("postgres-protocol", [0, 6, 12], "RUSTSEC-2026-0179, -0180: SCRAM without end, a panic at hstore"),
    ("ring", [0, 17, 12], "RUSTSEC-2025-0009: a panic"),
    ("rustls", [0, 23, 18], "RUSTSEC-2024-0399: a panic while a connection is accepted"),
    ("rustls-webpki", [0, 103, 13], "RUSTSEC-2026-0098, -0099, -0104: constraints of names, a panic"),
    ("sqlx", [0, 8, 1], "RUSTSEC-2024-0363: a length beyond 32 bits is cut off"),
    ("sqlx-core", [0, 8, 1], "RUSTSEC-2024-0363"),
    ("sqlx-postgres", [0, 8, 1], "RUSTSEC-2024-0363"),
    ("time", [0, 3, 47], "RUSTSEC-2026-0009: a stack that overflows"),
    ("tokio", [1, 44, 2], "RUSTSEC-2025-0023: unsound"),
    ("tokio-postgres", [0, 7, 18], "RUSTSEC-2026-0178: a panic at a short row"),
    ("tracing-subscriber", [0, 3, 20], "RUSTSEC-2025-0055: escapes of a terminal in a log"),
    ("tungstenite", [0, 20, 1], "RUSTSEC-2023-0065: a handshake without end"),
];

/// The tables of a manifest that name packages.
const TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

#[test]
fn dependencies_are_locked_to_one_registry_and_none_is_banned() {
    let mistakes = wrong_packages(&packages(&lock()), &members(), &banned(&table("deny.toml")));
    assert!(mistakes.is_empty(), "Cargo.lock\n{}", mistakes.join("\n"));
}

#[test]
fn no_dependency_is_below_the_fix_of_a_known_fault() {
    let packages = packages(&lock());
    let mistakes = unfixed(&packages);
    assert!(mistakes.is_empty(), "Cargo.lock\n{}", mistakes.join("\n"));
    // An entry for what is not there holds nothing.
    for (name, ..) in FIXED_IN {
        assert!(packages.iter().any(|package| package.name == *name), "{name} is not in Cargo.lock any more");
    }
}

#[test]
fn manifests_take_nothing_from_elsewhere_and_nothing_for_nobody() {
    let workspace = table("Cargo.toml");
    let mut mistakes: Vec<String> = ["patch", "replace"]
        .iter()
        .filter(|key| workspace.contains_key(**key))
        .map(|key| (*key).to_owned())
        .collect();
    let declared = workspace["workspace"]["dependencies"].as_table().expect("a table").clone();
    mistakes.extend(declared.iter().filter_map(|(name, how)| from_elsewhere(name, how)));
    let mut used = BTreeSet::new();
    for manifest in manifests() {
        let folder = manifest.parent().expect("a folder").strip_prefix(root()).expect("a file of ours");
        let folder = folder.to_string_lossy().into_owned();
        let sources: String = files_below(&folder, ".rs").iter().map(|path| read(path)).collect();
        let manifest: Table = read(&manifest).parse().expect("a manifest");
        for (name, how) in TABLES.iter().filter_map(|key| manifest.get(*key)?.as_table()).flatten() {
            if how.get("workspace").and_then(Value::as_bool) != Some(true) {
                mistakes.push(format!("{folder}: {name} does not come from the workspace"));
            }
            if !mentions(&sources, &name.replace('-', "_")) {
                mistakes.push(format!("{folder}: {name} is not used"));
            }
            used.insert(name.clone());
        }
    }
    mistakes.extend(
        declared.keys().filter(|name| !used.contains(*name)).map(|name| format!("no crate takes {name}")),
    );
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
}

/// A package of the lock file.
#[derive(Debug)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
}

fn lock() -> Table {
    table("Cargo.lock")
}

fn table(file: &str) -> Table {
    read(&root().join(file)).parse().unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn packages(lock: &Table) -> Vec<Package> {
    let text = |package: &Value, key: &str| Some(package.get(key)?.as_str()?.to_owned());
    let package = |package| Package {
        name: text(package, "name").expect("a name"),
        version: text(package, "version").expect("a version"),
        source: text(package, "source"),
        checksum: text(package, "checksum"),
    };
    lock["package"].as_array().expect("a list").iter().map(package).collect()
}

/// The manifests of our own packages.
fn manifests() -> Vec<PathBuf> {
    [files_below("crates", "Cargo.toml"), files_below("tests", "Cargo.toml")].concat()
}

/// The names of our own packages.
fn members() -> BTreeSet<String> {
    let name = |path: &PathBuf| {
        let manifest: Table = read(path).parse().expect("a manifest");
        manifest["package"]["name"].as_str().expect("a name").to_owned()
    };
    manifests().iter().map(name).collect()
}

fn banned(deny: &Table) -> Vec<String> {
    let list = deny["bans"]["deny"].as_array().expect("a list");
    list.iter().map(|entry| entry["crate"].as_str().expect("a name").to_owned()).collect()
}

/// What is wrong with where packages come from.
fn wrong_packages(packages: &[Package], members: &BTreeSet<String>, banned: &[String]) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut sources: BTreeMap<&str, &str> = BTreeMap::new();
    for Package { name, version, source, checksum } in packages {
        if banned.contains(name) {
            mistakes.push(format!("{name} is banned in deny.toml"));
        }
        match source.as_deref() {
            None if members.contains(name) => continue,
            None => mistakes.push(format!("{name} comes from a folder")),
            Some(source) if !source.starts_with("registry+https://") => {
                mistakes.push(format!("{name} comes from {source}"));
            }
            Some(source) => {
                sources.entry(source).or_insert(name);
            }
        }
        let is_hash = |sum: &String| sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !checksum.as_ref().is_some_and(is_hash) {
            mistakes.push(format!("{name} {version} has no checksum"));
        }
    }
    if sources.len() > 1 {
        mistakes.push(format!("there is more than one registry: {sources:?}"));
    }
    mistakes
}

/// Packages that are older than the fix of what is wrong with them.
fn unfixed(packages: &[Package]) -> Vec<String> {
    let mut mistakes = Vec::new();
    for (name, fixed_in, why) in FIXED_IN {
        for package in packages.iter().filter(|package| package.name == *name) {
            if number(&package.version).is_none_or(|number| number < *fixed_in) {
                mistakes.push(format!("{name} {}: {why}", package.version));
            }
        }
    }
    mistakes
}

/// The numbers of a version; `None` for one that is not released.
fn number(version: &str) -> Option<[u64; 3]> {
    let version = version.split('+').next()?;
    let numbers: Option<Vec<u64>> = version.split('.').map(|part| part.parse().ok()).collect();
    numbers?.try_into().ok()
}

/// What of a dependency of the workspace leads elsewhere than to the registry, or to a crate of ours.
fn from_elsewhere(name: &str, how: &Value) -> Option<String> {
    let version = match how {
        Value::Table(keys) => {
            let path = keys.get("path").and_then(Value::as_str);
            if name.starts_with("waldelta-")
                && path == Some(&format!("crates/{}", &name["waldelta-".len()..]))
            {
                return None;
            }
            let known = ["version", "default-features", "features"];
            if let Some(key) = keys.keys().find(|key| !known.contains(&key.as_str())) {
                return Some(format!("{name} has `{key}`"));
            }
            keys.get("version").and_then(Value::as_str)
        }
        other => other.as_str(),
    };
    // A version with a wildcard takes whatever is newest when the lock file is made anew.
    let is_bounded = version
        .is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()) && !version.contains('*'));
    (!is_bounded).then(|| format!("{name} has no version that bounds it"))
}

/// Whether a word is in a text, and not only as a part of another.
fn mentions(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part))
}

#[test]
fn each_mistake_in_what_comes_from_elsewhere_is_found() {
    let sum = "a".repeat(64);
    let registry = "registry+https://one.example/index";
    let members = BTreeSet::from(["ours".to_owned()]);
    let check = |lines: &str| {
        let lock: Table = format!("[[package]]\n{lines}").parse().unwrap_or_else(|error| panic!("{error}"));
        wrong_packages(&packages(&lock), &members, &["bad".to_owned()]).join("; ")
    };
    let package = |name: &str, rest: &str| format!("name = '{name}'\nversion = '1.0.0'\n{rest}\n");
    let good = package("good", &format!("source = '{registry}'\nchecksum = '{sum}'"));
    assert_eq!(check(&good), "");
    assert_eq!(check(&package("ours", "")), "");
    for (wrong, mistake) in [
        (good.replace("'good'", "'bad'"), "bad is banned"),
        (good.replace(&sum, "abc"), "good 1.0.0 has no checksum"),
        (good.replace("registry+", "git+"), "good comes from git+"),
        (package("theirs", ""), "theirs comes from a folder"),
        (format!("{good}[[package]]\n{}", good.replace("one.", "two.")), "more than one registry"),
    ] {
        assert!(check(&wrong).contains(mistake), "{mistake}: {}", check(&wrong));
    }

    let of = |version: &str| {
        let lock: Table =
            format!("[[package]]\nname = 'sqlx'\nversion = '{version}'").parse().expect("a table");
        unfixed(&packages(&lock)).len()
    };
    assert_eq!((of("0.8.0"), of("0.8.1"), of("0.10.0+meta"), of("0.9.0-rc.1"), of("0.9.0")), (1, 0, 0, 1, 0));

    let elsewhere = |line: &str| {
        let table: Table = line.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
        table.iter().find_map(|(name, how)| from_elsewhere(name, how)).unwrap_or_default()
    };
    for good in
        ["a = '1.2'", "a = { version = '1', features = ['x'] }", "waldelta-wal = { path = 'crates/wal' }"]
    {
        assert_eq!(elsewhere(good), "", "{good}");
    }
    for (wrong, mistake) in [
        ("a = { git = 'https://a.example' }", "`git`"),
        ("a = { version = '1', registry = 'r' }", "`registry`"),
        ("a = { path = '../a' }", "`path`"),
        ("waldelta-wal = { path = '../wal' }", "`path`"),
        ("a = '*'", "no version"),
        ("a = '>=1'", "no version"),
    ] {
        assert!(elsewhere(wrong).contains(mistake), "{wrong}: {}", elsewhere(wrong));
    }
    assert!(mentions("use toml::Table;", "toml") && !mentions("use toml_edit::Table; let atoml;", "toml"));
}
