//! Logs: readable on a terminal, JSON lines otherwise, always on standard error.

mod repeated;

use std::io::IsTerminal;

use anstream::{AutoStream, ColorChoice};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use self::repeated::Unrepeated;
pub(crate) use self::repeated::tell_unwritten;
use crate::cli::{LogFormat, LogOptions};
use crate::commands::progress::Aside;
use crate::metrics::logged::Problems;

/// What these tell of more than this has what clients send and get in it, and the parameters of statements: tokens and rows.
const NOT_TOLD: [&str; 3] = ["tungstenite", "tokio_tungstenite", "tokio_postgres"];
/// The database's notices about what is there already are nothing to tell, unless they are asked for.
const NOTICES: &str = "sqlx";

/// Starts logging for the whole process.
pub(crate) fn start(options: &LogOptions) {
    let json = match options.log_format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Pretty => false,
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(|| Aside);
    let layer = match json {
        true => layer.json().flatten_event(true).boxed(),
        false => layer
            .with_target(false)
            .with_ansi(AutoStream::choice(&std::io::stderr()) != ColorChoice::Never)
            .boxed(),
    };
    logged(layer, &options.log).init();
}

/// Whoever asks for less than the caps gets less: they take from what is asked for, and add nothing.
///
/// Both are layers of the whole, not filters of `layer` alone: such a filter keeps in the thread what it said last, and a library that
/// only asks whether it would be heard (sqlx, at every statement) makes it lose the next line of somebody else.
fn logged<L: Layer<Registry> + Send + Sync>(layer: L, asked: &str) -> impl Subscriber + Send + Sync {
    let asked_for = EnvFilter::try_new(asked).unwrap_or_else(|_| EnvFilter::new("info"));
    // No more than that: libraries ask for the most that anybody would hear before they make a line of it.
    let most = asked_for.max_level_hint().unwrap_or(LevelFilter::TRACE);
    let mut caps = Targets::new().with_default(most);
    caps.extend(NOT_TOLD.map(|target| (target, LevelFilter::INFO)));
    if !asked.contains(NOTICES) {
        caps.extend([(NOTICES, LevelFilter::WARN)]);
    }
    tracing_subscriber::registry().with(Unrepeated(layer)).with(Problems).with(asked_for).with(caps)
}

#[cfg(test)]
mod tests {
    use tracing::{Level, enabled};

    use super::*;

    #[test]
    fn a_line_that_nobody_asked_for_is_not_made() {
        for (asked, most) in [("info", LevelFilter::INFO), ("warn,waldelta=debug", LevelFilter::DEBUG)] {
            let layer = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
            assert_eq!(logged(layer, asked).max_level_hint(), Some(most), "{asked}");
        }
    }

    #[test]
    fn what_is_not_told_is_capped_and_never_more_than_was_asked_for() {
        for (asked, postgres, sqlx, ours) in [
            ("off", [false; 3], [false; 3], [false; 3]),
            ("error", [true, false, false], [true, false, false], [true, false, false]),
            ("info", [true, true, false], [true, false, false], [true, true, false]),
            ("trace", [true, true, false], [true, false, false], [true, true, true]),
            ("error,tokio_postgres=trace", [true, true, false], [true, false, false], [true, false, false]),
            ("error,sqlx=debug", [true, false, false], [true, true, true], [true, false, false]),
            ("tokio_postgres=off,info", [false; 3], [true, false, false], [true, true, false]),
            ("not a=filter=", [true, true, false], [true, false, false], [true, true, false]),
        ] {
            let layer = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
            tracing::subscriber::with_default(logged(layer, asked), || {
                macro_rules! told {
                    ($target:literal) => {
                        [
                            enabled!(target: $target, Level::ERROR),
                            enabled!(target: $target, Level::INFO),
                            enabled!(target: $target, Level::DEBUG),
                        ]
                    };
                }
                assert_eq!(told!("tokio_postgres::query"), postgres, "{asked}");
                assert_eq!(told!("sqlx::postgres::notice"), sqlx, "{asked}");
                assert_eq!(told!("waldelta::service"), ours, "{asked}");
            });
        }
    }
}
