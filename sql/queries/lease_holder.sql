-- Who holds the writer's advisory lock. The lock is the truth; the lease says who that is.
SELECT coalesce(lease.holder, activity.application_name, '') AS holder, held.pid
FROM pg_locks AS held
LEFT JOIN pg_stat_activity AS activity USING (pid)
LEFT JOIN waldelta.leases AS lease
    ON lease.capture_id = $1 AND lease.backend_pid = held.pid AND lease.backend_start = activity.backend_start
WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 1
    AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND held.classid = ($2::bigint >> 32)::int::oid AND held.objid = ($2::bigint & 4294967295)::oid
