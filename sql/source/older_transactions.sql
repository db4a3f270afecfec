-- The open transactions of this database that are older than one, the oldest few of them. $1: the low 32 bits of its id.
-- Every transaction holds the lock on its id, which anybody may see; who it is is shown as far as the role may see that.
-- Subtransactions hold locks of their own. One that is prepared belongs to no process.
SELECT string_agg(
           CASE
               WHEN o.gid IS NOT NULL THEN format('prepared transaction %L (%s)', o.gid, o.xid)
               WHEN o.usename IS NULL THEN format('transaction %s (pid %s)', o.xid, o.pid)
               ELSE format('transaction %s (pid %s, %s, %s, open since %s)', o.xid, o.pid, o.usename,
                           coalesce(o.state, 'state not shown'), coalesce(date_trunc('second', o.xact_start)::text, 'unknown'))
           END, ', ' ORDER BY o.age DESC) AS older
FROM (
    SELECT h.xid, age(h.xid) AS age, h.pid, a.usename, a.state, a.xact_start, p.gid
    FROM (
        SELECT DISTINCT ON (l.virtualtransaction, l.pid) l.transactionid AS xid, l.pid
        FROM pg_locks l
        WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted
          AND age(l.transactionid) > age(($1::int8)::text::xid)
        ORDER BY l.virtualtransaction, l.pid, age(l.transactionid) DESC
    ) h
    LEFT JOIN pg_stat_activity a ON a.pid = h.pid
    LEFT JOIN pg_prepared_xacts p ON p.transaction = h.xid
    WHERE coalesce(a.datname, p.database, current_database()) = current_database()
    ORDER BY age(h.xid) DESC
    LIMIT 5
) o
