//! PostgreSQL's own load generator.

use std::path::Path;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::cluster::test_program;

const INIT_TIMEOUT: Duration = Duration::from_secs(300);
/// What a run may take beyond its own time.
const GRACE: Duration = Duration::from_secs(60);

/// The four tables that the standard script works on.
pub const TABLES: [&str; 4] = [
    "public.pgbench_accounts",
    "public.pgbench_branches",
    "public.pgbench_history",
    "public.pgbench_tellers",
];

/// Creates and fills the tables: 100,000 accounts per unit of `scale`.
pub async fn init(url: &str, scale: u32) {
    run_bounded(&["--initialize", "--quiet", "--scale", &scale.to_string(), url], INIT_TIMEOUT).await;
}

/// Runs the standard script (TPC-B) with this many connections for so long; gives what pgbench reports.
pub async fn run(url: &str, clients: u32, duration: Duration) -> String {
    let (clients, seconds) = (clients.to_string(), duration.as_secs().max(1).to_string());
    run_bounded(&["--no-vacuum", "--client", &clients, "--time", &seconds, url], duration + GRACE).await
}

/// Runs a script of the test's own, each client `transactions` times.
pub async fn run_script(
    url: &str,
    script: &Path,
    clients: u32,
    transactions: u32,
    patience: Duration,
) -> String {
    let (clients, transactions) = (clients.to_string(), transactions.to_string());
    let script = script.to_str().unwrap();
    let arguments =
        ["--no-vacuum", "--client", &clients, "--transactions", &transactions, "--file", script, url];
    run_bounded(&arguments, patience).await
}

async fn run_bounded(arguments: &[&str], patience: Duration) -> String {
    let program = test_program("pgbench");
    let running = Command::new(&program).args(arguments).kill_on_drop(true).output();
    let ended = timeout(patience, running).await;
    let output = ended
        .unwrap_or_else(|_| panic!("pgbench {arguments:?} still runs after {patience:?}"))
        .unwrap_or_else(|error| {
            panic!("run {}: {error}; scripts/install-test-deps installs it", program.display())
        });
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "pgbench {arguments:?}: {}{report}",
        String::from_utf8_lossy(&output.stderr)
    );
    report
}
