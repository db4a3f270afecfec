-- What a role has of what capture needs. $1: its name; $2, $3: schemas and names of the tables that are captured.
-- A role that does not exist has nothing, though it will have what everybody has. On Amazon RDS a membership stands for the
-- attribute of replication.
WITH role AS (
    SELECT r.oid, r.rolcanlogin, r.rolsuper OR r.rolbypassrls AS sees_all_rows,
           r.rolsuper OR r.rolreplication OR EXISTS (
               SELECT FROM pg_roles g
               WHERE g.rolname = 'rds_replication' AND pg_has_role(r.oid, g.oid, 'USAGE')
           ) AS may_replicate
    FROM pg_roles r
    WHERE r.rolname = $1
),
wanted AS (
    SELECT c.oid, n.oid AS namespace, n.nspname, c.relname, c.relowner, c.relrowsecurity, c.relforcerowsecurity
    FROM unnest($2::text[], $3::text[]) AS w (schema, name)
    JOIN pg_namespace n ON n.nspname = w.schema
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
)
SELECT r.oid IS NOT NULL AS exists,
       coalesce(r.rolcanlogin, false) AS may_log_in,
       coalesce(r.may_replicate, false) AS may_replicate,
       current_database()::text AS database,
       coalesce(has_database_privilege(r.oid, current_database(), 'CONNECT'), false) AS may_connect,
       ARRAY(SELECT DISTINCT quote_ident(w.nspname) FROM wanted w
             WHERE NOT coalesce(has_schema_privilege(r.oid, w.namespace, 'USAGE'), false) ORDER BY 1) AS unusable_schemas,
       ARRAY(SELECT format('%I.%I', w.nspname, w.relname) FROM wanted w
             WHERE NOT coalesce(has_table_privilege(r.oid, w.oid, 'SELECT'), false) ORDER BY 1) AS unreadable_tables,
       ARRAY(SELECT format('%I.%I', w.nspname, w.relname) FROM wanted w
             WHERE w.relrowsecurity AND NOT coalesce(r.sees_all_rows, false)
               AND (w.relforcerowsecurity OR NOT coalesce(pg_has_role(r.oid, w.relowner, 'USAGE'), false))
             ORDER BY 1) AS hidden_tables,
       ARRAY(SELECT p.oid::regprocedure::text FROM pg_proc p
             WHERE p.proname = 'pg_logical_emit_message' AND p.pronamespace = 'pg_catalog'::regnamespace
               AND NOT has_function_privilege('public', p.oid, 'EXECUTE')
               AND NOT coalesce(has_function_privilege(r.oid, p.oid, 'EXECUTE'), false) ORDER BY 1) AS unusable_functions,
       coalesce((SELECT has_schema_privilege(r.oid, n.oid, 'USAGE')
                        AND has_table_privilege(r.oid, c.oid, 'SELECT') AND has_table_privilege(r.oid, c.oid, 'UPDATE')
                 FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'canary'
                 WHERE n.nspname = 'waldelta'), false) AS may_beat,
       coalesce((SELECT has_schema_privilege(r.oid, n.oid, 'CREATE') FROM pg_namespace n
                 WHERE n.nspname = 'waldelta'), false) AS may_keep_history,
       coalesce(pg_has_role(r.oid, 'pg_read_all_stats', 'USAGE'), false) AS sees_activity
FROM (SELECT) one
LEFT JOIN role r ON true
