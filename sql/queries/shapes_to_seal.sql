-- The digests of the shapes that tables first had from ($2, $3) on and before ($4, $5), in order.
SELECT sha256(record_send(ROW(table_oid, version, schema_name, table_name, sha256(jsonb_send(columns)), key, identity,
    epoch, lsn, seq)))
FROM waldelta.table_schemas
WHERE epoch = $1 AND (lsn, seq) >= ($2, $3) AND (lsn, seq) < ($4, $5)
ORDER BY lsn, seq, table_oid, version
