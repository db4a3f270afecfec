-- History: the durable ordered log and what belongs to it. Other objects of ours may stand in the same schema of the
-- same database (set_client, canary); this file knows nothing of them.

-- What is captured and how far. One row, written with every append: nothing in it but `id` is indexed, and half of the
-- page is left free, so that the row moves within its page (HOT).
CREATE TABLE waldelta.captures (
    id           int PRIMARY KEY,
    system_id    text NOT NULL,           -- unsigned 64-bit number, as IDENTIFY_SYSTEM prints it
    timeline     bigint NOT NULL,
    database_oid oid NOT NULL,
    slot         text NOT NULL,
    publication  text NOT NULL,
    epoch        int NOT NULL,
    durable_end  pg_lsn NOT NULL,         -- everything that committed strictly below it is stored
    floor_epoch  int NOT NULL,            -- everything from floor_lsn on can be resumed
    floor_lsn    pg_lsn NOT NULL,
    token        bigint NOT NULL DEFAULT 0, -- fencing token of the writer that may move durable_end
    began_at     timestamptz NOT NULL DEFAULT now(),
    moved_at     timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- Uninterrupted incarnations of the source. `end_lsn` is null for the current one.
CREATE TABLE waldelta.epochs (
    epoch           int PRIMARY KEY,
    previous        int REFERENCES waldelta.epochs,
    fork_lsn        pg_lsn,
    start_lsn       pg_lsn NOT NULL,
    end_lsn         pg_lsn,
    partition_bytes bigint NOT NULL CHECK (partition_bytes > 0),
    reason          text NOT NULL,
    started_at      timestamptz NOT NULL DEFAULT now()
);

-- Stretches that history is known not to have; table_oid null: of all tables.
CREATE TABLE waldelta.gaps (
    id         int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    epoch      int NOT NULL REFERENCES waldelta.epochs,
    table_oid  oid,
    from_lsn   pg_lsn NOT NULL,
    to_lsn     pg_lsn NOT NULL,
    reason     text NOT NULL,
    found_at   timestamptz NOT NULL DEFAULT now()
);

-- The one writer. Renewed on a connection of its own, so that an append in flight never blocks it; the writer's
-- session advisory lock tells at once when it is gone.
CREATE TABLE waldelta.leases (
    capture_id    int PRIMARY KEY,
    token         bigint NOT NULL,
    holder        text NOT NULL,
    backend_pid   int,                    -- null once released
    backend_start timestamptz,
    taken_at      timestamptz NOT NULL,
    renewed_at    timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Each version of each captured table's shape, and the change that first has it.
CREATE TABLE waldelta.table_schemas (
    table_oid   oid NOT NULL,
    version     int NOT NULL,
    schema_name text NOT NULL,
    table_name  text NOT NULL,
    columns     jsonb NOT NULL,           -- [{name, type_oid, type_modifier, type_name, nullable, identity}]
    key         int2[] NOT NULL,          -- indexes into columns, from 0
    identity    text NOT NULL CHECK (identity IN ('default', 'nothing', 'full', 'index')),
    epoch       int NOT NULL,
    lsn         pg_lsn NOT NULL,
    seq         int NOT NULL,
    PRIMARY KEY (table_oid, version)
);

-- Per table: everything of it that committed at or after this place is stored. `baseline`: the rows that existed then
-- are stored too, as operation baseline.
CREATE TABLE waldelta.history_from (
    table_oid oid PRIMARY KEY,
    epoch     int NOT NULL,
    lsn       pg_lsn NOT NULL,
    baseline  boolean NOT NULL DEFAULT false
);

-- The last cursor that each client acknowledged, as text: of fixed width, so that text order is stream order.
CREATE TABLE waldelta.clients (
    client_id text PRIMARY KEY,
    cursor    text COLLATE "C" NOT NULL,
    seen_at   timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- The log. Fixed-width columns first, so that none is padded. Rows are appended by COPY straight into partitions, which
-- are made beforehand for the ranges that receive rows; there is no default partition.
CREATE TABLE waldelta.change_history (
    lsn            pg_lsn NOT NULL,       -- where the transaction's commit record begins
    transaction_id xid8,                  -- null for baseline
    "timestamp"    timestamptz NOT NULL,  -- commit time by the source's clock
    epoch          int NOT NULL,
    seq            int NOT NULL,          -- order in the transaction, from 0
    table_oid      oid,
    schema_version int,
    id             uuid NOT NULL,         -- from (source, epoch, lsn, seq): the same after any replay
    operation      text NOT NULL,
    table_name     text,
    row_key        text,
    data           jsonb,
    old_data       jsonb,
    metadata       jsonb,
    client_id      text,
    PRIMARY KEY (epoch, lsn, seq)
) PARTITION BY RANGE (epoch, lsn);

-- History of one row. A key can be longer than an index entry may be, hence its hash, in which the table takes part;
-- readers compare table_oid and row_key again.
CREATE INDEX change_history_row_idx
    ON waldelta.change_history (hashtextextended(row_key, table_oid::bigint), lsn);

-- Transactions by id, for snapshots. BRIN has no operator class for xid8; ids stay below 2^63.
CREATE INDEX change_history_transaction_idx
    ON waldelta.change_history USING brin ((transaction_id::text::bigint)) WITH (autosummarize = on);

COMMENT ON TABLE waldelta.change_history IS
    'Every committed change of the captured tables, in commit order: (epoch, lsn, seq).';
