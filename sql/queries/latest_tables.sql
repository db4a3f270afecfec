SELECT DISTINCT ON (table_oid)
    table_oid, version, schema_name, table_name, columns::text, key, identity
FROM waldelta.table_schemas
ORDER BY table_oid, version DESC
