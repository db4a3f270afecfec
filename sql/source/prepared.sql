-- What of our own there is in the source already. $1: the publication's name.
-- Event triggers are for superusers; where there are none, the provider gives a role of its own the right, which shows
-- only when it is tried. 6237 is pg_publication_namespace, which came with PostgreSQL 15: its dependencies can be asked
-- for before.
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
       ARRAY(SELECT e.evtname::text FROM pg_event_trigger e WHERE e.evtname LIKE 'waldelta\_ddl\_%' ORDER BY 1)
           AS ddl_triggers,
       ARRAY(SELECT format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid))
             FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
             WHERE n.nspname = 'waldelta' AND p.proname LIKE 'ddl\_%'
             ORDER BY p.proname, p.oid) AS ddl_functions,
       ARRAY(SELECT p.prosrc
             FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
             WHERE n.nspname = 'waldelta' AND p.proname LIKE 'ddl\_%'
             ORDER BY p.proname, p.oid) AS ddl_bodies,
       current_user::text AS role,
       EXISTS (SELECT FROM pg_roles r
               WHERE r.rolname = current_user AND (
                   r.rolsuper
                   OR r.rolname = current_setting('supautils.privileged_role', true)
                   OR EXISTS (SELECT FROM pg_roles g
                              WHERE g.rolname = ANY ('{rds_superuser,cloudsqlsuperuser,alloydbsuperuser,azure_pg_admin,neon_superuser}')
                                AND pg_has_role(r.oid, g.oid, 'USAGE')))) AS may_have_event_triggers,
       p.pubname IS NOT NULL AS has_publication,
       coalesce(p.puballtables, false) AS publishes_all_tables,
       coalesce(p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate, false) AS publishes_all_operations,
       coalesce(p.pubviaroot, false) AS publishes_via_root,
       EXISTS (SELECT FROM pg_publication_tables t
               WHERE t.pubname = $1 AND t.schemaname = 'waldelta' AND t.tablename = 'canary') AS publishes_canary,
       ARRAY(SELECT quote_ident(t.tablename)
             FROM pg_publication_tables t
             WHERE t.pubname = $1 AND t.schemaname = 'waldelta' AND t.tablename <> 'canary'
             ORDER BY 1) AS publishes_own,
       EXISTS (SELECT FROM pg_depend q
               JOIN pg_depend s ON s.classid = 6237 AND s.objid = q.objid AND s.refclassid = 'pg_namespace'::regclass
               JOIN pg_namespace n ON n.oid = s.refobjid AND n.nspname = 'waldelta'
               WHERE q.classid = 6237 AND q.refclassid = 'pg_publication'::regclass AND q.refobjid = p.oid)
           AS publishes_own_schema,
       ARRAY(SELECT quote_ident(c.relname)
             FROM pg_publication_rel r
             JOIN pg_class c ON c.oid = r.prrelid
             JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE r.prpubid = p.oid AND n.nspname = 'waldelta'
             ORDER BY 1) AS own_members
FROM (SELECT) one
LEFT JOIN pg_publication p ON p.pubname = $1
