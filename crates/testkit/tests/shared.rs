//! The server that tests share: started once, stopped when nobody needs it.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use waldelta_testkit::shared;

const PROGRAM: &str = env!("CARGO_BIN_EXE_testpg");

/// A folder for a keeper, removed when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("waldelta-testpg-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    /// Port and keeper of the running server.
    fn server(&self) -> Option<String> {
        std::fs::read_to_string(self.0.join("server")).ok()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn port(server: &str) -> u16 {
    server.split(' ').next().unwrap().parse().unwrap()
}

fn answers(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn is_started_once_and_stopped_on_demand() {
    let scratch = Scratch::new("once");
    let start = || shared::start(Path::new(PROGRAM), &scratch.0, Duration::from_secs(600));
    std::thread::scope(|scope| {
        scope.spawn(start);
        scope.spawn(start);
    });
    let server = scratch.server().unwrap();
    start();
    assert_eq!(scratch.server().as_ref(), Some(&server));
    shared::stop(&scratch.0);
    assert!(scratch.server().is_none() && !answers(port(&server)));
    start();
    assert_ne!(scratch.server(), Some(server));
    shared::stop(&scratch.0);
}

#[test]
fn stays_while_somebody_uses_it_and_goes_when_nobody_does() {
    let scratch = Scratch::new("idle");
    let users = File::create(scratch.0.join("users.lock")).unwrap();
    users.lock_shared().unwrap();
    shared::start(Path::new(PROGRAM), &scratch.0, Duration::ZERO);
    let port = port(&scratch.server().unwrap());
    // Several looks of the keeper go by.
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        assert!(scratch.server().is_some() && answers(port));
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(users);
    wait_until("the server is gone", || scratch.server().is_none() && !answers(port));
}
