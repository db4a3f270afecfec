//! The binary: reads the command line and the configuration, wires the parts together, supervises them.
//!
//! No business decisions are made here; each part makes its own.

mod cli;
mod clients;
mod commands;
mod config;
mod console;
mod environment;
mod example;
mod failure;
mod http;
mod human;
mod listener;
mod logging;
mod metrics;
mod notify;
mod open_files;
mod page;
mod role;
mod service;
mod status;
mod supervise;
mod systemd;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // One provider for TLS in the whole process: two would panic at run time.
    let installed = rustls::crypto::ring::default_provider().install_default();
    debug_assert!(installed.is_ok(), "nothing installed a provider before main");
    let cli = cli::Cli::parse();
    logging::start(&cli.log);
    #[cfg(feature = "failpoints")]
    let _fault_points = arm_fault_points();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure::report(&anyhow::Error::new(error).context("start the runtime")),
    };
    let outcome = runtime.block_on(commands::dispatch(cli.command));
    // Blocking helpers (a password prompt, a DNS look-up) must not hold up the exit.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match outcome {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}

/// Takes the fault points from `FAILPOINTS`. A `panic` at one is as abrupt as kill -9: nothing is unwound, closed or told.
#[cfg(feature = "failpoints")]
fn arm_fault_points() -> fail::FailScenario<'static> {
    let show = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        show(panic);
        // The words of the `fail` crate.
        if panic.payload_as_str().is_some_and(|text| text.starts_with("failpoint ")) {
            std::process::abort();
        }
    }));
    fail::FailScenario::setup()
}
