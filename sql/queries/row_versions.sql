-- What befell the row of table $2 that has the key $3, in one epoch ($1), after ($4, $5) and at or before ($6, $8), oldest first,
-- $7 entries at most: its versions, the changes by which it got another key, and what concerns all rows of its table. Epoch and
-- lsn are bounded separately beside the row comparison, or no partition would be pruned. Hashes are compared first, as the
-- indexes have them; then the keys.
SELECT lsn, seq, transaction_id, "timestamp", table_oid, schema_version, operation, row_key,
    data::text, old_data::text, metadata::text, client_id, NULL::pg_lsn, metadata ->> 'moved_from'
FROM (
    (
        SELECT lsn, seq, transaction_id, "timestamp", table_oid, schema_version, operation, row_key,
            data, old_data, metadata, client_id
        FROM waldelta.change_history
        WHERE epoch = $1 AND lsn >= $4 AND lsn <= $6 AND (lsn, seq) > ($4, $5) AND (lsn, seq) <= ($6, $8)
            AND hashtextextended(row_key, table_oid::bigint) = hashtextextended($3, $2::oid::bigint)
            AND table_oid = $2 AND row_key = $3
        ORDER BY lsn, seq
        LIMIT $7
    ) UNION ALL (
        SELECT lsn, seq, transaction_id, "timestamp", table_oid, schema_version, operation, row_key,
            data, old_data, metadata, client_id
        FROM waldelta.change_history
        WHERE epoch = $1 AND lsn >= $4 AND lsn <= $6 AND (lsn, seq) > ($4, $5) AND (lsn, seq) <= ($6, $8)
            AND metadata ? 'moved_from'
            AND hashtextextended(metadata ->> 'moved_from', table_oid::bigint) = hashtextextended($3, $2::oid::bigint)
            AND table_oid = $2 AND metadata ->> 'moved_from' = $3
        ORDER BY lsn, seq
        LIMIT $7
    ) UNION ALL (
        SELECT lsn, seq, transaction_id, "timestamp", table_oid, schema_version, operation, row_key,
            data, old_data, metadata, client_id
        FROM waldelta.change_history
        WHERE epoch = $1 AND lsn >= $4 AND lsn <= $6 AND (lsn, seq) > ($4, $5) AND (lsn, seq) <= ($6, $8)
            AND operation IN ('truncate', 'reset', 'skip') AND table_oid = $2 AND row_key IS NULL
        ORDER BY lsn, seq
        LIMIT $7
    )
    ORDER BY lsn, seq
    LIMIT $7
) AS entry
ORDER BY lsn, seq
