-- The digests of the changes from ($2, $3) on and before ($4, $5), in order: $6 at most, and until the images before one reach $7
-- bytes as stored. The binary form of a row: it says the type and length of each column, null or not, and no setting has a say in it.
-- Images have digests of their own, so that a row as large as can be is never there twice.
SELECT lsn, seq, sha256(record_send(ROW(epoch, lsn, seq, id, transaction_id, "timestamp", table_oid, schema_version, operation,
        table_name, row_key, client_id, sha256(jsonb_send(data)), sha256(jsonb_send(old_data)), sha256(jsonb_send(metadata)))))
FROM (
    SELECT change.*, sum(bytes) OVER (ORDER BY lsn, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
    FROM (
        SELECT *, coalesce(pg_column_size(data), 0) + coalesce(pg_column_size(old_data), 0)
            + coalesce(pg_column_size(metadata), 0) AS bytes
        FROM waldelta.change_history
        WHERE epoch = $1 AND lsn >= $2 AND lsn <= $4 AND (lsn, seq) < ($4, $5) AND (lsn, seq) >= ($2, $3)
        ORDER BY lsn, seq
        LIMIT $6
    ) AS change
) AS page
WHERE coalesce(bytes_before, 0) < $7
ORDER BY lsn, seq
