-- Which of some tables a publication lacks. $1: its name; $2, $3: schemas and names.
SELECT w.schema, w.name
FROM unnest($2::text[], $3::text[]) AS w (schema, name)
WHERE NOT EXISTS (
    SELECT FROM pg_publication_tables t
    WHERE t.pubname = $1 AND t.schemaname = w.schema AND t.tablename = w.name)
  AND NOT EXISTS (
    SELECT FROM pg_publication p
    JOIN pg_publication_rel r ON r.prpubid = p.oid
    JOIN pg_class c ON c.oid = r.prrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE p.pubname = $1 AND n.nspname = w.schema AND c.relname = w.name)
ORDER BY 1, 2
