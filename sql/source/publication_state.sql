-- One row if the publication exists: whether it publishes the canary's updates.
-- From the catalogs themselves: pg_publication_tables looks into every table since PostgreSQL 16, and waits for one that
-- is locked. 6237 is pg_publication_namespace, which came with 15: its dependencies can be asked for before. prexcept came
-- with 19.
SELECT p.pubupdate AND EXISTS (
    SELECT
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid
    WHERE n.nspname = 'waldelta' AND c.relname = 'canary' AND c.relkind = 'r'
      AND pg_catalog.pg_relation_is_publishable(c.oid)
      AND CASE
          WHEN r.oid IS NOT NULL THEN NOT coalesce((to_jsonb(r) ->> 'prexcept')::boolean, false)
          ELSE p.puballtables OR EXISTS (
              SELECT
              FROM pg_catalog.pg_depend q
              JOIN pg_catalog.pg_depend s ON s.classid = 6237 AND s.objid = q.objid
              WHERE q.classid = 6237 AND q.refclassid = 'pg_catalog.pg_publication'::regclass AND q.refobjid = p.oid
                AND s.refclassid = 'pg_catalog.pg_namespace'::regclass AND s.refobjid = n.oid)
      END)
FROM pg_catalog.pg_publication p
WHERE p.pubname = $1
