//! The server and the role.

use tokio_postgres::Client;
use waldelta_wal::{Code, quote_ident};

use super::Check;
use crate::ask::{ask, ask_one};
use crate::{Error, Source};

const SERVER: &str = include_str!("../../../../sql/source/check_server.sql");
const VERSION_MIN: i32 = 140_000;
/// From here on logical decoding is switched on by the first slot, if `wal_level` is at least replica.
const VERSION_WITH_DYNAMIC_WAL_LEVEL: i32 = 190_000;

pub(super) fn pooler(source: &Source) -> Option<Check> {
    let address = source.target.address();
    source.target.looks_pooled().then(|| {
        let code = Code::PoolerAddress;
        Check::warning(
            "pooler",
            code,
            format!("{address} looks like a connection pooler"),
            code.explanation().fix,
        )
    })
}

pub(super) async fn reachable(client: &Client, source: &Source) -> Result<Check, Error> {
    let sql = "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let rows = ask(client, "ask whether the connection is encrypted", sql, &[]).await?;
    let encryption = match rows.first() {
        Some(row) if row.read("ssl")? => {
            row.read::<Option<String>>("version")?.unwrap_or_else(|| "TLS".into())
        }
        _ => "no TLS".to_owned(),
    };
    let mode = source.target.ssl_mode();
    Ok(Check::ok("reachable", format!("{} answers ({encryption}, sslmode={mode})", source.target.address())))
}

pub(super) async fn version(client: &Client) -> Result<Check, Error> {
    let server = ask_one(client, "ask for the version", SERVER, &[]).await?;
    let text: &str = server.read("version_text")?;
    if server.read::<i32>("version")? >= VERSION_MIN {
        return Ok(Check::ok("version", format!("PostgreSQL {text}")));
    }
    let code = Code::VersionUnsupported;
    Ok(Check::failed("version", code, format!("PostgreSQL {text} is older than 14"), code.explanation().fix))
}

pub(super) async fn primary(client: &Client) -> Result<Check, Error> {
    let server = ask_one(client, "ask whether it is a standby", SERVER, &[]).await?;
    if server.read("is_standby")? {
        let code = Code::SourceStandby;
        return Ok(Check::failed("primary", code, "the server is a standby", code.explanation().fix));
    }
    Ok(Check::ok("primary", "the server is a primary"))
}

pub(super) async fn encoding(client: &Client) -> Result<Check, Error> {
    let server = ask_one(client, "ask for the encoding", SERVER, &[]).await?;
    let encoding: &str = server.read("encoding")?;
    if encoding == "SQL_ASCII" {
        let code = Code::EncodingUnsupported;
        return Ok(Check::failed(
            "encoding",
            code,
            "the database's encoding is SQL_ASCII",
            code.explanation().fix,
        ));
    }
    Ok(Check::ok("encoding", format!("the database's encoding is {encoding}")))
}

pub(super) async fn wal_level(client: &Client) -> Result<Check, Error> {
    const WHAT: &str = "ask for wal_level";
    let row = ask_one(client, WHAT, include_str!("../../../../sql/source/check_wal_level.sql"), &[]).await?;
    let version: i32 = ask_one(client, WHAT, SERVER, &[]).await?.read("version")?;
    let level: &str = row.read("wal_level")?;
    if level == "logical" || (level == "replica" && version >= VERSION_WITH_DYNAMIC_WAL_LEVEL) {
        return Ok(Check::ok("wal_level", format!("wal_level is {level}")));
    }
    let code = Code::WalLevel;
    if row.read("pending_restart")? {
        let found = format!("wal_level is {level} until PostgreSQL is restarted");
        return Ok(Check::failed("wal_level", code, found, "restart PostgreSQL"));
    }
    let fix = "ALTER SYSTEM SET wal_level = 'logical';\n-- then restart PostgreSQL";
    Ok(Check::failed("wal_level", code, format!("wal_level is {level}"), fix))
}

pub(super) async fn role(client: &Client) -> Result<Check, Error> {
    let sql = include_str!("../../../../sql/source/check_role.sql");
    let row = ask_one(client, "ask for the role's rights", sql, &[]).await?;
    let role: &str = row.read("role")?;
    if row.read("may_replicate")? {
        return Ok(Check::ok("role", format!("{role} may replicate")));
    }
    let fix = format!(
        "ALTER ROLE {} REPLICATION;\n-- on Amazon RDS: GRANT rds_replication TO {0};",
        quote_ident(role)
    );
    Ok(Check::failed("role", Code::PrivilegeMissing, format!("{role} may not replicate"), fix))
}
