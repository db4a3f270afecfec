//! The paths that are counted. Each begins with what the part before it really gives: a walsender's bytes, or the changes that
//! capture made of them.

use anyhow::{Context, ensure};
use waldelta_capture::guard::Decoder;
use waldelta_fanout::guard::Clients;
use waldelta_history::Transaction;
use waldelta_history::guard::Encoder;

use crate::walsender::{Row, Rows, block, transaction_of_tenants};

/// Rows of a block: so many that what a connection begins with does not show.
const ROWS: u32 = 1_000;
/// Scopes that a transaction is routed over.
const SCOPES: u32 = 1_000;

/// Runs a path once, and says how much came of it, in whatever it counts.
type Run = Box<dyn FnMut() -> anyhow::Result<usize>>;

/// One path.
pub(crate) struct Path {
    pub name: &'static str,
    /// Makes ready what one run needs, which is not counted.
    pub prepare: fn() -> anyhow::Result<Run>,
}

pub(crate) const PATHS: [Path; 7] = [
    // From the bytes of 1,000 rows to those of history's COPY.
    Path { name: "capture-insert", prepare: || capture(Rows { row: Row::Narrow, updates: false }) },
    Path { name: "capture-update", prepare: || capture(Rows { row: Row::Usual, updates: true }) },
    Path { name: "capture-wide", prepare: || capture(Rows { row: Row::Wide, updates: false }) },
    // A transaction of two inserts and two updates, each of another tenant.
    Path { name: "route-equality", prepare: || route(|scope| format!("tenant = {scope}"), 4) },
    Path { name: "route-range", prepare: || route(|scope| format!("id > {}", 1_000_000 + scope), 0) },
    // The same transaction to a socket.
    Path { name: "frame", prepare: frame },
    Path { name: "pack", prepare: pack },
];

fn capture(rows: Rows) -> anyhow::Result<Run> {
    let block = block(rows, ROWS);
    let mut encoder = Encoder::new();
    Ok(Box::new(move || {
        let pieces = Decoder::new().decode(block.clone())?;
        let changes: usize = pieces.iter().map(|piece| piece.changes.len()).sum();
        ensure!(changes == usize::try_from(ROWS)?, "{changes} changes came of {ROWS} rows");
        encoder.encode(&pieces).context("a value is too large")
    }))
}

fn route(filter: fn(u32) -> String, concerned: u64) -> anyhow::Result<Run> {
    let mut clients = Clients::following("t", (0..SCOPES).map(filter));
    let mut transaction = transaction()?;
    Ok(Box::new(move || {
        let scopes = clients.route(&mut transaction);
        ensure!(scopes == concerned, "it concerns {scopes} scopes");
        Ok(transaction.changes.len())
    }))
}

fn frame() -> anyhow::Result<Run> {
    let mut clients = Clients::following("t", [String::new()]);
    let mut transaction = transaction()?;
    Ok(Box::new(move || {
        clients.route(&mut transaction);
        Ok(clients.send())
    }))
}

fn pack() -> anyhow::Result<Run> {
    let mut clients = Clients::following("t", [String::new()]);
    let mut transaction = transaction()?;
    Ok(Box::new(move || {
        clients.route(&mut transaction);
        Ok(clients.pack())
    }))
}

/// As capture gives it to the fan-out.
fn transaction() -> anyhow::Result<Transaction> {
    let pieces = Decoder::new().decode(transaction_of_tenants())?;
    let piece = pieces.into_iter().next().context("no transaction came of the block")?;
    Ok(Transaction { head: piece.head, changes: piece.changes })
}
