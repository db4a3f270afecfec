//! Bringing the schema `waldelta` up to date, and dropping history's part of it.
//!
//! The source's side may keep objects in the same schema of the same database; they are not touched.
//!
//! No migration does what takes longer the more history there is: nothing is appended meanwhile. Indexes are made on the parent
//! alone and built elsewhere, see `indexes`.

use std::borrow::Cow;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{ConnectOptions, Connection, PgConnection, SqlSafeStr};
use tokio_postgres::error::SqlState;

use crate::lease;
use crate::link;
use crate::pool::{SCHEMA, connect_options};
use crate::{Config, Error, long};

/// Migrations in order. A released one never changes: its checksum is stored.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "history", include_str!("../../../sql/migrations/0001_history.sql")),
    (2, "repair", include_str!("../../../sql/migrations/0002_repair.sql")),
    (3, "epochs", include_str!("../../../sql/migrations/0003_epochs.sql")),
    (4, "clients", include_str!("../../../sql/migrations/0004_clients.sql")),
    (5, "rows", include_str!("../../../sql/migrations/0005_rows.sql")),
    (6, "gaps", include_str!("../../../sql/migrations/0006_gaps.sql")),
    (7, "access", include_str!("../../../sql/migrations/0007_access.sql")),
    (8, "audit", include_str!("../../../sql/migrations/0008_audit.sql")),
    (9, "retention", include_str!("../../../sql/migrations/0009_retention.sql")),
    (10, "seals", include_str!("../../../sql/migrations/0010_seals.sql")),
    (11, "owners", include_str!("../../../sql/migrations/0011_owners.sql")),
    (12, "comments", include_str!("../../../sql/migrations/0012_comments.sql")),
];
const MIGRATIONS_TABLE: &str = "waldelta._sqlx_migrations";
const DROP: &str = include_str!("../../../sql/queries/drop_history.sql");

/// Key of the advisory lock under which the schema changes: "WALDELTM".
const LOCK_KEY: i64 = 0x5741_4C44_454C_544D;
/// The oldest version that has what is used here.
const SERVER_VERSION_MIN: i32 = 14_00_00;

/// Checks the server and applies what is missing. Safe when several processes do it at once. `tell` hears what is waited for;
/// the log does where that is long.
pub(crate) async fn migrate(
    config: &Config,
    tell: &(impl Fn(&'static str) + Send + Sync),
) -> Result<(), Error> {
    let step = |until: &'static str| {
        tell(until);
        until
    };
    long::told(step("the history database answers"), check_server(config)).await?;
    let options = connect_options(&config.target, "waldelta-history-migrate");
    let mut connection = options.connect().await.map_err(Error::Open)?;
    if is_current(&mut connection).await {
        return connection.close().await.map_err(Error::Open);
    }
    // The lock ends with the connection, also after an error.
    let locked = sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK_KEY).execute(&mut connection);
    let other = step("another process has brought the schema of history up to date");
    long::told(other, locked).await.map_err(Error::Open)?;
    let ours = step("the schema of history is up to date");
    long::told(ours, apply(&mut connection)).await?;
    connection.close().await.map_err(Error::Open)
}

/// What has been applied, and its checksums.
type Applied = Vec<(i64, Vec<u8>)>;

fn wanted() -> Applied {
    migrator().iter().map(|migration| (migration.version, migration.checksum.to_vec())).collect()
}

async fn applied(connection: &mut PgConnection) -> Result<Applied, sqlx::Error> {
    let applied = "SELECT version, checksum FROM waldelta._sqlx_migrations WHERE success ORDER BY version";
    sqlx::query_as(applied).fetch_all(connection).await
}

/// Whether nothing is missing, as far as that can be seen: then the role needs no right to change anything. Applying nothing would ask for
/// it all the same.
async fn is_current(connection: &mut PgConnection) -> bool {
    // Where it cannot be read, whoever applies it says why.
    applied(connection).await.is_ok_and(|applied| applied == wanted())
}

/// For who only reads: checks the server, and that the schema is that of this version.
pub(crate) async fn look(config: &Config) -> Result<(), Error> {
    check_server(config).await?;
    let options = connect_options(&config.target, "waldelta-history-look");
    let mut connection = options.connect().await.map_err(Error::Open)?;
    let applied = match applied(&mut connection).await {
        Ok(applied) => applied,
        Err(sqlx::Error::Database(error)) if matches!(error.code().as_deref(), Some("42P01" | "3F000")) => {
            return Err(Error::NotBegun);
        }
        Err(error) => return Err(Error::Open(error)),
    };
    let wanted = wanted();
    let known = |version: i64| wanted.iter().any(|(known, _)| *known == version);
    if let Some((version, _)) = applied.iter().find(|(version, _)| !known(*version)) {
        return Err(Error::SchemaNewer {
            version: *version,
            name: description(&mut connection, *version).await?,
        });
    }
    if applied == wanted {
        return Ok(());
    }
    match applied.iter().zip(&wanted).find(|(applied, wanted)| applied != wanted) {
        Some(((version, _), _)) => Err(Error::Migrate(MigrateError::VersionMismatch(*version))),
        None => Err(Error::SchemaOlder { version: applied.last().map_or(0, |(version, _)| *version) }),
    }
}

/// Applies what is missing, with the lock held.
async fn apply(connection: &mut PgConnection) -> Result<(), Error> {
    create_schema(connection).await?;
    match migrator().run_direct(None, connection, false).await {
        Ok(()) => Ok(()),
        Err(MigrateError::VersionMissing(version)) => {
            Err(Error::SchemaNewer { version, name: description(connection, version).await? })
        }
        Err(error) => Err(Error::Migrate(error)),
    }
}

fn migrator() -> Migrator {
    let migration = |&(version, description, sql): &(i64, &'static str, &'static str)| {
        Migration::new(version, Cow::Borrowed(description), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let mut migrator = Migrator::with_migrations(MIGRATIONS.iter().map(migration).collect());
    migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
    migrator.set_locking(false);
    migrator
}

/// Over a connection of the other kind, because its errors say best why there is none.
async fn check_server(config: &Config) -> Result<(), Error> {
    let client = link::connect(&config.target).await?;
    let server = "SELECT current_setting('server_version_num')::int, current_setting('server_version'),
        current_setting('fsync')::bool";
    let row = client.query_one(server, &[]).await.map_err(Error::Ask)?;
    if row.get::<_, i32>(0) < SERVER_VERSION_MIN {
        return Err(Error::ServerTooOld { version: row.get(1) });
    }
    if !row.get::<_, bool>(2) {
        // What is durable is reported to the slot, and then nobody else has it.
        tracing::warn!(
            "the history database's server runs with fsync off: a crash of its machine loses changes for good"
        );
    }
    Ok(())
}

/// Not `IF NOT EXISTS` alone: that asks for the right to create schemas even where the schema is there.
async fn create_schema(connection: &mut PgConnection) -> Result<(), Error> {
    let exists: bool = sqlx::query_scalar("SELECT to_regnamespace($1) IS NOT NULL")
        .bind(SCHEMA)
        .fetch_one(&mut *connection)
        .await
        .map_err(Error::Open)?;
    if exists {
        return Ok(());
    }
    let created = sqlx::query("CREATE SCHEMA IF NOT EXISTS waldelta").execute(connection).await;
    match created {
        Ok(_) => Ok(()),
        // Somebody who sets up the source's side made it in the same moment.
        Err(sqlx::Error::Database(error)) if matches!(error.code().as_deref(), Some("23505" | "42P06")) => {
            Ok(())
        }
        Err(error) => Err(Error::Migrate(MigrateError::Execute(error))),
    }
}

async fn description(connection: &mut PgConnection, version: i64) -> Result<String, Error> {
    sqlx::query_scalar("SELECT description FROM waldelta._sqlx_migrations WHERE version = $1")
        .bind(version)
        .fetch_one(connection)
        .await
        .map_err(Error::Open)
}

/// Drops history's tables, and the schema if nothing else is in it. Refused while a writer lives.
pub(crate) async fn drop_everything(config: &Config) -> Result<(), Error> {
    let client = link::connect(&config.target).await?;
    if let Some(holder) = lease::lock(&client, None).await? {
        return Err(holder.refusal());
    }
    client.batch_execute(DROP).await.map_err(Error::Drop)?;
    match client.batch_execute("DROP SCHEMA IF EXISTS waldelta RESTRICT").await {
        Err(error) if error.code() == Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST) => Ok(()),
        // The schema was there before, made by somebody else.
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(()),
        result => result.map_err(Error::Drop),
    }
}
