//! Measures layouts of `change_history` against one another: what each costs per row in the database's CPU time, disk and
//! WAL. The numbers stand behind `docs/decisions/0001-history-layout.md`.
//!
//! ```sh
//! cargo run -p waldelta-history --example layout_spike
//! ```
//!
//! Rows are encoded before the clock starts, so that only the server is measured and the build profile does not matter.
//! Variants take turns, and the median of their rounds counts, so that a busy machine disturbs all alike.
#![expect(clippy::print_stdout, reason = "a program that prints a table")]
#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made has failed")]

use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt;
use tokio_postgres::Client;
use waldelta_testkit::{TestCluster, TestDatabase};

const ROWS: u64 = 100_000;
const ROWS_PER_APPEND: u64 = 10_000;
const ROWS_PER_TRANSACTION: u64 = 5;
const ROUNDS: usize = 7;

struct Variant {
    name: &'static str,
    json: &'static str,
    id: bool,
    xid: &'static str,
    partitioned: bool,
    through_parent: bool,
    check: bool,
    indexes: &'static [&'static str],
}

const ROW_INDEX: &str = "(hashtextextended(row_key, table_oid::bigint), lsn)";
const FULL_ROW_INDEX: &str = "(table_oid, hashtextextended(row_key, 0), epoch, lsn, seq)";
const XID_INDEX: &str = "USING brin ((transaction_id::text::bigint)) WITH (autosummarize = on)";

const DECIDED: Variant = Variant {
    name: "as decided",
    json: "jsonb",
    id: true,
    xid: "xid8",
    partitioned: true,
    through_parent: false,
    check: false,
    indexes: &[ROW_INDEX, XID_INDEX],
};

const VARIANTS: [Variant; 13] = [
    DECIDED,
    Variant { name: "json instead of jsonb", json: "json", ..DECIDED },
    Variant { name: "id computed, not stored", id: false, ..DECIDED },
    Variant { name: "no row index", indexes: &[XID_INDEX], ..DECIDED },
    Variant { name: "row index in full order", indexes: &[FULL_ROW_INDEX, XID_INDEX], ..DECIDED },
    Variant {
        name: "row index without lsn",
        indexes: &["(hashtextextended(row_key, table_oid::bigint))", XID_INDEX],
        ..DECIDED
    },
    Variant { name: "row index of method hash", indexes: &["USING hash (row_key)", XID_INDEX], ..DECIDED },
    Variant { name: "no transaction index", indexes: &[ROW_INDEX], ..DECIDED },
    Variant {
        name: "transaction_id bigint",
        xid: "bigint",
        indexes: &[ROW_INDEX, "USING brin (transaction_id)"],
        ..DECIDED
    },
    Variant { name: "primary key only", indexes: &[], ..DECIDED },
    Variant { name: "copied into the parent", through_parent: true, ..DECIDED },
    Variant { name: "with the CHECK kept", check: true, ..DECIDED },
    Variant { name: "one plain table", partitioned: false, ..DECIDED },
];

#[derive(Clone, Copy)]
struct Measured {
    cpu_us_per_row: f64,
    rows_per_s: f64,
    heap: f64,
    indexes: f64,
    wal: f64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let cluster = TestCluster::own(&[
        ("wal_level", "logical"),
        ("shared_buffers", "1GB"),
        ("max_wal_size", "16GB"),
        ("checkpoint_timeout", "1h"),
        ("autovacuum", "off"),
    ])
    .await;
    let database = TestDatabase::create_on(&cluster, "layout").await;
    let client = database.client().await;
    let mut rounds: Vec<Vec<Measured>> = VARIANTS.iter().map(|_| Vec::new()).collect();
    for round in 0..=ROUNDS {
        for (variant, measured) in VARIANTS.iter().zip(&mut rounds) {
            let now = measure(&client, variant).await;
            // The first round only warms up.
            if round > 0 {
                measured.push(now);
            }
        }
    }
    let base = rounds[0].clone();
    let median = |measured: &[Measured], of: fn(&Measured) -> f64| {
        let mut values: Vec<f64> = measured.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!("| variant | CPU µs/row | of decided | rows/s | heap B/row | index B/row | WAL B/row |");
    println!("|---|---|---|---|---|---|---|");
    for (variant, measured) in VARIANTS.iter().zip(&rounds) {
        let cpu = median(measured, |m| m.cpu_us_per_row);
        println!(
            "| {} | {cpu:.2} | {:.2} | {:.0} | {:.0} | {:.0} | {:.0} |",
            variant.name,
            cpu / median(&base, |m| m.cpu_us_per_row),
            median(measured, |m| m.rows_per_s),
            median(measured, |m| m.heap),
            median(measured, |m| m.indexes),
            median(measured, |m| m.wal),
        );
    }
}

async fn measure(client: &Client, variant: &Variant) -> Measured {
    client.batch_execute("DROP TABLE IF EXISTS history CASCADE").await.unwrap();
    client.batch_execute(&create(variant)).await.unwrap();
    client.batch_execute("CHECKPOINT").await.unwrap();
    let target = if variant.partitioned && !variant.through_parent { "history_1" } else { "history" };
    let id = if variant.id { "id, " } else { "" };
    let copy = format!(
        "COPY {target} (lsn, transaction_id, \"timestamp\", epoch, seq, table_oid, schema_version, {id}operation, table_name,
            row_key, data, old_data, metadata, client_id) FROM STDIN (FORMAT binary)"
    );
    let copy = client.prepare(&copy).await.unwrap();
    let appends: Vec<Bytes> =
        (0..ROWS / ROWS_PER_APPEND).map(|append| payload(variant, append * ROWS_PER_APPEND)).collect();
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let wal_before: String =
        client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.unwrap().get(0);
    let (cpu_before, started) = (cpu_us(pid), Instant::now());
    for payload in appends {
        client.batch_execute("BEGIN").await.unwrap();
        let mut sink = Box::pin(client.copy_in(&copy).await.unwrap());
        for chunk in payload.chunks(64 * 1024) {
            sink.feed(payload.slice_ref(chunk)).await.unwrap();
        }
        assert_eq!(sink.as_mut().finish().await.unwrap(), ROWS_PER_APPEND);
        client.batch_execute("COMMIT").await.unwrap();
    }
    let (elapsed, cpu) = (started.elapsed(), cpu_us(pid) - cpu_before);
    let sizes = format!(
        "SELECT sum(pg_table_size(c))::float8, sum(pg_indexes_size(c))::float8,
            (pg_current_wal_insert_lsn() - '{wal_before}')::float8
         FROM (SELECT 'history'::regclass AS c UNION SELECT to_regclass('history_1')) t"
    );
    let row = client.query_one(&sizes, &[]).await.unwrap();
    let per_row = |at: usize| row.get::<_, f64>(at) / ROWS as f64;
    Measured {
        cpu_us_per_row: cpu / ROWS as f64,
        rows_per_s: ROWS as f64 / elapsed.as_secs_f64(),
        heap: per_row(0),
        indexes: per_row(1),
        wal: per_row(2),
    }
}

fn create(variant: &Variant) -> String {
    let Variant { json, xid, .. } = variant;
    let id = if variant.id { "id uuid NOT NULL," } else { "" };
    let mut sql = format!(
        "CREATE TABLE history (lsn pg_lsn NOT NULL, transaction_id {xid}, \"timestamp\" timestamptz NOT NULL, epoch int NOT NULL,
            seq int NOT NULL, table_oid oid, schema_version int, {id} operation text NOT NULL, table_name text, row_key text,
            data {json}, old_data {json}, metadata jsonb, client_id text, PRIMARY KEY (epoch, lsn, seq)) {};",
        if variant.partitioned { "PARTITION BY RANGE (epoch, lsn)" } else { "" }
    );
    for index in variant.indexes {
        sql += &format!("CREATE INDEX ON history {index};");
    }
    if variant.partitioned {
        sql += "CREATE TABLE history_1 (LIKE history INCLUDING DEFAULTS INCLUDING CONSTRAINTS);";
        if variant.check {
            sql += "ALTER TABLE history_1 ADD CHECK (epoch = 1 AND lsn >= '4/0' AND lsn < '8/0');";
        }
        sql += "ALTER TABLE history ATTACH PARTITION history_1 FOR VALUES FROM (1, '4/0') TO (1, '8/0');";
    }
    sql
}

/// User and system time of a server process, in microseconds (`proc(5)`).
fn cpu_us(pid: i32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    stat.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1000.0
}

fn payload(variant: &Variant, from: u64) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    for n in from..from + ROWS_PER_APPEND {
        row(&mut out, variant, n);
    }
    out.put_i16(-1);
    out.freeze()
}

fn row(out: &mut BytesMut, variant: &Variant, n: u64) {
    let (transaction, seq) = (n / ROWS_PER_TRANSACTION, n % ROWS_PER_TRANSACTION);
    // About 180 bytes, of keys that come again and again in no order.
    let key = n.wrapping_mul(6_364_136_223_846_793_005) % 1_000_000;
    let data = format!(
        "{{\"id\": {key}, \"customer\": \"c{:08}\", \"region\": \"eu\", \"total\": {}.{:02}, \"state\": \"open\", \
         \"created_at\": \"2026-11-21T08:{:02}:{:02}.123456+00:00\", \"note\": \"thirty letters of free text {n}\"}}",
        key * 7,
        n % 1000,
        n % 100,
        n / 60 % 60,
        n % 60
    );
    out.put_i16(if variant.id { 15 } else { 14 });
    field(out, &(0x4_0000_0000 + transaction * 400).to_be_bytes());
    field(out, &(1_000_000 + transaction).to_be_bytes());
    field(out, &(800_000_000_000_000 + transaction * 1000).to_be_bytes());
    field(out, &1_u32.to_be_bytes());
    field(out, &u32::try_from(seq).unwrap().to_be_bytes());
    field(out, &16_400_u32.to_be_bytes());
    field(out, &1_u32.to_be_bytes());
    if variant.id {
        let high = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        field(out, &[high.to_be_bytes(), high.rotate_left(17).to_be_bytes()].concat());
    }
    field(out, b"update");
    field(out, b"public.orders");
    field(out, format!("[{key}]").as_bytes());
    if variant.json == "jsonb" {
        field(out, &[&[1], data.as_bytes()].concat());
    } else {
        field(out, data.as_bytes());
    }
    for _ in 0..3 {
        out.put_i32(-1);
    }
}

fn field(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(i32::try_from(bytes.len()).unwrap());
    out.put_slice(bytes);
}
