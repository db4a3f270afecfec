-- The last that befell the row of table $2 that has the key $3, in one epoch ($1), after ($4, $5) and at or before ($6, $7): as
-- in row_versions.sql. Of updates only one that tells a column of $8, where that names any. Mostly there is no lower bound, so lsn
-- is not bounded from below beside the row comparison: a plan for both bounds would take the range for the narrower condition.
SELECT lsn, seq, transaction_id, "timestamp", table_oid, schema_version, operation, row_key,
    data::text, old_data::text, metadata::text, client_id, NULL::pg_lsn, metadata ->> 'moved_from'
FROM (
    (
        SELECT lsn, seq, transaction_id, "timestamp", table_oid, schema_version, operation, row_key,
            data, old_data, metadata, client_id
        FROM waldelta.change_history
        WHERE epoch = $1 AND lsn <= $6 AND (lsn, seq) > ($4, $5) AND (lsn, seq) <= ($6, $7)
            AND hashtextextended(row_key, table_oid::bigint) = hashtextextended($3, $2::oid::bigint)
            AND table_oid = $2 AND row_key = $3
            AND (cardinality($8::text[]) = 0 OR operation <> 'update' OR metadata ? 'moved_from'
                OR NOT coalesce(metadata -> 'unchanged' ?& $8, false))
        ORDER BY lsn DESC, seq DESC
        LIMIT 1
    ) UNION ALL (
        SELECT lsn, seq, transaction_id, "timestamp", table_oid, schema_version, operation, row_key,
            data, old_data, metadata, client_id
        FROM waldelta.change_history
        WHERE epoch = $1 AND lsn <= $6 AND (lsn, seq) > ($4, $5) AND (lsn, seq) <= ($6, $7)
            AND metadata ? 'moved_from'
            AND hashtextextended(metadata ->> 'moved_from', table_oid::bigint) = hashtextextended($3, $2::oid::bigint)
            AND table_oid = $2 AND metadata ->> 'moved_from' = $3
        ORDER BY lsn DESC, seq DESC
        LIMIT 1
    ) UNION ALL (
        SELECT lsn, seq, transaction_id, "timestamp", table_oid, schema_version, operation, row_key,
            data, old_data, metadata, client_id
        FROM waldelta.change_history
        WHERE epoch = $1 AND lsn <= $6 AND (lsn, seq) > ($4, $5) AND (lsn, seq) <= ($6, $7)
            AND operation IN ('truncate', 'reset', 'skip') AND table_oid = $2 AND row_key IS NULL
        ORDER BY lsn DESC, seq DESC
        LIMIT 1
    )
    ORDER BY lsn DESC, seq DESC
    LIMIT 1
) AS entry
