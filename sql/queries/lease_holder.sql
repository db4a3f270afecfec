-- Who holds the writer's advisory lock. The lock is the truth; the lease says who that is, unless it is another's (taken away
-- before, or not yet taken): then the holder is silent since the lease was touched or it connected, whichever is later.
SELECT
    CASE WHEN mine THEN holder ELSE coalesce(application_name, '') END AS holder,
    pid,
    backend_start,
    coalesce(greatest(0, floor(1000 * extract(epoch FROM clock_timestamp()
        - CASE WHEN mine THEN renewed_at ELSE greatest(renewed_at, backend_start) END))), 0)::bigint AS silent_ms
FROM (
    SELECT held.pid, activity.backend_start, activity.application_name, lease.holder, lease.renewed_at,
        coalesce(lease.backend_pid = held.pid AND lease.backend_start = activity.backend_start, false) AS mine
    FROM pg_locks AS held
    -- A backend on its way out is no longer in there while it still has its locks: no holder any more, and no row.
    JOIN pg_stat_activity AS activity USING (pid)
    LEFT JOIN waldelta.leases AS lease ON lease.capture_id = $1
    WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 1
        AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND held.classid = ($2::bigint >> 32)::int::oid AND held.objid = ($2::bigint & 4294967295)::oid
) AS holder
