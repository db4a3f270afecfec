-- The open transactions that a new slot has to wait for, oldest first.
SELECT string_agg(format('pid %s (%s, %s, open since %s)', pid, usename, state, date_trunc('second', xact_start)), ', '
                  ORDER BY xact_start) AS blockers
FROM (
    SELECT pid, usename, state, xact_start
    FROM pg_stat_activity
    WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
    ORDER BY xact_start
    LIMIT 5
) oldest
