//! Which files are taken for whom, and which are refused and why. That servers take them is in `tests/postgres`.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::{Environment, Target};

/// A folder that is gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("waldelta-credentials-{}-{number}", std::process::id()));
        std::fs::create_dir_all(folder.join(".postgresql")).unwrap();
        Folder(folder)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn pem(label: &str, body: &str) -> String {
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

#[test]
fn files_are_those_that_are_named_and_else_those_at_home() {
    let folder = Folder::new();
    let home = folder.0.to_str().unwrap();
    let found = |text: &str| {
        let environment = Environment { home: Some(folder.0.clone()), ..Environment::default() };
        let target = Target::parse(text, &environment).map_err(|error| error.to_string())?;
        let found = target.client_certificate().cloned();
        Ok::<_, String>(found.map(|files| {
            [files.certificate(), files.key()]
                .map(|path| path.display().to_string().replace(home, "~"))
                .join(" ")
        }))
    };
    let ok = |files: &str| Ok(Some(files.to_owned()));
    assert_eq!(found("host=h"), Ok(None));
    assert_eq!(found("host=h sslcert=/c sslkey=/k"), ok("/c /k"));
    assert!(found("host=h sslcert=/c").unwrap_err().contains("name it in sslkey"));
    assert!(found("host=h sslkey=/k").unwrap_err().contains("name it in sslcert"));
    folder.write(KEY_DEFAULT, "", 0o600);
    assert_eq!(found("host=h"), Ok(None), "a key alone");
    assert_eq!(found("host=h sslcert=/c"), ok("/c ~/.postgresql/postgresql.key"));
    folder.write(CERTIFICATE_DEFAULT, "", 0o644);
    assert_eq!(found("host=h"), ok("~/.postgresql/postgresql.crt ~/.postgresql/postgresql.key"));
    assert_eq!(found("host=h sslkey=/k"), ok("~/.postgresql/postgresql.crt /k"));

    let variables = [("PGSSLCERT", "/e.crt"), ("PGSSLKEY", "/e.key")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let environment = Environment { variables, home: None };
    let named = Target::parse("postgres://u@h/d?sslkey=%2Fk", &environment).unwrap();
    let expected = ClientCertificate { certificate: "/e.crt".into(), key: "/k".into() };
    assert_eq!(named.client_certificate(), Some(&expected));
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    for (mode, owner, expected) in [
        (0o600, 1000, false),
        (0o400, 1000, false),
        (0o640, 1000, true),
        (0o604, 1000, true),
        (0o610, 1000, true),
        (0o640, 0, false),
        (0o440, 0, false),
        (0o660, 0, true),
        (0o650, 0, true),
        (0o644, 0, true),
    ] {
        assert_eq!(is_too_open(mode, owner), expected, "{mode:o} of {owner}");
    }
    let folder = Folder::new();
    let key = folder.write("a.key", &pem("PRIVATE KEY", "AAAA"), 0o604);
    let link = folder.0.join("link.key");
    symlink(&key, &link).unwrap();
    for path in [&key, &link] {
        let fault = read_key(path).unwrap_err();
        assert!(matches!(fault, CertificateFault::TooOpen { mode: 0o604 }), "{fault:?}");
        assert!(fault.to_string().ends_with("(it has 0604)"), "{fault}");
    }
    folder.write("a.key", &pem("PRIVATE KEY", "AAAA"), 0o600);
    read_key(&link).unwrap();
}

#[test]
fn what_cannot_be_read_is_told_and_nothing_of_it_is_shown() {
    let folder = Folder::new();
    let old_way = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nc2VjcmV0";
    for (name, text, expected) in [
        ("pkcs8", pem("ENCRYPTED PRIVATE KEY", "c2VjcmV0"), "encrypted"),
        ("sec1", pem("EC PRIVATE KEY", old_way), "encrypted"),
        ("pkcs1", pem("RSA PRIVATE KEY", old_way), "encrypted"),
        ("certificate", pem("CERTIFICATE", "c2VjcmV0"), "no private key"),
        ("broken", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n".to_owned(), "no private key"),
        ("empty", String::new(), "no private key"),
        ("large", "c2VjcmV0".repeat(1 << 18), "at most"),
    ] {
        let fault = read_key(&folder.write(name, &text, 0o600)).unwrap_err();
        assert!(fault.to_string().contains(expected), "{name}: {fault}");
        assert!(!format!("{fault} {fault:?}").contains("c2VjcmV0"), "{fault:?}");
    }
    assert!(matches!(read_key(&folder.0), Err(CertificateFault::NotAFile)));
    assert!(matches!(read_chain(&folder.0.join("nowhere")), Err(CertificateFault::Unreadable(_))));
    for text in ["", &pem("PRIVATE KEY", "c2VjcmV0"), "-----BEGIN CERTIFICATE-----\nc2VjcmV0"] {
        let fault = read_chain(&folder.write("chain", text, 0o644)).unwrap_err();
        assert!(matches!(fault, CertificateFault::NoCertificate), "{fault:?}");
    }
}
