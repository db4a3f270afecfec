//! The server: how it is reached, what it is, and how it is set.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use waldelta_pgconn::{Address, SslMode};
use waldelta_wal::Code;

use super::{Check, Subject};
use crate::ask::{ask, ask_one};
use crate::setup::provider::{is_restartable, logical_decoding, set};
use crate::{Error, Source};

const SERVER: &str = include_str!("../../../../sql/source/check_server.sql");
const VERSION_MIN: i32 = 140_000;
/// Slots on standbys came with it.
const VERSION_OF_STANDBY_SLOTS: i32 = 160_000;
/// From here on logical decoding is switched on by the first slot, if `wal_level` is at least replica.
const VERSION_WITH_DYNAMIC_WAL_LEVEL: i32 = 190_000;
/// By major version, the first minor one that tells every transaction of a publication that is altered (release notes of
/// PostgreSQL 17.5).
const SOUND_SINCE: [i32; 4] = [140_018, 150_013, 160_009, 170_005];
/// Below it, pauses are taken for the end.
const SENDER_TIMEOUT_MS_MIN: i64 = 10_000;
const SKEW_MAX: Duration = Duration::from_secs(5);

pub(super) fn pooler(source: &Source) -> Option<Check> {
    let address = source.target.address();
    source.target.looks_pooled().then(|| {
        let code = Code::PoolerAddress;
        let found = format!("{address} looks like a connection pooler");
        Check::warning("pooler", code, found, code.explanation().fix)
    })
}

pub(super) async fn reachable(subject: &Subject<'_>) -> Result<Check, Error> {
    let sql = "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let rows = ask(subject.client, "ask whether the connection is encrypted", sql, &[]).await?;
    let encryption = match rows.first() {
        Some(row) if row.read("ssl")? => {
            row.read::<Option<String>>("version")?.unwrap_or_else(|| "TLS".into())
        }
        _ => "no TLS".to_owned(),
    };
    let target = &subject.source.target;
    let (address, mode) = (target.address(), target.ssl_mode());
    let found = format!("{address} answers ({encryption}, sslmode={mode})");
    if is_exposed(&address, mode) {
        let fix = "take sslmode out of source.url, or set sslmode=verify-full with sslrootcert";
        return Ok(Check::warning("reachable", Code::TlsWeak, found, fix));
    }
    Ok(Check::ok("reachable", found))
}

/// Whether what is said leaves this machine, and less is demanded than a trusted certificate for that host.
fn is_exposed(address: &Address, mode: SslMode) -> bool {
    !address.is_local() && mode != SslMode::VerifyFull
}

pub(super) async fn version(subject: &Subject<'_>) -> Result<Check, Error> {
    const NAME: &str = "version";
    let server = ask_one(subject.client, "ask for the version", SERVER, &[]).await?;
    let (version, text): (i32, &str) = (server.read("version")?, server.read("version_text")?);
    if version < VERSION_MIN {
        let code = Code::VersionUnsupported;
        let found = format!("PostgreSQL {text} is older than 14");
        return Ok(Check::failed(NAME, code, found, code.explanation().fix));
    }
    if let Some(sound) = sound_version(version) {
        let found = format!("PostgreSQL {text} can lose changes when a table is added to the publication");
        let fix = format!("upgrade to PostgreSQL {}.{} or newer", sound / 10_000, sound % 10_000);
        return Ok(Check::warning(NAME, Code::VersionFaulty, found, fix));
    }
    let provider = subject.provider.map_or_else(String::new, |provider| format!(", {}", provider.title()));
    Ok(Check::ok(NAME, format!("PostgreSQL {text}{provider}")))
}

/// The version to upgrade to, where this one is faulty.
fn sound_version(version: i32) -> Option<i32> {
    SOUND_SINCE.into_iter().find(|sound| version / 10_000 == sound / 10_000 && version < *sound)
}

pub(super) async fn primary(subject: &Subject<'_>) -> Result<Check, Error> {
    const NAME: &str = "primary";
    let server = ask_one(subject.client, "ask whether it is a standby", SERVER, &[]).await?;
    if !server.read::<bool>("is_standby")? {
        return Ok(Check::ok(NAME, "the server is a primary"));
    }
    let code = Code::SourceStandby;
    if subject.source.primary.is_none() {
        let fix = "connect to the primary, or name it as source.primary_url";
        return Ok(Check::failed(NAME, code, "the server is a standby", fix));
    }
    if server.read::<i32>("version")? < VERSION_OF_STANDBY_SLOTS {
        let found = "the server is a standby of a version before 16, which has no logical slots";
        return Ok(Check::failed(NAME, Code::VersionUnsupported, found, "connect to the primary"));
    }
    match subject.source.connect_primary().await {
        Ok(_) => {}
        Err(error @ Error::NotThePrimary { .. }) => {
            return Ok(Check::failed(NAME, code, error.to_string(), "correct source.primary_url"));
        }
        Err(error) => return Err(error),
    }
    if !server.read::<bool>("has_feedback")? {
        let found = "the server is a standby with hot_standby_feedback off";
        let fix = set(subject.provider, "hot_standby_feedback", "on");
        return Ok(Check::warning(NAME, Code::StandbyFeedback, found, format!("-- at the standby:\n{fix}")));
    }
    Ok(Check::ok(NAME, "the server is a standby, and its primary answers"))
}

pub(super) async fn encoding(subject: &Subject<'_>) -> Result<Check, Error> {
    let server = ask_one(subject.client, "ask for the encoding", SERVER, &[]).await?;
    let found = match server.read("encoding")? {
        "SQL_ASCII" => {
            "the database has no encoding (SQL_ASCII): what is not UTF-8 in it is kept escaped, and flagged"
                .into()
        }
        encoding => format!("the database's encoding is {encoding}"),
    };
    Ok(Check::ok("encoding", found))
}

pub(super) async fn wal_level(subject: &Subject<'_>) -> Result<Check, Error> {
    const NAME: &str = "wal_level";
    const WHAT: &str = "ask for wal_level";
    let sql = include_str!("../../../../sql/source/check_wal_level.sql");
    let row = ask_one(subject.client, WHAT, sql, &[]).await?;
    let version: i32 = ask_one(subject.client, WHAT, SERVER, &[]).await?.read("version")?;
    let level: &str = row.read("wal_level")?;
    let suffices =
        |level: &str| level == "logical" || (level == "replica" && version >= VERSION_WITH_DYNAMIC_WAL_LEVEL);
    if suffices(level) {
        // What a standby decodes, its primary writes.
        let there = match &subject.source.primary {
            Some(_) => Some(ask_one(&subject.source.connect_primary().await?, WHAT, sql, &[]).await?),
            None => None,
        };
        if let Some(there) = there
            && !suffices(there.read("wal_level")?)
        {
            let level: &str = there.read("wal_level")?;
            let fix = format!("-- at the primary:\n{}", logical_decoding(subject.provider));
            return Ok(Check::failed(
                NAME,
                Code::WalLevel,
                format!("wal_level of the primary is {level}"),
                fix,
            ));
        }
        return Ok(Check::ok(NAME, format!("wal_level is {level}")));
    }
    if row.read("pending_restart")? && is_restartable(subject.provider) {
        let found = format!("wal_level is {level} until PostgreSQL is restarted");
        return Ok(Check::failed(NAME, Code::WalLevel, found, "restart PostgreSQL"));
    }
    let fix = logical_decoding(subject.provider);
    Ok(Check::failed(NAME, Code::WalLevel, format!("wal_level is {level}"), fix))
}

pub(super) async fn timeouts(subject: &Subject<'_>) -> Result<Check, Error> {
    const NAME: &str = "timeouts";
    let sql = include_str!("../../../../sql/source/check_timeouts.sql");
    let row = ask_one(subject.client, "ask for timeouts", sql, &[]).await?;
    let sender_ms: i64 = row.read("wal_sender_ms")?;
    let set_for_role: Vec<String> = row.read("overridden")?;
    let harmless = match set_for_role.is_empty() {
        true => String::new(),
        false => format!(
            "; {} are set for the role or database, and Waldelta sets its own",
            set_for_role.join(", ")
        ),
    };
    if sender_ms < SENDER_TIMEOUT_MS_MIN {
        let found = format!("wal_sender_timeout is {sender_ms} ms{harmless}");
        return Ok(Check::warning(
            NAME,
            Code::SenderTimeout,
            found,
            set(subject.provider, "wal_sender_timeout", "60s"),
        ));
    }
    Ok(Check::ok(NAME, format!("wal_sender_timeout is {} s{harmless}", sender_ms / 1000)))
}

pub(super) async fn clock(subject: &Subject<'_>, clock: fn() -> SystemTime) -> Result<Check, Error> {
    const NAME: &str = "clock";
    const WHAT: &str = "ask for the time";
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8 AS ms";
    let before = clock();
    let theirs: i64 = ask_one(subject.client, WHAT, sql, &[]).await?.read("ms")?;
    let skew_ms = skew_ms(theirs, before, clock());
    let found = format!("the server's clock is {:.1} s {} ours", skew(skew_ms), way(skew_ms));
    if skew_ms.unsigned_abs() > SKEW_MAX.as_millis() as u64 {
        let code = Code::ClockSkew;
        return Ok(Check::warning(NAME, code, found, code.explanation().fix));
    }
    Ok(Check::ok(NAME, "the server's clock agrees with ours"))
}

/// By how much their clock is ahead of ours, as far as that is beyond doubt: they answered at some time between the two.
fn skew_ms(theirs_ms: i64, before: SystemTime, after: SystemTime) -> i64 {
    let ms = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    };
    let (before, after) = (ms(before), ms(after));
    if theirs_ms < before { theirs_ms - before } else { (theirs_ms - after).max(0) }
}

fn skew(ms: i64) -> f64 {
    Duration::from_millis(ms.unsigned_abs()).as_secs_f64()
}

fn way(ms: i64) -> &'static str {
    if ms < 0 { "behind" } else { "ahead of" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_a_trusted_certificate_is_too_little_for_another_machine() {
        let tcp = |host: &str| Address::Tcp(host.into(), 5432);
        for (address, exposed) in [
            (tcp("db.example.com"), true),
            (tcp("10.0.0.1"), true),
            (tcp("127.0.0.1"), false),
            (tcp("::1"), false),
            (tcp("localhost"), false),
            (Address::Unix("/tmp/.s.PGSQL.5432".into()), false),
        ] {
            for mode in [SslMode::Disable, SslMode::Prefer, SslMode::Require, SslMode::VerifyCa] {
                assert_eq!(is_exposed(&address, mode), exposed, "{address} {mode}");
            }
            assert!(!is_exposed(&address, SslMode::VerifyFull));
        }
    }

    #[test]
    fn faulty_minor_versions_are_told_the_sound_one() {
        for (version, sound) in [
            (140_017, Some(140_018)),
            (140_018, None),
            (150_012, Some(150_013)),
            (170_000, Some(170_005)),
            (170_005, None),
            (180_000, None),
        ] {
            assert_eq!(sound_version(version), sound, "{version}");
        }
    }

    #[test]
    fn the_way_of_the_question_is_no_skew() {
        let at = |ms: u64| UNIX_EPOCH + Duration::from_millis(ms);
        assert_eq!(skew_ms(1_500, at(1_000), at(2_000)), 0);
        assert_eq!(skew_ms(900, at(1_000), at(2_000)), -100);
        assert_eq!(skew_ms(2_100, at(1_000), at(2_000)), 100);
    }
}
