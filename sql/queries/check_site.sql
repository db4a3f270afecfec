-- The history database before anything is asked of a history: whether there is one, and whether the role may keep one.
SELECT current_setting('server_version_num')::int4 AS version,
       current_setting('server_version') AS version_text,
       n.oid IS NOT NULL AS has_schema,
       CASE WHEN n.oid IS NULL THEN has_database_privilege(current_database(), 'CREATE')
            ELSE has_schema_privilege(n.oid, 'USAGE') AND has_schema_privilege(n.oid, 'CREATE') END AS may_keep,
       EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = 'captures') AS has_history
FROM (SELECT) one
LEFT JOIN pg_namespace n ON n.nspname = 'waldelta'
