-- One table and the columns of it that a publication has, or would have. $1: the publication's name; $2: the table's object
-- id, else $3, $4: its schema and name.
-- A column list (PostgreSQL 15) is that of the topmost partitioned table that is published; before 18 it may name generated
-- columns, which are not published. Without one, generated columns are published if the publication says so (18). By way of
-- jsonb what came later is no error before.
WITH RECURSIVE line AS (
    SELECT c.oid, c.relispartition, 0 AS height
    FROM pg_class c
    WHERE c.relkind IN ('r', 'p')
      AND c.oid = coalesce($2, (
          SELECT named.oid FROM pg_class named JOIN pg_namespace n ON n.oid = named.relnamespace
          WHERE n.nspname = $3 AND named.relname = $4))
    UNION ALL
    SELECT c.oid, c.relispartition, l.height + 1
    FROM line l
    JOIN pg_inherits i ON i.inhrelid = l.oid AND l.relispartition
    JOIN pg_class c ON c.oid = i.inhparent
),
listed AS (
    SELECT ARRAY(SELECT a.attname
                 FROM jsonb_array_elements(to_jsonb(r) -> 'prattrs') listed (number)
                 JOIN pg_attribute a ON a.attrelid = l.oid AND a.attnum = listed.number::int2) AS names
    FROM line l
    JOIN pg_publication_rel r ON r.prrelid = l.oid
    JOIN pg_publication p ON p.oid = r.prpubid AND p.pubname = $1
    WHERE jsonb_typeof(to_jsonb(r) -> 'prattrs') = 'array'
    ORDER BY l.height DESC
    LIMIT 1
)
SELECT l.oid,
       ARRAY(SELECT a.attname::text
             FROM pg_attribute a
             WHERE a.attrelid = l.oid AND a.attnum > 0 AND NOT a.attisdropped
               AND CASE
                   WHEN EXISTS (SELECT FROM listed)
                   THEN a.attname = ANY ((SELECT names FROM listed)::name[])
                    AND (a.attgenerated = '' OR current_setting('server_version_num')::int4 >= 180000)
                   ELSE a.attgenerated = ''
                     OR a.attgenerated = (SELECT to_jsonb(p) ->> 'pubgencols' FROM pg_publication p WHERE p.pubname = $1)
               END
             ORDER BY a.attnum) AS columns
FROM line l
WHERE l.height = 0
