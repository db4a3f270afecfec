//! The password file, `~/.pgpass` (PostgreSQL documentation, "The Password File").

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::client_certificate::is_too_open;

/// More than this no password file has.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The lines of a password file. Never printed.
#[derive(Default)]
pub(crate) struct Passfile {
    lines: Vec<Line>,
}

struct Line {
    /// Host, port, database, user; `None` stands for `*`.
    place: [Option<String>; 4],
    password: String,
}

impl Passfile {
    /// Reads a password file; one that is missing, too open or unreadable counts as empty, as everywhere in PostgreSQL.
    pub(crate) fn read(path: &Path) -> Self {
        let Ok(metadata) = std::fs::metadata(path) else { return Passfile::default() };
        let path_shown = path.display();
        if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
            tracing::warn!(
                "password file {path_shown} is ignored: not a plain file of at most {FILE_BYTES_MAX} bytes"
            );
            return Passfile::default();
        }
        // As with keys, where libpq is stricter: what root hands to a service has root as its owner, and its group.
        if is_too_open(metadata.mode(), metadata.uid()) {
            tracing::warn!(
                "password file {path_shown} is ignored: others may read it; run chmod 0600 {path_shown}"
            );
            return Passfile::default();
        }
        match std::fs::read_to_string(path) {
            Ok(text) => Passfile::parse(&text),
            Err(error) => {
                tracing::warn!("password file {path_shown} is ignored: {error}");
                Passfile::default()
            }
        }
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(Line::parse).collect();
        Passfile { lines }
    }

    /// The password of the first line that fits; `hosts` are the names that the server may stand under.
    pub(crate) fn password(&self, hosts: &[&str], port: u16, database: &str, user: &str) -> Option<&str> {
        let port = port.to_string();
        let fits = |line: &&Line| {
            let [line_host, line_port, line_database, line_user] = &line.place;
            let same =
                |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
            hosts.iter().any(|host| same(line_host, host))
                && same(line_port, &port)
                && same(line_database, database)
                && same(line_user, user)
        };
        self.lines
            .iter()
            .find(fits)
            .map(|line| line.password.as_str())
            .filter(|password| !password.is_empty())
    }
}

impl Line {
    /// `host:port:database:user:password`; a backslash before what is meant literally.
    fn parse(line: &str) -> Option<Self> {
        let mut fields: Vec<(String, bool)> = vec![(String::new(), false)];
        let mut chars = line.trim_end_matches('\r').chars();
        while let Some(c) = chars.next() {
            let separates = c == ':' && fields.len() < 5;
            let (field, escaped) = fields.last_mut()?;
            match c {
                '\\' => {
                    field.extend(chars.next());
                    *escaped = true;
                }
                _ if separates => fields.push((String::new(), false)),
                c => field.push(c),
            }
        }
        let [host, port, database, user, (password, _)] = <[(String, bool); 5]>::try_from(fields).ok()?;
        let wanted = |(field, escaped): (String, bool)| (field != "*" || escaped).then_some(field);
        Some(Line { place: [wanted(host), wanted(port), wanted(database), wanted(user)], password })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# a comment\n\
        db.example:5432:app:web:first\n\
        db.example:*:*:web:any port\\:and\\\\database\n\
        2001\\:db8\\:\\:1:5432:app:web:six:with:colons\n\
        *:*:\\*:star:only for a database named *\n\
        broken line\n\
        localhost:*:*:*:local\r\n";

    #[test]
    fn the_first_line_that_fits_counts() {
        let file = Passfile::parse(FILE);
        for (hosts, port, database, user, expected) in [
            (&["db.example"][..], 5432, "app", "web", Some("first")),
            (&["db.example"], 5433, "app", "web", Some("any port:and\\database")),
            (&["db.example"], 5432, "app", "root", None),
            (&["2001:db8::1"], 5432, "app", "web", Some("six:with:colons")),
            (&["h"], 1, "*", "star", Some("only for a database named *")),
            (&["h"], 1, "app", "star", None),
            (&["/run/postgresql", "localhost"], 1, "x", "y", Some("local")),
        ] {
            assert_eq!(
                file.password(hosts, port, database, user),
                expected,
                "{hosts:?} {port} {database} {user}"
            );
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_ignored() {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("waldelta-pgpass-{}", std::process::id()));
        std::fs::write(&path, "*:*:*:*:secret\n").unwrap();
        let is_root = std::fs::metadata(&path).unwrap().uid() == 0;
        let to_a_group = is_root.then_some("secret");
        for (mode, expected) in [(0o644, None), (0o660, None), (0o640, to_a_group), (0o600, Some("secret"))] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Passfile::read(&path).password(&["h"], 1, "d", "u"), expected, "{mode:o}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(Passfile::read(&path).password(&["h"], 1, "d", "u"), None, "a missing file");
    }
}
