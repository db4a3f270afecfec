//! What ends an era.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{sleep, timeout};
use waldelta_testkit::{Dice, wait_until};
use waldelta_wal::{Epoch, Position};

use crate::access::Who;
use crate::checkpoint::SETTLE_PATIENCE;
use crate::faults::NEXT_SEGMENT;
use crate::http::get_as;
use crate::round::Stage;

/// WAL that the server keeps for slots where one is to be lost: several segments.
const KEPT_MB: u32 = 96;
const STATUS_TIMEOUT: Duration = Duration::from_secs(10);
/// A lock that a writer holds.
const STATEMENT_PATIENCE: Duration = Duration::from_secs(60);

/// Tables that are taken out of the publication: known by a key, and without values out of line. Until such a table is reset, an update
/// may be of a row that no client has (docs/protocol.md, "Snapshots"), and a copy could not tell a value that is unchanged.
const REPUBLISHED: [&str; 6] =
    ["public.item", "public.pair", "public.child", "public.part", "public.odd", "public.owned"];

/// One of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    DropSlot,
    /// And makes another one of the same name.
    ReplaceSlot,
    /// Nobody reads for as long as the server keeps WAL for a slot.
    InvalidateSlot,
    DropPublication,
    /// This table is taken out of the publication, and added again while it is written to.
    RepublishTable(&'static str),
    /// All of history goes that can, whoever has yet to read it.
    Prune,
}

impl Deed {
    pub(super) fn pick(dice: &mut Dice) -> Self {
        let table = *dice.pick(&REPUBLISHED);
        *dice.pick(&[
            Deed::DropSlot,
            Deed::ReplaceSlot,
            Deed::InvalidateSlot,
            Deed::DropPublication,
            Deed::RepublishTable(table),
            Deed::Prune,
        ])
    }

    /// Does it. The servers are up, and everybody is at work; somebody has not come since `head_before`.
    pub(super) async fn do_it(self, stage: &Stage, head_before: Position, dice: &mut Dice) {
        let slot = stage.world.slot();
        match self {
            Deed::DropSlot => drop_slot(stage, "").await,
            Deed::ReplaceSlot => {
                let again = format!(
                    ", pg_logical_emit_message(false, '', 'passed over'), pg_create_logical_replication_slot('{slot}', 'pgoutput')::text"
                );
                drop_slot(stage, &again).await;
            }
            Deed::InvalidateSlot => invalidate_slot(stage).await,
            Deed::DropPublication => sql(stage, "DROP PUBLICATION waldelta").await,
            Deed::RepublishTable(table) => {
                sql(stage, &format!("ALTER PUBLICATION waldelta DROP TABLE {table}")).await;
                sleep(dice.ms(0, 4000)).await;
                sql(stage, &format!("ALTER PUBLICATION waldelta ADD TABLE {table}")).await;
            }
            Deed::Prune => prune(stage, head_before).await,
        }
        stage.chronicle.note(format!("{self:?} is done"));
    }

    /// Whether capture stops until somebody helps.
    pub(super) fn needs_operator(self) -> bool {
        !matches!(self, Deed::RepublishTable(_) | Deed::Prune)
    }

    /// Whether it goes on in another epoch then.
    pub(super) fn begins_epoch(self) -> bool {
        self.needs_operator()
    }

    /// Why clients are told to begin anew.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Deed::RepublishTable(_) => "gap",
            Deed::Prune => "history_pruned",
            _ => "epoch_changed",
        }
    }

    /// What tells the gap that it leaves from others, if it leaves one.
    pub(super) fn gap(self, epoch: Epoch) -> Option<String> {
        match self {
            // Where it has one already, that one also tells what was missed.
            Deed::RepublishTable(table) => Some(format!(
                "table_oid IN (SELECT table_oid FROM waldelta.table_schemas WHERE schema_name || '.' || table_name = '{table}')"
            )),
            Deed::Prune => None,
            _ => Some(format!("table_oid IS NULL AND epoch = {}", epoch.0)),
        }
    }

    /// Waits until capture says by name why it has stopped.
    pub(super) async fn stops(self, stage: &Stage) {
        let (name, code) = match self {
            Deed::DropSlot => ("slot_missing", "WD-SLOT-MISSING"),
            Deed::ReplaceSlot => ("slot_ahead", "WD-SLOT-AHEAD"),
            Deed::InvalidateSlot => ("slot_lost", "WD-SLOT-LOST"),
            Deed::DropPublication => ("publication_missing", "WD-PUBLICATION-MISSING"),
            Deed::RepublishTable(_) | Deed::Prune => return,
        };
        wait_until(&format!("capture stops in {name}"), SETTLE_PATIENCE, async || {
            for number in stage.fleet.writers() {
                let capture = capture_of(stage, *number).await;
                if capture["state"] == "stopped" {
                    assert_eq!(
                        (&capture["name"], &capture["code"]),
                        (&name.into(), &code.into()),
                        "{capture}"
                    );
                    return true;
                }
            }
            false
        })
        .await;
        stage.chronicle.note(format!("capture has stopped in {name}"));
    }
}

/// What a process says of its capture; null where it says nothing.
async fn capture_of(stage: &Stage, number: usize) -> Value {
    let token = stage.tokens.of(Who::Everything);
    let answer = get_as(token, stage.fleet.address(number), "/v1/status", STATUS_TIMEOUT).await;
    let Some((200, body)) = answer else { return Value::Null };
    serde_json::from_str::<Value>(&body).map_or(Value::Null, |mut status| status["capture"].take())
}

/// Drops the slot, although whoever reads it comes back to it at once, and does this besides.
async fn drop_slot(stage: &Stage, besides: &str) {
    let slot = stage.world.slot();
    let client = stage.world.source_client().await;
    let end = format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active"
    );
    let drop = format!("SELECT pg_drop_replication_slot('{slot}')::text{besides}");
    wait_until("the slot is dropped", SETTLE_PATIENCE, async || {
        client.batch_execute(&end).await.unwrap();
        client.batch_execute(&drop).await.is_ok()
    })
    .await;
}

/// Has the server go so far without us that it gives the slot up; not so far that it gives up that of the native subscription.
async fn invalidate_slot(stage: &Stage) {
    let (world, slot) = (&stage.world, stage.world.slot());
    let port = world.source_cluster.port();
    (0..stage.fleet.len()).for_each(|number| stage.fleet.route(number, 0).close());
    let client = world.source_client().await;
    let keep = async |what: &str| {
        client.batch_execute(&format!("ALTER SYSTEM {what}")).await.unwrap();
        client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    };
    keep(&format!("SET max_slot_wal_keep_size = '{KEPT_MB}MB'")).await;
    let is_lost = format!("SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = '{slot}'");
    let others_behind = format!(
        "SELECT coalesce(max(pg_current_wal_lsn() - restart_lsn), 0) > {KEPT_MB} * 512 * 1024::numeric
         FROM pg_replication_slots WHERE active AND slot_name <> '{slot}'"
    );
    wait_until("the slot is lost", SETTLE_PATIENCE, async || {
        // Each of these tells slots how far they may go.
        client.batch_execute("CHECKPOINT").await.unwrap();
        if world.source.query_text(&others_behind).await == "f" {
            client.batch_execute(NEXT_SEGMENT).await.unwrap();
        }
        world.source.query_text(&is_lost).await == "t"
    })
    .await;
    keep("RESET max_slot_wal_keep_size").await;
    (0..stage.fleet.len()).for_each(|number| stage.fleet.route(number, 0).turn_to(port));
}

/// Has history go up to behind this place.
async fn prune(stage: &Stage, past: Position) {
    wait_until(&format!("history is pruned past {past}"), SETTLE_PATIENCE, async || {
        let done = stage.world.command(&["prune", "--keep", "1B", "--force", "--yes", "--json"]).await;
        stage.chronicle.note(&done);
        // It goes by partitions, and the last one stays.
        sql(stage, NEXT_SEGMENT).await;
        let report: Value = serde_json::from_str(&done.output).unwrap_or_default();
        let floor = report["done"]["floor"].as_str();
        floor.is_some_and(|floor| floor.parse::<Position>().unwrap() > past)
    })
    .await;
}

async fn sql(stage: &Stage, sql: &str) {
    stage.chronicle.note(sql);
    let done = timeout(STATEMENT_PATIENCE, stage.world.source.exec(sql)).await;
    done.unwrap_or_else(|_| panic!("{sql} takes longer than {STATEMENT_PATIENCE:?}"));
}
