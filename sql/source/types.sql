-- What types are made of, with the types that these are made of in turn. $1: their object ids.
-- Follows what to_jsonb follows: a domain to its base type, an array to its elements, a composite to its attributes. What
-- a range or an enum is made of does not matter. A type that is gone has no row.
WITH RECURSIVE reached AS (
    SELECT unnest($1::oid[]) AS oid
    UNION
    SELECT part.oid
    FROM reached r
    JOIN pg_type t ON t.oid = r.oid
    CROSS JOIN LATERAL (
        SELECT t.typbasetype WHERE t.typtype = 'd'
        UNION ALL
        -- Others of fixed length have elements too, as point has coordinates, and are no arrays.
        SELECT t.typelem WHERE t.typtype <> 'd' AND t.typsubscript = 'array_subscript_handler'::regproc
        UNION ALL
        SELECT a.atttypid
        FROM pg_attribute a
        WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    ) part (oid)
)
SELECT t.oid,
       CASE WHEN t.typtype = 'd' THEN t.typbasetype END AS base,
       e.oid AS element,
       e.typdelim::text AS delimiter,
       t.typtype = 'c' AS is_composite,
       -- By its extension: others may have a type of that name.
       t.typname = 'hstore' AND EXISTS (
           SELECT FROM pg_depend d
           JOIN pg_extension x ON x.oid = d.refobjid AND x.extname = 'hstore'
           WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid
             AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e') AS is_hstore,
       coalesce(f.numbers, '{}') AS numbers,
       coalesce(f.names, '{}') AS names,
       coalesce(f.type_oids, '{}') AS type_oids,
       coalesce(f.type_names, '{}') AS type_names
FROM reached r
JOIN pg_type t ON t.oid = r.oid
LEFT JOIN pg_type e
    ON e.oid = t.typelem AND t.typtype <> 'd' AND t.typsubscript = 'array_subscript_handler'::regproc
LEFT JOIN LATERAL (
    SELECT array_agg(a.attnum ORDER BY a.attnum) AS numbers,
           array_agg(a.attname::text ORDER BY a.attnum) AS names,
           array_agg(a.atttypid ORDER BY a.attnum) AS type_oids,
           array_agg(format_type(a.atttypid, NULL) ORDER BY a.attnum) AS type_names
    FROM pg_attribute a
    WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
) f ON true
