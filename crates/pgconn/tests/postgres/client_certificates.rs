//! A server that lets nobody in without a certificate that it trusts for the role.

use waldelta_pgconn::{CertificateFault, Error};
use waldelta_testkit::{TestCluster, wait_until};
use waldelta_wal::Code;

use crate::certificates::{Certificates, KeyForm};
use crate::{PATIENCE, connect, text};

const WHO: &str =
    "SELECT concat_ws(' ', session_user, client_dn) FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

/// From now on the role `web` is known over TCP by its certificate alone, and `twice` by that and a password.
async fn demand_certificates(cluster: &TestCluster, certificates: &Certificates) {
    let admin = waldelta_testkit::connect(&cluster.url("postgres")).await;
    admin.batch_execute("CREATE ROLE web LOGIN; CREATE ROLE twice LOGIN PASSWORD 'right'").await.unwrap();
    let file = text(&admin, "SHOW hba_file").await;
    let rules = std::fs::read_to_string(&file).unwrap();
    let ours = "hostssl all web all cert\nhostnossl all web all reject\n\
                hostssl all twice all scram-sha-256 clientcert=verify-full\nhostnossl all twice all reject\n";
    std::fs::write(&file, format!("{ours}{rules}")).unwrap();
    let authority = certificates.path("ca.crt");
    admin.batch_execute(&format!("ALTER SYSTEM SET ssl_ca_file = '{}'", authority.display())).await.unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let without = format!("host=localhost port={} user=web dbname=postgres sslmode=require", cluster.port());
    wait_until("certificates are asked for", PATIENCE, async || {
        let refused = connect(&without).await;
        refused.is_err_and(|error| format!("{error:?}").contains("valid client certificate"))
    })
    .await;
}

#[tokio::test]
async fn a_server_that_demands_certificates_is_shown_ours() {
    let certificates = Certificates::make();
    let cluster = TestCluster::own(&[]).await;
    if !certificates.serve(&cluster, "server").await {
        return;
    }
    demand_certificates(&cluster, &certificates).await;
    let url = |user: &str, name: &str| {
        let [ca, crt, key] =
            ["ca.crt", &format!("{name}.crt"), &format!("{name}.key")].map(|file| certificates.path(file));
        format!(
            "postgresql://{user}@localhost:{}/postgres?sslmode=verify-full&sslrootcert={}&sslcert={}&sslkey={}",
            cluster.port(),
            ca.display(),
            crt.display(),
            key.display()
        )
    };
    for (name, form, begins) in [
        ("pkcs8", KeyForm::Pkcs8, "-----BEGIN PRIVATE KEY"),
        ("pkcs1", KeyForm::Pkcs1, "-----BEGIN RSA PRIVATE KEY"),
        ("sec1", KeyForm::Sec1, "-----BEGIN EC PRIVATE KEY"),
    ] {
        certificates.make_client(name, "web", "ca", form);
        let key = std::fs::read_to_string(certificates.path(&format!("{name}.key"))).unwrap();
        assert!(key.starts_with(begins), "{name}: another form than this is to be about");
        let client = connect(&url("web", name)).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(text(&client, WHO).await, "web /CN=web", "{name}");
    }

    // Another role's, and one whose password is asked for beside it.
    let error = connect(&url("twice", "pkcs8")).await.unwrap_err();
    assert_eq!((error.code(), error.is_retryable()), (Code::AuthenticationFailed, false), "{error:?}");
    certificates.make_client("twice", "twice", "ca", KeyForm::Pkcs8);
    let error = connect(&url("twice", "twice")).await.unwrap_err();
    assert_eq!(error.code(), Code::AuthenticationFailed, "{error:?}");
    let client = connect(&url("twice:right", "twice")).await.unwrap();
    assert_eq!(text(&client, WHO).await, "twice /CN=twice");

    // One that nobody trusts. The server may hang up before its word is read.
    certificates.make_client("foreign", "web", "other", KeyForm::Pkcs8);
    wait_until("the server's word is read", PATIENCE, async || {
        let error = connect(&url("web", "foreign")).await.expect_err("a certificate of nobody");
        error.code() == Code::TlsFailed && !error.is_retryable()
    })
    .await;
}

#[tokio::test]
async fn credentials_that_cannot_be_used_are_refused_before_anybody_is_asked() {
    use std::os::unix::fs::PermissionsExt;
    let certificates = Certificates::make();
    certificates.make_client("web", "web", "ca", KeyForm::Sec1);
    certificates.make_client("second", "web", "ca", KeyForm::Sec1);
    certificates.encrypt_key("web", "encrypted");
    let refused = async |certificate: &str, key: &str| {
        let [certificate, key] = [certificate, key].map(|file| certificates.path(file).display().to_string());
        // Nobody listens there.
        let error =
            connect(&format!("host=localhost port=1 user=u sslcert={certificate} sslkey={key}")).await;
        let error = error.unwrap_err();
        assert_eq!((error.code(), error.is_retryable()), (Code::TlsFailed, false), "{error:?}");
        match error {
            Error::ClientCertificate { path, fault } => (path, fault),
            other => panic!("{other:?}"),
        }
    };
    let (path, fault) = refused("web.crt", "second.key").await;
    assert!(matches!(fault, CertificateFault::OtherKey), "{fault:?}");
    assert_eq!(path, certificates.path("second.key"));
    for encrypted in ["encrypted.pkcs8", "encrypted.sec1"] {
        let (_, fault) = refused("web.crt", encrypted).await;
        assert!(matches!(fault, CertificateFault::Encrypted), "{encrypted}: {fault:?}");
    }
    let (path, fault) = refused("missing.crt", "web.key").await;
    assert!(matches!(fault, CertificateFault::Unreadable(_)), "{fault:?}");
    assert_eq!(path, certificates.path("missing.crt"));
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(certificates.path("web.key"), open).unwrap();
    let (_, fault) = refused("web.crt", "web.key").await;
    assert!(matches!(fault, CertificateFault::TooOpen { mode: 0o644 }), "{fault:?}");
}
