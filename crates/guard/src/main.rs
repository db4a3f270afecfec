//! Runs one hot path so many times: `waldelta-guard NAME TIMES`. `scripts/guard` runs it under callgrind with two numbers of times,
//! and what the difference took is what one time takes. It measures nothing itself, and uses no clock and no chance.
//!
//! Without a name it prints the names.

mod paths;
mod walsender;

use std::hint::black_box;
use std::io::Write;

use anyhow::{Context, ensure};

use crate::paths::PATHS;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        for path in &PATHS {
            writeln!(std::io::stdout(), "{}", path.name).context("print the names")?;
        }
        return Ok(());
    };
    let path =
        PATHS.iter().find(|path| path.name == name).with_context(|| format!("no path is called {name}"))?;
    let times: u32 =
        arguments.next().context("say how many times")?.parse().context("read how many times")?;
    let mut run = (path.prepare)()?;
    for _ in 0..times {
        // What gives nothing was not run.
        ensure!(black_box(run()?) > 0, "{name} gave nothing");
    }
    Ok(())
}
