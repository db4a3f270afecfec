//! One request: over TLS, to nobody but the one who is meant, bounded in every way.

use std::error::Error as _;

use rustls::RootCertStore;

use super::super::fetch::{self, BODY_BYTES_MAX};
use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

async fn fetch(url: &str, allow_private: bool) -> Result<Vec<u8>, FetchError> {
    fetch::fetch(PATIENCE, &Place::parse(url, allow_private).unwrap(), None).await
}

/// Settings that trust one certificate.
fn trusting(certificate: &rustls::pki_types::CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[tokio::test]
async fn a_set_is_fetched_over_tls_from_who_can_be_trusted() {
    let signer = Signer::p256();
    let endpoint = Endpoint::start_encrypted(set(&[(&signer, "a")]));
    let place = Place::parse(&endpoint.url(), true).unwrap();
    let tls = trusting(endpoint.certificate.as_ref().unwrap());
    let jwks = Jwks { tls: Some(tls.clone()), time: PATIENCE, ..Jwks::new(place) };
    let now = Instant::now();
    jwks.refresh(now).await;
    assert_eq!(find(&jwks, "a", now), None);
    let asked = endpoint.asked();
    let host = format!("host: localhost:{}\r\n", endpoint.port());
    assert!(asked.starts_with("GET /keys?v=1 HTTP/1.1\r\n") && asked.contains(&host), "{asked}");

    let of_another_name = format!("https://127.0.0.1:{}/", endpoint.port());
    let place = Place::parse(&of_another_name, true).unwrap();
    let error = fetch::fetch(PATIENCE, &place, Some(tls)).await.unwrap_err();
    assert!(matches!(error, FetchError::Handshake(_)), "{error:?}");
    let error = fetch(&endpoint.url(), true).await.unwrap_err();
    assert!(matches!(error, FetchError::Handshake(_)), "this machine does not trust it: {error:?}");
    assert_eq!(endpoint.requests(), 1);
}

/// J5: what only the service can reach is not asked.
#[tokio::test]
async fn no_address_that_is_not_public_is_connected_to() {
    let endpoint = Endpoint::start(Answer::json(&json!({ "keys": [] })));
    for host in [
        "localhost",
        "127.0.0.1",
        "127.1.2.3",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "[::]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[64:ff9b::7f00:1]",
        "224.0.0.1",
        // Some resolvers read these as 127.0.0.1.
        "2130706433",
        "0x7f000001",
        "127.1",
    ] {
        let error = fetch(&format!("https://{host}:{}/keys", endpoint.port()), false).await.unwrap_err();
        assert!(matches!(error, FetchError::Private(_) | FetchError::Resolve(_)), "{host}: {error:?}");
    }
    assert_eq!(endpoint.connections(), 0);
    let allowed = fetch(&format!("http://127.0.0.1:{}/keys", endpoint.port()), true).await;
    assert_eq!(allowed.unwrap(), b"{\"keys\":[]}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Endpoint::start(set(&[]));
    let endpoint = Endpoint::start(Answer::redirect(&elsewhere.url()));
    let error = fetch(&endpoint.url(), true).await.unwrap_err();
    assert!(matches!(error, FetchError::Status(status) if status == 302), "{error:?}");
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn no_more_is_read_than_a_set_may_have() {
    let chunk = |bytes: usize| format!("{bytes:x}\r\n{}\r\n", " ".repeat(bytes)).into_bytes();
    let head = |length: &str| format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n").into_bytes();
    let endpoint = Endpoint::start(Answer::Endless(head("Transfer-Encoding: chunked"), chunk(60_000)));
    for answer in [
        Answer::Endless(head("Transfer-Encoding: chunked"), chunk(60_000)),
        Answer::Endless(head("Content-Length: 99999999999"), vec![b' '; 60_000]),
        Answer::Endless(head("Connection: close"), vec![b' '; 60_000]),
        Answer::text(&" ".repeat(BODY_BYTES_MAX + 1)),
    ] {
        endpoint.answer(answer);
        let error = fetch(&endpoint.url(), true).await.unwrap_err();
        assert!(matches!(error, FetchError::TooLarge), "{error:?}");
    }
    endpoint.answer(Answer::Endless(
        b"HTTP/1.1 200 OK\r\n".to_vec(),
        format!("X: {}\r\n", "x".repeat(900)).into(),
    ));
    let error = fetch(&endpoint.url(), true).await.unwrap_err();
    assert!(matches!(error, FetchError::Exchange(_)), "a head without end: {error:?}");
    endpoint.answer(Answer::text(&" ".repeat(BODY_BYTES_MAX)));
    assert_eq!(fetch(&endpoint.url(), true).await.unwrap().len(), BODY_BYTES_MAX);
}

#[tokio::test]
async fn a_server_that_does_not_answer_in_time_is_given_up() {
    let begun = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{".to_vec();
    let endpoint = Endpoint::start(Answer::Silence);
    for answer in [Answer::Silence, Answer::Bytes(begun)] {
        endpoint.answer(answer);
        let place = Place::parse(&endpoint.url(), true).unwrap();
        let error = fetch::fetch(Duration::from_millis(300), &place, None).await.unwrap_err();
        assert!(matches!(error, FetchError::Timeout), "{error:?}");
    }
}

#[tokio::test]
async fn an_error_has_nothing_of_the_answer() {
    let endpoint = Endpoint::start(Answer::text("{\"keys\": [\"a secret\""));
    let body = fetch(&endpoint.url(), true).await.unwrap();
    let error = FetchError::Set(KeySet::parse(&body).unwrap_err());
    assert!(!format!("{error:?} {error} {:?}", error.source()).contains("a secret"));
}

#[test]
fn only_urls_that_can_be_trusted_are_places() {
    use PlaceError::{NoUrl, Scheme, UserInfo};
    for (url, allow_private, expected) in [
        ("https://id.example/keys", false, None),
        ("HTTPS://id.example:8443", false, None),
        ("http://id.example/keys", true, None),
        ("http://id.example/keys", false, Some(Scheme)),
        ("file:///etc/passwd", true, Some(NoUrl)),
        ("ftp://id.example/keys", true, Some(Scheme)),
        ("id.example/keys", true, Some(NoUrl)),
        ("/keys", true, Some(NoUrl)),
        ("", true, Some(NoUrl)),
        ("https://", false, Some(NoUrl)),
        ("https://user:word@id.example/keys", false, Some(UserInfo)),
        ("https://id.example:99999/", false, Some(NoUrl)),
        ("https://id example/", false, Some(NoUrl)),
    ] {
        assert_eq!(Place::parse(url, allow_private).err(), expected, "{url}");
    }
}
