//! `waldelta token`: static tokens in the history database, and what is taken back of tokens that others sign.
//!
//! Running services hear of it by asking the database, and need not be told. Whether they take static tokens at all is a matter
//! of their configuration.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use serde_json::{Map, Value, json};
use waldelta_access::{MakeTokenError, NewToken};
use waldelta_fanout::Timestamp;
use waldelta_history::{History, Revocation, Revoked, StoredToken};
use waldelta_wal::Code;

use super::answer;
use crate::cli::{CreateTokenOptions, ListTokensOptions, Options, RevokeTokenOptions, TokenCommand};
use crate::config::Config;
use crate::failure::Failure;

const HEARD: &str = "running services hear of it within 10 seconds, and end what it has opened";

/// Makes, shows, or takes back.
pub(crate) async fn run(command: &TokenCommand) -> anyhow::Result<ExitCode> {
    match command {
        TokenCommand::Create(options) => create(options).await?,
        TokenCommand::List(options) => list(options).await?,
        TokenCommand::Revoke(options) => revoke(options).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn history(options: &Options) -> anyhow::Result<History> {
    History::open(&Config::load(options)?.history()?).await.context("open history")
}

async fn create(options: &CreateTokenOptions) -> anyhow::Result<()> {
    let mut claims = Map::new();
    for claim in &options.claims {
        if claims.insert(claim.name.clone(), claim.value.clone()).is_some() {
            return Err(invalid(format!("the claim {} is given twice", claim.name)));
        }
    }
    let new = NewToken {
        name: options.name.trim().to_owned(),
        subject: options.subject.trim().to_owned(),
        claims,
        client_ids: options.client_ids.clone(),
        is_admin: options.admin,
        expires_at: options.expires.map(from_now),
    };
    let made = match new.make(&history(&options.options).await?).await {
        Ok(made) => made,
        Err(MakeTokenError::Unfit(why)) => return Err(invalid(why)),
        Err(error) => return Err(anyhow::Error::new(error).context("make the token")),
    };
    let expires_at = new.expires_at.map(|at| time_text(micros(at)));
    if options.json {
        return answer(serde_json::to_string_pretty(&json!({
            "id": made.id,
            "token": made.secret.0,
            "name": new.name,
            "subject": new.subject,
            "is_admin": new.is_admin,
            "expires_at": expires_at,
        }))?);
    }
    answer(&made.secret.0)?;
    answer(format_args!(
        "-- id {}, of {}{}{}",
        made.id,
        new.subject,
        if new.is_admin { ", an operator's" } else { "" },
        expires_at.map_or_else(String::new, |at| format!(", until {at}")),
    ))?;
    answer("-- it is shown this once: history keeps a hash of it only")?;
    answer("-- services whose configuration has `[auth] static_tokens = true` take it at once")
}

async fn list(options: &ListTokensOptions) -> anyhow::Result<()> {
    let config = Config::load(&options.options)?.history()?;
    let history = History::open_as_it_is(&config).await.context("open history")?;
    let tokens = history.tokens().await.context("list the tokens")?;
    let revocations = history.revocations().await.context("list what was revoked")?;
    if options.json {
        let tokens: Vec<Value> = tokens.iter().map(token_json).collect();
        let revocations: Vec<Value> = revocations.iter().map(revocation_json).collect();
        return answer(serde_json::to_string_pretty(&json!({"tokens": tokens, "revocations": revocations}))?);
    }
    if tokens.is_empty() && revocations.is_empty() {
        return answer("-- no tokens, and nothing was revoked");
    }
    tokens.iter().map(token_text).try_for_each(answer)?;
    revocations.iter().map(revocation_text).try_for_each(answer)
}

async fn revoke(options: &RevokeTokenOptions) -> anyhow::Result<()> {
    let history = history(&options.options).await?;
    let Some(issuer) = &options.issuer else {
        let id = bare_id(options.id.as_deref().unwrap_or_default());
        if !history.revoke_token(id).await.context("revoke the token")? {
            return Err(invalid(
                "there is no token with this id: `waldelta token list` shows those that there are",
            ));
        }
        return tell_revoked(options);
    };
    let revoked = match (&options.jti, &options.subject) {
        (Some(jti), None) => Revoked::Token(jti.clone()),
        (None, Some(subject)) => Revoked::Subject(subject.clone()),
        _ => return Err(invalid("give --jti or --subject")),
    };
    let texts =
        [issuer.as_str(), options.jti.as_deref().unwrap_or("-"), options.subject.as_deref().unwrap_or("-")];
    if texts.iter().any(|text| text.is_empty() || text.len() > 1_000) {
        return Err(invalid("an issuer, a jti and a subject have 1 to 1000 bytes each"));
    }
    let expires_at_us = options.expires.map(|span| micros(from_now(span)));
    history.revoke_jwts(issuer, &revoked, expires_at_us).await.context("revoke the tokens")?;
    tell_revoked(options)
}

fn tell_revoked(options: &RevokeTokenOptions) -> anyhow::Result<()> {
    if !options.json {
        return answer(format_args!("revoked; {HEARD}"));
    }
    let RevokeTokenOptions { id, issuer, jti, subject, .. } = options;
    let id = id.as_deref().map(bare_id);
    answer(serde_json::to_string_pretty(
        &json!({"id": id, "issuer": issuer, "jti": jti, "subject": subject, "revoked": true}),
    )?)
}

/// An id, also where somebody has a whole token at hand.
fn bare_id(text: &str) -> &str {
    let text = text.trim();
    let id = text.strip_prefix("wd_").unwrap_or(text);
    id.split('.').next().unwrap_or(id)
}

fn token_text(StoredToken { made, created_at_us, revoked_at_us }: &StoredToken) -> String {
    let mut text = format!("{}  {}  of {}", made.id, made.name, made.subject);
    if made.is_admin {
        text.push_str("  operator");
    }
    if !made.client_ids.is_empty() {
        text.push_str(&format!("  clients {}", made.client_ids.join(" ")));
    }
    text.push_str(&format!("  made {}", time_text(*created_at_us)));
    if let Some(at) = made.expires_at_us {
        text.push_str(&format!("  expires {}", time_text(at)));
    }
    if let Some(at) = revoked_at_us {
        text.push_str(&format!("  REVOKED {}", time_text(*at)));
    }
    text
}

fn token_json(StoredToken { made, created_at_us, revoked_at_us }: &StoredToken) -> Value {
    json!({
        "id": made.id,
        "name": made.name,
        "subject": made.subject,
        "claims": made.claims,
        "client_ids": made.client_ids,
        "is_admin": made.is_admin,
        "created_at": time_text(*created_at_us),
        "expires_at": made.expires_at_us.map(time_text),
        "revoked_at": revoked_at_us.map(time_text),
    })
}

fn revocation_text(revocation: &Revocation) -> String {
    let which = match &revocation.revoked {
        Revoked::Token(jti) => format!("the one with jti {jti}"),
        Revoked::Subject(subject) => format!("all of {subject} that were issued by then"),
    };
    format!("JWT of {}: {which}  REVOKED {}", revocation.issuer, time_text(revocation.revoked_at_us))
}

fn revocation_json(revocation: &Revocation) -> Value {
    let (jti, subject) = match &revocation.revoked {
        Revoked::Token(jti) => (Some(jti), None),
        Revoked::Subject(subject) => (None, Some(subject)),
    };
    json!({
        "issuer": revocation.issuer,
        "jti": jti,
        "subject": subject,
        "revoked_at": time_text(revocation.revoked_at_us),
        "expires_at": revocation.expires_at_us.map(time_text),
    })
}

fn time_text(micros: i64) -> String {
    Timestamp(micros).to_string()
}

#[expect(clippy::disallowed_methods, reason = "a span on the command line begins when the command is given")]
fn from_now(span: Duration) -> SystemTime {
    let now = SystemTime::now();
    now.checked_add(span).unwrap_or(now)
}

fn micros(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

fn invalid(message: impl Into<String>) -> anyhow::Error {
    Failure::error(Code::ConfigInvalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_in_what_somebody_has_at_hand() {
        for text in ["0123456789abcdef", "wd_0123456789abcdef", " wd_0123456789abcdef.00ff\n"] {
            assert_eq!(bare_id(text), "0123456789abcdef");
        }
    }
}
