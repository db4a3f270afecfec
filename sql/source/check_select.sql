-- Published tables of which the role cannot read every column. $1: the publication's name.
SELECT n.nspname::text AS schema, c.relname::text AS name
FROM pg_publication_tables t
JOIN pg_namespace n ON n.nspname = t.schemaname
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
WHERE t.pubname = $1
  AND n.nspname <> 'waldelta'
  AND NOT (
    has_schema_privilege(n.oid, 'USAGE')
    AND (has_table_privilege(c.oid, 'SELECT')
         OR (SELECT bool_and(has_column_privilege(c.oid, a.attnum, 'SELECT'))
             FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)))
ORDER BY 1, 2
