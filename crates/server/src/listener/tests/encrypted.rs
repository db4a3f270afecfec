//! TLS: whose certificate is shown, who is not waited for, and what becomes of connections when another certificate is read.

use std::path::PathBuf;

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use tokio::net::TcpSocket;
use waldelta_testkit::tls::{self, Certificate, ELSEWHERE, FIRST, SECOND};

use super::*;
use crate::failure;

/// Two files of a test, that are gone with it.
struct Files(PathBuf);

impl Files {
    fn new(name: &str, pair: &Certificate) -> Self {
        let folder = std::env::temp_dir().join(format!("waldelta-tls-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let files = Files(folder);
        files.write(pair.certificate, pair.key);
        files
    }

    fn write(&self, certificate: &str, key: &str) {
        std::fs::write(self.certificate(), certificate).unwrap();
        std::fs::write(self.key(), key).unwrap();
    }

    fn certificate(&self) -> PathBuf {
        self.0.join("chain.pem")
    }

    fn key(&self) -> PathBuf {
        self.0.join("key.pem")
    }

    fn load(&self) -> anyhow::Result<Certificates> {
        Certificates::load(&self.certificate(), &self.key())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn encrypted(name: &str, pair: &Certificate, patience: Patience) -> (World, Arc<Certificates>, Files) {
    let files = Files::new(name, pair);
    let certificates = Arc::new(files.load().unwrap());
    (World::with(patience, MANY, &[], Some(certificates.clone())), certificates, files)
}

async fn is_served(world: &World) -> bool {
    let mut socket = tls::connect(world.address.port()).await.unwrap();
    socket.write_all(b"GET /peer HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    until_closed(&mut socket).await.ends_with("\r\n\r\n127.0.0.1 true")
}

#[tokio::test]
async fn a_client_that_verifies_is_served_over_both_versions() {
    let (world, ..) = encrypted("both", &FIRST, FOR_EVER);
    assert!(is_served(&world).await);
    for version in [&TLS12, &TLS13] {
        let stream = world.connect().await;
        let name = ServerName::try_from("localhost").unwrap();
        let mut socket = tls::client(&[version], &[]).connect(name, stream).await.unwrap();
        socket
            .write_all(b"GET /said/it HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        assert!(until_closed(&mut socket).await.ends_with("\r\n\r\nit"), "{version:?}");
    }
    let name = ServerName::try_from("localhost").unwrap();
    let other = tls::client(&[&TLS13], &["h2"]).connect(name, world.connect().await).await;
    assert!(other.is_err(), "nothing but HTTP/1.1 is spoken");
}

#[tokio::test]
async fn a_client_that_verifies_does_not_speak_to_another() {
    let (world, ..) = encrypted("another", &ELSEWHERE, FOR_EVER);
    let refused = tls::connect(world.address.port()).await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    assert_eq!(world.requests(), 0);
}

/// So many that say nothing, and so many that begin a handshake and do not go on with it.
async fn slow(world: &World, address: &str, count: usize) -> Vec<TcpStream> {
    let mut slow = Vec::new();
    for number in 0..2 * count {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
        let mut socket = socket.connect(world.address).await.unwrap();
        if number % 2 == 0 {
            socket.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
        }
        slow.push(socket);
    }
    slow
}

/// All of 127.0.0.0/8 is this machine.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn slow_handshakes_hold_up_nobody() {
    OpenFiles::raise();
    let files = Files::new("slow", &FIRST);
    let certificates = Some(Arc::new(files.load().unwrap()));
    let world = World::with(FOR_EVER, Bounds { all: 2_000, per_address: 500 }, &[], certificates);
    // From some addresses, of which each has more than may be under way.
    let mut held = Vec::new();
    for number in 2..11 {
        let address = format!("127.0.0.{number}");
        held.extend(slow(&world, &address, 66).await);
        waldelta_testkit::wait_until("those of one address wait for each other", DEADLINE, async || {
            world.serving.gate.turns(address.parse().unwrap()) == 0
        })
        .await;
    }
    let served = tokio::time::timeout(DEADLINE, is_served(&world)).await;
    assert!(served.expect("it waits for no other address"));
}

#[tokio::test]
async fn slow_handshakes_end() {
    let (world, ..) = encrypted("end", &FIRST, Patience { handshake: SHORT, ..FOR_EVER });
    for mut socket in slow(&world, "127.0.0.1", 80).await {
        assert_eq!(until_closed(&mut socket).await, "");
    }
    waldelta_testkit::wait_until("their places are free", DEADLINE, async || {
        world.serving.gate.open() == (0, 0)
    })
    .await;
}

#[tokio::test]
async fn who_speaks_plain_http_is_told_what_is_spoken() {
    let (world, ..) = encrypted("plain", &FIRST, FOR_EVER);
    let answer = world.tell("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains(&format!("content-length: {}\r\n", body.len()))
            || head.ends_with(&format!("content-length: {}", body.len())),
        "{answer}"
    );
    assert_eq!(world.tell("\0\0\0\0").await, "");
    // What is no handshake within what begins like one.
    let noise = world.tell("\u{16}nonsense that is no record of a handshake").await;
    assert!(!noise.contains("HTTP"), "{noise}");
    assert!(is_served(&world).await);
}

#[tokio::test]
async fn another_certificate_is_for_those_who_come_later() {
    let (world, certificates, files) = encrypted("reload", &FIRST, FOR_EVER);
    let port = world.address.port();
    let first = tls::connect(port).await.unwrap();
    assert!(tls::shows(&first, &FIRST));
    let mut open = echoing(first).await;
    echoes(&mut open, "before").await;

    files.write(SECOND.certificate, SECOND.key);
    assert!(tls::shows(&tls::connect(port).await.unwrap(), &FIRST), "not before it is told");
    certificates.take(&files.load().unwrap());
    let second = tls::connect(port).await.unwrap();
    assert!(tls::shows(&second, &SECOND));
    echoes(&mut echoing(second).await, "on the second").await;
    echoes(&mut open, "and on the first, which goes on").await;

    for (certificate, key) in [(FIRST.certificate, SECOND.key), ("", SECOND.key), (FIRST.certificate, "")] {
        files.write(certificate, key);
        assert!(files.load().is_err());
    }
    echoes(&mut open, "to its end").await;
}

#[test]
fn what_cannot_be_used_is_named_with_the_reason_and_without_the_key() {
    let files = Files::new("bad", &FIRST);
    let half = &FIRST.key[..FIRST.key.len() / 2];
    let broken = FIRST.key.replacen("MIG", "!!!", 1);
    for (certificate, key, at_fault, why) in [
        (FIRST.certificate, SECOND.key, "key.pem", "it is not the key of "),
        (FIRST.key, FIRST.key, "chain.pem", "there is no certificate in it"),
        ("", FIRST.key, "chain.pem", "there is no certificate in it"),
        (FIRST.certificate, FIRST.certificate, "key.pem", "there is no private key in it"),
        (FIRST.certificate, half, "key.pem", "it breaks off"),
        (FIRST.certificate, &broken, "key.pem", "it is not in PEM"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", FIRST.key, "chain.pem", ""),
    ] {
        files.write(certificate, key);
        let error = files.load().map(drop).unwrap_err();
        assert_eq!(failure::code_of(&error), Some(Code::CertificateInvalid));
        let text = failure::chain_text(&error);
        assert!(text.contains(at_fault) && text.contains(why), "{text}");
        for line in FIRST.key.lines().chain(SECOND.key.lines()).filter(|line| !line.starts_with('-')) {
            assert!(!text.contains(line), "{text}");
        }
    }
    let nowhere = Certificates::load(&files.0.join("nowhere"), &files.key()).map(drop).unwrap_err();
    assert!(failure::chain_text(&nowhere).contains("nowhere: No such file"), "{nowhere:#}");
    files.write(&format!("{}{}", FIRST.certificate, tls::AUTHORITY), FIRST.key);
    assert!(files.load().is_ok(), "a chain");
}
