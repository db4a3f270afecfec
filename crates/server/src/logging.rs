//! Logs: readable on a terminal, JSON lines otherwise, always on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::cli::{LogFormat, LogOptions};

/// Starts logging for the whole process.
pub(crate) fn start(options: &LogOptions) {
    // The database's notices about what is there already are nothing to tell, unless they are asked for.
    let filter = EnvFilter::try_new(format!("sqlx=warn,{}", options.log));
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("sqlx=warn,info"));
    let json = match options.log_format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Pretty => false,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json {
        builder.json().flatten_event(true).init();
    } else {
        builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).init();
    }
}
