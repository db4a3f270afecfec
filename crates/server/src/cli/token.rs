//! The command line of `waldelta token`, and how a token is given to those commands that ask a running service.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::Value;

use super::Options;

/// Ten years: what is to last longer has no end.
const SPAN_MAX: Duration = Duration::from_secs(3_650 * 86_400);

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token; its text is shown this once
    Create(CreateTokenOptions),
    /// Show which tokens there are, and what was revoked
    List(ListTokensOptions),
    /// Take a token back, or JSON web tokens of an issuer
    Revoke(RevokeTokenOptions),
}

#[derive(Debug, Args)]
pub(crate) struct CreateTokenOptions {
    #[command(flatten)]
    pub options: Options,
    /// What it is called, for people
    #[arg(long, env = "WALDELTA_TOKEN_NAME", hide_env_values = true, value_name = "TEXT")]
    pub name: String,
    /// Whose it is: the claim `sub`
    #[arg(long, env = "WALDELTA_TOKEN_SUBJECT", hide_env_values = true, value_name = "TEXT")]
    pub subject: String,
    /// A claim for the rules, such as 'tenant="acme"' or 'level=3'; may be repeated, in the variable a line each
    #[arg(
        long = "claim",
        env = "WALDELTA_TOKEN_CLAIMS",
        hide_env_values = true,
        value_name = "NAME=JSON",
        value_delimiter = '\n'
    )]
    pub claims: Vec<Claim>,
    /// A client id that it may use, or with * at its end the beginning of some; may be repeated, in the variable a line each
    /// [default: any]
    #[arg(
        long = "client-id",
        env = "WALDELTA_TOKEN_CLIENT_IDS",
        hide_env_values = true,
        value_name = "ID",
        value_delimiter = '\n'
    )]
    pub client_ids: Vec<String>,
    /// It is one of an operator, who may see the state of the service and everybody's
    #[arg(long, env = "WALDELTA_TOKEN_ADMIN", hide_env_values = true)]
    pub admin: bool,
    /// It ends by itself after this time, such as 90d, 12h or 30m [default: never]
    #[arg(long, env = "WALDELTA_TOKEN_EXPIRES", hide_env_values = true, value_parser = span, value_name = "TIME")]
    pub expires: Option<Duration>,
    /// Print JSON
    #[arg(long, env = "WALDELTA_JSON", hide_env_values = true)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListTokensOptions {
    #[command(flatten)]
    pub options: Options,
    /// Print JSON
    #[arg(long, env = "WALDELTA_JSON", hide_env_values = true)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("jwts").args(["jti", "subject"]))]
pub(crate) struct RevokeTokenOptions {
    #[command(flatten)]
    pub options: Options,
    /// Print JSON
    #[arg(long, env = "WALDELTA_JSON", hide_env_values = true)]
    pub json: bool,
    /// The id of a static token, as `list` shows it
    #[arg(
        value_name = "ID",
        required_unless_present = "issuer",
        conflicts_with_all = ["issuer", "jti", "subject", "expires"]
    )]
    pub id: Option<String>,
    /// Who signs the JSON web tokens: their claim `iss`
    #[arg(
        long,
        env = "WALDELTA_REVOKE_ISSUER",
        hide_env_values = true,
        requires = "jwts",
        value_name = "TEXT"
    )]
    pub issuer: Option<String>,
    /// The one with this claim `jti`
    #[arg(
        long,
        env = "WALDELTA_REVOKE_JTI",
        hide_env_values = true,
        requires = "issuer",
        value_name = "TEXT"
    )]
    pub jti: Option<String>,
    /// All with this claim `sub` that were issued up to now
    #[arg(
        long,
        env = "WALDELTA_REVOKE_SUBJECT",
        hide_env_values = true,
        requires = "issuer",
        value_name = "TEXT"
    )]
    pub subject: Option<String>,
    /// All of them have expired by themselves after this time, and this can be forgotten, such as 30d [default: never]
    #[arg(
        long,
        env = "WALDELTA_REVOKE_EXPIRES",
        hide_env_values = true,
        requires = "issuer",
        value_parser = span,
        value_name = "TIME"
    )]
    pub expires: Option<Duration>,
}

/// A claim and its value. Its `Debug` has the name only.
#[derive(Clone)]
pub(crate) struct Claim {
    pub name: String,
    pub value: Value,
}

impl FromStr for Claim {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').ok_or("a claim is a name, = and a value")?;
        if name.trim().is_empty() {
            return Err("the claim has no name");
        }
        let value = serde_json::from_str(value).map_err(
            |_| "the value is not JSON: a text stands in quotation marks, such as 'tenant=\"acme\"'",
        )?;
        Ok(Claim { name: name.trim().to_owned(), value })
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A token to present to a running service. Its `Debug` does not show it.
#[derive(Clone)]
pub(crate) struct BearerToken(String);

impl From<String> for BearerToken {
    fn from(text: String) -> Self {
        BearerToken(text)
    }
}

impl BearerToken {
    /// The value of `Authorization`; `None` for an empty token, which a variable may hold.
    ///
    /// # Errors
    /// Text that no header can have.
    pub(crate) fn authorization(&self) -> anyhow::Result<Option<String>> {
        let text = self.0.trim();
        // Not the words of the command line's parser, which would show it.
        anyhow::ensure!(
            text.bytes().all(|byte| byte.is_ascii_graphic()),
            "the token has characters that no token has: blanks or others that are not ASCII"
        );
        Ok((!text.is_empty()).then(|| format!("Bearer {text}")))
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken")
    }
}

/// A time span such as 90d, 12h, 30m or 45s.
fn span(text: &str) -> Result<Duration, &'static str> {
    let form = "a time is a number and d, h, m or s, such as 90d";
    let unit = text.chars().last().ok_or(form)?;
    let seconds = match unit {
        'd' => 86_400,
        'h' => 3_600,
        'm' => 60,
        's' => 1,
        _ => return Err(form),
    };
    let number: u64 = text.strip_suffix(unit).and_then(|number| number.parse().ok()).ok_or(form)?;
    let span = Duration::from_secs(number.saturating_mul(seconds));
    match () {
        () if span.is_zero() => Err("the time is none at all"),
        () if span > SPAN_MAX => Err("the time is longer than 3650d: leave it out for no end"),
        () => Ok(span),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn a_time_is_a_number_and_a_unit() {
        assert_eq!(span("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert_eq!(span("12h"), Ok(Duration::from_secs(12 * 3_600)));
        assert_eq!(span("1s"), Ok(Duration::from_secs(1)));
        for nonsense in [
            "",
            "d",
            "90",
            "-1d",
            "1.5h",
            "1y",
            "0m",
            "3651d",
            "99999999999999999999d",
            "18446744073709551615d",
        ] {
            assert!(span(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn a_claim_is_a_name_and_json() {
        let claim = |text: &str| text.parse::<Claim>().map(|claim| (claim.name, claim.value));
        assert_eq!(claim(r#"tenant="a=b""#), Ok(("tenant".into(), "a=b".into())));
        assert_eq!(claim("level=3"), Ok(("level".into(), 3.into())));
        for nonsense in ["tenant", "=3", "tenant=acme", "tenant="] {
            assert!(claim(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn what_is_revoked_is_one_token_or_those_of_an_issuer() {
        let parses =
            |args: &[&str]| Cli::try_parse_from(["waldelta", "token", "revoke"].iter().chain(args)).is_ok();
        assert!(parses(&["abc"]));
        assert!(parses(&["--issuer", "i", "--jti", "j"]));
        assert!(parses(&["--issuer", "i", "--subject", "s", "--expires", "1d"]));
        for nonsense in [
            &[][..],
            &["--issuer", "i"],
            &["--jti", "j"],
            &["abc", "--issuer", "i", "--jti", "j"],
            &["abc", "--subject", "s"],
            &["--issuer", "i", "--jti", "j", "--subject", "s"],
            &["abc", "--expires", "1d"],
        ] {
            assert!(!parses(nonsense), "{nonsense:?}");
        }
    }

    #[test]
    fn nothing_that_is_printed_for_debugging_shows_a_token_or_a_claim() {
        let secret = "wd_0123456789abcdef.s3cret";
        for command in [
            &["waldelta", "tail", "--token", secret][..],
            &["waldelta", "status", "--token", secret],
            &["waldelta", "token", "create", "--name", "n", "--subject", "s", "--claim", "tenant=\"s3cret\""],
        ] {
            let parsed = format!("{:?}", Cli::try_parse_from(command).unwrap());
            assert!(!parsed.contains("s3cret"), "{parsed}");
        }
    }

    #[test]
    fn a_token_that_no_header_can_have_is_refused_without_being_shown() {
        let header = |text: &str| BearerToken::from(text.to_owned()).authorization();
        assert_eq!(header(" a.b\n").unwrap().as_deref(), Some("Bearer a.b"));
        assert_eq!(header("").unwrap(), None);
        for nonsense in ["s3c ret", "s3c\r\nret", "s3cr\u{e9}t"] {
            assert!(!format!("{:?}", header(nonsense).unwrap_err()).contains("s3c"), "{nonsense}");
        }
    }
}
