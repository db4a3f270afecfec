//! The server that tests share: started once, stopped when nobody needs it.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, getsid};
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
    let keeper = Pid::from_raw(server.split(' ').nth(1).unwrap().parse().unwrap());
    assert_eq!(getsid(keeper).ok(), keeper, "the end of our session would be the end of everybody's server");
    shared::stop(&scratch.0);
    assert!(scratch.server().is_none() && !answers(port(&server)));
    start();
    assert_ne!(scratch.server(), Some(server));
    shared::stop(&scratch.0);
}

#[test]
fn a_server_in_use_is_not_stopped_by_who_only_tidies_up() {
    let scratch = Scratch::new("unused");
    assert!(shared::stop_unused(&scratch.0), "there is none");
    shared::start(Path::new(PROGRAM), &scratch.0, Duration::from_secs(600));
    let port = port(&scratch.server().unwrap());
    let user = File::open(scratch.0.join("users.lock")).unwrap();
    user.lock_shared().unwrap();
    assert!(!shared::stop_unused(&scratch.0) && answers(port));
    drop(user);
    assert!(shared::stop_unused(&scratch.0) && scratch.server().is_none() && !answers(port));
}

#[test]
fn what_a_killed_keeper_left_behind_is_no_server() {
    let scratch = Scratch::new("stale");
    // Its port is somebody else's by now, and so may be its process id: ours.
    let somebody = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let stale = format!("{} {}", somebody.local_addr().unwrap().port(), std::process::id());
    std::fs::write(scratch.0.join("server"), &stale).unwrap();
    shared::stop(&scratch.0);
    shared::start(Path::new(PROGRAM), &scratch.0, Duration::from_secs(600));
    assert_ne!(scratch.server(), Some(stale));
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
