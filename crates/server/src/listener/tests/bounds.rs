//! More connections than there are places for.

#![cfg(target_os = "linux")]

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpSocket;
use waldelta_testkit::wait_until;

use super::*;

const ASK: &[u8] = b"GET /peer HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// All of 127.0.0.0/8 is this machine.
async fn from(address: &str, world: &World) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    socket.connect(world.address).await.unwrap()
}

async fn answer(mut socket: TcpStream) -> String {
    let _ = socket.write_all(ASK).await;
    until_closed(&mut socket).await
}

#[tokio::test]
async fn a_flood_from_one_address_leaves_others_served() {
    let world = World::with(FOR_EVER, Bounds { all: 8, per_address: 4 }, &[], None);
    let mut flood = Vec::new();
    for _ in 0..40 {
        flood.push(from("127.0.0.2", &world).await);
    }
    wait_until("its places are taken", DEADLINE, async || world.serving.gate.open() == (4, 1)).await;
    let told = answer(from("127.0.0.2", &world).await).await;
    assert!(told.is_empty() || told.starts_with("HTTP/1.1 429 "), "{told}");
    assert!(answer(from("127.0.0.3", &world).await).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(world.requests(), 1, "of the flood nothing is read");

    // What becomes a WebSocket keeps its place.
    wait_until("the answer's place is free", DEADLINE, async || world.serving.gate.open() == (4, 1)).await;
    let upgraded = echoing(from("127.0.0.3", &world).await).await;
    assert_eq!(world.serving.gate.open(), (5, 2));
    drop(upgraded);
    wait_until("until it ends", DEADLINE, async || world.serving.gate.open() == (4, 1)).await;

    drop(flood);
    wait_until("they are free again", DEADLINE, async || world.serving.gate.open() == (0, 0)).await;
    assert!(answer(from("127.0.0.2", &world).await).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn who_finds_no_place_at_all_is_told_to_come_back() {
    let world = World::with(FOR_EVER, Bounds { all: 2, per_address: 2 }, &[], None);
    let kept = [from("127.0.0.2", &world).await, from("127.0.0.3", &world).await];
    wait_until("the places are taken", DEADLINE, async || world.serving.gate.open() == (2, 2)).await;
    // It is told before it has asked, and so sees it.
    let told = until_closed(&mut from("127.0.0.4", &world).await).await;
    assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
    drop(kept);
    wait_until("there are places", DEADLINE, async || world.is_served().await).await;
}

/// The tests of a run are processes of their own: the limit is this one's.
#[tokio::test]
async fn without_open_files_the_loop_waits_and_goes_on_when_there_are_some() {
    let world = World::new(FOR_EVER);
    assert!(world.is_served().await);
    let before = getrlimit(Resource::Nofile);
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    setrlimit(Resource::Nofile, Rlimit { current: Some(open + 20), ..before }).unwrap();
    // The system connects them before the loop has its turn; each is a file here, and would be another one for the listener.
    let connect = |_| std::net::TcpStream::connect(world.address).unwrap();
    let clients: Vec<_> = (0..14).map(connect).collect();
    let begun = tokio::time::Instant::now();
    let failures = || world.serving.gate.failures();
    wait_until("it cannot accept, and tries again", DEADLINE, async || failures() >= 3).await;
    let tries_max = begun.elapsed().as_millis() / FOR_EVER.exhausted.as_millis() + 2;
    assert!(u128::from(failures()) <= tries_max, "{} of {tries_max}", failures());
    drop(clients);
    setrlimit(Resource::Nofile, before).unwrap();
    assert!(world.is_served().await);
}
