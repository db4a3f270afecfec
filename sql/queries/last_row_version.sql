-- The last that befell the row of table $2 that has the key $3, in one epoch ($1), at or before ($4, $5): as in
-- row_versions.sql. Of updates only one that tells a column of $6, where that names any.
SELECT lsn, seq, transaction_id, "timestamp", table_oid, schema_version, operation, row_key,
    data::text, old_data::text, metadata::text, client_id, NULL::pg_lsn, metadata ->> 'moved_from'
FROM (
    (
        SELECT lsn, seq, transaction_id, "timestamp", table_oid, schema_version, operation, row_key,
            data, old_data, metadata, client_id
        FROM waldelta.change_history
        WHERE epoch = $1 AND lsn <= $4 AND (lsn, seq) <= ($4, $5)
            AND hashtextextended(row_key, table_oid::bigint) = hashtextextended($3, $2::oid::bigint)
            AND table_oid = $2 AND row_key = $3
            AND (cardinality($6::text[]) = 0 OR operation <> 'update' OR metadata ? 'moved_from'
                OR NOT coalesce(metadata -> 'unchanged' ?& $6, false))
        ORDER BY lsn DESC, seq DESC
        LIMIT 1
    ) UNION ALL (
        SELECT lsn, seq, transaction_id, "timestamp", table_oid, schema_version, operation, row_key,
            data, old_data, metadata, client_id
        FROM waldelta.change_history
        WHERE epoch = $1 AND lsn <= $4 AND (lsn, seq) <= ($4, $5)
            AND metadata ? 'moved_from'
            AND hashtextextended(metadata ->> 'moved_from', table_oid::bigint) = hashtextextended($3, $2::oid::bigint)
            AND table_oid = $2 AND metadata ->> 'moved_from' = $3
        ORDER BY lsn DESC, seq DESC
        LIMIT 1
    ) UNION ALL (
        SELECT lsn, seq, transaction_id, "timestamp", table_oid, schema_version, operation, row_key,
            data, old_data, metadata, client_id
        FROM waldelta.change_history
        WHERE epoch = $1 AND lsn <= $4 AND (lsn, seq) <= ($4, $5)
            AND operation IN ('truncate', 'reset', 'skip') AND table_oid = $2 AND row_key IS NULL
        ORDER BY lsn DESC, seq DESC
        LIMIT 1
    ) UNION ALL (
        SELECT from_lsn - 1, 2147483647, NULL, found_at, $2::oid, NULL, 'gap', NULL, NULL, NULL, NULL, NULL
        FROM waldelta.gaps
        WHERE epoch = $1 AND (from_lsn - 1, 2147483647) <= ($4, $5)
            AND (table_oid = $2 OR table_oid IS NULL)
        ORDER BY from_lsn DESC
        LIMIT 1
    )
    ORDER BY lsn DESC, seq DESC
    LIMIT 1
) AS entry
