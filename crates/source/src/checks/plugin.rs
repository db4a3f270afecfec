//! The slot's output plugin, where it is not the server's own: whether the server has it and lets it be used, and what it
//! cannot tell of what is published.

use tokio_postgres::error::SqlState;
use waldelta_wal::Code;

use super::{Check, Subject, settle};
use crate::ask::ask_one;
use crate::catalog::listing;
use crate::setup::provider::set;
use crate::{Error, Plugin, wal2json};

const PLUGIN: &str = "plugin";
const FITNESS: &str = "wal2json";
/// What `output_plugin_libraries` lists where nobody has set it.
const ALLOWED_BY_DEFAULT: &str = "pgoutput, test_decoding";

pub(super) async fn checks(subject: &Subject<'_>) -> Vec<Check> {
    let Subject { client, source, .. } = *subject;
    if source.plugin == Plugin::Pgoutput {
        return Vec::new();
    }
    let mut checks = vec![settle(PLUGIN, usable(subject).await)];
    match wal2json::encoding(client).await {
        Ok(unfit) => checks.extend(unfit.as_ref().map(failed)),
        Err(error) => checks.push(settle(FITNESS, Err(error))),
    }
    match listing(client, source).await {
        Ok(listing) => checks.extend(wal2json::of_publication(&listing, source).iter().map(failed)),
        Err(error) => checks.push(settle(FITNESS, Err(error))),
    }
    if checks.len() == 1 {
        checks
            .push(Check::ok(FITNESS, "wal2json can tell all that is published, but for what its page says"));
    }
    checks
}

fn failed(unfit: &wal2json::Unfit) -> Check {
    Check::failed(FITNESS, unfit.code(), unfit.to_string(), unfit.fix())
}

/// Only the server can say whether a library is there and may be used: when a slot is created with it. A temporary one, gone
/// again at once.
async fn usable(subject: &Subject<'_>) -> Result<Check, Error> {
    let (client, plugin) = (subject.client, subject.source.plugin);
    const WHAT: &str = "try the output plugin";
    let role = include_str!("../../../../sql/source/check_role.sql");
    let role = ask_one(client, "ask for the role's rights", role, &[&subject.source.publication]).await?;
    if !role.read::<bool>("may_replicate")? {
        let found = format!("{plugin} cannot be tried without the right to replicate");
        return Ok(Check::unknown(PLUGIN, Code::PrivilegeMissing, found, None));
    }
    let pid: i32 = ask_one(client, WHAT, "SELECT pg_backend_pid() AS pid", &[]).await?.read("pid")?;
    let slot = format!("waldelta_probe_{pid}");
    let created = client
        .execute("SELECT pg_create_logical_replication_slot($1, $2, true)", &[&slot, &plugin.name()])
        .await;
    let Err(source) = created else {
        client
            .execute("SELECT pg_drop_replication_slot($1)", &[&slot])
            .await
            .map_err(|source| Error::Query { what: "drop the slot of the trial", source })?;
        return Ok(Check::ok(PLUGIN, format!("the server has {plugin} and lets it be used")));
    };
    match source.code() {
        // It was loaded, and then waits for open transactions.
        Some(state) if [SqlState::LOCK_NOT_AVAILABLE, SqlState::QUERY_CANCELED].contains(state) => {
            Ok(Check::ok(PLUGIN, format!("the server has {plugin} and lets it be used")))
        }
        Some(state) if *state == SqlState::UNDEFINED_FILE => {
            let code = Code::PluginMissing;
            let found = format!("{plugin} is not installed at the server");
            Ok(Check::failed(PLUGIN, code, found, code.explanation().fix))
        }
        Some(state) if *state == SqlState::INSUFFICIENT_PRIVILEGE => {
            let found = format!("the server does not let {plugin} be used as an output plugin");
            Ok(Check::failed(PLUGIN, Code::PluginBlocked, found, allow(subject).await))
        }
        _ => Err(Error::Query { what: WHAT, source }),
    }
}

/// The statements that let a plugin be used, beside those that may be.
async fn allow(subject: &Subject<'_>) -> String {
    let (client, plugin) = (subject.client, subject.source.plugin);
    let sql = "SELECT current_setting('output_plugin_libraries', true) AS allowed";
    // Only some roles may read it.
    let allowed = match ask_one(client, "ask for the allowed plugins", sql, &[]).await {
        Ok(answer) => answer.read::<Option<String>>("allowed").ok().flatten(),
        Err(_) => None,
    };
    let allowed =
        allowed.filter(|allowed| !allowed.is_empty()).unwrap_or_else(|| ALLOWED_BY_DEFAULT.to_owned());
    match subject.provider {
        // A list: several names, not one in quotes.
        None => format!(
            "ALTER SYSTEM SET output_plugin_libraries = {allowed}, {plugin};\nSELECT pg_reload_conf();"
        ),
        provider => set(provider, "output_plugin_libraries", &format!("{allowed}, {plugin}")),
    }
}
