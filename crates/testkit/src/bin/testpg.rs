//! Starts and stops the PostgreSQL that all tests of a run share. `start` is called before the tests; the server stops by
//! itself when nobody has used it for ten minutes. What killed tests of earlier runs left behind is removed meanwhile.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use waldelta_testkit::{left_behind, shared};

fn main() -> ExitCode {
    let program = std::env::current_exe().expect("this program's own path");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["start"] => {
            left_behind::clear();
            let folder = shared::folder(&program);
            shared::start(&program, &folder, shared::IDLE_TIMEOUT);
            announce(&folder);
        }
        ["stop"] => shared::stop(&shared::folder(&program)),
        ["stop-unused"] => {
            if !shared::stop_unused(&shared::folder(&program)) {
                let _ = writeln!(std::io::stderr(), "testpg: somebody uses the server, it stays");
            }
        }
        ["keep", folder, seconds] => {
            let seconds = seconds.parse().expect("a number of seconds");
            shared::keep(Path::new(folder), Duration::from_secs(seconds));
        }
        _ => {
            let _ = writeln!(std::io::stderr(), "usage: testpg start|stop|stop-unused");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Tells nextest, which starts us as a set-up script, what to put into every test's environment; else the caller.
fn announce(folder: &Path) {
    let line = format!("{}={}\n", shared::FOLDER_VARIABLE, folder.display());
    let told = match std::env::var_os("NEXTEST_ENV") {
        Some(file) => std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(file)
            .and_then(|mut file| file.write_all(line.as_bytes())),
        None => std::io::stdout().write_all(line.as_bytes()),
    };
    told.expect("say where the server is");
}
