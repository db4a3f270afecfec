//! What the source is asked and told, against a real PostgreSQL.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod catalog;
mod checks;
mod checks_server;
mod ddl_random;
mod ddl_trigger;
mod fingerprint;
mod membership;
mod prospect;
mod publication_state;
mod published;
mod setup;
mod snapshot;
mod values;

use std::time::Duration;

use waldelta_pgconn::{Environment, Target};
use waldelta_source::Source;
use waldelta_source::setup::{Plan, Wish, apply, plan};
use waldelta_testkit::TestDatabase;
use waldelta_wal::ValuePolicy;

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(60);

fn source(database: &TestDatabase) -> Source {
    source_as(database, "")
}

/// The source, reached with more parameters in the URL, such as another user.
fn source_as(database: &TestDatabase, parameters: &str) -> Source {
    let target = Target::parse(&format!("{}{parameters}", database.url()), &Environment::default()).unwrap();
    Source {
        target,
        publication: "waldelta".into(),
        slot: database.slot("w"),
        plugin: waldelta_source::Plugin::default(),
        values: ValuePolicy::default(),
        primary: None,
    }
}

/// Sets the source up for every table that there is.
async fn set_up(source: &Source) -> Plan {
    let client = source.connect().await.unwrap();
    let plan = plan(&client, source, &Wish::default()).await.unwrap();
    apply(&client, source, &plan).await.unwrap();
    plan
}
