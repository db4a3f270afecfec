-- Opens a gap for each table that has none open. One that is open reaches up to where it was noticed last; and if it turns out to
-- begin earlier in this epoch than was known, it begins there. Returns those that were opened.
WITH found AS (
    SELECT DISTINCT ON (table_oid) table_oid, from_lsn, reason,
        max(found_lsn) OVER (PARTITION BY table_oid) AS found_lsn
    FROM unnest($2::oid[], $3::pg_lsn[], $4::text[], $5::pg_lsn[])
        WITH ORDINALITY AS found (table_oid, from_lsn, reason, found_lsn, number)
    ORDER BY table_oid, from_lsn, number
), widened AS (
    UPDATE waldelta.gaps AS known
    SET from_lsn = CASE WHEN known.epoch = $1 THEN least(known.from_lsn, found.from_lsn) ELSE known.from_lsn END,
        found_lsn = CASE WHEN known.found_epoch = $1 THEN greatest(known.found_lsn, found.found_lsn) ELSE found.found_lsn END,
        found_epoch = $1
    FROM found
    WHERE known.table_oid = found.table_oid AND known.to_lsn IS NULL
)
INSERT INTO waldelta.gaps (epoch, table_oid, from_lsn, reason, found_epoch, found_lsn)
SELECT $1, table_oid, from_lsn, reason, $1, found_lsn FROM found
ON CONFLICT (table_oid) WHERE to_lsn IS NULL DO NOTHING
RETURNING table_oid, from_lsn, reason
