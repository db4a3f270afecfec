-- Published tables of which row-level security would hide rows from the role. $1: the publication's name.
SELECT n.nspname::text AS schema, c.relname::text AS name
FROM pg_publication_tables t
JOIN pg_namespace n ON n.nspname = t.schemaname
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
WHERE t.pubname = $1 AND n.nspname <> 'waldelta' AND row_security_active(c.oid)
ORDER BY 1, 2
