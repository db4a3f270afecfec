-- Everything that somebody may want captured, with what speaks against it. $1: the publication's name; $2: whether one that
-- is still to be made would publish partitions as their root.
-- A table's UPDATE and DELETE fail while it is published without a replica identity; of a partitioned table the leaves
-- count, each with its own; they are looked up without pg_partition_tree, which would lock them. Where leaves are published
-- as their root, a delete has to name the root's key all the same, whatever identity the leaf has.
WITH RECURSIVE publication AS (
    SELECT p.oid, p.pubviaroot, p.pubupdate OR p.pubdelete AS needs_identity
    FROM pg_publication p
    WHERE p.pubname = $1
),
published AS MATERIALIZED (
    SELECT t.schemaname, t.tablename FROM pg_publication_tables t WHERE t.pubname = $1
),
parts AS (
    SELECT i.inhparent AS root, i.inhrelid AS part
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent AND c.relkind = 'p'
    UNION ALL
    SELECT p.root, i.inhrelid FROM parts p JOIN pg_inherits i ON i.inhparent = p.part
),
-- Columns of each table's replica identity by its index, which FULL has none of, and of its primary key.
identities AS (
    SELECT c.oid, c.relkind, c.relreplident, x.indexrelid, k.identity, k.primary_key,
           c.relreplident = 'f' OR k.identity IS NOT NULL AS by_itself
    FROM pg_class c
    LEFT JOIN pg_index x ON x.indrelid = c.oid AND x.indisvalid AND x.indimmediate
        AND CASE c.relreplident WHEN 'd' THEN x.indisprimary WHEN 'i' THEN x.indisreplident ELSE false END
    LEFT JOIN pg_index p ON p.indrelid = c.oid AND p.indisprimary
    CROSS JOIN LATERAL (
        SELECT array_agg(a.attname::text) FILTER (WHERE a.attnum = ANY ((x.indkey::int2[])[0:x.indnkeyatts - 1])) AS identity,
               array_agg(a.attname::text) FILTER (WHERE a.attnum = ANY ((p.indkey::int2[])[0:p.indnkeyatts - 1])) AS primary_key
        FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0
    ) k
    WHERE c.relkind IN ('r', 'p')
),
leaves AS (
    SELECT p.root, n.nspname::text AS schema, c.relname::text AS name, i.by_itself, i.relreplident, i.identity,
           r.relreplident AS root_identity, r.indexrelid AS root_index,
           CASE WHEN r.relreplident = 'i' AND NOT coalesce(r.identity @> r.primary_key, false) THEN r.identity
                ELSE r.primary_key END AS root_key,
           c.oid
    FROM parts p
    JOIN identities r ON r.oid = p.root
    JOIN identities i ON i.oid = p.part AND i.relkind = 'r'
    JOIN pg_class c ON c.oid = p.part
    JOIN pg_namespace n ON n.oid = c.relnamespace
),
index_parts AS (
    SELECT l.root_index AS root, i.inhrelid AS part
    FROM (SELECT DISTINCT root_index FROM leaves WHERE root_identity = 'i') l
    JOIN pg_inherits i ON i.inhparent = l.root_index
    UNION ALL
    SELECT p.root, i.inhrelid FROM index_parts p JOIN pg_inherits i ON i.inhparent = p.part
),
-- How a leaf falls short of its root, and what it would need.
faults AS (
    SELECT l.root, l.schema, l.name, f.fault,
           CASE l.root_identity
               WHEN 'i' THEN coalesce((
                   SELECT 'USING INDEX ' || quote_ident(c.relname)
                   FROM index_parts p
                   JOIN pg_index x ON x.indexrelid = p.part AND x.indrelid = l.oid
                   JOIN pg_class c ON c.oid = p.part
                   WHERE p.root = l.root_index), 'FULL')
               WHEN 'f' THEN 'FULL'
               ELSE CASE
                   WHEN EXISTS (SELECT FROM pg_index x
                                WHERE x.indrelid = l.oid AND x.indisprimary AND x.indisvalid AND x.indimmediate)
                   THEN 'DEFAULT' ELSE 'FULL'
               END
           END AS mend
    FROM leaves l
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN NOT l.by_itself THEN 'unidentified'
            WHEN l.relreplident = 'f' OR NOT coalesce((SELECT p.pubviaroot FROM publication p), $2) THEN NULL
            WHEN NOT l.identity @> l.root_key THEN 'misfit'
            WHEN l.root_identity = 'f' THEN 'mixed'
        END AS fault
    ) f
    WHERE f.fault IS NOT NULL
),
-- Columns that a publication's column list has, and those that its row filter asks for. Both came with PostgreSQL 15: by way
-- of jsonb they are no error before.
narrowings AS (
    SELECT r.prrelid AS oid,
           CASE WHEN jsonb_typeof(r.entry -> 'prattrs') = 'array' THEN ARRAY(
               SELECT a.attname::text
               FROM jsonb_array_elements_text(r.entry -> 'prattrs') AS listed (attnum)
               JOIN pg_attribute a ON a.attrelid = r.prrelid AND a.attnum = listed.attnum::int2)
           END AS listed,
           ARRAY(
               SELECT a.attname::text
               FROM regexp_matches(r.entry ->> 'prqual', ':varattno ([0-9]+)', 'g') AS asked (match)
               JOIN pg_attribute a ON a.attrelid = r.prrelid AND a.attnum = asked.match[1]::int2) AS asked
    FROM (SELECT r.prrelid, to_jsonb(r) AS entry FROM pg_publication_rel r JOIN publication p ON p.oid = r.prpubid
          WHERE p.needs_identity) r
    WHERE r.entry ->> 'prattrs' IS NOT NULL OR r.entry ->> 'prqual' IS NOT NULL
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
       f.faults,
       f.schemas AS fault_schemas,
       f.names AS fault_names,
       f.mends AS fault_mends,
       a.names,
       a.generated,
       EXISTS (SELECT FROM narrowings w
               JOIN identities o ON o.oid = w.oid
                    OR EXISTS (SELECT FROM parts p WHERE p.root = w.oid AND p.part = o.oid)
               WHERE w.oid = c.oid AND o.relkind = 'r'
                 AND (CASE WHEN o.relreplident = 'f' THEN w.listed IS NOT NULL
                           ELSE NOT w.listed @> o.identity OR NOT o.identity @> w.asked END)) AS is_narrowed,
       r.prrelid IS NOT NULL AS is_member,
       r.prrelid IS NOT NULL
       OR EXISTS (SELECT FROM published t WHERE t.schemaname = n.nspname AND t.tablename = c.relname) AS is_published
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN identities i ON i.oid = c.oid
LEFT JOIN publication p ON true
LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(attname::text ORDER BY attnum), '{}') AS names,
           coalesce(array_agg(attgenerated <> '' ORDER BY attnum), '{}') AS generated
    FROM pg_attribute
    WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
) a
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(f.fault ORDER BY f.schema, f.name), '{}') AS faults,
           coalesce(array_agg(f.schema ORDER BY f.schema, f.name), '{}') AS schemas,
           coalesce(array_agg(f.name ORDER BY f.schema, f.name), '{}') AS names,
           coalesce(array_agg(f.mend ORDER BY f.schema, f.name), '{}') AS mends
    FROM faults f
    WHERE f.root = c.oid
) f
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm')
  AND c.relpersistence <> 't'
  AND n.nspname <> ALL (ARRAY['pg_catalog', 'information_schema', 'waldelta'])
  AND n.nspname NOT LIKE 'pg\_toast%'
ORDER BY n.nspname, c.relname
