-- What of our own there is in the source already. $1: the publication's name.
SELECT pg_is_in_recovery() AS is_standby,
       coalesce(current_setting('effective_wal_level', true), current_setting('wal_level')) AS wal_level,
       current_setting('server_version_num')::int4 AS version,
       EXISTS (SELECT FROM pg_namespace WHERE nspname = 'waldelta') AS has_schema,
       EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = 'waldelta' AND c.relname = 'canary') AS has_canary,
       (SELECT p.prosrc
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = 'waldelta' AND p.proname = 'set_client'
          AND p.proargtypes = '25 3802'::oidvector) AS set_client, -- text, jsonb
       (SELECT bool_and(has_function_privilege('public', p.oid, 'execute'))
        FROM pg_proc p
        WHERE p.proname = 'pg_logical_emit_message'
          AND p.pronamespace = 'pg_catalog'::regnamespace) AS everybody_emits,
       p.pubname IS NOT NULL AS has_publication,
       coalesce(p.puballtables, false) AS publishes_all_tables,
       coalesce(p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate, false) AS publishes_all_operations,
       coalesce(p.pubviaroot, false) AS publishes_via_root,
       EXISTS (SELECT FROM pg_publication_tables t
               WHERE t.pubname = $1 AND t.schemaname = 'waldelta' AND t.tablename = 'canary') AS publishes_canary,
       ARRAY(SELECT quote_ident(t.tablename)
             FROM pg_publication_tables t
             WHERE t.pubname = $1 AND t.schemaname = 'waldelta' AND t.tablename <> 'canary'
             ORDER BY 1) AS publishes_own
FROM (SELECT) one
LEFT JOIN pg_publication p ON p.pubname = $1
