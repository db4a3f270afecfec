//! Certificates for a server of the tests, made with the openssl program.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use waldelta_testkit::{TestCluster, connect, wait_until};

use crate::PATIENCE;

/// A folder with certificates, gone when dropped.
pub(crate) struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// An authority (`ca.crt`), another one (`other.crt`), a certificate for localhost that the first has signed
    /// (`server.crt`), and one for localhost that is its own authority (`own.crt`), as the manual's recipe makes it.
    pub(crate) fn make() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = PathBuf::from(format!("/tmp/waldelta-certificates-{}-{number}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let certificates = Certificates { folder };
        let authority = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
        certificates.openssl(&format!("{authority} -subj /CN=ca -keyout ca.key -out ca.crt"));
        certificates.openssl(&format!("{authority} -subj /CN=ca -keyout other.key -out other.crt"));
        certificates.openssl(&format!(
            "{authority} -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout own.key -out own.crt"
        ));
        certificates.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost -CA ca.crt -CAkey ca.key \
             -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE -keyout server.key -out server.crt",
        );
        certificates
    }

    /// Where a file is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn openssl(&self, arguments: &str) {
        let mut openssl = Command::new("openssl");
        let done = openssl.args(arguments.split_whitespace()).current_dir(&self.folder).output().unwrap();
        assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// A certificate for a role, signed by `ca.crt`: `<name>.crt`, and its key in one of the forms that keys are kept in.
    pub(crate) fn make_client(&self, name: &str, role: &str, authority: &str, form: KeyForm) {
        let new_key = match form {
            KeyForm::Pkcs1 => "rsa:2048",
            KeyForm::Pkcs8 | KeyForm::Sec1 => "ec -pkeyopt ec_paramgen_curve:P-256",
        };
        self.openssl(&format!(
            "req -x509 -newkey {new_key} -nodes -days 2 -subj /CN={role} -CA {authority}.crt -CAkey {authority}.key \
             -addext basicConstraints=critical,CA:FALSE -addext extendedKeyUsage=clientAuth -keyout {name}.pkcs8 -out {name}.crt"
        ));
        let traditional = if matches!(form, KeyForm::Pkcs8) { "" } else { " -traditional" };
        self.openssl(&format!("pkey -in {name}.pkcs8 -out {name}.key{traditional}"));
    }

    /// A key of an elliptic curve once more, encrypted in both ways: `<encrypted>.pkcs8` and `<encrypted>.sec1`.
    pub(crate) fn encrypt_key(&self, name: &str, encrypted: &str) {
        let password = "-passout pass:secret";
        self.openssl(&format!("pkcs8 -topk8 -in {name}.key -out {encrypted}.pkcs8 {password}"));
        self.openssl(&format!("ec -aes128 -in {name}.key -out {encrypted}.sec1 {password}"));
        for form in ["pkcs8", "sec1"] {
            let own = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(self.path(&format!("{encrypted}.{form}")), own).unwrap();
        }
    }

    /// Lets the server speak TLS with one of the certificates. Returns whether it can: the builds that can be fetched
    /// for machines without PostgreSQL know no TLS.
    pub(crate) async fn serve(&self, cluster: &TestCluster, name: &str) -> bool {
        let (certificate, key) = (self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")));
        own_by(&key, &cluster.socket_dir());
        let admin = connect(&cluster.url("postgres")).await;
        if crate::text(&admin, "SHOW ssl_library").await.is_empty() {
            return false;
        }
        for (setting, value) in [
            ("ssl_cert_file", certificate.to_str().unwrap()),
            ("ssl_key_file", key.to_str().unwrap()),
            ("ssl", "on"),
        ] {
            admin.batch_execute(&format!("ALTER SYSTEM SET {setting} = '{value}'")).await.unwrap();
        }
        admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        wait_until("the server speaks TLS", PATIENCE, async || {
            let client = connect(&cluster.url("postgres")).await;
            let sql = "SELECT current_setting('ssl') || current_setting('ssl_cert_file')";
            crate::text(&client, sql).await == format!("on{}", certificate.display())
        })
        .await;
        true
    }
}

/// How a private key is written down: what stands in the first line of its PEM.
#[derive(Clone, Copy)]
pub(crate) enum KeyForm {
    /// `PRIVATE KEY`
    Pkcs8,
    /// `RSA PRIVATE KEY`
    Pkcs1,
    /// `EC PRIVATE KEY`
    Sec1,
}

/// The server reads a key only if it is its own and nobody else's.
fn own_by(key: &Path, like: &Path) {
    let owner = std::fs::metadata(like).unwrap();
    chown(key, Some(owner.uid()), Some(owner.gid())).unwrap();
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).unwrap();
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
