//! Coverage-guided fuzzing by libFuzzer (`make fuzz`): one program for all targets, which are the functions that property tests call
//! too. `WALDELTA_FUZZ_TARGET` names the target; with `WALDELTA_FUZZ_SEEDS` it writes what to begin with into that folder, and ends.

#![no_main]

#[path = "../../crates/wal/tests/real/targets/mod.rs"]
#[allow(unused_imports, reason = "tests use more of it")]
mod targets;
#[path = "../../crates/wal/tests/real/walsender.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod walsender;

use std::path::Path;
use std::process::exit;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

type Check = fn(&[u8]);
type Seeds = fn() -> Vec<Vec<u8>>;

static CHECK: OnceLock<Check> = OnceLock::new();

fn all() -> impl Iterator<Item = (&'static str, Check, Seeds)> {
    let wal = targets::TARGETS.iter().map(|target| (target.name, target.check, target.seeds));
    let fanout = waldelta_fanout::fuzzing::TARGETS.iter();
    wal.chain(fanout.map(|target| (target.name, target.check, target.seeds)))
}

fn choose() {
    let wanted = std::env::var("WALDELTA_FUZZ_TARGET").unwrap_or_default();
    let Some((_, check, seeds)) = all().find(|(name, ..)| *name == wanted) else {
        let names: Vec<_> = all().map(|(name, ..)| name).collect();
        println!("{}", names.join(" "));
        exit(2);
    };
    if let Ok(folder) = std::env::var("WALDELTA_FUZZ_SEEDS") {
        for (number, seed) in seeds().iter().enumerate() {
            std::fs::write(Path::new(&folder).join(format!("seed-{number}")), seed).expect("write a seed");
        }
        exit(0);
    }
    CHECK.get_or_init(|| check);
}

fuzz_target!(init: choose(), |data: &[u8]| {
    if let Some(check) = CHECK.get() {
        check(data);
    }
});
