SELECT table_oid, version, schema_name, table_name, columns::text, key, identity
FROM waldelta.table_schemas
WHERE table_oid = $1 AND version = $2
