-- What the role may do. On Amazon RDS a membership stands for the attribute. $1: the publication's name.
SELECT current_user::text AS role,
       r.rolsuper OR r.rolreplication OR EXISTS (
           SELECT FROM pg_roles g
           WHERE g.rolname = 'rds_replication' AND pg_has_role(r.oid, g.oid, 'USAGE')
       ) AS may_replicate,
       r.rolsuper AS is_superuser,
       has_database_privilege(current_database(), 'CREATE') AS may_create,
       pg_get_userbyid(p.pubowner)::text AS publisher,
       coalesce(pg_has_role(r.oid, p.pubowner, 'USAGE'), false) AS may_alter_publication
FROM pg_roles r
LEFT JOIN pg_publication p ON p.pubname = $1
WHERE r.rolname = current_user
