-- The latest shape of the table that is called so now, else of the one that was called so last; of several that were, one after
-- the other, the newest.
WITH latest AS (
    SELECT DISTINCT ON (table_oid) table_oid, version, schema_name, table_name
    FROM waldelta.table_schemas
    ORDER BY table_oid, version DESC
)
SELECT latest.table_oid, latest.version
FROM waldelta.table_schemas AS known
JOIN latest USING (table_oid)
WHERE known.schema_name = $1 AND known.table_name = $2
ORDER BY (latest.schema_name, latest.table_name) = ($1, $2) DESC, known.epoch DESC, known.lsn DESC, known.version DESC
LIMIT 1
