-- To whom a publication, and tables that are to be added to it, belong; and whether the asking role may stand for all of
-- them. $1: the publication's name; $2, $3: schemas and names of the tables.
WITH owned AS (
    SELECT p.pubowner AS owner FROM pg_publication p WHERE p.pubname = $1
    UNION
    SELECT c.relowner
    FROM unnest($2::text[], $3::text[]) AS w (schema, name)
    JOIN pg_namespace n ON n.nspname = w.schema
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
)
SELECT array_agg(quote_ident(pg_get_userbyid(o.owner)) ORDER BY pg_get_userbyid(o.owner)) AS owners,
       bool_and(pg_has_role(o.owner, 'USAGE')) AS is_allowed
FROM owned o
