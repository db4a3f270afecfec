-- Whether the role may replicate. On Amazon RDS a membership stands for the attribute.
SELECT current_user::text AS role,
       r.rolsuper OR r.rolreplication OR EXISTS (
           SELECT FROM pg_roles g
           WHERE g.rolname = 'rds_replication' AND pg_has_role(r.oid, g.oid, 'USAGE')
       ) AS may_replicate
FROM pg_roles r
WHERE r.rolname = current_user
