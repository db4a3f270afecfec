//! A page of documentation as its fenced blocks, and each block as what a shell runs.

/// A page.
pub struct Page {
    /// As seen from the root of the repository.
    pub name: String,
    pub blocks: Vec<Block>,
}

/// A fenced block.
pub struct Block {
    /// Where it begins.
    pub line: usize,
    language: String,
    pub text: String,
    /// Whether nothing but empty lines is between it and the block before.
    follows: bool,
}

/// Words that a line which is meant for a shell begins with.
const COMMANDS: &[&str] = &[
    "$",
    "apt",
    "apt-get",
    "aws",
    "az",
    "cargo",
    "cp",
    "curl",
    "docker",
    "docker-compose",
    "dpkg",
    "export",
    "gcloud",
    "helm",
    "kill",
    "kubectl",
    "make",
    "neonctl",
    "pg_dump",
    "pg_restore",
    "psql",
    "sudo",
    "supabase",
    "systemctl",
    "tar",
    "waldelta",
];

impl Page {
    pub fn read(name: &str, markdown: &str) -> Self {
        let mut blocks: Vec<Block> = Vec::new();
        let mut open: Option<Block> = None;
        let mut has_prose = true;
        for (number, line) in (1..).zip(markdown.lines()) {
            match (&mut open, line.trim_start().strip_prefix("```")) {
                (None, Some(language)) => {
                    let language = language.trim().to_owned();
                    open = Some(Block { line: number, language, text: String::new(), follows: !has_prose });
                }
                (Some(_), Some(_)) => {
                    blocks.extend(open.take());
                    has_prose = false;
                }
                (Some(block), None) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, None) => has_prose |= !line.trim().is_empty(),
            }
        }
        assert!(open.is_none(), "{name}: a fence is not closed");
        Page { name: name.to_owned(), blocks }
    }

    /// Commands with what they print, where the page shows it.
    pub fn answers(&self) -> impl Iterator<Item = (&Block, &Block)> {
        let pairs = self.blocks.windows(2).map(|pair| (&pair[0], &pair[1]));
        pairs.filter(|(block, next)| block.language == "sh" && next.language == "text" && next.follows)
    }
}

impl Block {
    /// The first line, without a remark behind it.
    pub fn command(&self) -> &str {
        let line = self.text.lines().find(|line| !line.trim().is_empty() && !line.starts_with('#'));
        let line = line.unwrap_or_default();
        line.split_once("  #").map_or(line, |(line, _)| line).trim().trim_start_matches("$ ")
    }

    /// Whether somebody would copy it into a shell.
    pub fn has_commands(&self) -> bool {
        let first = self.text.split_whitespace().next().unwrap_or_default();
        match self.language.as_str() {
            "sh" | "bash" | "console" => true,
            // What follows a command is what it prints.
            "text" | "" => !self.follows && (COMMANDS.contains(&first) || first.starts_with("scripts/")),
            _ => false,
        }
    }

    pub fn is_run(&self) -> bool {
        matches!(self.language.as_str(), "sh" | "sql" | "toml")
    }

    /// What a shell runs. A configuration is looked at as `waldelta` reads it; one that begins with its name is also a file from there on.
    pub fn script(&self) -> String {
        let Block { line, text, .. } = self;
        let run = match self.language.as_str() {
            "sh" => text.clone(),
            "sql" => format!("psql -X -q -v ON_ERROR_STOP=1 <<'WALDELTA_SQL'\n{text}WALDELTA_SQL\n"),
            "toml" if text.starts_with("# waldelta.toml\n") => format!(
                "cat > waldelta.toml <<'WALDELTA_TOML'\n{text}WALDELTA_TOML\ncommand waldelta config show --config waldelta.toml > /dev/null\n"
            ),
            "toml" => format!(
                "cat > .part.toml <<'WALDELTA_TOML'\n{text}WALDELTA_TOML\ncommand waldelta config show --config .part.toml > /dev/null\n"
            ),
            _ => return String::new(),
        };
        format!("printf '\\n::block {line}\\n'; echo '::block {line}' >&2\n{run}")
    }

    /// What it printed, of what all printed.
    pub fn printed<'a>(&self, all: &'a str) -> Option<&'a str> {
        let (_, rest) = all.split_once(&format!("\n::block {}\n", self.line))?;
        Some(rest.split("\n::block ").next().unwrap_or(rest))
    }
}

/// Whether lines are as shown: `…` stands for anything in a line, and alone in one for any lines.
pub fn fits(shown: &str, printed: &str) -> bool {
    let shown: Vec<&str> = shown.trim().lines().map(str::trim_end).collect();
    let printed: Vec<&str> = printed.trim().lines().map(str::trim_end).collect();
    lines_fit(&shown, &printed)
}

fn lines_fit(shown: &[&str], printed: &[&str]) -> bool {
    match (shown.split_first(), printed.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first.trim() == "…" => {
            (0..=printed.len()).any(|skipped| lines_fit(rest, &printed[skipped..]))
        }
        (Some((first, rest)), Some((line, printed))) => line_fits(first, line) && lines_fit(rest, printed),
        _ => false,
    }
}

fn line_fits(shown: &str, line: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(mut left) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return left.ends_with(part);
        }
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.is_empty()
}

#[test]
fn what_is_shown_fits_what_is_printed() {
    for (shown, printed, fit) in [
        ("a\nb", "a\nb\n", true),
        ("a", "a\nb", false),
        ("at …, of …", "at 0/1, of x", true),
        ("at …, of y", "at 0/1, of x", false),
        ("a\n…\nd", "a\nb\nc\nd", true),
        ("a\n…\nd", "a\nd", true),
        ("…b", "aab", true),
        ("a…a", "a", false),
    ] {
        assert_eq!(fits(shown, printed), fit, "{shown:?} {printed:?}");
    }
}
