//! What has to hold whatever bytes a parser is given: a function for each, which panics where it does not, and real inputs to begin
//! with. Tests call them with recordings that were damaged (`damage`), `make fuzz` with what it finds by coverage.
//!
//! Nothing here makes inputs.

mod streams;
mod texts;
mod values;

pub(crate) use streams::{framed, line_seeds, message_seeds, pgoutput, stream, stream_seeds, wal2json};
pub(crate) use texts::{copy, copy_seeds, envelope, envelope_seeds, name, name_seeds};
pub(crate) use values::{value, value_seeds};

/// A parser, with inputs that it reads.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// Panics where something does not hold.
    pub(crate) check: fn(&[u8]),
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
}

pub(crate) const TARGETS: [Target; 7] = [
    Target { name: "pgoutput", check: pgoutput, seeds: message_seeds },
    Target { name: "stream", check: stream, seeds: stream_seeds },
    Target { name: "wal2json", check: wal2json, seeds: line_seeds },
    Target { name: "value", check: value, seeds: value_seeds },
    Target { name: "name", check: name, seeds: name_seeds },
    Target { name: "copy", check: copy, seeds: copy_seeds },
    Target { name: "envelope", check: envelope, seeds: envelope_seeds },
];

/// What each of them was recorded from is accepted, and passes.
#[test]
fn what_was_recorded_passes() {
    for target in &TARGETS {
        let seeds = (target.seeds)();
        assert!(seeds.len() > 3, "{} has inputs to begin with", target.name);
        seeds.iter().for_each(|seed| (target.check)(seed));
    }
}
