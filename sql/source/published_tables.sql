-- The tables of a publication with the columns it publishes, as pg_publication_tables has them. $1: its name.
-- One row without table for a publication that has none, no row where there is no publication.
-- It reads the catalog only and opens no table: since PostgreSQL 16 the view opens each of them, so that it waits for whoever
-- has one locked, and fails where one is dropped meanwhile. So it also says what the transaction's snapshot has.
-- 6237 is pg_publication_namespace, which came with PostgreSQL 15, as prattrs (column lists) did, pubgencols with 18, and
-- prexcept with 19: by way of dependencies and of jsonb they are no error before.
-- Before PostgreSQL 18 a column list may name generated columns, which are not published.
WITH RECURSIVE publication AS MATERIALIZED (
    SELECT p.oid, p.puballtables, p.pubviaroot,
           current_setting('server_version_num')::int4 >= 180000 AS can_publish_generated,
           to_jsonb(p) ->> 'pubgencols' AS generated
    FROM pg_publication p
    WHERE p.pubname = $1
),
schemas AS MATERIALIZED (
    SELECT s.refobjid AS oid
    FROM publication q
    JOIN pg_depend p ON p.classid = 6237 AND p.refclassid = 'pg_publication'::regclass AND p.refobjid = q.oid
    JOIN pg_depend s ON s.classid = 6237 AND s.objid = p.objid AND s.refclassid = 'pg_namespace'::regclass
),
entries AS MATERIALIZED (
    SELECT r.prrelid AS oid, to_jsonb(r) -> 'prattrs' AS list,
           coalesce((to_jsonb(r) ->> 'prexcept')::boolean, false) AS is_exception
    FROM publication p
    JOIN pg_publication_rel r ON r.prpubid = p.oid
),
-- What the publication names, one by one, by their schema, or as everything that there is.
members AS MATERIALIZED (
    SELECT c.oid, c.relkind, c.relispartition
    FROM pg_class c
    JOIN entries e ON e.oid = c.oid AND NOT e.is_exception
    UNION
    SELECT c.oid, c.relkind, c.relispartition
    FROM publication p
    JOIN pg_class c ON c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.oid >= 16384
    WHERE (p.puballtables AND NOT EXISTS (SELECT FROM entries e WHERE e.oid = c.oid AND e.is_exception))
       OR c.relnamespace IN (SELECT s.oid FROM schemas s)
),
-- A partition that is being detached is none any more.
parts AS (
    SELECT m.oid AS root, i.inhrelid AS part
    FROM members m
    JOIN pg_inherits i ON i.inhparent = m.oid AND m.relkind = 'p' AND NOT i.inhdetachpending
    UNION ALL
    SELECT p.root, i.inhrelid
    FROM parts p
    JOIN pg_class c ON c.oid = p.part AND c.relkind = 'p'
    JOIN pg_inherits i ON i.inhparent = p.part AND NOT i.inhdetachpending
),
-- Under the topmost name that the publication has, or each leaf under its own. Where everything is published, leaves are
-- members by themselves, or nothing of them is in the WAL.
published AS MATERIALIZED (
    SELECT m.oid
    FROM publication p, members m
    WHERE p.pubviaroot AND NOT (p.puballtables AND m.relispartition)
      AND NOT EXISTS (SELECT FROM parts x WHERE x.part = m.oid)
    UNION
    SELECT m.oid
    FROM publication p, members m
    WHERE NOT p.pubviaroot AND m.relkind <> 'p'
    UNION
    SELECT c.oid
    FROM publication p, parts x
    JOIN pg_class c ON c.oid = x.part AND c.relkind <> 'p'
    WHERE NOT p.pubviaroot AND NOT p.puballtables
)
SELECT c.oid,
       ARRAY(SELECT a.attname::text
             FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
               AND CASE
                   WHEN jsonb_typeof(e.list) = 'array'
                   THEN e.list @> to_jsonb(a.attnum) AND (a.attgenerated = '' OR p.can_publish_generated)
                   ELSE a.attgenerated = '' OR a.attgenerated = p.generated
               END) AS columns
FROM publication p
LEFT JOIN (
    published t
    JOIN pg_class c ON c.oid = t.oid
    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname <> 'waldelta'
) ON true
-- Where everything of it is published, a table's own column list is not kept to.
LEFT JOIN entries e
    ON e.oid = c.oid AND NOT p.puballtables AND c.relnamespace NOT IN (SELECT s.oid FROM schemas s)
ORDER BY n.nspname, c.relname
