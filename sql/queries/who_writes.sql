-- Who writes history, for a process that only reads it. Whether somebody does, the lock says; who it is, or who was last, the
-- lease, which the next one takes a moment after the lock. No row: history has not begun.
SELECT lease.holder,
       EXISTS (SELECT FROM pg_locks AS held
           WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 1
             AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
             AND held.classid = ($2::bigint >> 32)::int::oid AND held.objid = ($2::bigint & 4294967295)::oid) AS is_there,
       CASE WHEN lease.renewed_at IS NOT NULL
           THEN greatest(0, floor(1000 * extract(epoch FROM clock_timestamp() - lease.renewed_at)))::bigint END AS silent_ms,
       greatest(0, floor(1000 * extract(epoch FROM clock_timestamp() - captures.moved_at)))::bigint AS moved_ms
FROM waldelta.captures LEFT JOIN waldelta.leases AS lease ON lease.capture_id = captures.id
WHERE captures.id = $1
