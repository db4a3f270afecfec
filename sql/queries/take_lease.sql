-- A new fencing token, in the lease and in the progress row: from here on an append of the previous writer fails.
WITH taken AS (
    INSERT INTO waldelta.leases AS lease
        (capture_id, token, holder, backend_pid, backend_start, taken_at, renewed_at)
    SELECT $1::int, 1, $2::text, pid, backend_start, clock_timestamp(), clock_timestamp()
    FROM pg_stat_activity WHERE pid = pg_backend_pid()
    ON CONFLICT (capture_id) DO UPDATE SET
        token = lease.token + 1, holder = EXCLUDED.holder, backend_pid = EXCLUDED.backend_pid,
        backend_start = EXCLUDED.backend_start, taken_at = EXCLUDED.taken_at, renewed_at = EXCLUDED.renewed_at
    RETURNING token, backend_pid, backend_start
)
UPDATE waldelta.captures SET token = taken.token
FROM taken, waldelta.epochs
WHERE captures.id = $1 AND epochs.epoch = captures.epoch
RETURNING captures.token, captures.epoch, captures.durable_end, captures.system_id, captures.database_oid,
    epochs.partition_bytes, epochs.start_lsn, taken.backend_pid, taken.backend_start
