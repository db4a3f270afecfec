-- Everything that somebody may want captured, with what speaks against it. $1: the publication's name.
-- A table's UPDATE and DELETE fail while it is published without a replica identity; of a partitioned table the leaves
-- count, each with its own; they are looked up without pg_partition_tree, which would lock them.
WITH RECURSIVE parts AS (
    SELECT i.inhparent AS root, i.inhrelid AS part
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent AND c.relkind = 'p'
    UNION ALL
    SELECT p.root, i.inhrelid FROM parts p JOIN pg_inherits i ON i.inhparent = p.part
),
identified AS (
    SELECT c.oid,
           CASE c.relreplident
               WHEN 'd' THEN EXISTS (
                   SELECT FROM pg_index i
                   WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid AND i.indimmediate)
               WHEN 'i' THEN EXISTS (
                   SELECT FROM pg_index i
                   WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid AND i.indimmediate)
               ELSE c.relreplident = 'f'
           END AS by_itself
    FROM pg_class c
    WHERE c.relkind IN ('r', 'p')
),
unidentified AS (
    SELECT p.root, n.nspname::text AS schema, c.relname::text AS name
    FROM parts p
    JOIN pg_class c ON c.oid = p.part AND c.relkind = 'r'
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN identified i ON i.oid = c.oid AND NOT i.by_itself
)
SELECT n.nspname::text AS schema,
       c.relname::text AS name,
       c.relkind::text AS kind,
       c.relpersistence::text AS persistence,
       c.relispartition AS is_partition,
       c.relhassubclass AND c.relkind = 'r' AS has_children,
       c.relreplident::text AS identity,
       coalesce(i.by_itself, false) AS is_identified,
       EXISTS (SELECT FROM pg_index x WHERE x.indrelid = c.oid AND x.indisprimary) AS has_primary_key,
       EXISTS (SELECT FROM pg_depend d
               WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') AS of_extension,
       ARRAY(SELECT u.schema FROM unidentified u WHERE u.root = c.oid ORDER BY u.schema, u.name)
           AS unidentified_leaf_schemas,
       ARRAY(SELECT u.name FROM unidentified u WHERE u.root = c.oid ORDER BY u.schema, u.name)
           AS unidentified_leaf_names,
       a.names,
       a.type_oids,
       a.type_names,
       a.generated,
       EXISTS (SELECT FROM pg_publication p
               JOIN pg_publication_rel r ON r.prpubid = p.oid
               WHERE p.pubname = $1 AND r.prrelid = c.oid)
       OR EXISTS (SELECT FROM pg_publication_tables t
                  WHERE t.pubname = $1 AND t.schemaname = n.nspname AND t.tablename = c.relname) AS is_published
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN identified i ON i.oid = c.oid
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(attname::text ORDER BY attnum), '{}') AS names,
           coalesce(array_agg(atttypid ORDER BY attnum), '{}') AS type_oids,
           coalesce(array_agg(format_type(atttypid, NULL) ORDER BY attnum), '{}') AS type_names,
           coalesce(array_agg(attgenerated <> '' ORDER BY attnum), '{}') AS generated
    FROM pg_attribute
    WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
) a
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm')
  AND c.relpersistence <> 't'
  AND n.nspname <> ALL (ARRAY['pg_catalog', 'information_schema', 'waldelta'])
  AND n.nspname NOT LIKE 'pg\_toast%'
ORDER BY n.nspname, c.relname
