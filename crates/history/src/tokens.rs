//! What is kept of who is let in: static tokens, and what was taken back of tokens that others sign.
//!
//! No token's text comes here, only what its secret hashes to. What a token is, and whether one holds, is not decided here.
//! Both lists are bounded and are meant to be kept in memory; [`History::access_revision`] says when to read them again.

use std::fmt;

use serde_json::{Map, Value};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use crate::audit::{self, AuditAction, AuditEntry};
use crate::sql_row::{SqlTime, optional_time_us_at, time_us_at};
use crate::{Error, History};

const REVISION: &str = "SELECT revision FROM waldelta.access_revisions WHERE id = 1";
/// Whoever changes something holds this row, one after the other.
const LOCK: &str = "SELECT FROM waldelta.access_revisions WHERE id = 1 FOR UPDATE";
const STORE_TOKEN: &str = include_str!("../../../sql/queries/store_token.sql");
const LIST_TOKENS: &str = include_str!("../../../sql/queries/list_tokens.sql");
const REVOKE_TOKEN: &str =
    "UPDATE waldelta.tokens SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 RETURNING subject";
const REVOKE_JWTS: &str = include_str!("../../../sql/queries/revoke_jwts.sql");
const WIDEN_REVOCATION: &str = include_str!("../../../sql/queries/widen_revocation.sql");
const LIST_REVOCATIONS: &str = include_str!("../../../sql/queries/list_revocations.sql");
/// As another one is stored: by then nobody can present what it is about.
const FORGET_REVOCATIONS: &str = "DELETE FROM waldelta.revocations WHERE expires_at <= now()";

/// Tokens that live at once: each process has them all in memory, about 500 bytes each.
const LIVING_TOKENS_MAX: i64 = 10_000;
/// Tokens that are read, with those that live no longer: so many can be told that theirs was revoked or has expired.
const LISTED_TOKENS_MAX: i64 = 2 * LIVING_TOKENS_MAX;
/// Revocations that are kept at once, for the same reason, about 150 bytes each.
const REVOCATIONS_MAX: i64 = 100_000;

/// A static token that is to be stored. Its `Debug` has neither claims nor hash.
#[derive(Clone)]
pub struct NewStoredToken {
    /// The part of it that names it.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Whose it is.
    pub subject: String,
    /// What the rules may look at.
    pub claims: Map<String, Value>,
    /// Client ids that it may use; empty: any.
    pub client_ids: Vec<String>,
    /// Whether it is one of an operator.
    pub is_admin: bool,
    /// What its secret hashes to, in the PHC string format.
    pub hash: String,
    /// When it ends by itself, in microseconds since 1970.
    pub expires_at_us: Option<i64>,
}

/// A static token as it is stored; times are microseconds since 1970.
#[derive(Clone, Debug)]
pub struct StoredToken {
    /// What it was made with.
    pub made: NewStoredToken,
    /// When it was made.
    pub created_at_us: i64,
    /// When it was taken back.
    pub revoked_at_us: Option<i64>,
}

/// What is taken back of JSON web tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// The one with this `jti`.
    Token(String),
    /// All of this `sub` that were issued up to now.
    Subject(String),
}

/// What was taken back of JSON web tokens; times are microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Who signs them.
    pub issuer: String,
    /// Which.
    pub revoked: Revoked,
    /// When; those of a subject are meant that were issued up to then.
    pub revoked_at_us: i64,
    /// When all of them have expired by themselves.
    pub expires_at_us: Option<i64>,
}

/// All tokens and revocations.
#[derive(Clone, Debug, Default)]
pub struct AccessList {
    /// At least so new.
    pub revision: i64,
    /// Tokens: all that live, and the newest of the others.
    pub tokens: Vec<StoredToken>,
    /// Revocations that have not expired.
    pub revocations: Vec<Revocation>,
}

impl History {
    /// A number that is another one after tokens or revocations were changed, by whomever.
    pub async fn access_revision(&self) -> Result<i64, Error> {
        sqlx::query_scalar(REVISION).fetch_one(self.pool()).await.map_err(failed_to_read)
    }

    /// All tokens and revocations.
    pub async fn access(&self) -> Result<AccessList, Error> {
        // The number first: what changes meanwhile is read again rather than missed.
        let revision = self.access_revision().await?;
        Ok(AccessList { revision, tokens: self.tokens().await?, revocations: self.revocations().await? })
    }

    /// Tokens: all that live first, then the newest of the others.
    pub async fn tokens(&self) -> Result<Vec<StoredToken>, Error> {
        let rows = sqlx::query(LIST_TOKENS).bind(LISTED_TOKENS_MAX).fetch_all(self.pool()).await;
        rows.map_err(failed_to_read)?.iter().map(stored).collect()
    }

    /// What was taken back of JSON web tokens, and may still be presented.
    pub async fn revocations(&self) -> Result<Vec<Revocation>, Error> {
        let rows = sqlx::query(LIST_REVOCATIONS).bind(REVOCATIONS_MAX).fetch_all(self.pool()).await;
        rows.map_err(failed_to_read)?.iter().map(revocation).collect::<Result<_, _>>().map_err(failed_to_read)
    }

    /// Stores a token, and that it was made.
    ///
    /// # Errors
    /// [`Error::TooMany`] where 10,000 live already.
    pub async fn store_token(&self, token: &NewStoredToken) -> Result<(), Error> {
        let mut transaction = self.pool().begin().await.map_err(Error::ChangeAccess)?;
        lock(&mut transaction).await?;
        let stored = sqlx::query(STORE_TOKEN)
            .bind(&token.id)
            .bind(&token.name)
            .bind(&token.subject)
            .bind(Value::Object(token.claims.clone()).to_string())
            .bind(&token.client_ids)
            .bind(token.is_admin)
            .bind(&token.hash)
            .bind(token.expires_at_us.map(SqlTime))
            .bind(LIVING_TOKENS_MAX)
            .execute(&mut *transaction)
            .await
            .map_err(Error::ChangeAccess)?;
        if stored.rows_affected() == 0 {
            return Err(Error::TooMany { what: "tokens that live", max: LIVING_TOKENS_MAX });
        }
        let created = AuditAction::TokenCreated { token: token.id.clone(), is_admin: token.is_admin };
        commit(transaction, AuditEntry::new(created).by(token.subject.clone())).await
    }

    /// Takes a token back. False where there is none with this id. Again changes nothing.
    pub async fn revoke_token(&self, id: &str) -> Result<bool, Error> {
        let mut transaction = self.pool().begin().await.map_err(Error::ChangeAccess)?;
        lock(&mut transaction).await?;
        let revoked =
            sqlx::query_scalar::<_, String>(REVOKE_TOKEN).bind(id).fetch_optional(&mut *transaction);
        let Some(subject) = revoked.await.map_err(Error::ChangeAccess)? else { return Ok(false) };
        let revoked = AuditAction::TokenRevoked { token: Some(id.to_owned()) };
        commit(transaction, AuditEntry::new(revoked).by(subject)).await?;
        Ok(true)
    }

    /// Takes JSON web tokens back. `expires_at_us` is when all of them have expired by themselves, in microseconds since 1970.
    /// Again takes those of a subject back that were issued since.
    ///
    /// # Errors
    /// [`Error::TooMany`] where 100,000 revocations are kept already.
    pub async fn revoke_jwts(
        &self,
        issuer: &str,
        revoked: &Revoked,
        expires_at_us: Option<i64>,
    ) -> Result<(), Error> {
        let (jti, subject) = match revoked {
            Revoked::Token(jti) => (Some(jti), None),
            Revoked::Subject(subject) => (None, Some(subject)),
        };
        let mut transaction = self.pool().begin().await.map_err(Error::ChangeAccess)?;
        lock(&mut transaction).await?;
        sqlx::query(FORGET_REVOCATIONS).execute(&mut *transaction).await.map_err(Error::ChangeAccess)?;
        let bound = |sql: &'static str| {
            sqlx::query(sql).bind(issuer).bind(jti).bind(subject).bind(expires_at_us.map(SqlTime))
        };
        let widened =
            bound(WIDEN_REVOCATION).execute(&mut *transaction).await.map_err(Error::ChangeAccess)?;
        if widened.rows_affected() == 0 {
            let stored = bound(REVOKE_JWTS).bind(REVOCATIONS_MAX).execute(&mut *transaction).await;
            if stored.map_err(Error::ChangeAccess)?.rows_affected() == 0 {
                return Err(Error::TooMany { what: "revocations", max: REVOCATIONS_MAX });
            }
        }
        let entry = AuditEntry::new(AuditAction::TokenRevoked { token: jti.cloned() });
        commit(transaction, entry.by(subject.map_or(issuer, String::as_str))).await
    }
}

fn failed_to_read(source: sqlx::Error) -> Error {
    Error::Read { what: "tokens and revocations", source }
}

async fn lock(connection: &mut PgConnection) -> Result<(), Error> {
    sqlx::query(LOCK).execute(connection).await.map(|_| ()).map_err(Error::ChangeAccess)
}

/// With what is to be told of it.
async fn commit(
    mut transaction: sqlx::Transaction<'_, sqlx::Postgres>,
    entry: AuditEntry,
) -> Result<(), Error> {
    audit::write(&mut *transaction, std::slice::from_ref(&entry)).await.map_err(Error::ChangeAccess)?;
    transaction.commit().await.map_err(Error::ChangeAccess)?;
    entry.log();
    Ok(())
}

fn stored(row: &PgRow) -> Result<StoredToken, Error> {
    let columns = || -> Result<_, sqlx::Error> {
        let made = NewStoredToken {
            id: row.try_get(0)?,
            name: row.try_get(1)?,
            subject: row.try_get(2)?,
            claims: Map::new(),
            client_ids: row.try_get(4)?,
            is_admin: row.try_get(5)?,
            hash: row.try_get(6)?,
            expires_at_us: optional_time_us_at(row, 8)?,
        };
        let (created_at_us, revoked_at_us) = (time_us_at(row, 7)?, optional_time_us_at(row, 9)?);
        Ok((StoredToken { made, created_at_us, revoked_at_us }, row.try_get::<&str, _>(3)?))
    };
    let (mut token, claims) = columns().map_err(failed_to_read)?;
    token.made.claims = serde_json::from_str(claims)
        .map_err(|_| Error::Corrupt { what: format!("the claims of the token {}", token.made.id) })?;
    Ok(token)
}

fn revocation(row: &PgRow) -> Result<Revocation, sqlx::Error> {
    let revoked_at_us = time_us_at(row, 4)?;
    let (revoked, revoked_at_us) = match row.try_get::<Option<String>, _>(1)? {
        Some(jti) => (Revoked::Token(jti), revoked_at_us),
        None => (Revoked::Subject(row.try_get(2)?), optional_time_us_at(row, 3)?.unwrap_or(revoked_at_us)),
    };
    Ok(Revocation {
        issuer: row.try_get(0)?,
        revoked,
        revoked_at_us,
        expires_at_us: optional_time_us_at(row, 5)?,
    })
}

impl fmt::Debug for NewStoredToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewStoredToken")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("subject", &self.subject)
            .field("is_admin", &self.is_admin)
            .field("expires_at_us", &self.expires_at_us)
            .finish_non_exhaustive()
    }
}
