-- The partitions of change_history, oldest first: name, epoch, bounds, bytes with indexes.
SELECT part.relname::text AS name, bound[1]::int AS epoch, bound[2]::pg_lsn AS low, bound[4]::pg_lsn AS high,
    coalesce(pg_total_relation_size(part.oid), 0) AS bytes
FROM pg_inherits
JOIN pg_class AS part ON part.oid = inhrelid,
LATERAL regexp_match(pg_get_expr(part.relpartbound, part.oid),
    '^FOR VALUES FROM \((\d+), ''([0-9A-F/]+)''\) TO \((\d+), ''([0-9A-F/]+)''\)$') AS bound
WHERE inhparent = 'waldelta.change_history'::regclass AND bound IS NOT NULL
ORDER BY 2, 3
