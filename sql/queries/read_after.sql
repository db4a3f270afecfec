-- One page of one epoch, cut after $5 changes or once the images before a row reach $6 bytes (as stored, compressed).
-- Epoch and lsn are bounded separately beside the row comparison, or no partition would be pruned. The row comparison
-- comes last: the last lower bound on a column is the one where the index scan begins. One window for all: each copies every row.
SELECT lsn, seq, transaction_id, "timestamp", table_oid, schema_version, operation, row_key,
    data::text, old_data::text, metadata::text, client_id, next_lsn
FROM (
    SELECT change.*,
        row_number() OVER up_to_it AS number,
        lead(lsn) OVER up_to_it AS next_lsn,
        sum(bytes) OVER up_to_it AS bytes_before
    FROM (
        SELECT lsn, seq, transaction_id, "timestamp", table_oid, schema_version, operation, row_key,
            data, old_data, metadata, client_id, coalesce(pg_column_size(data), 0) + coalesce(pg_column_size(old_data), 0)
            + coalesce(pg_column_size(metadata), 0) AS bytes
        FROM waldelta.change_history
        WHERE epoch = $1 AND lsn >= $2 AND lsn <= $4 AND (lsn, seq) > ($2, $3)
        ORDER BY lsn, seq
        LIMIT $5 + 1
    ) AS change
    WINDOW up_to_it AS (ORDER BY lsn, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
) AS page
WHERE number <= $5 AND coalesce(bytes_before, 0) < $6
ORDER BY lsn, seq
