-- A table as this transaction's snapshot has it, and whether it is still the same. $1: its object id, $2: the publication,
-- whose row filter the snapshot keeps to as the stream does. Where everything of a schema is published, or everything that
-- there is, a table's own filter is not kept to.
-- The filter is not asked of pg_publication_tables: since PostgreSQL 16 that opens every published table, and waits for
-- whoever has one locked. prqual came with PostgreSQL 15: before, its name stands for the null beside it. 6237 is
-- pg_publication_namespace, which came with 15 too.
-- The catalog rows are read with the snapshot, pg_relation_filenode, pg_partition_tree and pg_identify_object tell what is
-- now: where the two differ the table was truncated or rewritten, partitions came or went, so that the snapshot may lack
-- rows, or columns have other names, maybe each other's.
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
       (SELECT f.row_filter
        FROM (SELECT NULL::pg_node_tree AS prqual) older
        CROSS JOIN LATERAL (
            SELECT pg_get_expr(prqual, r.prrelid) AS row_filter
            FROM pg_publication p
            JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid
            WHERE p.pubname = $2 AND NOT p.puballtables
              AND NOT EXISTS (
                  SELECT
                  FROM pg_depend q
                  JOIN pg_depend s ON s.classid = 6237 AND s.objid = q.objid
                  WHERE q.classid = 6237 AND q.refclassid = 'pg_publication'::regclass AND q.refobjid = p.oid
                    AND s.refclassid = 'pg_namespace'::regclass AND s.refobjid = c.relnamespace)
        ) f) AS row_filter,
       coalesce((SELECT bool_and(l.relfilenode IS NOT DISTINCT FROM pg_relation_filenode(l.oid))
                 FROM leaves l WHERE l.relkind = 'r'), true)
       AND (c.relkind <> 'p'
            OR (SELECT count(*) FROM leaves) = (SELECT count(*) FROM pg_partition_tree(c.oid)))
       AND NOT EXISTS (
           SELECT FROM pg_attribute a
           WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             AND (SELECT now.identity FROM pg_identify_object('pg_class'::regclass, c.oid, a.attnum) now)
                 IS DISTINCT FROM format('%I.%I.%I', n.nspname, c.relname, a.attname)) AS is_unchanged
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = $1
