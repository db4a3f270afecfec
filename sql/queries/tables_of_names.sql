SELECT table_oid, version, schema_name, table_name, columns::text, key, identity
FROM waldelta.table_schemas
WHERE (schema_name, table_name) IN (SELECT * FROM unnest($1::text[], $2::text[]))
ORDER BY table_oid, version
