-- The tables of a publication with the columns it publishes. $1: its name.
-- One row without table for a publication that has none, no row where there is no publication.
-- attnames came with PostgreSQL 15 (column lists): by way of jsonb it is no error before. A table without columns has none.
-- Before PostgreSQL 18 it may name generated columns, which are not published.
SELECT c.oid,
       CASE
           WHEN jsonb_typeof(to_jsonb(t) -> 'attnames') = 'array'
           THEN ARRAY(
               SELECT name
               FROM jsonb_array_elements_text(to_jsonb(t) -> 'attnames') name
               WHERE current_setting('server_version_num')::int4 >= 180000
                  OR NOT EXISTS (SELECT FROM pg_attribute a
                                 WHERE a.attrelid = c.oid AND a.attname = name AND a.attgenerated <> ''))
       END AS columns
FROM pg_publication p
LEFT JOIN pg_publication_tables t ON t.pubname = p.pubname AND t.schemaname <> 'waldelta'
LEFT JOIN (pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace)
    ON n.nspname = t.schemaname AND c.relname = t.tablename
WHERE p.pubname = $1
ORDER BY t.schemaname, t.tablename
