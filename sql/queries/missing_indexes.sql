-- The indexes of change_history that partitions lack, one partition after the other: what each is called, what is there of it
-- (nothing; one that is not valid, left by a build that was cut off; one that is whole and only has to be attached), and the
-- statements that build, drop and attach it. Unique indexes come with their partitions.
SELECT name::text, is_valid,
    format('CREATE INDEX CONCURRENTLY %I ON waldelta.%I%s', name, partition, definition) AS build,
    format('DROP INDEX CONCURRENTLY waldelta.%I', name) AS remove,
    format('ALTER INDEX waldelta.%I ATTACH PARTITION waldelta.%I', parent, name) AS attach
FROM (
    SELECT parent.relname::text AS parent, partition.relname::text AS partition, own.indisvalid AS is_valid, wanted.name,
        substring(pg_get_indexdef(parent.oid) FROM ' USING .*$') AS definition
    FROM pg_index
    JOIN pg_class AS parent ON parent.oid = pg_index.indexrelid AND parent.relkind = 'I'
    JOIN pg_inherits ON pg_inherits.inhparent = pg_index.indrelid
    JOIN pg_class AS partition ON partition.oid = pg_inherits.inhrelid
    CROSS JOIN LATERAL (
        SELECT partition.relname::text || substr(parent.relname::text, length('change_history') + 1) AS name
    ) AS wanted
    LEFT JOIN LATERAL (
        SELECT child.indisvalid FROM pg_index AS child JOIN pg_class ON pg_class.oid = child.indexrelid
        WHERE child.indrelid = partition.oid AND pg_class.relname = wanted.name
    ) AS own ON true
    WHERE pg_index.indrelid = to_regclass('waldelta.change_history') AND NOT pg_index.indisunique
        AND NOT EXISTS (
            SELECT FROM pg_inherits AS attached JOIN pg_index AS child ON child.indexrelid = attached.inhrelid
            WHERE attached.inhparent = parent.oid AND child.indrelid = partition.oid AND child.indisvalid
        )
) AS missing
ORDER BY partition, name
