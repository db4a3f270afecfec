-- Everything that somebody may want captured, with what speaks against it. $1: the publication's name.
-- A table's UPDATE and DELETE fail while it is published without a replica identity; of a partitioned table the leaves
-- count, each with its own.
WITH identified AS (
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
       ARRAY(SELECT ln.nspname::text
             FROM pg_partition_tree(c.oid) part
             JOIN identified leaf ON leaf.oid = part.relid AND NOT leaf.by_itself
             JOIN pg_class lc ON lc.oid = leaf.oid
             JOIN pg_namespace ln ON ln.oid = lc.relnamespace
             WHERE c.relkind = 'p' AND part.isleaf
             ORDER BY part.relid) AS unidentified_leaf_schemas,
       ARRAY(SELECT lc.relname::text
             FROM pg_partition_tree(c.oid) part
             JOIN identified leaf ON leaf.oid = part.relid AND NOT leaf.by_itself
             JOIN pg_class lc ON lc.oid = leaf.oid
             WHERE c.relkind = 'p' AND part.isleaf
             ORDER BY part.relid) AS unidentified_leaf_names,
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
