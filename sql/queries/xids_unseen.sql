-- Transactions that a snapshot of the source does not show. Both conditions are on the expression that has the index; each
-- scans only the ranges of pages that can hold its ids.
SELECT DISTINCT transaction_id
FROM waldelta.change_history
WHERE (transaction_id::text::bigint >= $1 OR transaction_id::text::bigint = ANY ($2)) AND epoch = $3 AND lsn <= $4
LIMIT $5
