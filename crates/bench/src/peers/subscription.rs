//! PostgreSQL's own subscription, into the cluster that has Waldelta's history in its turns.
//!
//! The subscriber has the tables with their rows of before, and the same primary keys. Rows travel in binary.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::stream::poll_fn;
use futures_util::{Stream, StreamExt};
use tokio_postgres::{AsyncMessage, Client, NoTls};

use super::{END_TABLE, PUBLICATION, Peer, end_table};
use crate::backlog::{Backlog, Kind};
use crate::clusters::Clusters;
use crate::drain::DRAIN_TIMEOUT;
use crate::latency::RECEIVE_TIMEOUT;
use crate::machine::{Span, Stretch};
use crate::marks::{self, Load};

/// The database with the rows of before, the one that subscribes, and the slot that is read.
const MODEL: &str = "subscriber_model";
const SUBSCRIBER: &str = "subscriber";
const SLOT: &str = "subscriber_reads";
/// Each commit there tells the mark of its row to whom listens.
const TELL: &str = "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_notify(''beats'', NEW.mark); RETURN NULL; END';
    CREATE TRIGGER tell AFTER INSERT ON beats FOR EACH ROW EXECUTE FUNCTION tell();
    ALTER TABLE beats ENABLE ALWAYS TRIGGER tell;";

pub(super) struct Subscription;

impl Peer for Subscription {
    fn name(&self) -> String {
        "PostgreSQL's subscription, binary".to_owned()
    }

    fn name_of_receiver(&self) -> String {
        "PostgreSQL's subscription, to who listens".to_owned()
    }

    fn goal(&self) -> Option<f64> {
        None
    }

    async fn prepare(&mut self, clusters: &Clusters, kind: Kind) -> anyhow::Result<()> {
        clusters.create_history(MODEL).await?;
        let model = clusters.history(MODEL).await?;
        kind.create(clusters, &clusters.history_url(MODEL), &model).await?;
        Ok(model.batch_execute(&end_table()).await?)
    }

    async fn drain(&self, clusters: &Clusters, backlog: &Backlog) -> anyhow::Result<Span> {
        clusters.copy_slot(&backlog.database, &backlog.slot, SLOT).await?;
        clusters.copy_history(MODEL, SUBSCRIBER).await?;
        let subscriber = clusters.history(SUBSCRIBER).await?;
        subscriber.batch_execute("CHECKPOINT").await?;
        subscribe(clusters, &backlog.database, &subscriber, "off").await?;
        let arrived = subscriber.prepare(&format!("SELECT count(*) FROM {END_TABLE}")).await?;
        clusters.until_active(&backlog.database, SLOT).await?;
        let stretch = Stretch::begin()?;
        while subscriber.query_one(&arrived, &[]).await?.get::<_, i64>(0) == 0 {
            anyhow::ensure!(stretch.elapsed() < DRAIN_TIMEOUT, "the subscription took too long");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // It commits without waiting for the disk; asked for its progress like this, it waits once, for all of it.
        let flush = "SELECT pg_replication_origin_progress('pg_' || oid, true) FROM pg_subscription";
        subscriber.batch_execute(flush).await?;
        let span = stretch.end()?;
        unsubscribe(clusters, &backlog.database, subscriber).await?;
        Ok(span)
    }

    async fn clean(&mut self, clusters: &Clusters, _: &Backlog) -> anyhow::Result<()> {
        clusters.drop_history(MODEL).await
    }

    /// To a client of the subscriber that listens. The subscription commits as durably as Waldelta does.
    async fn latencies(&self, load: &Load<'_>) -> anyhow::Result<Vec<f64>> {
        let Load { clusters, database, commits, .. } = *load;
        clusters.create_slot(database, SLOT).await?;
        clusters.create_history(SUBSCRIBER).await?;
        let (subscriber, connection) =
            tokio_postgres::connect(&clusters.history_url(SUBSCRIBER), NoTls).await?;
        let mut connection = Box::pin(connection);
        let mut messages = poll_fn(move |context| connection.poll_message(context));
        let set_up = async {
            subscriber.batch_execute(&format!("{}; {TELL} LISTEN beats", marks::CREATE_TABLE)).await?;
            subscribe(clusters, database, &subscriber, "on").await?;
            clusters.until_active(database, SLOT).await
        };
        // A client waits for ever unless somebody reads its connection.
        tokio::select! {
            done = set_up => done?,
            () = async { while messages.next().await.is_some() {} } => anyhow::bail!("the subscriber hung up"),
        }
        let latencies = marks::commit_and_match(load, "theirs", marks_told(&mut messages, commits)).await?;
        drop(messages);
        drop(subscriber);
        let subscriber = clusters.history(SUBSCRIBER).await?;
        unsubscribe(clusters, database, subscriber).await?;
        Ok(latencies)
    }
}

async fn subscribe(
    clusters: &Clusters,
    database: &str,
    subscriber: &Client,
    waits: &str,
) -> anyhow::Result<()> {
    let source = clusters.source_url(database);
    let create = format!(
        "CREATE SUBSCRIPTION peer CONNECTION '{source}' PUBLICATION {PUBLICATION} WITH (enabled = false, create_slot = false,
         slot_name = '{SLOT}', copy_data = false, binary = true, synchronous_commit = {waits})"
    );
    subscriber.batch_execute(&create).await.context("subscribe")?;
    Ok(subscriber.batch_execute("ALTER SUBSCRIPTION peer ENABLE").await?)
}

async fn unsubscribe(clusters: &Clusters, database: &str, subscriber: Client) -> anyhow::Result<()> {
    subscriber.batch_execute("ALTER SUBSCRIPTION peer DISABLE").await?;
    subscriber.batch_execute("ALTER SUBSCRIPTION peer SET (slot_name = NONE)").await?;
    subscriber.batch_execute("DROP SUBSCRIPTION peer").await?;
    drop(subscriber);
    clusters.drop_slot(database, SLOT).await?;
    clusters.drop_history(SUBSCRIBER).await
}

async fn marks_told(
    messages: &mut (impl Stream<Item = Result<AsyncMessage, tokio_postgres::Error>> + Unpin),
    commits: u32,
) -> anyhow::Result<HashMap<u32, Instant>> {
    let mut received = HashMap::new();
    while received.len() < commits as usize {
        let message = tokio::time::timeout(RECEIVE_TIMEOUT, messages.next()).await?.context("closed")??;
        let now = Instant::now();
        if let AsyncMessage::Notification(told) = message {
            marks::take_marks(&mut told.payload().as_bytes().to_vec(), b"theirs", now, &mut received);
        }
    }
    Ok(received)
}
