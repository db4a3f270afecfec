//! The end of an era: somebody does what the stream cannot go over, or PostgreSQL does, and an operator lets capture go on as the
//! documentation says. Nothing may be silent about it: capture stops in a named state, history has a gap, and every client that was
//! there is told to begin anew and ends with the source's rows. Or history is pruned, under load as well: whoever was away for too
//! long is told so.
//!
//! What compares with an unbroken stream begins anew behind it, with empty tables and other clients. What history had before stays
//! what it was.

mod deed;
mod survivors;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use waldelta_testkit::{Dice, wait_until};
use waldelta_wal::{Epoch, Position};

use self::deed::Deed;
use self::survivors::Survivors;
use crate::checkpoint::{self, Before, SETTLE_PATIENCE};
use crate::clients::Clients;
use crate::faults::Faults;
use crate::round::Stage;
use crate::tables::{ALL, REPAIRED};
use crate::workload::Workload;

/// `waldelta recover` has something to show that is not done.
const EXIT_LEFT: i32 = 3;
/// An operator is as slow as the machine, and tries again where a command could not be carried out.
const COMMANDS_MAX: usize = 15;
/// What happens here has numbers of its own beside those of parts.
const PARTS_APART: u64 = 1_000_000;

/// Ends an era under load, and begins the next. The copies of these clients live through it; nobody drives the clients any more.
/// Where the next era begins, with tables that have no rows.
pub(crate) async fn end(stage: &Arc<Stage>, clients: &Clients, part: u64, before: &mut Before) -> Position {
    let mut dice = Dice::of(stage.seed, &format!("era of part {part}"));
    let deed = Deed::pick(&mut dice);
    stage.chronicle.note(format!("an era is to end: {deed:?}"));
    let head_before = stage.world.head().await;
    let epoch_before = head_before.epoch;
    let mut survivors = Survivors::of(stage, clients, part).await;
    let mut workload = Workload::start(stage.world.source.url(), stage.seed, PARTS_APART + part, &stage.rest);

    faults(stage, &mut survivors, &mut workload, PARTS_APART + part, dice.between(2000, 9000)).await;
    deed.do_it(stage, head_before, &mut dice).await;
    faults(stage, &mut survivors, &mut workload, 2 * PARTS_APART + part, dice.between(2000, 9000)).await;
    stage.fleet.disarm(&stage.chronicle).await;
    survivors.meanwhile(help(stage, deed, epoch_before)).await;
    faults(stage, &mut survivors, &mut workload, 3 * PARTS_APART + part, dice.between(2000, 9000)).await;

    stage.add_transactions(workload.stop().await);
    stage.fleet.disarm(&stage.chronicle).await;
    stage.chronicle.note("everything is whole; wait for rest");
    survivors.be_calm();
    let last = survivors.meanwhile(settle(stage, deed)).await;
    survivors.arrive(last).await;
    survivors.compare(stage, deed).await;
    if deed == Deed::Prune {
        before.forget_history();
    }
    checkpoint::sound(stage, before).await;
    if let Some(gap) = deed.gap(epoch_before) {
        let gap = format!("SELECT count(*) > 0 FROM waldelta.gaps WHERE {gap}");
        assert_eq!(stage.world.history.query_text(&gap).await, "t", "{deed:?} left no gap in history");
    }
    let epoch = stage.world.head().await.epoch;
    assert_eq!(epoch > epoch_before, deed.begins_epoch(), "{deed:?}: epoch {epoch_before:?}, then {epoch:?}");
    drop(survivors);
    let since = begin(stage).await;
    before.begin_anew(since);
    since
}

/// Everything is broken as in any part, for so long.
async fn faults(
    stage: &Arc<Stage>,
    survivors: &mut Survivors,
    workload: &mut Workload,
    part: u64,
    length_ms: u64,
) {
    let mut faults = Faults::begin(stage, part);
    survivors
        .meanwhile(async {
            tokio::select! {
                () = sleep(Duration::from_millis(length_ms)) => {}
                () = faults.failed() => {}
                () = workload.failed() => {}
            }
            faults.end().await;
        })
        .await;
}

/// What an operator does about it.
async fn help(stage: &Stage, deed: Deed, epoch_before: Epoch) {
    if !deed.needs_operator() {
        return;
    }
    deed.stops(stage).await;
    let shown = stage.world.command(&["recover"]).await;
    assert_eq!(shown.code, Some(EXIT_LEFT), "{deed:?}: {shown}");
    if deed == Deed::DropPublication {
        assert!(shown.output.contains("waldelta init --apply"), "{deed:?}: {shown}");
        stage.chronicle.note("an operator publishes again");
        // Its last step, to begin history, is not for one that has begun.
        let done = stage.world.command(&["init", "--apply", "--allow-keyless"]).await;
        let published = "SELECT count(*) FROM pg_publication WHERE pubname = 'waldelta'";
        assert_eq!(stage.world.source.query_text(published).await, "1", "{done}");
    }
    stage.chronicle.note("an operator recovers");
    for left in (0..COMMANDS_MAX).rev() {
        let done = stage.world.command(&["recover", "--yes"]).await;
        // It finds nothing to do while a process that was started just now streams, up to where that one stops too.
        let has_begun = !deed.begins_epoch() || stage.world.head().await.epoch > epoch_before;
        if done.code == Some(0) && has_begun {
            return;
        }
        stage.chronicle.note(&done);
        assert!(left > 0, "{deed:?}: {done}");
        sleep(Duration::from_secs(2)).await;
    }
}

/// Waits until everything has come everywhere. The last place that clients have to come to.
async fn settle(stage: &Stage, deed: Deed) -> Option<Position> {
    let joining = "SELECT count(*) FROM waldelta.gaps WHERE to_lsn IS NULL AND reason = 'added'";
    wait_until(&format!("what {deed:?} left has joined"), SETTLE_PATIENCE, async || {
        stage.world.history.query_text(joining).await == "0"
    })
    .await;
    let missed = if let Deed::RepublishTable(table) = deed { Some(table) } else { None };
    checkpoint::settle(stage, missed).await;
    stage.world.last_of(&[&ALL[..], &REPAIRED].concat()).await
}

/// The next era begins: no table has a row, and the independent decoder tells what comes from now on.
async fn begin(stage: &Stage) -> Position {
    let world = &stage.world;
    let (slot, tables) = (world.decoder_slot(), [&ALL[..], &REPAIRED].concat().join(", "));
    world.source.exec(&format!("TRUNCATE {tables}")).await;
    checkpoint::settle(stage, None).await;
    world.source.query_text(&format!("SELECT pg_drop_replication_slot('{slot}')::text || 'dropped'")).await;
    world.begin_decoder().await;
    let since = world.head().await;
    stage.chronicle.note(format!("an era begins after {since}"));
    stage.count_checkpoint();
    since
}
