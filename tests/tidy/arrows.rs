//! The arrows between crates, as ARCHITECTURE.md draws them. A new arrow is a decision: it is made here.

use crate::{files_below, read, root};

/// What each crate may know of the workspace, and external crates that it must never use.
const ALLOWED: &[(&str, &[&str], &[&str])] = &[
    ("wal", &[], &["tokio", "tokio-postgres", "sqlx", "axum", "socket2"]),
    ("pgconn", &["wal"], &["axum", "sqlx"]),
    ("source", &["pgconn", "wal"], &["axum", "sqlx"]),
    ("history", &["pgconn", "wal"], &["axum", "postgres-protocol"]),
    ("capture", &["history", "pgconn", "source", "wal"], &["axum", "sqlx"]),
    ("access", &["history", "wal"], &["axum", "postgres-protocol", "sqlx", "tokio-postgres"]),
    ("fanout", &["access", "history", "source", "wal"], &["postgres-protocol", "sqlx"]),
    ("console", &[], &["axum", "sqlx", "tokio-postgres"]),
    ("pglocal", &["wal"], &["axum", "sqlx", "tokio-postgres"]),
    (
        "server",
        &["access", "capture", "console", "fanout", "history", "pgconn", "pglocal", "source", "wal"],
        &["sqlx", "postgres-protocol"],
    ),
    ("testkit", &["pglocal", "wal"], &["sqlx"]),
    ("torture", &["testkit", "wal"], &[]),
    ("guard", &["capture", "fanout", "history"], &["tokio"]),
    ("bench", &["capture", "fanout", "history", "pgconn", "pglocal", "source", "testkit", "wal"], &[]),
];

#[test]
fn no_crate_knows_more_than_it_may() {
    for (name, allowed, forbidden) in ALLOWED {
        let manifest: toml::Table =
            read(&root().join("crates").join(name).join("Cargo.toml")).parse().expect("a manifest");
        let dependencies = manifest.get("dependencies").and_then(|table| table.as_table());
        for dependency in dependencies.into_iter().flat_map(|table| table.keys()) {
            assert!(!forbidden.contains(&dependency.as_str()), "{name} must never use {dependency}");
            if let Some(part) = dependency.strip_prefix("waldelta-") {
                assert!(allowed.contains(&part), "{name} -> {part} is not an arrow of ARCHITECTURE.md");
            }
        }
    }
}

#[test]
fn every_crate_has_its_arrows_written_down() {
    for manifest in files_below("crates", "Cargo.toml") {
        let name =
            manifest.parent().and_then(|folder| folder.file_name()).expect("a folder").to_string_lossy();
        assert!(
            ALLOWED.iter().any(|(known, _, _)| *known == name),
            "crates/{name} is not in the list of arrows"
        );
    }
}

/// Bytes in, values out: what the pure core computes depends on its arguments only.
#[test]
fn the_pure_core_waits_for_nothing_and_asks_nobody() {
    for path in files_below("crates/wal/src", ".rs") {
        let text = read(&path);
        for word in
            ["async fn", ".await", "std::net", "std::fs", "std::env", "SystemTime", "Instant", "std::thread"]
        {
            assert!(!text.contains(word), "{}: {word} has no place in the pure core", path.display());
        }
    }
}
