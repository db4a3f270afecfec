//! The console for psql (`[console]`), and who may use it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};
use waldelta_console::User;

use super::auth::read_key_file;
use super::invalid;

const NO_ADDRESS: &str = "console.listen must be an address with a port, such as 127.0.0.1:5439, or empty";
/// Connections are a few people's and a dashboard's.
const CONNECTIONS_MAX: u64 = 10_000;

/// Where the console is, and for whom.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ConsoleConfig {
    /// Address; empty: there is none.
    pub listen: String,
    /// File with the users; empty: whoever connects from this machine is an administrator, and nobody else is let in.
    pub users_file: String,
    /// Connections at the same time at most.
    pub connections_max: u64,
}

impl Default for ConsoleConfig {
    fn default() -> Self {
        ConsoleConfig { listen: String::new(), users_file: String::new(), connections_max: 32 }
    }
}

impl ConsoleConfig {
    pub(super) fn relative_to(&mut self, folder: &Path) {
        if !self.users_file.is_empty() {
            self.users_file = folder.join(&self.users_file).to_string_lossy().into_owned();
        }
    }

    /// Where it listens, if it does.
    pub(crate) fn address(&self) -> anyhow::Result<Option<SocketAddr>> {
        if self.listen.is_empty() {
            return Ok(None);
        }
        self.listen.parse().map(Some).map_err(|_| invalid(NO_ADDRESS))
    }

    /// The first setting that makes no sense, and why. No file is read for that.
    pub(super) fn nonsense(&self) -> Option<String> {
        if !(1..=CONNECTIONS_MAX).contains(&self.connections_max) {
            return Some(format!("console.connections_max must be between 1 and {CONNECTIONS_MAX}"));
        }
        self.address().is_err().then(|| NO_ADDRESS.to_owned())
    }

    /// Who may use it; nobody in particular where no file is named.
    pub(crate) fn users(&self) -> anyhow::Result<BTreeMap<String, User>> {
        if self.users_file.is_empty() {
            return Ok(BTreeMap::new());
        }
        let unusable = |why: String| invalid(format!("console.users_file: {why}"));
        let text = String::from_utf8(read_key_file(&self.users_file).map_err(unusable)?);
        let text = text.map_err(|_| unusable("it is not UTF-8".into()))?;
        let mut users = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, user) = user(line).map_err(|why| unusable(format!("line {number}: {why}")))?;
            if users.insert(name, user).is_some() {
                return Err(unusable(format!("line {number}: the user was named before")));
            }
        }
        match users.is_empty() {
            true => Err(unusable("it names nobody".into())),
            false => Ok(users),
        }
    }
}

/// `name verifier`, and `admin` where it is one.
fn user(line: &str) -> Result<(String, User), String> {
    let mut words = line.split_whitespace().map(|word| word.trim_matches('"'));
    let (Some(name), Some(verifier)) = (words.next(), words.next()) else {
        return Err("a line is a user's name and a SCRAM-SHA-256 verifier, and `admin` behind them for an administrator".into());
    };
    let is_admin = match (words.next(), words.next()) {
        (None, _) => false,
        (Some("admin"), None) => true,
        _ => return Err("behind the verifier stands `admin`, or nothing".into()),
    };
    let verifier = verifier.parse().map_err(|error: waldelta_console::VerifierError| error.to_string())?;
    Ok((name.to_owned(), User { verifier, is_admin }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIER: &str = "SCRAM-SHA-256$4096:c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:\
                            AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    fn users(text: &str) -> Result<Vec<(String, bool)>, String> {
        let path = std::env::temp_dir().join(format!("waldelta-users-{}-{}", std::process::id(), text.len()));
        std::fs::write(&path, text).unwrap();
        let config =
            ConsoleConfig { users_file: path.to_string_lossy().into_owned(), ..ConsoleConfig::default() };
        let users = config.users();
        std::fs::remove_file(path).unwrap();
        match users {
            Ok(users) => Ok(users.into_iter().map(|(name, user)| (name, user.is_admin)).collect()),
            Err(error) => Err(format!("{error:#}")),
        }
    }

    #[test]
    fn users_are_a_line_each_and_what_is_wrong_is_named_without_the_secret() {
        let text = format!("# who\n\nops {VERIFIER} admin\n\"grafana\" \"{VERIFIER}\"\n");
        assert_eq!(users(&text), Ok(vec![("grafana".into(), false), ("ops".into(), true)]));
        for (text, why) in [
            ("# nobody\n".to_owned(), "names nobody"),
            ("ops\n".to_owned(), "line 1"),
            ("ops secret\n".to_owned(), "line 1: it is no SCRAM-SHA-256 verifier"),
            (format!("ops {VERIFIER} root\n"), "line 1: behind the verifier"),
            (format!("ops {VERIFIER}\nops {VERIFIER} admin\n"), "line 2: the user was named before"),
        ] {
            let told = users(&text).unwrap_err();
            assert!(told.contains(why) && !told.contains("secret") && !told.contains("c2FsdA"), "{told}");
        }
    }

    #[test]
    fn an_address_is_one_with_a_port() {
        let nonsense =
            |listen: &str| ConsoleConfig { listen: listen.into(), ..ConsoleConfig::default() }.nonsense();
        assert_eq!((nonsense(""), nonsense("127.0.0.1:5439")), (None, None));
        assert!(nonsense("localhost").is_some());
        assert!(ConsoleConfig { connections_max: 0, ..ConsoleConfig::default() }.nonsense().is_some());
    }
}
