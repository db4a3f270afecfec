-- Where the partitions of one epoch begin and end.
SELECT bound[2]::pg_lsn AS low, bound[4]::pg_lsn AS high
FROM pg_inherits
JOIN pg_class AS part ON part.oid = inhrelid,
LATERAL regexp_match(pg_get_expr(part.relpartbound, part.oid),
    '^FOR VALUES FROM \((\d+), ''([0-9A-F/]+)''\) TO \((\d+), ''([0-9A-F/]+)''\)$') AS bound
WHERE inhparent = 'waldelta.change_history'::regclass AND bound[1]::int = $1
