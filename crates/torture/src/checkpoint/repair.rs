//! Tables whose rows were changed by DDL that no message tells: the operator repairs them, as docs/reference/states.md says, and their
//! rows come afresh to every client.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::SETTLE_PATIENCE;
use crate::round::Stage;
use crate::tables::MAY_BE_RESET;

const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// A table that still needs repair after this time needs another one.
const REPAIR_TIME: Duration = Duration::from_secs(30);

/// Tables with an open gap.
const NEEDING: &str = "SELECT (SELECT schema_name || '.' || table_name FROM waldelta.table_schemas known WHERE known.table_oid = gap.table_oid
        ORDER BY version DESC LIMIT 1)
    FROM waldelta.gaps gap WHERE to_lsn IS NULL AND table_oid IS NOT NULL";

/// A partition of it that was emptied with all others, or written anew, may be taken for one that was emptied alone: by a process that
/// did not see the TRUNCATE, because it came after it. The catalog may speak of a repair that is not needed
/// (`waldelta_source::catalog::Fingerprint`), and nothing follows from it: its rows are compared as if there were none.
const SUSPECTED: &str = "public.part";

/// Repairs what needs it, also what is found out only meanwhile. No other table may. One whose changes were missed has the gap that it
/// had before for that too: it is repaired in any case.
pub(super) async fn run(stage: &Stage, missed: Option<&str>) {
    let deadline = Instant::now() + SETTLE_PATIENCE;
    let (mut repaired, mut again_at) = (Vec::new(), deadline);
    loop {
        let needing = needing(stage, missed).await;
        if needing.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{needing:?} need repair after {SETTLE_PATIENCE:?}");
        // One whose rows changed again, as was found out after the first time, needs it again.
        if needing.iter().any(|table| !repaired.contains(table)) || Instant::now() > again_at {
            repair(stage, &needing).await;
            (repaired, again_at) = (needing, Instant::now() + REPAIR_TIME);
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// What an operator does.
async fn repair(stage: &Stage, tables: &[String]) {
    let mut words = vec!["recover", "--yes"];
    for table in tables {
        assert!(
            table == SUSPECTED || MAY_BE_RESET.contains(&table.as_str()),
            "{table} needs repair, and no DDL changed its rows unseen"
        );
        words.extend(["--table", table]);
    }
    stage.chronicle.note(format!("repair {tables:?}"));
    stage.world.command(&words).await.expect_success();
}

async fn needing(stage: &Stage, missed: Option<&str>) -> Vec<String> {
    let tables = stage.world.history.query(NEEDING).await;
    let tables = tables.into_iter().filter_map(|row| row.into_iter().next()?);
    tables.filter(|table| table != SUSPECTED || missed == Some(SUSPECTED)).collect()
}
