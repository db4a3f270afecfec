-- Opens a gap for each table that has none open. One that turns out to begin earlier in this epoch than was known, begins
-- there. Returns those that were opened.
WITH found AS (
    SELECT DISTINCT ON (table_oid) table_oid, from_lsn, reason
    FROM unnest($2::oid[], $3::pg_lsn[], $4::text[]) WITH ORDINALITY AS found (table_oid, from_lsn, reason, number)
    ORDER BY table_oid, from_lsn, number
), lowered AS (
    UPDATE waldelta.gaps AS known SET from_lsn = found.from_lsn
    FROM found
    WHERE known.table_oid = found.table_oid AND known.to_lsn IS NULL AND known.epoch = $1
        AND known.from_lsn > found.from_lsn
)
INSERT INTO waldelta.gaps (epoch, table_oid, from_lsn, reason)
SELECT $1, table_oid, from_lsn, reason FROM found
ON CONFLICT (table_oid) WHERE to_lsn IS NULL DO NOTHING
RETURNING table_oid, from_lsn, reason
