-- What would be left in schema waldelta without set_client, the event triggers' functions and the canary. History may live
-- in it.
SELECT format('%s %s', kind, name) AS object
FROM (
    SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence' WHEN 'i' THEN 'index' ELSE 'table' END AS kind,
           quote_ident(c.relname) AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'waldelta' AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relname <> 'canary'
    UNION ALL
    SELECT 'function', quote_ident(p.proname)
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'waldelta' AND p.proname NOT LIKE 'ddl\_%'
      AND NOT (p.proname = 'set_client' AND p.proargtypes = '25 3802'::oidvector) -- text, jsonb
    UNION ALL
    SELECT 'type', quote_ident(t.typname)
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE n.nspname = 'waldelta' AND t.typtype IN ('e', 'd', 'r')
) objects
ORDER BY 1
LIMIT 20
