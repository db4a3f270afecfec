-- Transactions that hold something back and are older than $1 seconds, oldest first. A walsender's own is the slot's business.
SELECT a.pid,
       coalesce(a.usename::text, '?') AS user_name,
       coalesce(a.datname::text, '?') AS database,
       coalesce(a.state, '?') AS state,
       a.backend_xid IS NOT NULL AS writes,
       date_trunc('second', a.xact_start)::text AS since
FROM pg_stat_activity a
WHERE (a.backend_xid IS NOT NULL OR a.backend_xmin IS NOT NULL)
  AND a.pid <> pg_backend_pid()
  AND a.backend_type <> 'walsender'
  AND a.xact_start < clock_timestamp() - make_interval(secs => $1)
ORDER BY a.xact_start
LIMIT 20
