-- Open gaps, oldest first, each with the latest name of its table. In the words of every version of the schema.
SELECT coalesce(g.table_oid, 0::oid) AS oid, g.reason, date_trunc('second', g.found_at)::text AS since,
       s.schema_name AS schema, s.table_name AS name
FROM waldelta.gaps g
LEFT JOIN LATERAL (
    SELECT t.schema_name, t.table_name FROM waldelta.table_schemas t
    WHERE t.table_oid = g.table_oid
    ORDER BY t.version DESC
    LIMIT 1
) s ON true
WHERE g.to_lsn IS NULL
ORDER BY g.id
LIMIT 100
