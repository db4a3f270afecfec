-- The oldest transaction of this database that has not ended, and the first of all that has not begun. They are the same
-- where none is open. A transaction ends here when everybody can see what it did, which with a synchronous standby can be
-- after its commit was decoded. One counts as another database's only where that is sure.
SELECT coalesce((
           SELECT min(x.xid::text::int8)
           FROM pg_snapshot_xip(s.now) AS x (xid)
           WHERE NOT EXISTS (
                   SELECT
                   FROM pg_locks l
                   JOIN pg_stat_activity a ON a.pid = l.pid
                   WHERE l.locktype = 'transactionid' AND l.transactionid = x.xid::xid AND l.mode = 'ExclusiveLock'
                     AND l.granted AND a.datname <> current_database())
             AND NOT EXISTS (
                   SELECT
                   FROM pg_prepared_xacts p
                   WHERE p.transaction = x.xid::xid AND p.database <> current_database())
       ), pg_snapshot_xmax(s.now)::text::int8) AS oldest,
       pg_snapshot_xmax(s.now)::text::int8 AS next
FROM (SELECT pg_current_snapshot() AS now) s
