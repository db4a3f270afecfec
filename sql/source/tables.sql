-- The shape of tables. $1: their object ids.
-- The identity 'm' is FULL of a partitioned table whose partitions do not all have it: the leaves tell what is logged.
-- Index columns are the key ones only, without INCLUDE. A deferrable primary key is none that replication uses.
-- Partitions by pg_inherits: pg_partition_tree would lock them until the end of the transaction, which may be a snapshot's.
WITH RECURSIVE parts AS (
    SELECT inhparent AS root, inhrelid AS part FROM pg_inherits WHERE inhparent = ANY ($1)
    UNION ALL
    SELECT p.root, i.inhrelid FROM parts p JOIN pg_inherits i ON i.inhparent = p.part
)
SELECT c.oid,
       n.nspname::text AS schema,
       c.relname::text AS name,
       CASE
           WHEN c.relkind = 'p' AND c.relreplident = 'f' AND EXISTS (
               SELECT FROM parts p
               JOIN pg_class leaf ON leaf.oid = p.part AND leaf.relkind = 'r' AND leaf.relreplident <> 'f'
               WHERE p.root = c.oid)
           THEN 'm'
           ELSE c.relreplident::text
       END AS identity,
       c.relnatts AS last_number,
       coalesce(a.numbers, '{}') AS numbers,
       coalesce(a.names, '{}') AS names,
       coalesce(a.type_oids, '{}') AS type_oids,
       coalesce(a.type_modifiers, '{}') AS type_modifiers,
       coalesce(a.type_names, '{}') AS type_names,
       coalesce(a.not_null, '{}') AS not_null,
       coalesce(a.generated, '{}') AS generated,
       (SELECT (i.indkey::int2[])[0:i.indnkeyatts - 1]
        FROM pg_index i
        WHERE i.indrelid = c.oid AND i.indisprimary) AS primary_key,
       (SELECT (i.indkey::int2[])[0:i.indnkeyatts - 1]
        FROM pg_index i
        WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate
          AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
       ) AS identity_index,
       CASE c.relkind
           WHEN 'p' THEN (
               SELECT coalesce(sum(greatest(leaf.reltuples, 0)), 0)::int8
               FROM parts p
               JOIN pg_class leaf ON leaf.oid = p.part AND leaf.relkind = 'r'
               WHERE p.root = c.oid
           )
           ELSE greatest(c.reltuples, 0)::int8
       END AS rows_estimate
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT array_agg(attnum ORDER BY attnum) AS numbers,
           array_agg(attname::text ORDER BY attnum) AS names,
           array_agg(atttypid ORDER BY attnum) AS type_oids,
           array_agg(atttypmod ORDER BY attnum) AS type_modifiers,
           array_agg(format_type(atttypid, NULL) ORDER BY attnum) AS type_names,
           array_agg(attnotnull ORDER BY attnum) AS not_null,
           array_agg(attgenerated <> '' ORDER BY attnum) AS generated
    FROM pg_attribute
    WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
) a
WHERE c.oid = ANY ($1)
ORDER BY n.nspname, c.relname
