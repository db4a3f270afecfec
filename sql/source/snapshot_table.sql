-- A table as this transaction's snapshot has it, and whether it is still the same. $1: its object id.
-- The catalog rows are read with the snapshot, pg_relation_filenode and pg_partition_tree tell what is now: where the
-- two differ the table was truncated or rewritten, or partitions came or went, and the snapshot may lack rows.
WITH RECURSIVE leaves AS (
    SELECT c.oid, c.relkind, c.relfilenode FROM pg_class c WHERE c.oid = $1
    UNION ALL
    SELECT c.oid, c.relkind, c.relfilenode
    FROM leaves l
    JOIN pg_inherits i ON i.inhparent = l.oid AND l.relkind = 'p'
    JOIN pg_class c ON c.oid = i.inhrelid
)
SELECT n.nspname::text AS schema,
       c.relname::text AS name,
       c.relkind = 'p' AS is_partitioned,
       coalesce((SELECT bool_and(l.relfilenode IS NOT DISTINCT FROM pg_relation_filenode(l.oid))
                 FROM leaves l WHERE l.relkind = 'r'), true)
       AND (c.relkind <> 'p'
            OR (SELECT count(*) FROM leaves) = (SELECT count(*) FROM pg_partition_tree(c.oid))) AS is_unchanged
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = $1
