//! What the doctor looks at of who is let in: whether the listener's certificate ends soon, and whether the keys of issuers can be
//! had. Tokens of our own are in the history database, and looked at with it.

use std::time::{Duration, SystemTime};

use waldelta_source::checks::{self, Check, Kind};
use waldelta_wal::Code;

use crate::config::Config;
use crate::failure::{self, chain_text};
use crate::listener::{Certificates, ends_at};

const CERTIFICATE: &str = "certificate";
const KEYS: &str = "keys";
const DAY: Duration = Duration::from_secs(86_400);
/// Long enough for whoever renews it by hand, and short enough for what renews it by itself.
const CERTIFICATE_DAYS_LEFT_MIN: u32 = 14;

/// Every check of who is let in, in the order in which they are made.
pub(super) const LIST: &[Kind] = &[
    Kind {
        name: CERTIFICATE,
        looks_at: "Whether the files of `server.tls` can be used, and for how much longer than 14 days. Left out where there are none.",
        codes: &[Code::CertificateInvalid, Code::CertificateEnding],
    },
    Kind {
        name: KEYS,
        looks_at: "Whether the sets of keys of token issuers (`jwks_url`) can be fetched from this machine, and have a key that can be \
                   used. Left out where there are none.",
        codes: &[Code::KeysUnavailable],
    },
];

/// Runs them; `now` is by the clock of this machine.
pub(super) async fn checks(config: &Config, now: SystemTime) -> anyhow::Result<Vec<Check>> {
    let mut checks: Vec<Check> = certificate(config, now).into_iter().collect();
    checks.extend(keys(&config.access()?).await);
    for check in &checks {
        debug_assert!(checks::is_listed(check, LIST), "{check:?} is not in the list of checks");
    }
    Ok(checks)
}

fn certificate(config: &Config, now: SystemTime) -> Option<Check> {
    let (certificate, key) = config.server.tls.files()?;
    let ends = match Certificates::load(certificate, key).and_then(|_| ends_at(certificate)) {
        Ok(ends) => ends,
        Err(error) => {
            let code = failure::code_of(&error).unwrap_or(Code::CertificateInvalid);
            return Some(Check::failed(CERTIFICATE, code, chain_text(&error), code.explanation().fix));
        }
    };
    let shown = certificate.display();
    let Some(ends) = ends else { return Some(Check::ok(CERTIFICATE, format!("{shown} has no end"))) };
    let (code, fix) = (Code::CertificateEnding, Code::CertificateEnding.explanation().fix);
    Some(match ends.duration_since(now) {
        Err(_) => {
            Check::failed(CERTIFICATE, code, format!("{shown}: it, or one that it needs, is over"), fix)
        }
        Ok(left) => {
            let found = format!("{shown} holds for {} more days", left.as_secs() / DAY.as_secs());
            match left < CERTIFICATE_DAYS_LEFT_MIN * DAY {
                true => Check::warning(CERTIFICATE, code, found, fix),
                false => Check::ok(CERTIFICATE, found),
            }
        }
    })
}

/// Fetched as a service would, once.
async fn keys(config: &waldelta_access::Config) -> Vec<Check> {
    let mut checks = Vec::new();
    for issuer in &config.issuers {
        let Some(fetched) = waldelta_access::published_keys(issuer).await else { continue };
        let (name, fix) = (&issuer.issuer, Code::KeysUnavailable.explanation().fix);
        checks.push(match fetched {
            Ok(0) => {
                let found = format!("the set of {name} has no key that can be used");
                Check::warning(KEYS, Code::KeysUnavailable, found, fix)
            }
            Ok(count) => Check::ok(KEYS, format!("the set of {name} has {count} keys that can be used")),
            Err(error) => {
                let found = format!("of {name}: {}", chain_text(&anyhow::Error::new(error)));
                Check::warning(KEYS, Code::KeysUnavailable, found, fix)
            }
        });
    }
    checks
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use waldelta_source::checks::State;
    use waldelta_testkit::tls;

    use super::*;

    /// By the openssl program: Oct 29 03:47:25 2126 GMT.
    const FIRST_ENDS: Duration = Duration::from_secs(4_948_919_245);

    /// Gone when dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn with(certificate: &str, key: &str) -> Self {
            let folder = Folder(std::env::temp_dir().join(format!("waldelta-ends-{}", std::process::id())));
            std::fs::create_dir_all(&folder.0).unwrap();
            std::fs::write(folder.0.join("crt"), certificate).unwrap();
            std::fs::write(folder.0.join("key"), key).unwrap();
            folder
        }

        fn config(&self) -> Config {
            let mut config = Config::default();
            let file = |name| self.0.join(name).display().to_string();
            (config.server.tls.certificate, config.server.tls.key) = (file("crt"), file("key"));
            config
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_certificate_that_ends_soon_is_told_before_and_one_that_has_ended_fails() {
        assert!(certificate(&Config::default(), SystemTime::UNIX_EPOCH).is_none());
        let chain = format!("{}{}", tls::FIRST.certificate, tls::AUTHORITY);
        let folder = Folder::with(&chain, tls::FIRST.key);
        let config = folder.config();
        let ends = SystemTime::UNIX_EPOCH + FIRST_ENDS;
        let second = Duration::from_secs(1);
        for (now, state, found) in [
            (ends - 15 * DAY, State::Ok, "holds for 15 more days"),
            (ends - 14 * DAY - second, State::Ok, "holds for 14 more days"),
            (ends - 14 * DAY + second, State::Warning, "holds for 13 more days"),
            (ends - second, State::Warning, "holds for 0 more days"),
            (ends + second, State::Failed, "is over"),
        ] {
            let check = certificate(&config, now).unwrap();
            assert_eq!(check.state, state, "{check:?}");
            assert!(check.found.ends_with(found), "{check:?}");
            assert!(checks::is_listed(&check, LIST));
            assert_eq!(check.code, (state != State::Ok).then_some(Code::CertificateEnding));
        }

        let folder = Folder::with(tls::FIRST.certificate, tls::SECOND.key);
        let check = certificate(&folder.config(), ends - 15 * DAY).unwrap();
        assert_eq!((check.state, check.code), (State::Failed, Some(Code::CertificateInvalid)));
    }
}
