-- Those of some tables that exist and of which nothing is published. $1: the publication's name; $2: their object ids.
-- Where partitions are published as their root table, a partition is not published by its own name; and the other way round.
WITH RECURSIVE up AS (
    SELECT c.oid AS asked, c.oid AS relation, c.relispartition
    FROM pg_class c
    WHERE c.oid = ANY ($2) AND c.relkind IN ('r', 'p')
    UNION ALL
    SELECT u.asked, c.oid, c.relispartition
    FROM up u
    JOIN pg_inherits i ON i.inhrelid = u.relation AND u.relispartition
    JOIN pg_class c ON c.oid = i.inhparent
),
down AS (
    SELECT c.oid AS asked, c.oid AS relation, c.relkind
    FROM pg_class c
    WHERE c.oid = ANY ($2) AND c.relkind IN ('r', 'p')
    UNION ALL
    SELECT d.asked, c.oid, c.relkind
    FROM down d
    JOIN pg_inherits i ON i.inhparent = d.relation AND d.relkind = 'p'
    JOIN pg_class c ON c.oid = i.inhrelid
),
published AS MATERIALIZED (
    SELECT c.oid
    FROM pg_publication_tables t
    JOIN pg_namespace n ON n.nspname = t.schemaname
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
    WHERE t.pubname = $1
)
SELECT n.nspname::text AS schema, c.relname::text AS name
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY ($2) AND c.relkind IN ('r', 'p') AND n.nspname <> 'waldelta'
  AND NOT EXISTS (SELECT FROM up u JOIN published p ON p.oid = u.relation WHERE u.asked = c.oid)
  AND NOT EXISTS (SELECT FROM down d JOIN published p ON p.oid = d.relation WHERE d.asked = c.oid)
  AND EXISTS (SELECT FROM pg_publication p WHERE p.pubname = $1)
ORDER BY 1, 2
