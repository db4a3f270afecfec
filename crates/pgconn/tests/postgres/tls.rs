//! Each sslmode against servers with and without TLS.

use waldelta_pgconn::Error;
use waldelta_testkit::{TestCluster, TestDatabase};
use waldelta_wal::Code;

use crate::certificates::Certificates;
use crate::{connect, target, text};

const IS_ENCRYPTED: &str = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

#[track_caller]
fn refused(result: Result<tokio_postgres::Client, Error>) {
    let error = result.expect_err("a connection that should not have been made");
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");
    assert_eq!((error.code(), error.is_retryable()), (Code::TlsFailed, false), "{error:?}");
}

#[tokio::test]
async fn certificates_are_verified_as_far_as_was_demanded() {
    let certificates = Certificates::make();
    let cluster = TestCluster::own(&[]).await;
    if !certificates.serve(&cluster, "server").await {
        return;
    }
    let url = |host: &str, parameters: &str| {
        format!("postgresql://postgres@{host}:{}/postgres?{parameters}", cluster.port())
    };
    let with =
        |mode: &str, root: &str| format!("sslmode={mode}&sslrootcert={}", certificates.path(root).display());
    for (host, parameters, encrypted) in [
        ("localhost", "".to_owned(), "true"),
        ("127.0.0.1", "sslmode=require".into(), "true"),
        ("127.0.0.1", "sslmode=disable".into(), "false"),
        ("localhost", with("verify-full", "ca.crt"), "true"),
        ("127.0.0.1", with("verify-ca", "ca.crt"), "true"),
        ("127.0.0.1", with("require", "ca.crt"), "true"),
    ] {
        let client =
            connect(&url(host, &parameters)).await.unwrap_or_else(|error| panic!("{parameters}: {error:?}"));
        assert_eq!(text(&client, IS_ENCRYPTED).await, encrypted, "{host} {parameters}");
    }
    refused(connect(&url("127.0.0.1", &with("verify-full", "ca.crt"))).await);
    refused(connect(&url("localhost", &with("verify-full", "other.crt"))).await);
    refused(connect(&url("localhost", &with("verify-ca", "other.crt"))).await);
    refused(connect(&url("localhost", &with("require", "other.crt"))).await);
    refused(connect(&url("localhost", "sslmode=verify-full")).await);
    // Where the address is given, the certificate is still the host's.
    let given = format!("{}&hostaddr=127.0.0.1", with("verify-full", "ca.crt"));
    connect(&url("localhost", &given)).await.unwrap();
    refused(connect(&url("db.example", &given)).await);
}

#[tokio::test]
async fn a_certificate_that_is_its_own_authority_is_trusted_when_it_is_named() {
    let certificates = Certificates::make();
    let cluster = TestCluster::own(&[]).await;
    if !certificates.serve(&cluster, "own").await {
        return;
    }
    let url = |host: &str, mode: &str, root: &str| {
        let (port, root) = (cluster.port(), certificates.path(root));
        format!("postgresql://postgres@{host}:{port}/postgres?sslmode={mode}&sslrootcert={}", root.display())
    };
    let client = connect(&url("localhost", "verify-full", "own.crt")).await.unwrap();
    assert_eq!(text(&client, IS_ENCRYPTED).await, "true");
    refused(connect(&url("127.0.0.1", "verify-full", "own.crt")).await);
    refused(connect(&url("localhost", "verify-ca", "ca.crt")).await);
}

#[tokio::test]
async fn a_login_can_be_tied_to_its_tls_connection() {
    let certificates = Certificates::make();
    let cluster = TestCluster::own(&[]).await;
    if !certificates.serve(&cluster, "server").await {
        return;
    }
    crate::login::demand_passwords(&cluster).await;
    let url = |parameters: &str| {
        let port = cluster.port();
        format!("postgresql://web:right@localhost:{port}/postgres?channel_binding=require&{parameters}")
    };
    connect(&url("sslmode=require")).await.unwrap();
    let error = connect(&url("sslmode=disable")).await.unwrap_err();
    assert!(matches!(error, Error::Authentication { .. }), "{error:?}");
    assert!(target(&url("")).channel_binding_required());
}

#[tokio::test]
async fn without_tls_on_the_server_only_those_who_insist_are_refused() {
    let database = TestDatabase::create("no_tls").await;
    for mode in ["prefer", "disable"] {
        let client = connect(&format!("{}?sslmode={mode}", database.url())).await.unwrap();
        assert_eq!(text(&client, IS_ENCRYPTED).await, "false");
    }
    for mode in ["require", "verify-full"] {
        refused(connect(&format!("{}?sslmode={mode}", database.url())).await);
    }
}
