-- The physical state of every published table, for comparison with an earlier one. $1: the publication's name.
-- One row without table for a publication that has none, no row where there is no publication.
-- It reads the catalog only and opens no table: pg_publication_tables would wait for whoever has one locked.
-- 6237 is pg_publication_namespace, which came with PostgreSQL 15: its dependencies can be asked for before.
WITH RECURSIVE publication AS (
    SELECT p.oid, p.puballtables, p.pubviaroot,
           current_setting('server_version_num')::int >= 180000 AS can_publish_generated,
           coalesce(to_jsonb(p) ->> 'pubgencols', 'n') = 's' AS publishes_generated
    FROM pg_publication p
    WHERE p.pubname = $1
),
schemas AS MATERIALIZED (
    SELECT s.refobjid AS oid, p.objid AS entry
    FROM publication q
    JOIN pg_depend p ON p.classid = 6237 AND p.refclassid = 'pg_publication'::regclass AND p.refobjid = q.oid
    JOIN pg_depend s ON s.classid = 6237 AND s.objid = p.objid AND s.refclassid = 'pg_namespace'::regclass
),
members AS MATERIALIZED (
    SELECT c.oid, c.relkind
    FROM publication p
    JOIN pg_class c ON c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.oid >= 16384
    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname <> 'waldelta'
    WHERE p.puballtables
       OR EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = c.oid)
       OR c.relnamespace IN (SELECT s.oid FROM schemas s)
),
parts AS (
    SELECT m.oid AS root, i.inhrelid AS part, i.xmin AS linked
    FROM members m
    JOIN pg_inherits i ON i.inhparent = m.oid AND m.relkind = 'p'
    UNION ALL
    SELECT p.root, i.inhrelid, i.xmin
    FROM parts p
    JOIN pg_class c ON c.oid = p.part AND c.relkind = 'p'
    JOIN pg_inherits i ON i.inhparent = p.part
),
-- Under the root's name, or each leaf under its own.
published AS MATERIALIZED (
    SELECT m.oid
    FROM publication p, members m
    WHERE p.pubviaroot AND NOT EXISTS (SELECT FROM parts x WHERE x.part = m.oid)
    UNION
    SELECT c.oid
    FROM publication p, (SELECT m.oid FROM members m UNION SELECT x.part FROM parts x) x
    JOIN pg_class c ON c.oid = x.oid AND c.relkind = 'r' AND c.relpersistence = 'p'
    WHERE NOT p.pubviaroot
),
-- What values of domains are.
domains AS (
    SELECT t.oid AS type, t.typbasetype AS base FROM pg_type t WHERE t.typtype = 'd'
    UNION ALL
    SELECT d.type, t.typbasetype FROM domains d JOIN pg_type t ON t.oid = d.base AND t.typtype = 'd'
),
bases AS (
    SELECT d.type, d.base FROM domains d JOIN pg_type t ON t.oid = d.base AND t.typtype <> 'd'
),
-- A partitioned table has no rows that could lack a value, its leaves have.
missing AS (
    SELECT DISTINCT x.root, a.attname
    FROM parts x
    JOIN pg_attribute a ON a.attrelid = x.part AND a.atthasmissing
),
columns AS (
    SELECT a.attrelid AS oid,
           jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
               'number', a.attnum,
               'name', a.attname,
               'type', a.atttypid::bigint,
               'type_name', CASE WHEN a.atttypid >= 16384 THEN format_type(a.atttypid, NULL) END,
               'base', b.base::bigint,
               'is_string', y.typcategory = 'S',
               'modifier', a.atttypmod,
               'collation', a.attcollation::bigint,
               'not_null', a.attnotnull,
               'missing', a.atthasmissing OR m.root IS NOT NULL,
               'default', d.oid::bigint,
               'written', a.xmin::text::bigint,
               'published', CASE
                   WHEN r.attnums IS NOT NULL
                   THEN r.attnums @> to_jsonb(a.attnum) AND (a.attgenerated = '' OR p.can_publish_generated)
                   ELSE a.attgenerated = '' OR (a.attgenerated = 's' AND p.publishes_generated)
               END)) ORDER BY a.attnum) AS columns
    FROM publication p
    CROSS JOIN published t
    JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type y ON y.oid = a.atttypid
    LEFT JOIN bases b ON b.type = a.atttypid
    LEFT JOIN missing m ON m.root = t.oid AND m.attname = a.attname
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    LEFT JOIN LATERAL (
        SELECT CASE WHEN jsonb_typeof(to_jsonb(l) -> 'prattrs') = 'array' THEN to_jsonb(l) -> 'prattrs' END AS attnums
        FROM pg_publication_rel l
        WHERE l.prpubid = p.oid AND l.prrelid = t.oid
    ) r ON true
    GROUP BY a.attrelid
),
-- The columns of a table that was created as a partition are as they were created, by the same command as those of the
-- system; to attach one writes them anew.
partitions AS (
    SELECT t.oid, jsonb_agg(jsonb_build_object(
               'oid', x.part::bigint,
               'is_leaf', c.relkind = 'r',
               'linked', x.linked::text::bigint,
               'file', c.relfilenode::bigint,
               'written', c.xmin::text::bigint,
               'identity', c.relreplident,
               'created_as_partition', EXISTS (
                   SELECT
                   FROM pg_attribute s
                   JOIN pg_attribute a ON a.attrelid = s.attrelid AND a.attnum > 0 AND a.attinhcount > 0
                       AND a.xmin = s.xmin AND a.cmin = s.cmin
                   WHERE s.attrelid = x.part AND s.attnum = -1)) ORDER BY x.part) AS partitions
    FROM published t
    JOIN parts x ON x.root = t.oid
    JOIN pg_class c ON c.oid = x.part AND c.relkind IN ('r', 'p')
    GROUP BY t.oid
),
used AS (
    SELECT t.oid, a.atttypid AS type
    FROM published t
    JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND a.atttypid >= 16384
    UNION
    SELECT u.oid, x.type
    FROM used u
    JOIN pg_type t ON t.oid = u.type
    CROSS JOIN LATERAL (
        SELECT t.typelem AS type
        UNION ALL
        SELECT t.typbasetype
        UNION ALL
        SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid OR r.rngmultitypid = t.oid
    ) x
    WHERE x.type >= 16384
),
composites AS (
    SELECT u.oid, jsonb_object_agg(u.type, (
               SELECT coalesce(jsonb_agg(jsonb_build_object(
                          'number', a.attnum, 'name', a.attname, 'type', a.atttypid::bigint) ORDER BY a.attnum), '[]')
               FROM pg_attribute a
               WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped)) AS composites
    FROM used u
    JOIN pg_type t ON t.oid = u.type AND t.typrelid <> 0
    GROUP BY u.oid
),
enums AS (
    SELECT u.oid, jsonb_object_agg(e.oid, e.enumlabel) AS enums
    FROM used u
    JOIN pg_enum e ON e.enumtypid = u.type
    GROUP BY u.oid
)
SELECT c.oid,
       n.nspname::text AS schema,
       c.relname::text AS name,
       jsonb_strip_nulls(jsonb_build_object(
           'schema', n.nspname,
           'name', c.relname,
           'identity', c.relreplident,
           'identity_index', (
               SELECT to_jsonb((i.indkey::int2[])[0:i.indnkeyatts - 1])
               FROM pg_index i
               WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate
                 AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END),
           'primary_key', (
               SELECT to_jsonb((i.indkey::int2[])[0:i.indnkeyatts - 1])
               FROM pg_index i
               WHERE i.indrelid = c.oid AND i.indisprimary),
           'membership', jsonb_build_object('publication', p.oid::bigint, 'entries', (
               SELECT jsonb_agg(e.oid ORDER BY e.oid)
               FROM (
                   SELECT r.oid::bigint AS oid
                   FROM pg_publication_rel r
                   WHERE r.prpubid = p.oid
                     AND (r.prrelid = c.oid OR r.prrelid IN (SELECT a::oid FROM pg_partition_ancestors(c.oid) a))
                   UNION ALL
                   SELECT s.entry::bigint FROM schemas s WHERE s.oid = c.relnamespace
               ) e)),
           'file', c.relfilenode::bigint,
           'columns', coalesce(k.columns, '[]'),
           'partitions', x.partitions,
           'composites', o.composites,
           'enums', e.enums))::text AS fingerprint
FROM publication p
LEFT JOIN (
    published t
    JOIN pg_class c ON c.oid = t.oid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN columns k ON k.oid = t.oid
    LEFT JOIN partitions x ON x.oid = t.oid
    LEFT JOIN composites o ON o.oid = t.oid
    LEFT JOIN enums e ON e.oid = t.oid
) ON true
ORDER BY n.nspname, c.relname
