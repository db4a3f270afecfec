-- Open gaps, oldest first, each with the latest name of its table that history knows.
SELECT gap.epoch, gap.table_oid, known.schema_name, known.table_name, gap.from_lsn, gap.reason, gap.found_at
FROM waldelta.gaps AS gap
LEFT JOIN LATERAL (
    SELECT schema_name, table_name FROM waldelta.table_schemas
    WHERE table_schemas.table_oid = gap.table_oid
    ORDER BY version DESC
    LIMIT 1
) AS known ON true
WHERE gap.to_lsn IS NULL
ORDER BY gap.id
LIMIT $1
