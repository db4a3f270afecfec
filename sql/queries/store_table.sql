INSERT INTO waldelta.table_schemas
    (table_oid, version, schema_name, table_name, columns, key, identity, epoch, lsn, seq)
VALUES ($1, $2, $3, $4, $5::text::jsonb, $6, $7, $8, $9, $10)
