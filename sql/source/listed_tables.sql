-- The tables of a publication as they are listed for a plugin that knows no publications. $1: its name.
-- Of history's own tables only the canary: each append would bring the next. One row without table for a publication that
-- has none, no row where there is no publication.
-- prattrs and prqual came with PostgreSQL 15: by way of jsonb they are no error before.
SELECT p.pubviaroot AS via_root,
       array_remove(ARRAY[
           CASE WHEN p.pubinsert THEN 'insert' END,
           CASE WHEN p.pubupdate THEN 'update' END,
           CASE WHEN p.pubdelete THEN 'delete' END,
           CASE WHEN p.pubtruncate THEN 'truncate' END], NULL) AS actions,
       c.oid,
       n.nspname::text AS schema,
       c.relname::text AS name,
       to_jsonb(r) ->> 'prattrs' AS columns,
       coalesce(to_jsonb(r) ->> 'prqual', '') <> '' AS has_filter,
       CASE c.relreplident
           WHEN 'd' THEN EXISTS (
               SELECT FROM pg_index i
               WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid AND i.indimmediate)
           WHEN 'i' THEN EXISTS (
               SELECT FROM pg_index i
               WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid AND i.indimmediate)
           ELSE c.relreplident = 'f'
       END AS is_identified
FROM pg_publication p
LEFT JOIN pg_publication_tables t
    ON t.pubname = p.pubname AND (t.schemaname <> 'waldelta' OR t.tablename = 'canary')
LEFT JOIN (pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace)
    ON n.nspname = t.schemaname AND c.relname = t.tablename
LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid
WHERE p.pubname = $1
ORDER BY n.nspname, c.relname
