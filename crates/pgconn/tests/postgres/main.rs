//! Connections to a real PostgreSQL.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod certificates;
mod client_certificates;
mod login;
mod tls;

use std::time::Duration;

use tokio_postgres::Client;
use waldelta_pgconn::{Environment, Error, Target};

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(60);

fn target(text: &str) -> Target {
    Target::parse(text, &Environment::default()).unwrap()
}

async fn connect(text: &str) -> Result<Client, Error> {
    target(text).connect("pgconn-test", &[]).await
}

async fn text(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.unwrap().get(0)
}
