//! B15: what a change costs with ten times as many tables, columns, rows in a transaction, and changes in history.

use crate::Bench;
use crate::backlog::Backlog;
use crate::drain::drain;
use crate::growth::{self, Growth};
use crate::held::Held;

const TABLES: [u64; 4] = [1, 10, 100, 1_000];
const COLUMNS: [u64; 3] = [10, 100, 1_000];
const TRANSACTION_ROWS: [u64; 7] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];
const HISTORY: [u64; 3] = [10_000, 100_000, 1_000_000];

/// Changes of one drain.
const CHANGES: u64 = 400_000;
const CHANGES_MIN: u64 = 50_000;
/// Values of one drain, where it is of columns.
const VALUES: u64 = 8_000_000;
const VALUES_MIN: u64 = 1_000_000;
const VALUES_OF_TRANSACTION: u64 = 10_000;
/// Transactions of one drain, where it is of their size.
const TRANSACTIONS_MAX: u64 = 50_000;
/// Tables that one transaction changes, and rows of each.
const TABLES_OF_TRANSACTION: u64 = 10;
const ROWS_OF_TABLE: u64 = 10;
/// A size costs no more than so many times what the one before does.
const STEP_MAX: f64 = 1.15;
const SMALL: &str = "CREATE TABLE small (id bigserial PRIMARY KEY, owner int, note text)";

/// Measures and prints.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    tables(bench).await?;
    columns(bench).await?;
    transaction_rows(bench).await?;
    history(bench).await
}

async fn tables(bench: &Bench) -> anyhow::Result<()> {
    let transactions = bench.part_of(CHANGES, CHANGES_MIN) / TABLES_OF_TRANSACTION / ROWS_OF_TABLE;
    let backlog = async |count: u64| {
        let create = format!(
            "DO $$ BEGIN FOR n IN 0..{count} - 1 LOOP
               EXECUTE format('CREATE TABLE t_%s (id bigserial PRIMARY KEY, owner int, note text)', n);
             END LOOP; END $$"
        );
        let work = (0..transactions).map(move |transaction| {
            let inserts = (0..TABLES_OF_TRANSACTION).map(|table| {
                let table = (transaction * TABLES_OF_TRANSACTION + table) % count;
                format!("INSERT INTO t_{table} (owner, note) SELECT n, 'note ' || n FROM generate_series(1, {ROWS_OF_TABLE}) n;")
            });
            inserts.collect::<String>()
        });
        let changes = transactions * TABLES_OF_TRANSACTION * ROWS_OF_TABLE;
        written(bench, &format!("tables_{count}"), &create, work, changes).await
    };
    let growth = Growth::new("B15", "cost of a change", "µs", "tables", &TABLES);
    drained(bench, growth, &TABLES, backlog, |_| 1.0).await
}

async fn columns(bench: &Bench) -> anyhow::Result<()> {
    let values = bench.part_of(VALUES, VALUES_MIN);
    let backlog = async |count: u64| {
        let list = |each: &dyn Fn(u64) -> String| (1..count).map(each).collect::<Vec<_>>().join(", ");
        let create =
            format!("CREATE TABLE broad (id bigserial PRIMARY KEY, {})", list(&|n| format!("c_{n} int")));
        let (names, given) = (list(&|n| format!("c_{n}")), list(&|_| "n".to_owned()));
        let rows = VALUES_OF_TRANSACTION / count;
        let insert = format!("INSERT INTO broad ({names}) SELECT {given} FROM generate_series(1, {rows}) n");
        let work = (0..values / VALUES_OF_TRANSACTION).map(|_| insert.clone());
        let changes = values / VALUES_OF_TRANSACTION * rows;
        written(bench, &format!("columns_{count}"), &create, work, changes).await
    };
    let growth = Growth::new("B15", "cost of ten values", "µs", "columns", &COLUMNS);
    // A row of ten times as many columns is ten times as much.
    drained(bench, growth, &COLUMNS, backlog, |count| count as f64 / 10.0).await
}

async fn transaction_rows(bench: &Bench) -> anyhow::Result<()> {
    let most = bench.part_of(TRANSACTION_ROWS[6], CHANGES_MIN);
    let sizes: Vec<u64> = TRANSACTION_ROWS.into_iter().filter(|size| *size <= most).collect();
    let backlog = async |rows: u64| {
        let transactions = (most / rows).min(TRANSACTIONS_MAX);
        // One statement for all of them: a client that waits for each would take longer than all else.
        let work = format!(
            "DO $$ BEGIN FOR transaction IN 1..{transactions} LOOP
               INSERT INTO small (owner, note) SELECT n, 'note ' || n FROM generate_series(1, {rows}) n;
               COMMIT;
             END LOOP; END $$"
        );
        written(bench, &format!("transaction_{rows}"), SMALL, [work].into_iter(), transactions * rows).await
    };
    let growth = Growth::new("B15", "cost of a change", "µs", "rows in a transaction", &sizes);
    drained(bench, growth, &sizes, backlog, |_| 1.0).await
}

async fn history(bench: &Bench) -> anyhow::Result<()> {
    let most = bench.part_of(HISTORY[2], CHANGES_MIN);
    let mut sizes: Vec<u64> = HISTORY.into_iter().map(|size| size.min(most)).collect();
    sizes.dedup();
    let added = bench.part_of(CHANGES, CHANGES_MIN);
    let mut all = Vec::new();
    for size in &sizes {
        all.push((*size, Held::write(bench, *size, added).await?));
    }
    let mut append = Growth::new("B15", "cost of a change", "µs", "changes in history", &sizes);
    let mut resume = Growth::new("B15", "resume of 100 changes", "ms", "changes that history has", &sizes);
    growth::measure(bench.pairs, [&mut append, &mut resume], async |size| {
        let (_, held) = all.iter().find(|(of, _)| *of == size).expect("each size has been written");
        held.measure(bench).await
    })
    .await?;
    for (_, held) in all {
        held.drop(bench).await?;
    }
    show(bench, &append);
    show(bench, &resume);
    Ok(())
}

/// A backlog of these transactions.
async fn written(
    bench: &Bench,
    database: &str,
    create: &str,
    work: impl Iterator<Item = String>,
    changes: u64,
) -> anyhow::Result<Backlog> {
    let create = async |source: &tokio_postgres::Client| Ok(source.batch_execute(create).await?);
    let work = async |source: &tokio_postgres::Client| {
        for transaction in work {
            source.batch_execute(&transaction).await?;
        }
        Ok(changes)
    };
    Backlog::of(&bench.binary, &bench.clusters, database, create, work).await
}

/// Drains the backlog of each size in turn; a change of a size counts as so many.
async fn drained(
    bench: &Bench,
    mut growth: Growth,
    sizes: &[u64],
    backlog: impl AsyncFn(u64) -> anyhow::Result<Backlog>,
    weight: impl Fn(u64) -> f64,
) -> anyhow::Result<()> {
    let mut backlogs = Vec::new();
    for size in sizes {
        backlogs.push((*size, backlog(*size).await?));
    }
    growth::measure(bench.pairs, [&mut growth], async |size| {
        let (_, backlog) = backlogs.iter().find(|(of, _)| *of == size).expect("each size has been written");
        let took = drain(&bench.binary, &bench.clusters, backlog, "decades_ours").await?;
        bench.clusters.drop_history("decades_ours").await?;
        Ok([took * 1e6 / backlog.changes as f64 / weight(size)])
    })
    .await?;
    for (_, backlog) in backlogs {
        backlog.drop(&bench.clusters).await?;
    }
    show(bench, &growth);
    Ok(())
}

fn show(bench: &Bench, growth: &Growth) {
    bench.draw(growth.curve());
    growth.steps(STEP_MAX).for_each(|contest| bench.show(contest));
}
