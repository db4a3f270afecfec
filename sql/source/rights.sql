-- What of the set-up the asking role may do. $1: the publication's name; $2, $3: schemas and names of the tables that are to
-- be published.
-- Who makes a publication needs to own its tables and CREATE on the database; who alters one, to own it, and those tables
-- that are added.
WITH wanted AS (
    SELECT c.relowner, p.oid IS NOT NULL AND EXISTS (
               SELECT FROM pg_publication_tables t
               WHERE t.pubname = p.pubname AND t.schemaname = n.nspname AND t.tablename = c.relname) AS is_published
    FROM unnest($2::text[], $3::text[]) AS w (schema, name)
    JOIN pg_namespace n ON n.nspname = w.schema
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
    LEFT JOIN pg_publication p ON p.pubname = $1
)
SELECT current_user::text AS role,
       (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user) AS is_superuser,
       coalesce((SELECT pg_has_role(p.pubowner, 'USAGE') FROM pg_publication p WHERE p.pubname = $1),
                has_database_privilege(current_database(), 'CREATE'))
       AND NOT EXISTS (SELECT FROM wanted w WHERE NOT w.is_published AND NOT pg_has_role(w.relowner, 'USAGE')) AS may_publish,
       coalesce((SELECT has_schema_privilege(n.oid, 'CREATE') FROM pg_namespace n WHERE n.nspname = 'waldelta'),
                has_database_privilege(current_database(), 'CREATE')) AS may_make_own,
       ARRAY(SELECT DISTINCT quote_ident(pg_get_userbyid(w.relowner)) FROM wanted w WHERE NOT w.is_published ORDER BY 1) AS owners
