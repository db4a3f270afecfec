-- An epoch ($1) ends at $2, where the next ($3) goes on. What was noted at or beyond that place did not survive.
WITH gaps AS (
    -- Still open, to be safe: it may have happened again.
    UPDATE waldelta.gaps SET epoch = $3, from_lsn = $2
    WHERE to_lsn IS NULL AND epoch = $1 AND from_lsn >= $2
), reopened AS (
    -- Ended by a reset that did not survive.
    UPDATE waldelta.gaps AS ended SET to_epoch = NULL, to_lsn = NULL,
        epoch = CASE WHEN ended.epoch = $1 AND ended.from_lsn >= $2 THEN $3 ELSE ended.epoch END,
        from_lsn = CASE WHEN ended.epoch = $1 AND ended.from_lsn >= $2 THEN $2 ELSE ended.from_lsn END
    FROM (
        SELECT DISTINCT ON (table_oid) id FROM waldelta.gaps AS known
        WHERE table_oid IS NOT NULL AND coalesce(to_epoch, epoch) = $1 AND to_lsn >= $2 AND NOT EXISTS (
            SELECT FROM waldelta.gaps AS open WHERE open.table_oid = known.table_oid AND open.to_lsn IS NULL)
        ORDER BY table_oid, id
    ) AS first
    WHERE ended.id = first.id
), begun AS (
    UPDATE waldelta.history_from SET epoch = $3, lsn = $2
    WHERE epoch = $1 AND lsn >= $2 AND NOT baseline
), gone AS (
    SELECT table_oid, max(version) AS version FROM waldelta.table_schemas
    WHERE epoch = $1 AND lsn >= $2
    GROUP BY table_oid
)
-- The shape that a table had at the end is its latest again, under a new version: the versions that did not survive are
-- named by changes that are still stored.
INSERT INTO waldelta.table_schemas
    (table_oid, version, schema_name, table_name, columns, key, identity, epoch, lsn, seq)
SELECT DISTINCT ON (table_oid) table_oid, gone.version + 1, schema_name, table_name, columns, key, identity, $3::int, $2::pg_lsn, 0
FROM waldelta.table_schemas AS known
JOIN gone USING (table_oid)
WHERE known.epoch <> $1 OR known.lsn < $2
ORDER BY table_oid, known.version DESC
