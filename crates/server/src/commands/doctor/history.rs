//! What the doctor looks at in the history database.
//!
//! Asked by statements of its own: to open a history brings its schema up to date, and a doctor changes nothing. What the
//! rows of history say is not looked at.

use tokio_postgres::{Client, Row};
use waldelta_history::History;
use waldelta_source::catalog::Identity;
use waldelta_source::checks::{self, Check, Kind};
use waldelta_source::{Source, catalog};
use waldelta_wal::{Code, TableName, quote_ident};

use crate::failure::chain_text;

const SITE: &str = include_str!("../../../../../sql/queries/check_site.sql");
const BEGUN: &str = include_str!("../../../../../sql/queries/check_begun.sql");
const TOKENS: &str = include_str!("../../../../../sql/queries/check_tokens.sql");
const GAPS: &str = include_str!("../../../../../sql/queries/check_gaps.sql");
/// The tables that were captured last. Those of an earlier epoch may have been another server's.
const KNOWN: &str = "SELECT table_oid FROM waldelta.source_fingerprints
    UNION SELECT table_oid FROM waldelta.table_schemas WHERE epoch = (SELECT epoch FROM waldelta.captures)";
const VERSION_MIN: i32 = 140_000;
/// The gap of a table that joins by itself.
const JOINING: &str = "added";

/// Every check of history, in the order in which they are made.
pub(super) const LIST: &[Kind] = &[
    Kind {
        name: "history",
        looks_at: "Whether the history database answers, lets the role keep history, and holds the history of this source; how far \
                   that goes, who writes it, and how large it is.",
        codes: &[
            Code::HistoryUnreachable,
            Code::TlsFailed,
            Code::ConfigInvalid,
            Code::AuthenticationFailed,
            Code::DatabaseMissing,
            Code::DatabaseNotReady,
            Code::ConnectionsExhausted,
            Code::HistoryServerTooOld,
            Code::OtherFeed,
            Code::SourceChanged,
            Code::HistorySchemaNewer,
            Code::PrivilegeMissing,
        ],
    },
    Kind { name: "gaps", looks_at: "Tables that need repair.", codes: &[Code::NeedsRepair] },
    Kind {
        name: "known_tables",
        looks_at: "Tables that history has changes of and that are not published any more. Those that were taken out on purpose \
                   are among them.",
        codes: &[Code::TableNotCaptured],
    },
    Kind {
        name: "tokens",
        looks_at: "Static tokens that end by themselves within seven days. Left out where none are taken.",
        codes: &[Code::TokenEnding],
    },
];

/// Runs them. What builds on a history is left out where there is none yet.
pub(super) async fn checks(
    source: &Source,
    config: &waldelta_history::Config,
    takes_tokens: bool,
) -> Vec<Check> {
    let checks = ask_all(source, config, takes_tokens).await;
    for check in &checks {
        debug_assert!(checks::is_listed(check, LIST), "{check:?} is not in the list of checks");
    }
    checks
}

async fn ask_all(source: &Source, config: &waldelta_history::Config, takes_tokens: bool) -> Vec<Check> {
    let settings =
        [("default_transaction_read_only", "on"), ("statement_timeout", "30s"), ("lock_timeout", "5s")];
    let client = match config.target.connect("waldelta", &settings).await {
        Ok(client) => client,
        Err(error) => {
            let code = match error.code() {
                Code::DatabaseUnreachable => Code::HistoryUnreachable,
                code => code,
            };
            let found = chain_text(&anyhow::Error::new(error).context("connect to the history database"));
            return vec![Check::failed("history", code, found, code.explanation().fix)];
        }
    };
    let begun = match history(&client, source, config).await {
        Ok((check, false)) => return vec![check],
        Ok((check, true)) => check,
        Err(error) => return vec![unanswered("history", error)],
    };
    let gaps = gaps(&client).await.unwrap_or_else(|error| unanswered("gaps", error));
    let known = known_tables(&client, source).await.unwrap_or_else(|error| unanswered("known_tables", error));
    let mut checks = vec![begun, gaps, known];
    if takes_tokens {
        checks.push(tokens(&client).await.unwrap_or_else(|error| unanswered("tokens", error)));
    }
    checks
}

/// The check, and whether there is a history.
async fn history(
    client: &Client,
    source: &Source,
    config: &waldelta_history::Config,
) -> anyhow::Result<(Check, bool)> {
    const NAME: &str = "history";
    let target = &config.target;
    let site = client.query_one(SITE, &[]).await?;
    let (version, text): (i32, String) = (site.get("version"), site.get("version_text"));
    if version < VERSION_MIN {
        let code = Code::HistoryServerTooOld;
        let found = format!("history's server is PostgreSQL {text}");
        return Ok((Check::failed(NAME, code, found, code.explanation().fix), false));
    }
    let is_here =
        target.address() == source.target.address() && target.database() == source.target.database();
    let place = match is_here {
        true => "in the captured database, so that the slot has to read past each row of it".to_owned(),
        false => format!("in {}", target.redacted()),
    };
    if !site.get::<_, bool>("may_keep") {
        let role = quote_ident(target.user());
        let (found, fix) = match site.get("has_schema") {
            true => (
                format!("{role} may not create tables in schema waldelta"),
                format!("GRANT USAGE, CREATE ON SCHEMA waldelta TO {role};"),
            ),
            false => (
                format!("there is no schema waldelta, and {role} may not create one"),
                format!("CREATE SCHEMA waldelta AUTHORIZATION {role};"),
            ),
        };
        return Ok((
            Check::failed(NAME, Code::PrivilegeMissing, format!("history {place}: {found}"), fix),
            false,
        ));
    }
    if !site.get::<_, bool>("has_history") {
        return Ok((Check::ok(NAME, format!("there is no history yet {place}")), false));
    }
    // What else it may be is said by its version below, or mended by whoever opens it.
    if let Err(error @ waldelta_history::Error::SchemaNewer { .. }) = History::look(config).await {
        let code = error.code();
        return Ok((Check::failed(NAME, code, error.to_string(), code.explanation().fix), false));
    }
    let Some(row) = client.query_opt(BEGUN, &[]).await? else {
        return Ok((Check::ok(NAME, format!("history has not begun yet {place}")), false));
    };
    let (slot, publication): (String, String) = (row.get("slot"), row.get("publication"));
    if slot != source.slot || publication != source.publication {
        let found = format!("history is fed by slot {slot} and publication {publication}");
        let code = Code::OtherFeed;
        return Ok((Check::failed(NAME, code, found, code.explanation().fix), true));
    }
    // Where the source does not say who it is, or does not answer, another check tells that.
    if let Ok(found) = identity(source).await
        && (row.get("system_id"), row.get("database_oid"))
            != (found.system_id.to_string(), found.database_oid)
    {
        let code = Code::SourceChanged;
        let found = format!("history {place} is that of another source than {}", source.target.redacted());
        return Ok((Check::failed(NAME, code, found, code.explanation().fix), true));
    }
    let share = if is_here { share(&row) } else { String::new() };
    Ok((Check::ok(NAME, format!("history {place}, {}{share}", extent(&row))), true))
}

async fn identity(source: &Source) -> Result<Identity, waldelta_source::Error> {
    catalog::identity(&source.connect().await?).await
}

/// How much of the WAL that the slot reads is history's own.
fn share(row: &Row) -> String {
    let (own, wal): (i64, i64) = (row.get("own_bytes"), row.get("wal_bytes"));
    format!(
        "; of the last {:.1} MB of WAL, about {:.1} MB are its own",
        wal as f64 / 1e6,
        own.min(wal) as f64 / 1e6
    )
}

/// How far it goes, who writes it, and how large it is.
fn extent(row: &Row) -> String {
    let (epoch, durable, moved): (i32, String, String) =
        (row.get("epoch"), row.get("durable"), row.get("moved"));
    let (schema, partitions, bytes): (i64, i64, i64) =
        (row.get("schema_version"), row.get("partitions"), row.get("bytes"));
    let writer = row
        .get::<_, Option<String>>("writer")
        .map_or_else(|| "nobody writes it".to_owned(), |writer| format!("{writer} writes it"));
    format!(
        "is durable up to {durable} of epoch {epoch} since {moved}; {writer}; {partitions} partitions of {} MB, schema version {schema}",
        bytes / 1_000_000
    )
}

async fn gaps(client: &Client) -> anyhow::Result<Check> {
    const NAME: &str = "gaps";
    let rows = client.query(GAPS, &[]).await?;
    let (joining, broken): (Vec<_>, Vec<_>) =
        rows.iter().partition(|row| row.get::<_, String>("reason") == JOINING);
    if broken.is_empty() {
        return Ok(Check::ok(
            NAME,
            match joining.len() {
                0 => "no table needs repair".to_owned(),
                more => format!("no table needs repair; {more} are joining"),
            },
        ));
    }
    let named: Vec<_> = broken
        .iter()
        .map(|row| {
            let table = match (row.get("schema"), row.get("name")) {
                (Some(schema), Some(name)) => TableName { schema, name }.to_string(),
                _ => format!("table {}", row.get::<_, u32>("oid")),
            };
            format!("{table} ({} since {})", row.get::<_, String>("reason"), row.get::<_, String>("since"))
        })
        .collect();
    Ok(Check::warning(NAME, Code::NeedsRepair, named.join(", "), "waldelta recover"))
}

async fn tokens(client: &Client) -> anyhow::Result<Check> {
    const NAME: &str = "tokens";
    let rows = client.query(TOKENS, &[]).await?;
    if rows.is_empty() {
        return Ok(Check::ok(NAME, "no token ends within seven days".to_owned()));
    }
    // Names and ids are no secrets.
    let text = |row: &Row, column: &str| row.get::<_, String>(column);
    let named: Vec<_> = rows
        .iter()
        .map(|row| format!("{} ({}) ends at {}", text(row, "id"), text(row, "name"), text(row, "ends")))
        .collect();
    let code = Code::TokenEnding;
    Ok(Check::warning(NAME, code, named.join(", "), code.explanation().fix))
}

async fn known_tables(client: &Client, source: &Source) -> anyhow::Result<Check> {
    const NAME: &str = "known_tables";
    let rows = client.query(KNOWN, &[]).await?;
    let known: Vec<u32> = rows.iter().map(|row| row.get(0)).collect();
    let gone = checks::unpublished(source, &known).await?;
    if gone.is_empty() {
        return Ok(Check::ok(
            NAME,
            format!("the {} tables that history knows are published, or gone", known.len()),
        ));
    }
    let names: Vec<_> = gone.iter().map(ToString::to_string).collect();
    let fix = format!(
        "-- unless they were taken out on purpose:\nALTER PUBLICATION {} ADD TABLE {};",
        quote_ident(&source.publication),
        names.join(", ")
    );
    let found = format!("not published any more, so that history gets no changes of: {}", names.join(", "));
    Ok(Check::warning(NAME, Code::TableNotCaptured, found, fix))
}

fn unanswered(name: &'static str, error: anyhow::Error) -> Check {
    let code = crate::failure::code_of(&error).unwrap_or(Code::HistoryReadFailed);
    Check::unknown(name, code, chain_text(&error), Some(code.explanation().fix.to_owned()))
}
